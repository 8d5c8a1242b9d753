"""What is a stored intent, and when the status that stores one must trigger the next pass."""

import pytest

from mabeam.api.agent_status import AgentState, AgentStatus, PodRecord
from mabeam.api.directive import AgentDirectives
from mabeam.core.supervision.pod_effects import expects_follow_up, same_intent


def a_record(state: AgentState = AgentState.STARTING, incarnation: int = 1, ordinal: int = 0) -> PodRecord:
    name = f"a-{ordinal}-{incarnation}"
    return PodRecord(ordinal=ordinal, name=name, incarnation=incarnation, state=state)


def test_a_pod_that_comes_up_is_the_same_intent_and_a_stop_or_a_restart_is_another() -> None:
    assert same_intent(a_record(AgentState.RUNNING), a_record(AgentState.STARTING))
    assert not same_intent(a_record(AgentState.STOPPING), a_record(AgentState.RUNNING))
    assert not same_intent(a_record(incarnation=2), a_record())
    assert not same_intent(a_record(), None)


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (AgentStatus(pods=(a_record(AgentState.RUNNING),), ready_replicas=1), False),
        (AgentStatus(pods=(a_record(incarnation=2),)), True),
        (AgentStatus(pods=()), True),
        (AgentStatus(pods=(a_record(), a_record(ordinal=1))), True),
        (AgentStatus(pods=(a_record(),), directives=AgentDirectives(generation=1)), True),
    ],
)
def test_a_status_triggers_the_next_pass_when_it_stores_an_intent_or_directives(
    after: AgentStatus, expected: bool
) -> None:
    assert expects_follow_up(AgentStatus(pods=(a_record(),)), after) is expected
