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
from mabeam.core.algorithms.domain import CONTEXT, fit, format_value, is_numeric, to_decimal
from mabeam.core.functions import FunctionCall, FunctionResult, Language, PluginGroup

Subject = tuple[DirectiveAction | None, str]
"""What a claim is about: a parameter by its name, anything else by its action and its own word."""


@dataclass(frozen=True, slots=True)
class DesiredSetting:
    """A variable wants one thing of the agent: a parameter's value, or (with `action`) what that action is about."""

    variable: str
    parameter: str
    value: Any
    priority: int = 0
    created_at: datetime | None = None
    action: DirectiveAction | None = None
    domain: Domain | None = None

    @property
    def key(self) -> Subject:
        """What the claim is about."""
        return self.action, self.parameter


@dataclass(frozen=True, slots=True)
class Leader:
    """Who leads the agents that the conflicting variables share, and how much each variable matters to it."""

    name: str
    weights: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Resolution:
    """What is in force, and why each of the others lost, in their order of precedence.

    With `together` nobody lost: that is what they come to, and the winner's claim carries it.
    """

    winner: DesiredSetting
    losers: tuple[tuple[DesiredSetting, str], ...]
    together: bool = False


Resolver = Callable[[Sequence[DesiredSetting], Leader | None], Resolution]


def precedence(setting: DesiredSetting) -> tuple[int, bool, float, str]:
    """Sorts the claim to be obeyed first: higher priority, then older, then the name.

    A variable without a creation time was never stored, so it is younger than every stored one.
    """
    created = setting.created_at
    return -setting.priority, created is None, created.timestamp() if created else 0.0, setting.variable


def priority_based(settings: Sequence[DesiredSetting], leader: Leader | None = None) -> Resolution:
    """The first by `precedence` wins: a total order, so every agent and every pass rules the same."""
    winner, *losers = sorted(settings, key=precedence)
    return Resolution(winner, tuple((setting, _why(winner, setting)) for setting in losers))


def compromise(settings: Sequence[DesiredSetting], leader: Leader | None = None) -> Resolution:
    """The mean of numbers, weighted by priority (by heads when no priority is above 0); of anything else PriorityBased.

    Fitted to the domain of the claim that would have won: a mean of two steps may lie between them.
    """
    first, *others = sorted(settings, key=precedence)
    numbers = [to_decimal(setting.value) for setting in (first, *others)]
    if first.action is not None or any(value is None for value in numbers):
        return priority_based(settings)
    weights = [max(setting.priority, 0) for setting in (first, *others)]
    if not any(weights):
        weights = [1] * len(weights)
    with localcontext(CONTEXT):
        weighted = (weight * value for weight, value in zip(weights, numbers, strict=True) if value is not None)
        mean = sum(weighted, Decimal(0)) / sum(weights)
        value = fit(first.domain, mean) if first.domain is not None and is_numeric(first.domain) else float(mean)
    parts = ", ".join(
        f"{format_value(c.value)} of {c.variable} ({w})" for c, w in zip((first, *others), weights, strict=True)
    )
    told = f"{first.parameter} = {format_value(value)}, the mean by priority of {parts}"
    return Resolution(replace(first, value=value), tuple((setting, told) for setting in others), together=True)


def leader_election(settings: Sequence[DesiredSetting], leader: Leader | None = None) -> Resolution:
    """The variable that matters most to the group's leader; PriorityBased when nobody leads or none matters to it."""
    if leader is None or not any(leader.weights.get(setting.variable, 0.0) > 0 for setting in settings):
        return priority_based(settings)
    ranked = sorted(settings, key=lambda setting: (-leader.weights.get(setting.variable, 0.0), precedence(setting)))
    winner, *losers = ranked
    told = f"the leader {leader.name} prefers variable {winner.variable} (weight {format_value(leader.weights[winner.variable])})"
    return Resolution(winner, tuple((setting, told) for setting in losers))


def _why(winner: DesiredSetting, loser: DesiredSetting) -> str:
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


def _age(setting: DesiredSetting) -> str:
    return format_time(setting.created_at) if setting.created_at else "not stored yet"


RESOLVERS: Final[Mapping[str, Resolver]] = {
    ConflictResolver.PRIORITY_BASED: priority_based,
    ConflictResolver.COMPROMISE: compromise,
    ConflictResolver.LEADER_ELECTION: leader_election,
}


