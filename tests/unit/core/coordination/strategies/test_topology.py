"""CommunicationTopology: who takes part, who is the hub, and which peers each has."""

from typing import Any

import pytest

from mabeam.core.algorithms.peer_graph import LARGEST_MESH
from mabeam.core.coordination.strategies.election import elect
from mabeam.core.coordination.strategies.topology import topology
from mabeam.core.functions import FunctionResult
from support.coordination import a_round, in_json, told_agent

PARKED = {"state": "Failed", "parkedAt": "2026-01-01T00:00:00Z", "readyReplicas": 0}


def wired(shape: Any, *agents: Any, before: Any = None, decide: Any = topology, **words: Any) -> Any:
    """The outcome of wiring these agents."""
    kind = "CoordinationPattern" if decide is elect else "CommunicationTopology"
    status = {"observedGeneration": 1, "value": before} if before is not None else None
    return in_json(decide(a_round(*agents, type=kind, topology=shape, status=status, **words)))


def team(names: str = "abc") -> list[Any]:
    return [told_agent(name) for name in names]


def test_who_is_parked_or_stopped_takes_no_part() -> None:
    agents = [told_agent("a"), told_agent("b", status=PARKED), told_agent("c"), told_agent("d", desired="Stopped")]
    assert wired({"pattern": "Ring"}, *agents).value == {"pattern": "Ring", "members": ["a", "c"]}
    assert wired({"pattern": "Ring"}, told_agent("b", status=PARKED)).rule == "AgentUnavailable"


def test_a_mesh_of_more_than_five_hundred_is_refused_and_says_what_to_do() -> None:
    agents = [told_agent(f"a{number}") for number in range(LARGEST_MESH + 1)]
    outcome = wired({"pattern": "Mesh"}, *agents)
    assert outcome.error == "InvalidConfiguration"
    assert outcome.message == (
        "a Mesh of 501 agents has 250500 peers in all; at most 500 agents. Use Ring, Star or Custom, or select fewer"
    )
    assert wired({"pattern": "Mesh"}, *agents[1:]).value["pattern"] == "Mesh"


@pytest.mark.parametrize("shape", ["Star", "Broadcast"])
def test_the_hub_is_the_coordinator_by_role_else_the_first_and_stays_while_it_takes_part(shape: str) -> None:
    by_role = [told_agent("a"), told_agent("b", role="Coordinator")]
    assert wired({"pattern": shape}, *by_role).value["hub"] == "b"
    assert wired({"pattern": shape}, *team()).value["hub"] == "a"
    assert (
        wired({"pattern": shape}, *team(), before={"pattern": shape, "members": ["c"], "hub": "c"}).value["hub"] == "c"
    )
    assert (
        wired({"pattern": shape}, *team(), before={"pattern": shape, "members": ["gone"], "hub": "gone"}).value["hub"]
        == "a"
    )


def test_a_graph_that_falls_apart_is_joined_and_says_so() -> None:
    edges = [{"from": "a", "to": "b"}, {"from": "b", "to": "gone"}]
    outcome = wired({"pattern": "Custom", "edges": edges}, *team())
    assert (
        outcome.message
        == "Custom of 3, 2 edges; not among its agents: gone; edges added so that every agent is connected: a–c"
    )


def test_a_predicate_is_asked_once_of_what_agents_are_and_its_edges_are_the_value() -> None:
    shape = {"pattern": "Custom", "cel": "true"}
    [ask] = wired(shape, *team("ab")).follow_up.function_calls
    assert [sorted(agent) for agent in ask.inputs["agents"]] == [
        ["capabilities", "labels", "name", "replicas", "role"]
    ] * 2
    outcome = wired(shape, *team("ab"), answers={ask.id: FunctionResult([["a", "b"]])})
    assert outcome.value == {"pattern": "Custom", "members": ["a", "b"], "edges": [["a", "b"]]}


def test_a_predicate_that_was_asked_of_others_is_no_answer_about_these() -> None:
    shape = {"pattern": "Custom", "cel": "true"}
    [of_two] = wired(shape, *team("ab")).follow_up.function_calls
    outcome = wired(shape, *team("abc"), answers={of_two.id: FunctionResult([["a", "b"]])}, asked=[of_two])
    assert [ask.id == of_two.id for ask in outcome.follow_up.function_calls] == [False]


def test_a_predicate_that_fails_or_finds_too_much_is_told() -> None:
    shape = {"pattern": "Custom", "cel": "true"}
    [ask] = wired(shape, *team("ab")).follow_up.function_calls
    assert wired(shape, *team("ab"), answers={ask.id: FunctionResult(error="no")}).message == "the predicate: no"
    late = wired(shape, *team("ab"), answers={ask.id: FunctionResult(error="slow", timed_out=True)})
    assert late.error == "Timeout"
    many = wired(shape, *team("ab"), answers={ask.id: FunctionResult([["a", "b"]] * 5001)})
    assert many.message == "the predicate holds for 5001 pairs; at most 5000: use Mesh"
    crowd = [told_agent(f"a{number}") for number in range(301)]
    assert wired(shape, *crowd).error == "InvalidConfiguration"
