"""Variables tell one agent different things: what is in force, and why the others lost.

A conflict is about one thing: a parameter, or what an action is about (how many replicas, which role). Those who say the same do
not conflict.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal, localcontext
from typing import Any, Final

from mabeam.api.agent import ConflictResolver
from mabeam.api.base import JsonDict, format_time
from mabeam.api.directive import Conflict, DirectiveAction
from mabeam.api.variable import Domain
from mabeam.core.algorithms.domain import CONTEXT, fit, number, numeric, plain
from mabeam.core.functions import Answer, Ask, Language, PluginGroup

Key = tuple[DirectiveAction | None, str]
"""What a claim is about: a parameter by its name, anything else by its action and its own word."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A variable wants one thing of the agent: a parameter's value, or (with `action`) what that action is about."""

    variable: str
    parameter: str
    value: Any
    priority: int = 0
    created_at: datetime | None = None
    action: DirectiveAction | None = None
    domain: Domain | None = None

    @property
    def key(self) -> Key:
        """What the claim is about."""
        return self.action, self.parameter


@dataclass(frozen=True, slots=True)
class Leader:
    """Who leads the agents that the conflicting variables share, and how much each variable matters to it."""

    name: str
    weights: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ruling:
    """What is in force, and why each of the others lost, in their order of precedence.

    With `together` nobody lost: that is what they come to, and the winner's claim carries it.
    """

    winner: Claim
    losers: tuple[tuple[Claim, str], ...]
    together: bool = False


Resolver = Callable[[Sequence[Claim], Leader | None], Ruling]


def precedence(claim: Claim) -> tuple[int, bool, float, str]:
    """Sorts the claim to be obeyed first: higher priority, then older, then the name.

    A variable without a creation time was never stored, so it is younger than every stored one.
    """
    created = claim.created_at
    return -claim.priority, created is None, created.timestamp() if created else 0.0, claim.variable


def priority_based(claims: Sequence[Claim], leader: Leader | None = None) -> Ruling:
    """The first by `precedence` wins: a total order, so every agent and every pass rules the same."""
    winner, *losers = sorted(claims, key=precedence)
    return Ruling(winner, tuple((claim, _why(winner, claim)) for claim in losers))


def compromise(claims: Sequence[Claim], leader: Leader | None = None) -> Ruling:
    """The mean of numbers, weighted by priority (by heads when no priority is above 0); of anything else PriorityBased.

    Fitted to the domain of the claim that would have won: a mean of two steps may lie between them.
    """
    first, *others = sorted(claims, key=precedence)
    numbers = [number(claim.value) for claim in (first, *others)]
    if first.action is not None or any(value is None for value in numbers):
        return priority_based(claims)
    weights = [max(claim.priority, 0) for claim in (first, *others)]
    if not any(weights):
        weights = [1] * len(weights)
    with localcontext(CONTEXT):
        weighted = (weight * value for weight, value in zip(weights, numbers, strict=True) if value is not None)
        mean = sum(weighted, Decimal(0)) / sum(weights)
        value = fit(first.domain, mean) if first.domain is not None and numeric(first.domain) else float(mean)
    parts = ", ".join(f"{plain(c.value)} of {c.variable} ({w})" for c, w in zip((first, *others), weights, strict=True))
    told = f"{first.parameter} = {plain(value)}, the mean by priority of {parts}"
    return Ruling(replace(first, value=value), tuple((claim, told) for claim in others), together=True)


def leader_election(claims: Sequence[Claim], leader: Leader | None = None) -> Ruling:
    """The variable that matters most to the group's leader; PriorityBased when nobody leads or none matters to it."""
    if leader is None or not any(leader.weights.get(claim.variable, 0.0) > 0 for claim in claims):
        return priority_based(claims)
    ranked = sorted(claims, key=lambda claim: (-leader.weights.get(claim.variable, 0.0), precedence(claim)))
    winner, *losers = ranked
    told = (
        f"the leader {leader.name} prefers variable {winner.variable} (weight {plain(leader.weights[winner.variable])})"
    )
    return Ruling(winner, tuple((claim, told) for claim in losers))


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
    ConflictResolver.COMPROMISE: compromise,
    ConflictResolver.LEADER_ELECTION: leader_election,
}