@dataclass(frozen=True)
class ConflictContext:
    """What resolving may rest on besides the claims: who leads the agents of some variables, what was in force before, and what
    plug-ins answered.
    """

    leader_of: Callable[[frozenset[str]], Leader | None] = lambda variables: None
    last_good: JsonDict = field(default_factory=dict)
    answers: Mapping[str, FunctionResult] = field(default_factory=dict)


@dataclass(frozen=True)
class ResolvedSettings:
    """The claim in force by what it is about; the conflicts that were decided; what could not be; what is to be asked."""

    in_force: Mapping[Subject, DesiredSetting]
    conflicts: tuple[Conflict, ...] = ()
    problems: tuple[str, ...] = ()
    function_calls: tuple[FunctionCall, ...] = ()


def resolve(
    settings: Sequence[DesiredSetting], resolver: str, context: ConflictContext = ConflictContext()
) -> ResolvedSettings:
    """What is in force and what was decided, in order of what it is about.

    An unresolvable conflict (a plug-in that is not there, or fails) leaves in force what was, if anything, and says so.
    """
    in_force: dict[Subject, DesiredSetting] = {}
    conflicts: list[Conflict] = []
    problems: list[str] = []
    asks: list[FunctionCall] = []
    for key in sorted({setting.key for setting in settings}, key=lambda key: (key[0] or "", key[1])):
        own = [setting for setting in settings if setting.key == key]
        if all(setting.value == own[0].value for setting in own):
            in_force[key] = min(own, key=precedence)
            continue
        resolution: Resolution | str
        if resolver in RESOLVERS:
            resolution = RESOLVERS[resolver](own, context.leader_of(frozenset(setting.variable for setting in own)))
        else:
            resolution = _by_plugin(own, resolver, context, asks)
        if isinstance(resolution, str):
            problems.extend([resolution] if resolution else [])
            good = context.last_good.get(key[1]) if key[0] is None else None
            first = min(own, key=precedence)
            if good is not None:
                in_force[key] = replace(first, value=good)
            # Nobody won: the first one's own line carries what stays, for the next pass to know it by.
            told = f"not resolved: {'the last good stays' if good is not None else 'none of them is in force'}"
            told += f" ({resolution})" if resolution else ""
            conflicts.extend(_conflict(first, c, resolver, told, good if c is first else None) for c in own)
            continue
        in_force[key] = resolution.winner
        value = resolution.winner.value if resolution.together else None
        conflicts.extend(
            _conflict(resolution.winner, loser, resolver, why, value)
            for loser, why in resolution.losers
            if resolution.together or loser.value != resolution.winner.value
        )
    return ResolvedSettings(in_force, tuple(conflicts), tuple(problems), tuple(asks))


def _conflict(winner: DesiredSetting, loser: DesiredSetting, resolver: str, why: str, value: Any = None) -> Conflict:
    return Conflict(
        parameter=winner.parameter,
        action=winner.action,
        winner=winner.variable,
        loser=loser.variable,
        resolver=resolver,
        value=value,
        message=why[:1024],
    )


def _by_plugin(
    settings: Sequence[DesiredSetting], name: str, context: ConflictContext, asks: list[FunctionCall]
) -> Resolution | str:
    """The ruling of a plug-in: the variable that it names as `winner`; else why it gives none, no word while it is asked."""
    ranked = sorted(settings, key=precedence)
    told = [{"variable": c.variable, "value": c.value, "priority": c.priority} for c in ranked]
    about = {"parameter": ranked[0].parameter, "action": ranked[0].action, "claims": told}
    ask = FunctionCall(Language.PLUGIN, name, about, PluginGroup.CONFLICT)
    answer = context.answers.get(ask.id)
    if answer is None:
        asks.append(ask)
        return ""
    chosen = answer.value.get("winner") if isinstance(answer.value, dict) else answer.value
    winner = next((setting for setting in ranked if setting.variable == chosen), None)
    if answer.error is not None or winner is None:
        wrong = answer.error or f"it named {chosen!r:.60}, which is none of them"
        asks.append(ask)  # asked again, later each time
        why = f"the conflict over {ranked[0].parameter} is not resolved by spec.conflictResolution {name}: {wrong}"
        return f"{why}; built in are {', '.join(RESOLVERS)}"
    return Resolution(
        winner,
        tuple((setting, f"the plug-in {name} chose {winner.variable}") for setting in ranked if setting is not winner),
    )
