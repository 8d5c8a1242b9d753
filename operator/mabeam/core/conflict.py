"""Two variables tell one agent different things: whom it obeys, and why the others lost."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from mabeam.api.agent import ConflictResolver
from mabeam.api.base import format_time
from mabeam.api.directive import Conflict


@dataclass(frozen=True, slots=True)
class Claim:
    """A variable wants one parameter of the agent to have a value."""

    variable: str
    parameter: str
    value: Any
    priority: int = 0
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Ruling:
    """Which claim the agent obeys, and why each of the others lost, in their order of precedence."""

    winner: Claim
    losers: tuple[tuple[Claim, str], ...]


Resolver = Callable[[Sequence[Claim]], Ruling]


def precedence(claim: Claim) -> tuple[int, bool, float, str]:
    """Sorts the claim to be obeyed first: higher priority, then older, then the name.

    A variable without a creation time was never stored, so it is younger than every stored one.
    """
    created = claim.created_at
    return -claim.priority, created is None, created.timestamp() if created else 0.0, claim.variable


def priority_based(claims: Sequence[Claim]) -> Ruling:
    """The first by `precedence` wins: a total order, so every agent and every pass rules the same."""
    winner, *losers = sorted(claims, key=precedence)
    return Ruling(winner, tuple((claim, _why(winner, claim)) for claim in losers))


def _why(winner: Claim, loser: Claim) -> str:
    rules = (
        (
            winner.priority != loser.priority,
            f"its priority {winner.priority} is above {loser.priority}",
        ),
        (
            winner.created_at is not None and winner.created_at != loser.created_at,
            f"the same priority, but it is older ({_age(winner)} against {_age(loser)})",
        ),
    )
    reason = next((text for holds, text in rules if holds), "the same priority and age, but it is first by name")
    return f"variable {winner.variable} sets {winner.parameter}: {reason}"


def _age(claim: Claim) -> str:
    return format_time(claim.created_at) if claim.created_at else "not stored yet"


RESOLVERS: Final[Mapping[str, Resolver]] = {
    ConflictResolver.PRIORITY_BASED: priority_based,
}


def resolve(claims: Sequence[Claim], resolver: str) -> tuple[dict[str, Claim], tuple[Conflict, ...]]:
    """The claim in force by parameter, and the conflicts that were decided, both in order of parameter."""
    rule = RESOLVERS[resolver]
    in_force: dict[str, Claim] = {}
    conflicts: list[Conflict] = []
    for parameter in sorted({claim.parameter for claim in claims}):
        ruling = rule([claim for claim in claims if claim.parameter == parameter])
        in_force[parameter] = ruling.winner
        conflicts.extend(
            Conflict(
                parameter=parameter,
                winner=ruling.winner.variable,
                loser=loser.variable,
                resolver=resolver,
                message=why,
            )
            for loser, why in ruling.losers
        )
    return in_force, tuple(conflicts)
