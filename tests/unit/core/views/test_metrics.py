"""What passes came to, as counters know it: every directive once issued, and each end once."""

from typing import Any

import pytest

from mabeam.api.agent_status import AgentState, AgentStatus, EffectiveAgent, Failure, FailureCause, PodRecord
from mabeam.api.directive import AgentDirectives, DirectiveAction
from mabeam.api.names import Reason
from mabeam.api.variable_blocks import ConsensusProtocol
from mabeam.api.variable_status import ConsensusRound, OrchestrationVariableStatus
from mabeam.core.decision import Event
from mabeam.core.views.metrics import (
    AgentMetrics,
    agent_metrics,
    coordination_outcome,
    directive_outcomes,
    protocol_label,
    vote_outcome,
)
from support.builders import at
from support.overview import directive

DROPPED = {"reason": "Dropped", "message": "dropped: the agent failed after it came"}


def directives(*items: dict[str, Any]) -> AgentDirectives:
    return AgentDirectives.model_validate({"generation": 1, "items": items})


def outcomes(before: AgentDirectives | None, after: AgentDirectives | None) -> list[str]:
    found = directive_outcomes(before, after)
    assert all(action is DirectiveAction.ADJUST_PARAMETERS for action, _ in found)
    return [outcome for _, outcome in found]


@pytest.mark.parametrize(
    ("states", "wanted"),
    [
        (["Issued"], ["issued"]),
        (["Issued", "Delivered", "Acknowledged"], ["issued", "acknowledged"]),
        (["Acknowledged"], ["issued", "acknowledged"]),
        (["Issued", "Issued"], ["issued"]),
        (["Issued", "Refused", "Refused"], ["issued", "refused"]),
        (["Issued", "Expired", "Acknowledged", "Acknowledged"], ["issued", "expired", "late"]),
        (["Issued", "Acknowledged", "Refused"], ["issued", "acknowledged", "refused"]),
    ],
)
def test_a_directive_is_issued_once_and_each_of_its_ends_is_counted_once(states: list[str], wanted: list[str]) -> None:
    before: AgentDirectives | None = None
    found = []
    for state in states:
        after = directives(directive(state))
        found += outcomes(before, after)
        before = after
    assert found == wanted


def test_another_generation_is_another_directive() -> None:
    before = directives(directive("Acknowledged"))
    assert outcomes(before, directives(directive("Acknowledged", generation=2))) == ["issued", "acknowledged"]


def test_what_was_never_told_is_overruled_not_refused() -> None:
    overruled = {"reason": "Overruled", "message": "variable other sets t", "overruledBy": "other"}
    item = directive("Refused", parameters={"t": 1}, **overruled)
    aside = directives(item)
    assert outcomes(None, aside) == ["overruled"]
    assert outcomes(aside, aside) == []
    told = directives(directive("Issued", parameters={"t": 1}))
    assert outcomes(aside, told) == ["issued"]
    assert outcomes(told, aside) == ["overruled"]
    assert outcomes(None, directives(directive("Refused", dropped=True, **DROPPED))) == ["overruled"]
    unresolved = {"reason": "ConflictUnresolved", "message": "not resolved"}
    assert outcomes(None, directives(directive("Refused", **unresolved))) == ["overruled"]
    unable = {"reason": "CannotBeDone", "message": "cannot be done: no role"}
    assert outcomes(None, directives(directive("Refused", **unable))) == ["issued", "refused"]


def test_what_is_gone_comes_to_nothing() -> None:
    assert outcomes(directives(directive("Issued")), directives()) == []
    assert outcomes(directives(directive("Issued")), None) == []
    assert outcomes(None, None) == []


def test_a_pass_over_a_variable_decided_failed_or_changed_nothing() -> None:
    before, after = OrchestrationVariableStatus(), OrchestrationVariableStatus(round=1)
    wrong = Event(Reason.COORDINATION_FAILED, "no", "Warning")
    assert coordination_outcome(before, before, ()) == "unchanged"
    assert coordination_outcome(before, after, (Event(Reason.COORDINATION_COMPLETED, "yes"),)) == "decided"
    assert coordination_outcome(before, after, (wrong,)) == "failed"


def test_a_vote_is_counted_when_it_ends() -> None:
    def vote(proposal: str, outcome: str) -> ConsensusRound:
        return ConsensusRound.model_validate({"proposal": proposal, "outcome": outcome})

    assert vote_outcome(None, None) is None
    assert vote_outcome(None, vote("v-1", "Pending")) is None
    assert vote_outcome(vote("v-1", "Pending"), vote("v-1", "Accepted")) == "Accepted"
    assert vote_outcome(vote("v-1", "Accepted"), vote("v-1", "Accepted")) is None
    assert vote_outcome(vote("v-1", "Rejected"), vote("v-2", "Rejected")) == "Rejected"


def test_a_protocol_of_somebodys_own_is_a_plugin() -> None:
    assert [protocol_label(str(protocol)) for protocol in ConsensusProtocol] == list(ConsensusProtocol)
    assert protocol_label("anything at all") == protocol_label(None) == "plugin"


def test_a_pass_over_an_agent_adds_its_restarts_stops_new_failures_directives_and_recovery() -> None:
    failed = Failure(time=at(3), cause=FailureCause.CRASH, pod="a-0-1", ordinal=0)
    old = Failure(time=at(1), cause=FailureCause.OOM, pod="a-1-1", ordinal=1, counted=False)
    two = EffectiveAgent(replicas=2)
    stopped = PodRecord(ordinal=2, name="a-2-1", incarnation=1, state=AgentState.STOPPED, reason=Reason.STOPPED)
    restarted = PodRecord(ordinal=0, name="a-0-2", incarnation=2, state=AgentState.RUNNING, start_time=at(9))
    before = AgentStatus(effective=two, ready_replicas=1, restarts=1, failures=(old,))
    after = AgentStatus(
        effective=two,
        failures=(old, failed),
        pods=(restarted, stopped),
        directives=directives(directive("Issued")),
        ready_replicas=2,
        restarts=2,
    )
    assert agent_metrics(before, after, at(10)) == AgentMetrics(
        restarts=1,
        stops=1,
        failures=(FailureCause.CRASH,),
        directives=((DirectiveAction.ADJUST_PARAMETERS, "issued"),),
        recovery_seconds=7.0,
    )
    assert agent_metrics(after, after, at(10)) == AgentMetrics(0, 0, (), (), None)
