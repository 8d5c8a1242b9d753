"""Wirings: the pattern's shape, and nobody is ever cut off."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mabeam.api.variable_blocks import CoordinationPattern
from mabeam.core.algorithms.peer_graph import Direction, PeerGraph, PeerLink, build_peer_graph

NAMES = st.lists(st.text("abcdefghij", min_size=1, max_size=3), unique=True, max_size=12)
BACK = {Direction.OUT: Direction.IN, Direction.IN: Direction.OUT, Direction.BOTH: Direction.BOTH}


def told(wiring: PeerGraph, name: str) -> str:
    """A member's peers in short: `b> c< d`, for out, in and both."""
    marks = {Direction.OUT: ">", Direction.IN: "<", Direction.BOTH: ""}
    return " ".join(f"{peer.name}{marks[peer.direction]}" for peer in wiring.peers[name])


@pytest.mark.parametrize(
    ("pattern", "of_a", "of_c"),
    [
        ("Broadcast", "b> c> d>", "a<"),
        ("Star", "b c d", "a"),
        ("Ring", "b d", "d b"),
        ("Mesh", "b c d", "a b d"),
    ],
)
def test_four_members(pattern: str, of_a: str, of_c: str) -> None:
    wiring = build_peer_graph(CoordinationPattern(pattern), "abcd")
    assert (told(wiring, "a"), told(wiring, "c")) == (of_a, of_c)


def test_a_ring_of_two_has_one_peer_each_and_of_one_none() -> None:
    assert told(build_peer_graph(CoordinationPattern.RING, "ab"), "a") == "b"
    assert build_peer_graph(CoordinationPattern.RING, "a").peers == {"a": ()}


def test_a_hub_that_is_missing_is_replaced_by_the_first_member() -> None:
    assert told(build_peer_graph(CoordinationPattern.STAR, "abc", hub="c"), "c") == "a b"
    assert told(build_peer_graph(CoordinationPattern.STAR, "ab", hub="c"), "a") == "b"


def test_a_graph_of_ones_own_has_directions_and_is_mended_where_it_falls_apart() -> None:
    edges = [("a", "b"), ("b", "a"), ("b", "c"), ("d", "e"), ("a", "gone")]
    wiring = build_peer_graph(CoordinationPattern.CUSTOM, "abcde", edges=edges)
    assert wiring.joined == (("a", "d"),)
    assert [told(wiring, name) for name in "abcde"] == ["b d", "a c>", "b<", "a e>", "d<"]


@given(
    st.sampled_from(list(CoordinationPattern)),
    NAMES,
    st.lists(st.tuples(st.text("abcdefghij", max_size=2), st.text("abcdefghij", max_size=2)), max_size=20),
)
def test_whoever_is_there_is_connected_and_every_tie_has_two_ends(
    pattern: CoordinationPattern, names: list[str], edges: list[tuple[str, str]]
) -> None:
    wiring = build_peer_graph(pattern, names, edges=edges)
    assert set(wiring.peers) == set(names)
    for name, peers in wiring.peers.items():
        assert len({peer.name for peer in peers}) == len(peers)
        for peer in peers:
            assert peer.name != name
            assert PeerLink(name, BACK[peer.direction]) in wiring.peers[peer.name]
    reached, todo = set(names[:1]), list(names[:1])
    while todo:
        fresh = {peer.name for peer in wiring.peers[todo.pop()]} - reached
        reached |= fresh
        todo.extend(fresh)
    assert reached == set(names)
