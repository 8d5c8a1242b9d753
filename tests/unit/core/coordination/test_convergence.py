"""How far the directives of a variable have come, and which failure that is."""

from typing import Any

from mabeam.api.directive import DirectiveState
from mabeam.core.decision import Decision
from support.builders import agent_body
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
    assert ready(converging(told_agent("a", delivered, status={"state": "Failed"})))[1] == "Delivering"
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
        "0/1 applied; a: variable hot sets temperature: its priority 5 is above 1",
    )
    assert team.variable("cool").status.directives.delivered == 0
    del team.variables["hot"]
    team.settle()
    assert team.parameters("a") == {"temperature": 0.1}
    assert team.ready("cool")[:2] == ("True", "Converged")
