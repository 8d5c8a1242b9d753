"""What agents report and functions answer never breaks a pass; and what is in force before anything is agreed on."""

import json
from datetime import timedelta
from typing import Any

import pytest
import yaml

from mabeam.offline.documents import InvalidWorld
from mabeam.offline.plan import plan
from mabeam.offline.world import parse_now, read_world

NOW = parse_now("2026-01-01T00:05:00Z")


def agent(name: str, *, status: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    running = {"observedGeneration": 1, "state": "Running", "readyReplicas": 1}
    return {
        "apiVersion": "mabeam.dev/v1alpha1",
        "kind": "Agent",
        "metadata": {"name": name, "uid": f"uid-{name}", "labels": {"team": "alpha"}},
        "spec": {"module": "team.work:Worker", **spec},
        "status": running | (status or {}),
    }


def variable(name: str = "v", *, status: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "mabeam.dev/v1alpha1",
        "kind": "OrchestrationVariable",
        "metadata": {"name": name, "uid": f"uid-{name}", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"agents": {"selector": {"matchLabels": {"team": "alpha"}}}, **spec},
        **({"status": {"observedGeneration": 1, "round": 1, **status}} if status else {}),
    }


def report(name: str, text: str) -> dict[str, Any]:
    return {"apiVersion": "mabeam.dev/plan", "kind": "Report", "metadata": {"name": name}, "openmetrics": text}


def planned(*documents: dict[str, Any]) -> dict[str, Any]:
    return plan(read_world([("world", yaml.safe_dump_all(documents))]), NOW)


def of(world: dict[str, Any], name: str = "v") -> dict[str, Any]:
    found: dict[str, Any] = world["variables"][f"default/{name}"]
    return found


def ready(status: dict[str, Any]) -> tuple[str, str]:
    return next((c["status"], c["reason"]) for c in status["conditions"] if c["type"] == "Ready")


@pytest.mark.parametrize("said", ["1e15", "1e300", "-1e300"])
def test_a_reported_performance_is_bounded_before_it_counts(said: str) -> None:
    spec = {"type": "AgentSelection", "constraints": {"maxConcurrent": 1}}
    status = of(planned(agent("a"), agent("b"), report("b", f"mabeam_performance {said}\n"), variable(**spec)))
    assert [c["score"] for c in status["lastDecision"]["candidates"] if c["name"] == "b"] == [
        1e12 if float(said) > 0 else -1e12
    ]
    threshold = {"above": 1, "forSeconds": 0, "onBreach": {"action": "Migrate"}}
    spec = {"type": "PerformanceThreshold", "threshold": threshold}
    status = of(planned(agent("a"), report("a", f"mabeam_performance {said}\n"), variable(**spec)))
    assert bool(status["value"]) is (float(said) > 0)


def directive(action: str, parameters: Any) -> dict[str, Any]:
    """A Custom variable whose function named that directive in an earlier pass, and names it again."""
    one = {"agent": "a", "action": action, "parameters": parameters}
    return variable(
        type="Custom",
        function={"cel": json.dumps({"directives": [one]})},
        status={"value": {"directives": [one]}},
    )


@pytest.mark.parametrize("peers", [3, ["b"], [{"name": 3}], [[]], "b", {"name": "b"}])
def test_peers_that_are_none_are_refused_and_the_agent_goes_on(peers: Any) -> None:
    found = planned(agent("a"), agent("b"), directive("UpdateCommunication", {"peers": peers}))
    (item,) = found["agents"]["default/a"]["directives"]["items"]
    assert (item["state"], item["reason"]) == ("Refused", "CannotBeDone")
    assert item["message"].startswith("cannot be done: `peers` must be a list of {name, direction?}, not ")


def test_peers_that_a_function_names_are_told() -> None:
    found = planned(agent("a"), agent("b"), directive("UpdateCommunication", {"peers": [{"name": "b"}]}))
    (item,) = found["agents"]["default/a"]["directives"]["items"]
    assert item["state"] == "Issued"
    (told,) = [w["body"]["data"]["directives.json"] for w in found["writes"] if w["name"] == "a-mabeam"]
    assert json.loads(told)["peers"] == [{"name": "b", "role": "Executor", "addresses": []}]


@pytest.mark.parametrize("amount", ["plenty", "", 3, "1" * 40])
def test_an_amount_that_is_no_quantity_is_refused(amount: Any) -> None:
    found = planned(agent("a"), directive("AllocateResources", {"tokens": amount}))
    (item,) = found["agents"]["default/a"]["directives"]["items"]
    assert (item["state"], item["reason"]) == ("Refused", "CannotBeDone")
    assert item["message"] == "cannot be done: the amount of tokens must be a quantity"


def test_a_directive_with_more_parameters_than_a_status_holds_is_the_functions_failure() -> None:
    many = {f"p{i}": i for i in range(65)}
    found = planned(agent("a"), directive("AdjustParameters", many))
    assert of(found)["lastDecision"]["rule"] == "FunctionFailed"
    assert "with more than 64 parameters" in of(found)["lastDecision"]["message"]
    assert "directives" not in found["agents"]["default/a"]  # though somebody wrote such a value into the status


def test_a_threshold_with_more_parameters_than_a_status_holds_is_no_valid_spec() -> None:
    many = {f"p{i}": i for i in range(65)}
    threshold = {"below": 1, "onBreach": {"action": "AdjustParameters", "parameters": many}}
    with pytest.raises(InvalidWorld, match="must have at most 64 entries"):
        planned(agent("a"), variable(type="PerformanceThreshold", threshold=threshold))


def wants(vote: str | None, value: float = 1) -> dict[str, Any]:
    preference = {"variable": "v", "value": value} | ({"vote": vote} if vote else {})
    return agent("a", preferences=[preference])


@pytest.mark.parametrize(("vote", "outcome"), [(None, "Pending"), ("No", "Rejected")])
def test_the_spec_value_is_in_force_until_the_first_vote_is_won(vote: str | None, outcome: str) -> None:
    status = of(planned(wants(vote), variable(value=0.5, negotiation={}, consensus={})))
    assert (status["value"], status["consensus"]["outcome"]) == (0.5, outcome)


def test_a_negotiated_value_that_is_the_spec_value_needs_no_vote() -> None:
    status = of(planned(wants(None, 0.5), variable(value=0.5, negotiation={}, consensus={})))
    assert status["value"] == 0.5
    assert "consensus" not in status


def test_a_variable_that_was_paused_from_the_start_says_so() -> None:
    status = of(planned(agent("a"), variable(value=1, paused=True)))
    assert "value" not in status
    assert ready(status) == ("False", "Paused")


def test_who_leads_in_a_plan_is_one_of_the_agents_of_its_variables() -> None:
    """A stranger that has run for longer does not count, as it does not in the operator."""
    old = {"pods": [{"ordinal": 0, "incarnation": 1, "name": "x-0-1", "state": "Running"}]}
    old["pods"][0]["startTime"] = "2025-01-01T00:00:00Z"
    stranger = agent("x", status=old, preferences=[{"variable": "low", "value": 1, "weight": 9}])
    stranger["metadata"]["labels"] = {}
    led = agent("a", conflictResolution="LeaderElection")
    told = [
        variable(name, parameter="pace", priority=priority, value=value, status={"value": value})
        for name, priority, value in (("low", 1, 0.2), ("high", 3, 0.6))
    ]
    (conflict,) = planned(led, stranger, *told)["agents"]["default/a"]["directives"]["conflicts"]
    assert (conflict["winner"], conflict["loser"]) == ("high", "low")


def test_a_retry_is_a_try_and_not_only_counted_as_one() -> None:
    """What it waited for is there after two seconds: decided at the retry after three, long before the period is over."""
    spec = {"function": {"cel": "agents.filter(a, a.performance > 0.5).size() + 1"}, "value": 9}
    retried = variable(faultTolerance={"recoveryStrategy": "Retry", "escalationPolicy": "Freeze"}, **spec)
    found = []
    for second in (0, 1, 3):
        said = [report("a", "mabeam_performance 0.9\n")] if second > 1 else []
        world = read_world([("world", yaml.safe_dump_all([agent("a"), retried, *said]))])
        retried["status"] = of(plan(world, NOW + timedelta(seconds=second)))
        found.append((retried["status"]["value"], len(retried["status"]["failures"])))
    assert found == [(9, 1), (9, 2), (2, 2)]


def test_a_function_is_given_no_more_of_the_system_in_a_plan_than_in_the_operator() -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}, "spec": {"hard": {"tokens": "9"}}}
    status = of(planned(agent("a"), quota, variable(type="Custom", function={"cel": "{'quota': context.quota}"})))
    assert status["value"] == {"quota": {}}
