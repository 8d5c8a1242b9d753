"""Wirings and terms through histories of agents that come and go, with networkx as the judge of graphs."""

from typing import Any

import networkx as nx
from hypothesis import given
from hypothesis import strategies as st

from mabeam.core.algorithms.peer_graph import Direction
from mabeam.core.coordination.strategies.election import elect
from mabeam.core.coordination.strategies.topology import topology
from mabeam.core.directives.desired import peer_graph_of
from mabeam.core.values import parse_election
from support.coordination import a_round, in_json, told_agent

NAMES = "abcdef"
PARKED = {"state": "Failed", "parkedAt": "2026-01-01T00:00:00Z", "readyReplicas": 0}
STARTING = {"state": "Starting", "readyReplicas": 0}
AGENTS = {
    state: {name: told_agent(name, status=status) for name in NAMES}
    for state, status in (("up", {}), ("starting", STARTING), ("parked", PARKED))
}
TEAMS = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(sorted(AGENTS)))
EDGES = st.lists(
    st.fixed_dictionaries({"from": st.sampled_from(NAMES), "to": st.sampled_from(NAMES)}), min_size=1, max_size=12
)
SHAPES = st.sampled_from(["Ring", "Star", "Broadcast", "Mesh"]).map(lambda found: {"pattern": found}) | EDGES.map(
    lambda edges: {"pattern": "Custom", "edges": edges}
)


def decided(decide: Any, shape: Any, team: dict[str, str], before: Any) -> Any:
    """The value after a look at that team; the one before when nobody takes part."""
    kind = "CoordinationPattern" if decide is elect else "CommunicationTopology"
    agents = [AGENTS[state][name] for name, state in team.items()]
    status = {"observedGeneration": 1, "value": before}
    value = in_json(decide(a_round(*agents, type=kind, topology=shape, status=status))).value
    return before if value is None else value


def graph(value: Any) -> Any:
    """Who may begin to talk to whom, as a directed graph."""
    found = nx.DiGraph()
    for name, peers in peer_graph_of(parse_election(value)).peers.items():
        found.add_node(name)
        for peer in peers:
            if peer.direction is not Direction.IN:
                found.add_edge(name, peer.name)
            if peer.direction is not Direction.OUT:
                found.add_edge(peer.name, name)
    return found


@given(SHAPES, TEAMS.filter(lambda team: any(state != "parked" for state in team.values())))
def test_those_who_take_part_are_connected_and_told_of_each_other_alike(shape: Any, team: dict[str, str]) -> None:
    value = decided(topology, shape, team, None)
    members = {name for name, state in team.items() if state != "parked"}
    found, wiring = graph(value), peer_graph_of(parse_election(value))
    assert set(found.nodes) == members
    assert nx.is_weakly_connected(found)
    assert not any(name == peer.name for name, peers in wiring.peers.items() for peer in peers)
    for name, peers in wiring.peers.items():
        for peer in peers:
            [back] = [one for one in wiring.peers[peer.name] if one.name == name]
            assert (peer.direction, back.direction) in {
                (Direction.BOTH, Direction.BOTH), (Direction.IN, Direction.OUT), (Direction.OUT, Direction.IN),
            }  # fmt: skip


@given(st.integers(3, 6), st.sampled_from(["Ring", "Star", "Broadcast", "Mesh"]))
def test_each_pattern_is_the_graph_of_its_name(size: int, shape: str) -> None:
    value = decided(topology, {"pattern": shape}, dict.fromkeys(NAMES[:size], "up"), None)
    reference = {
        "Ring": nx.cycle_graph(size),
        "Star": nx.star_graph(size - 1),
        "Broadcast": nx.star_graph(size - 1),
        "Mesh": nx.complete_graph(size),
    }[shape]
    assert nx.is_isomorphic(graph(value).to_undirected(), reference)
    assert graph(value).number_of_edges() == reference.number_of_edges() * (1 if shape == "Broadcast" else 2)


@given(EDGES, st.integers(2, 6))
def test_a_graph_of_ones_own_gets_no_more_ties_than_its_parts_need(edges: Any, size: int) -> None:
    value = decided(topology, {"pattern": "Custom", "edges": edges}, dict.fromkeys(NAMES[:size], "up"), None)
    own = nx.Graph()
    own.add_nodes_from(NAMES[:size])
    own.add_edges_from((e["from"], e["to"]) for e in edges if e["from"] in own and e["to"] in own)
    assert len(peer_graph_of(parse_election(value)).joined) == nx.number_connected_components(own) - 1


@given(st.sampled_from(["Ring", "Star"]), st.lists(TEAMS, min_size=1, max_size=12))
def test_the_term_never_falls_and_rises_exactly_with_each_new_coordinator(
    shape: str, history: list[dict[str, str]]
) -> None:
    value: Any = None
    for team in history:
        after = decided(elect, {"pattern": shape}, team, value)
        if value is None:
            assert after is None or after["term"] == 1
        else:
            assert after["term"] - value["term"] == (after["coordinator"] != value["coordinator"])
            held = team.get(value["coordinator"], "parked")
            assert held == "parked" or after["coordinator"] == value["coordinator"]
        if after is not value:
            assert team[after["coordinator"]] != "parked"
        value = after


@given(SHAPES, TEAMS)
def test_a_look_at_the_same_team_finds_the_same(shape: Any, team: dict[str, str]) -> None:
    once = decided(topology, shape, team, None)
    assert decided(topology, shape, team, once) == once