@dataclass(frozen=True)
class Hearing:
    """What resolving may rest on besides the claims: who leads the agents of some variables, what was in force before, and what
    plug-ins answered.
    """

    leader_of: Callable[[frozenset[str]], Leader | None] = lambda variables: None
    last_good: JsonDict = field(default_factory=dict)
    answers: Mapping[str, Answer] = field(default_factory=dict)


@dataclass(frozen=True)
class Resolved:
    """The claim in force by what it is about; the conflicts that were decided; what could not be; what is to be asked."""

    in_force: Mapping[Key, Claim]
    conflicts: tuple[Conflict, ...] = ()
    problems: tuple[str, ...] = ()
    asks: tuple[Ask, ...] = ()


def resolve(claims: Sequence[Claim], resolver: str, hearing: Hearing = Hearing()) -> Resolved:
    """What is in force and what was decided, in order of what it is about.

    An unresolvable conflict (a plug-in that is not there, or fails) leaves in force what was, if anything, and says so.
    """
    in_force: dict[Key, Claim] = {}
    conflicts: list[Conflict] = []
    problems: list[str] = []
    asks: list[Ask] = []
    for key in sorted({claim.key for claim in claims}, key=lambda key: (key[0] or "", key[1])):
        own = [claim for claim in claims if claim.key == key]
        if all(claim.value == own[0].value for claim in own):
            in_force[key] = min(own, key=precedence)
            continue
        ruling: Ruling | str
        if resolver in RESOLVERS:
            ruling = RESOLVERS[resolver](own, hearing.leader_of(frozenset(claim.variable for claim in own)))
        else:
            ruling = _by_plugin(own, resolver, hearing, asks)
        if isinstance(ruling, str):
            problems.extend([ruling] if ruling else [])
            good = hearing.last_good.get(key[1]) if key[0] is None else None
            first = min(own, key=precedence)
            if good is not None:
                in_force[key] = replace(first, value=good)
            # Nobody won: the first one's own line carries what stays, for the next pass to know it by.
            told = f"not resolved: {'the last good stays' if good is not None else 'none of them is in force'}"
            told += f" ({ruling})" if ruling else ""
            conflicts.extend(_conflict(first, c, resolver, told, good if c is first else None) for c in own)
            continue
        in_force[key] = ruling.winner
        value = ruling.winner.value if ruling.together else None
        conflicts.extend(
            _conflict(ruling.winner, loser, resolver, why, value)
            for loser, why in ruling.losers
            if ruling.together or loser.value != ruling.winner.value
        )
    return Resolved(in_force, tuple(conflicts), tuple(problems), tuple(asks))


def _conflict(winner: Claim, loser: Claim, resolver: str, why: str, value: Any = None) -> Conflict:
    return Conflict(
        parameter=winner.parameter,
        action=winner.action,
        winner=winner.variable,
        loser=loser.variable,
        resolver=resolver,
        value=value,
        message=why[:1024],
    )


def _by_plugin(claims: Sequence[Claim], name: str, hearing: Hearing, asks: list[Ask]) -> Ruling | str:
    """The ruling of a plug-in: the variable that it names as `winner`; else why it gives none, no word while it is asked."""
    ranked = sorted(claims, key=precedence)
    told = [{"variable": c.variable, "value": c.value, "priority": c.priority} for c in ranked]
    about = {"parameter": ranked[0].parameter, "action": ranked[0].action, "claims": told}
    ask = Ask(Language.PLUGIN, name, about, PluginGroup.CONFLICT)
    answer = hearing.answers.get(ask.id)
    if answer is None:
        asks.append(ask)
        return ""
    chosen = answer.value.get("winner") if isinstance(answer.value, dict) else answer.value
    winner = next((claim for claim in ranked if claim.variable == chosen), None)
    if answer.error is not None or winner is None:
        wrong = answer.error or f"it named {chosen!r:.60}, which is none of them"
        asks.append(ask)  # asked again, later each time
        why = f"the conflict over {ranked[0].parameter} is not resolved by spec.conflictResolution {name}: {wrong}"
        return f"{why}; built in are {', '.join(RESOLVERS)}"
    return Ruling(
        winner, tuple((claim, f"the plug-in {name} chose {winner.variable}") for claim in ranked if claim is not winner)
    )
