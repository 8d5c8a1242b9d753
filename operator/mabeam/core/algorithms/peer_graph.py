"""Members and a pattern → who talks to whom. Connected by construction, whoever is missing.

The edges of the named patterns follow from the order of the members alone, so a value need not carry them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Final

from mabeam.api.variable_blocks import CoordinationPattern

# Everyone's peers are everyone else: what is told grows with the square.
LARGEST_MESH: Final = 500


class Direction(StrEnum):
    """Who of the two begins to talk."""

    OUT = "Out"
    IN = "In"
    BOTH = "Both"


@dataclass(frozen=True, slots=True, order=True)
class PeerLink:
    """Somebody to talk with, and in which direction."""

    name: str
    direction: Direction = Direction.BOTH


@dataclass(frozen=True, slots=True)
class PeerGraph:
    """Each member's peers, in the pattern's order; `joined` are the edges that were added so that nobody is cut off."""

    peers: Mapping[str, tuple[PeerLink, ...]]
    joined: tuple[tuple[str, str], ...] = ()


Edges = Sequence[tuple[str, str]]


def build_peer_graph(
    pattern: CoordinationPattern, members: Sequence[str], hub: str | None = None, edges: Edges = ()
) -> PeerGraph:
    """Who talks to whom among the members; of `edges` (from, to) those between members count, and only for Custom.

    `hub` is the centre of a Star and the source of a Broadcast; the first member when it is none of them. Θ(n), of Mesh Θ(n²).
    """
    present = tuple(dict.fromkeys(members))
    centre = hub if hub in present else (present[0] if present else "")
    if pattern is CoordinationPattern.CUSTOM:
        return _custom(present, edges)
    return PeerGraph(_PATTERNS[pattern](present, centre))


def _broadcast(members: Sequence[str], source: str) -> dict[str, tuple[PeerLink, ...]]:
    others = tuple(PeerLink(name, Direction.OUT) for name in members if name != source)
    return {name: others if name == source else (PeerLink(source, Direction.IN),) for name in members}


def _star(members: Sequence[str], hub: str) -> dict[str, tuple[PeerLink, ...]]:
    leaves = tuple(PeerLink(name) for name in members if name != hub)
    return {name: leaves if name == hub else (PeerLink(hub),) for name in members}


def _ring(members: Sequence[str], _: str) -> dict[str, tuple[PeerLink, ...]]:
    """The next one, then the one before; of two members each is the other's only peer."""
    count = len(members)
    return {
        name: tuple(
            PeerLink(other) for other in dict.fromkeys((members[(i + 1) % count], members[i - 1])) if other != name
        )
        for i, name in enumerate(members)
    }


def _mesh(members: Sequence[str], _: str) -> dict[str, tuple[PeerLink, ...]]:
    everyone = tuple(PeerLink(name) for name in members)
    return {name: (*everyone[:i], *everyone[i + 1 :]) for i, name in enumerate(members)}


_PATTERNS: Final[Mapping[CoordinationPattern, Callable[[Sequence[str], str], dict[str, tuple[PeerLink, ...]]]]] = {
    CoordinationPattern.BROADCAST: _broadcast,
    CoordinationPattern.STAR: _star,
    CoordinationPattern.RING: _ring,
    CoordinationPattern.MESH: _mesh,
}


# --- a graph of the user's own ------------------------------------------------------------------------------------------


def _custom(members: Sequence[str], edges: Edges) -> PeerGraph:
    """The edges between members; parts that hang together with nothing else are joined at their first members."""
    there = set(members)
    wanted = dict.fromkeys((a, b) for a, b in edges if a in there and b in there and a != b)
    parts = _parts(members, wanted)
    joined = tuple((one[0], other[0]) for one, other in pairwise(parts))
    ways: dict[str, dict[str, Direction]] = {name: {} for name in members}
    for a, b in wanted:
        _add(ways, a, b, Direction.OUT)
        _add(ways, b, a, Direction.IN)
    for a, b in joined:
        _add(ways, a, b, Direction.BOTH)
        _add(ways, b, a, Direction.BOTH)
    order = {name: place for place, name in enumerate(members)}
    peers = {
        name: tuple(PeerLink(other, found[other]) for other in sorted(found, key=order.__getitem__))
        for name, found in ways.items()
    }
    return PeerGraph(peers, joined)


def _add(ways: dict[str, dict[str, Direction]], one: str, other: str, direction: Direction) -> None:
    known = ways[one].get(other, direction)
    ways[one][other] = direction if known is direction else Direction.BOTH


def _parts(members: Sequence[str], edges: Iterable[tuple[str, str]]) -> list[list[str]]:
    """The weakly connected components, each in the members' order and by their first members (union-find)."""
    root = {name: name for name in members}

    def find(name: str) -> str:
        while root[name] != name:
            root[name] = root[root[name]]
            name = root[name]
        return name

    place = {name: i for i, name in enumerate(members)}
    for a, b in edges:
        one, other = sorted((find(a), find(b)), key=place.__getitem__)
        root[other] = one
    found: dict[str, list[str]] = {}
    for name in members:
        found.setdefault(find(name), []).append(name)
    return list(found.values())
