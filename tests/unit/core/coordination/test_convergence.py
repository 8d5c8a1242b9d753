"""How far the directives of a variable have come, and which failure that is."""

from typing import Any

import pytest

from mabeam.api.directive import DirectiveState
from mabeam.core.decision import Decision
from support.builders import agent_body, at, stamp
from support.coordination import (
    Team,
    an_item,
    condition_of,
    told_agent,
    variable_body,
)
from support.variable_passes import converging, ready


def counts(decision: Decision[Any]) -> tuple[int, int, int, int, int]:
    d = decision.status.directives
    return d.issued, d.delivered, d.acknowledged, d.refused, d.expired


def test_while_it_is_under_way_the_status_tells_how_far() -> None:
    agents = [told_agent(f"a{i}", an_item(state="Acknowledged")) for i in range(7)]
    decision = converging(*agents, told_agent("a7", an_item(state="Delivered")))
    assert ready(decision) == ("False", "Delivering", "7/8 applied")
    assert condition_of(decision.status, "Reconciling") == ("True", "Delivering", "7/8 applied")
    assert counts(decision) == (8, 8, 7, 0, 0)


def test_a_directive_of_other_parameters_is_not_this_one() -> None:
    decision = converging(told_agent("a", an_item(state="Acknowledged", value=0.5)))
    assert decision.status.directives.items[0].state is DirectiveState.ISSUED


def test_agents_that_rest_or_never_report_converge_when_it_is_delivered() -> None:
    delivered = an_item(state="Delivered")
    assert ready(converging(told_agent("a", delivered, status={"state": "Stopped"})))[1] == "Converged"
    assert ready(converging(told_agent("a", delivered, reports={"source": "None"})))[1] == "Converged"
    assert ready(converging(told_agent("a", delivered)))[1] == "Delivering"
    assert ready(converging(told_agent("a", delivered, status={"state": "Failed"})))[1] == "Converged"
    issued = an_item(state="Issued")
    assert ready(converging(told_agent("a", issued, reports={"source": "None"})))[1] == "Delivering"


def test_a_directive_nobody_answered_is_a_timeout_that_names_the_agents() -> None:
    late = an_item(state="Expired", reason="NotAcknowledged", message="not acknowledged in time")
    never = an_item(state="Expired", reason="NotDelivered", message="not delivered in time")
    agents = [told_agent(f"a{i}", late) for i in range(4)]
    decision = converging(*agents, told_agent("b", never), told_agent("c", an_item(state="Acknowledged")))
    assert ready(decision) == (
        "False",
        "Timeout",
        "1/6 applied; a0: not acknowledged in time; a1: not acknowledged in time; a2: not acknowledged in time"
        " and 2 more",
    )
    assert counts(decision) == (6, 5, 1, 0, 5)


def test_a_refusal_names_the_agent_and_its_reason_and_outranks_a_timeout() -> None:
    decision = converging(
        told_agent("a", an_item(state="Expired", reason="NotAcknowledged", message="not acknowledged in time")),
        told_agent("b", an_item(state="Refused", reason="RefusedByAgent", message="too hot")),
    )
    assert ready(decision) == ("False", "Refused", "0/2 applied; b: too hot")
    assert counts(decision) == (2, 2, 0, 1, 1)


def test_the_loser_of_a_conflict_reads_in_its_own_status_who_won() -> None:
    cool = variable_body("cool", value=0.1, parameter="temperature", priority=1)
    team = Team.of(cool, agent_body("a"))
    team.variables["hot"] = variable_body("hot", value=0.9, parameter="temperature", priority=5)
    team.settle()
    assert team.parameters("a") == {"temperature": 0.9}
    assert team.ready("hot")[:2] == ("True", "Converged")
    assert team.ready("cool") == (
        "False",
        "Refused",
        "0/1 applied; in force instead: 0.9 at a; a: variable hot sets temperature: its priority 5 is above 1",
    )
    assert team.variable("cool").status.directives.delivered == 0
    assert team.variable("cool").status.value_in_force == "0.9 (decided: 0.1)"
    del team.variables["hot"]
    team.settle()
    assert team.parameters("a") == {"temperature": 0.1}
    assert team.ready("cool")[:2] == ("True", "Converged")


def test_an_agent_that_does_not_run_is_named_and_keeps_nobody_from_ready() -> None:
    acknowledged = an_item(state="Acknowledged")
    parked = told_agent(
        "b", an_item(state="Delivered"), status={"state": "Failed", "parkedAt": stamp(0), "readyReplicas": 0}
    )
    stopped = told_agent("c", acknowledged, status={"state": "Stopped", "readyReplicas": 0})
    decision = converging(told_agent("a", acknowledged), parked, stopped)
    assert ready(decision) == ("True", "Converged", "1/3 applied; not running: b (parked), c (stopped)")
    assert counts(decision)[2] == 1
    assert decision.status.directives.agents_acknowledged == 1


def test_agents_whose_containers_never_ran_have_applied_nothing() -> None:
    never = an_item(state="Issued")
    starting = told_agent("a", never, reports={"source": "None"}, status={"state": "Starting", "readyReplicas": 0})
    assert ready(converging(starting)) == ("False", "Delivering", "0/1 applied")


@pytest.mark.parametrize("hears", [True, False])
def test_a_compromise_says_what_is_in_force_and_converges_or_expires(hears: bool) -> None:
    low = variable_body("low", value=0.2, parameter="depth", priority=1)
    team = Team.of(low, agent_body("a", conflictResolution="Compromise"), hears=hears)
    team.variables["high"] = variable_body("high", value=0.6, parameter="depth", priority=3)
    team.settle()
    assert team.parameters("a") == {"depth": 0.5}
    assert team.variable("low").status.value == 0.2
    assert team.variable("low").status.value_in_force == "0.5 (decided: 0.2)"
    if hears:
        assert team.ready("low") == ("True", "Converged", "1/1 applied; in force instead: 0.5 at a")
        team.variables["high"]["spec"]["value"] = 1.0
        team.variables["high"]["metadata"]["generation"] = 2
        team.settle()
        assert team.parameters("a") == {"depth": 0.8}
        assert team.ready("low") == ("True", "Converged", "1/1 applied; in force instead: 0.8 at a")
    else:
        assert team.ready("low")[1] == "Delivering"
        team.now = at(60)
        team.settle()
        assert team.ready("low")[1] == "Timeout"
