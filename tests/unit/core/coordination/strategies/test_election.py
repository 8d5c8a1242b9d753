"""CoordinationPattern: who coordinates, under which term, and who succeeds."""

from typing import Any

import pytest

from mabeam.core.coordination.strategies.election import elect
from mabeam.core.coordination.strategies.topology import topology
from mabeam.core.directives.desired import peer_graph_of
from mabeam.core.values import parse_election
from support.builders import agent_body
from support.coordination import Team, a_round, in_json, told_agent, variable_body

PARKED = {"state": "Failed", "parkedAt": "2026-01-01T00:00:00Z", "readyReplicas": 0}


def wired(shape: Any, *agents: Any, before: Any = None, decide: Any = topology, **words: Any) -> Any:
    """The outcome of wiring these agents."""
    kind = "CoordinationPattern" if decide is elect else "CommunicationTopology"
    status = {"observedGeneration": 1, "value": before} if before is not None else None
    return in_json(decide(a_round(*agents, type=kind, topology=shape, status=status, **words)))


def team(names: str = "abc") -> list[Any]:
    return [told_agent(name) for name in names]


def test_the_first_coordinator_is_elected_for_the_first_term() -> None:
    outcome = wired({"pattern": "Ring"}, *team(), decide=elect)
    assert outcome.value == {"pattern": "Ring", "members": ["a", "b", "c"], "coordinator": "a", "term": 1}
    assert outcome.message == "a is elected coordinator (term 1); Ring of 3"


def test_the_coordinator_stays_as_long_as_it_takes_part_even_when_it_is_not_ready() -> None:
    agents = [told_agent("a"), told_agent("b", status={"state": "Starting", "readyReplicas": 0})]
    outcome = wired({"pattern": "Ring"}, *agents, before={"coordinator": "b", "term": 4}, decide=elect)
    assert (outcome.value["coordinator"], outcome.value["term"]) == ("b", 4)


@pytest.mark.parametrize(
    ("agents", "successor"),
    [
        ([told_agent("b", status={"state": "Starting", "readyReplicas": 0}), told_agent("c")], "c"),
        ([told_agent("b"), told_agent("c", role="Coordinator")], "c"),
        ([told_agent("b"), told_agent("c")], "b"),
        ([told_agent("b", status={"state": "Starting"}), told_agent("c", status={"state": "Starting"})], "b"),
    ],
)
def test_its_successor_is_ready_if_anybody_is_and_raises_the_term(agents: list[Any], successor: str) -> None:
    before = {"coordinator": "a", "term": 4}
    outcome = wired({"pattern": "Star"}, told_agent("a", status=PARKED), *agents, before=before, decide=elect)
    assert (outcome.value["coordinator"], outcome.value["term"]) == (successor, 5)


@pytest.mark.parametrize("term", [None, True, -1, 1.5, "9", [], 2**60])
def test_a_term_that_is_none_starts_anew(term: Any) -> None:
    assert wired({}, *team(), before={"coordinator": "gone", "term": term}, decide=elect).value["term"] == 1


def test_everyone_hears_of_the_coordinator_and_it_alone_gets_the_role_with_its_term() -> None:
    variable = variable_body("shape", "abc", type="CoordinationPattern", topology={"pattern": "Star"})
    found = Team.of(variable, *(agent_body(name) for name in "abc"))
    found.settle()
    found.agents["a"]["status"] |= PARKED
    found.settle()
    read = {name: found.maps[f"{name}-mabeam"].document or {} for name in "bc"}
    assert [(read[n]["role"], read[n].get("term"), read[n]["coordinator"]) for n in "bc"] == [
        ("Coordinator", 2, {"name": "b", "term": 2}),
        ("Executor", None, {"name": "b", "term": 2}),
    ]
    assert found.settle() == 0


@pytest.mark.parametrize(
    "value",
    [None, 5, "x", [], {}, {"pattern": []}, {"pattern": "Ring"}, {"pattern": "Star", "members": 7}, {"pattern": "nope"},
     {"pattern": "Custom", "members": ["a", "b", [], 3], "edges": 7}, {"pattern": "Ring", "members": ["a"], "coordinator": {}}],
)  # fmt: skip
def test_a_stored_value_of_any_shape_wires_nobody_wrongly(value: Any) -> None:
    wiring = peer_graph_of(parse_election(value))
    assert all(isinstance(name, str) for name in wiring.peers)
    for name, peers in wiring.peers.items():
        assert all(name in {back.name for back in wiring.peers[peer.name]} for peer in peers)
