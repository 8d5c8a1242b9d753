"""ResourceAllocation: who takes part, with what weight and bounds, and of which budget."""

from typing import Any

import pytest

from mabeam.core.coordination.strategies.allocation import allocate
from mabeam.core.snapshot import SystemContext
from support.builders import agent_body
from support.coordination import Team, a_round, in_json, told_agent, variable_body


def sharing(name: str, weight: float = 1, least: str | None = None, most: str | None = None, **words: Any) -> Any:
    """An agent with bounds for tokens."""
    ends = {key: found for key, found in (("min", least), ("max", most)) if found is not None}
    return told_agent(name, resources={"bounds": [{"resource": "tokens", "weight": weight, **ends}]}, **words)


def dividing(amount: str | None, *agents: Any, resource: str = "tokens", **words: Any) -> Any:
    """The outcome of dividing so much of a resource among these."""
    budget = {"budget": [{"resource": resource, "amount": amount}]} if amount is not None else {}
    return in_json(allocate(a_round(*agents, type="ResourceAllocation", **budget, **words)))


def tokens(*args: Any, **words: Any) -> dict[str, str]:
    """How many tokens each replica of each agent has."""
    return {name: share["tokens"] for name, share in dividing(*args, **words).value.items()}


def test_it_is_divided_by_weight_within_each_ones_bounds() -> None:
    assert tokens("100", sharing("a", 3), sharing("b"), sharing("c", most="10")) == {"a": "68", "b": "22", "c": "10"}


def test_a_weight_of_zero_gets_the_least_and_no_more() -> None:
    assert tokens("100", sharing("a", 0, least="7"), sharing("b")) == {"a": "7", "b": "93"}
    outcome = dividing("100", sharing("a", 0), sharing("b", 0))
    assert (outcome.value, outcome.message) == (
        {"a": {"tokens": "0"}, "b": {"tokens": "0"}},
        "100 tokens of spec.budget among 2, 100 left",
    )


def test_an_agent_counts_once_for_each_of_its_replicas_and_bounds_are_those_of_one() -> None:
    assert tokens("100", sharing("a", replicas=3), sharing("b")) == {"a": "25", "b": "25"}
    assert tokens("100", sharing("a", replicas=3, most="10"), sharing("b")) == {"a": "10", "b": "70"}
    assert tokens("10", sharing("a", replicas=3), sharing("b", 0)) == {"a": "3", "b": "0"}


def test_of_bounds_that_contradict_each_other_the_most_holds_and_that_is_told() -> None:
    crossed = sharing("a", least="50", most="10")
    assert tokens("100", crossed, sharing("b")) == {"a": "10", "b": "90"}
    of_a, of_b = dividing("100", crossed, sharing("b")).candidates
    assert "`min` 50 is above `max` 10, and `max` holds" in of_a.reason
    assert "above" not in of_b.reason


def test_directives_change_how_many_replicas_there_are() -> None:
    scaled = sharing("a", status={"effective": {"replicas": 4, "desiredState": "Running"}})
    assert tokens("100", scaled, sharing("b")) == {"a": "20", "b": "20"}


def test_a_budget_below_what_everyone_is_owed_is_exhausted_and_says_by_how_much() -> None:
    outcome = dividing("10", sharing("a", least="8"), sharing("b", least="8"))
    assert (outcome.value, outcome.error, outcome.message) == (
        None,
        "ResourceExhausted",
        "the agents need at least 6 tokens more than the 10 of spec.budget",
    )


def test_who_is_stopped_or_parked_has_no_share() -> None:
    away = [
        sharing("b", status={"state": "Stopped"}),
        sharing("c", status={"state": "Failed", "parkedAt": "2026-01-01T00:00:00Z"}),
        sharing("d", desired="Stopped"),
        sharing("e", replicas=0),
    ]
    assert tokens("100", sharing("a"), *away) == {"a": "100"}
    assert dividing("100", *away).rule == "AgentUnavailable"


def test_whose_pods_ask_for_no_memory_has_no_part_in_it() -> None:
    asks = told_agent("a", resources={"requests": {"memory": "64Mi"}, "bounds": [{"resource": "memory", "max": "1Gi"}]})
    assert dividing("4Gi", asks, told_agent("b"), resource="memory").value == {"a": {"memory": "1Gi"}}


def test_without_bounds_nobody_gets_less_than_it_asks_for() -> None:
    agents = [told_agent(name, resources={"requests": {"cpu": cpu}}) for name, cpu in (("a", "700m"), ("b", "100m"))]
    assert dividing("1", *agents, resource="cpu").value == {"a": {"cpu": "700m"}, "b": {"cpu": "300m"}}


def test_of_cpu_the_agents_own_weight_counts_else_the_variables() -> None:
    def weighing(name: str, **words: Any) -> Any:
        return told_agent(name, resources={"requests": {"cpu": "1m"}, "bounds": [{"resource": "cpu"}], **words})

    outcome = dividing("4", weighing("a", cpuWeight=1), weighing("b"), resource="cpu", resources={"cpuWeight": 3})
    assert outcome.value == {"a": {"cpu": "1"}, "b": {"cpu": "3"}}


def test_what_taking_part_asks_for_and_is_worth_bounds_everyone() -> None:
    asked = {"requests": {"tokens": "20"}, "limits": {"tokens": "60"}}
    assert tokens("100", sharing("a"), sharing("b", 9), resources=asked) == {"a": "40", "b": "60"}


@pytest.mark.parametrize(
    ("context", "source"),
    [
        (SystemContext(quota={"tokens": "50"}, allocatable={"tokens": "90"}), "50 tokens of the ResourceQuota"),
        (SystemContext(allocatable={"tokens": "90"}), "90 tokens of what the nodes can allocate"),
    ],
)
def test_without_a_budget_the_quota_is_divided_else_what_the_nodes_have(context: SystemContext, source: str) -> None:
    assert dividing(None, sharing("a"), context=context).message == f"{source} among 1"


def test_with_nothing_to_divide_it_is_misconfigured() -> None:
    assert dividing(None, told_agent("a")).error == "InvalidConfiguration"


def test_an_amount_beyond_everything_costs_no_time() -> None:
    assert tokens("1e999999999", sharing("a", most="5"), sharing("b", most="1e99999999")) == {
        "a": "5",
        "b": str(2**63 - 6),
    }


def test_one_agent_with_an_amount_that_is_none_costs_nobody_else_the_division() -> None:
    junk = {"spec": {"containers": [{"name": "agent", "resources": {"requests": {"memory": "lots"}}}]}}
    asks = told_agent("a", resources={"requests": {"memory": "64Mi"}})
    assert dividing("1Gi", asks, told_agent("b", template=junk), resource="memory").value == {"a": {"memory": "1Gi"}}


def test_a_team_divides_delivers_and_comes_to_rest_and_divides_anew_when_one_parks() -> None:
    variable = variable_body(
        "shares", ("a", "b"), type="ResourceAllocation", budget=[{"resource": "tokens", "amount": "100"}]
    )
    team = Team.of(variable, agent_body("a"), agent_body("b"))
    team.settle()
    assert team.maps["a-mabeam"].document is not None
    assert team.maps["a-mabeam"].document["resources"] == {"tokens": "50"}
    team.agents["b"]["status"] |= {"state": "Failed", "parkedAt": "2026-01-01T00:00:00Z", "readyReplicas": 0}
    team.settle()
    assert team.maps["a-mabeam"].document["resources"] == {"tokens": "100"}
    assert team.settle() == 0
