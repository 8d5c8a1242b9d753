"""The peer graph of a topology: its members and a pattern to the peers of each member, always connected.

The edges of the named patterns follow from the order of the members alone, so a value need not carry them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Final

from mabeam.api.variable_blocks import CoordinationPattern

# Every member is a peer of every other: the size of the directives grows with the square of the members.
LARGEST_MESH: Final = 500


class Direction(StrEnum):
    """Which of two peers sends."""

    OUT = "Out"
    IN = "In"
    BOTH = "Both"


@dataclass(frozen=True, slots=True, order=True)
class PeerLink:
    """One peer of a member, and the direction as the member sees it."""

    name: str
    direction: Direction = Direction.BOTH


@dataclass(frozen=True, slots=True)
class PeerGraph:
    """Who communicates with whom."""

    peers: Mapping[str, tuple[PeerLink, ...]]  # member → its peers, in the pattern's order
    joined: tuple[tuple[str, str], ...] = ()  # edges that were added to connect separate parts


Edges = Sequence[tuple[str, str]]  # (from, to)


def build_peer_graph(
    pattern: CoordinationPattern, members: Sequence[str], hub: str | None = None, edges: Edges = ()
) -> PeerGraph:
    """The peer graph of the members; `edges` are only for the pattern Custom, and only those between members count.

    `hub` is the centre of a Star and the source of a Broadcast; by default, or when it is no member, the first member. Θ(n),
    for Mesh Θ(n²).
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
    """Each member's successor, then its predecessor; of two members each is the other's only peer."""
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
    """The graph of the edges between members; its connected components are joined at their first members."""
    known = set(members)
    wanted = dict.fromkeys((a, b) for a, b in edges if a in known and b in known and a != b)
    parts = _parts(members, wanted)
    joined = tuple((one[0], other[0]) for one, other in pairwise(parts))
    directions: dict[str, dict[str, Direction]] = {name: {} for name in members}
    for a, b in wanted:
        _add(directions, a, b, Direction.OUT)
        _add(directions, b, a, Direction.IN)
    for a, b in joined:
        _add(directions, a, b, Direction.BOTH)
        _add(directions, b, a, Direction.BOTH)
    order = {name: place for place, name in enumerate(members)}
    peers = {
        name: tuple(PeerLink(other, found[other]) for other in sorted(found, key=order.__getitem__))
        for name, found in directions.items()
    }
    return PeerGraph(peers, joined)


def _add(directions: dict[str, dict[str, Direction]], one: str, other: str, direction: Direction) -> None:
    known = directions[one].get(other, direction)
    directions[one][other] = direction if known is direction else Direction.BOTH


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
