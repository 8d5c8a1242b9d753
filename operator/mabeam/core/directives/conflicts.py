"""Conflicts between variables over one agent: the setting in force for each subject, and the reason why each other one lost.

A conflict is over one subject: a parameter, or what an action sets (the number of replicas, the role). Variables that want the
same value are not in conflict.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal, localcontext
from typing import Any, Final

from mabeam.api.agent import Agent, ConflictResolver, Preference
from mabeam.api.agent_status import AgentState
from mabeam.api.base import JsonDict, format_time
from mabeam.api.directive import Conflict, DirectiveAction
from mabeam.api.variable import Domain
from mabeam.core.algorithms.domain import CONTEXT, fit, format_value, is_numeric, to_decimal
from mabeam.core.functions import FunctionCall, FunctionResult, Language, PluginGroup
from mabeam.core.snapshot import AgentSnapshot

Subject = tuple[DirectiveAction | None, str]
"""What a setting is about: (None, parameter name), or (action, name of what the action sets)."""


@dataclass(frozen=True, slots=True)
class DesiredSetting:
    """The value that one variable wants for one subject."""

    variable: str
    parameter: str  # the parameter's name; with `action` the name of what the action sets
    value: Any  # JSON; the tuple (direction, replicas) or (role, term) for the actions that set those
    priority: int = 0
    created_at: datetime | None = None  # of the variable; None: it was never stored
    action: DirectiveAction | None = None  # None: the setting is a parameter's value
    domain: Domain | None = None  # of the parameter's value

    @property
    def subject(self) -> Subject:
        """The subject of the setting."""
        return self.action, self.parameter


@dataclass(frozen=True, slots=True)
class Leader:
    """The leader of the agents that the conflicting variables share."""

    name: str
    weights: Mapping[str, float] = field(default_factory=dict)  # variable name → how much it matters to the leader


@dataclass(frozen=True, slots=True)
class Resolution:
    """The setting in force, and the reason why each other one lost, in order of precedence."""

    winner: DesiredSetting
    losers: tuple[tuple[DesiredSetting, str], ...]  # (setting, reason)
    together: bool = False  # no setting lost: the winner's value is a compromise of all


Resolver = Callable[[Sequence[DesiredSetting], Leader | None], Resolution]


# --- the built-in resolvers -------------------------------------------------------------------------------------------


def precedence(setting: DesiredSetting) -> tuple[int, bool, float, str]:
    """The sort key of precedence: higher priority first, then the older variable, then the name.

    A variable without a creation time was never stored, so it is younger than every stored one.
    """
    created = setting.created_at
    return -setting.priority, created is None, created.timestamp() if created else 0.0, setting.variable


def priority_based(settings: Sequence[DesiredSetting], leader: Leader | None = None) -> Resolution:
    """The first by `precedence`: a total order, so every agent and every pass decides alike."""
    winner, *losers = sorted(settings, key=precedence)
    return Resolution(winner, tuple((loser, _why(winner, loser)) for loser in losers))


def compromise(settings: Sequence[DesiredSetting], leader: Leader | None = None) -> Resolution:
    """The mean of numbers, weighted by priority (unweighted when no priority is above 0); of anything else PriorityBased.

    The mean is fitted to the domain of the first by `precedence`: between two steps of a domain there may be no value.
    """
    first, *others = ranked = sorted(settings, key=precedence)
    numbers = [to_decimal(setting.value) for setting in ranked]
    if first.action is not None or any(value is None for value in numbers):
        return priority_based(settings)
    weights = [max(setting.priority, 0) for setting in ranked]
    if not any(weights):
        weights = [1] * len(weights)
    with localcontext(CONTEXT):
        weighted = (weight * value for weight, value in zip(weights, numbers, strict=True) if value is not None)
        mean = sum(weighted, Decimal(0)) / sum(weights)
        value = fit(first.domain, mean) if first.domain is not None and is_numeric(first.domain) else float(mean)
    parts = ", ".join(f"{format_value(c.value)} of {c.variable} ({w})" for c, w in zip(ranked, weights, strict=True))
    reason = f"{first.parameter} = {format_value(value)}, the mean by priority of {parts}"
    return Resolution(replace(first, value=value), tuple((setting, reason) for setting in others), together=True)


def leader_election(settings: Sequence[DesiredSetting], leader: Leader | None = None) -> Resolution:
    """The variable with the greatest weight for the leader; PriorityBased without a leader or without any weight above 0."""
    if leader is None or not any(leader.weights.get(setting.variable, 0.0) > 0 for setting in settings):
        return priority_based(settings)
    weights = leader.weights
    winner, *losers = sorted(settings, key=lambda one: (-weights.get(one.variable, 0.0), precedence(one)))
    weight = format_value(weights[winner.variable])
    reason = f"the leader {leader.name} prefers variable {winner.variable} (weight {weight})"
    return Resolution(winner, tuple((loser, reason) for loser in losers))


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
    reason = next((text for applies, text in rules if applies), "the same priority and age, but it is first by name")
    return f"variable {winner.variable} sets {winner.parameter}: {reason}"


def _age(setting: DesiredSetting) -> str:
    return format_time(setting.created_at) if setting.created_at else "not stored yet"


RESOLVERS: Final[Mapping[str, Resolver]] = {
    ConflictResolver.PRIORITY_BASED: priority_based,
    ConflictResolver.COMPROMISE: compromise,
    ConflictResolver.LEADER_ELECTION: leader_election,
}


def group_leader(snapshot: AgentSnapshot, conflicting: frozenset[str]) -> Leader | None:
    """The agent of the conflicting variables that has run the longest; None unless LeaderElection is asked for and one runs.

    The oldest member leads, as in a cluster singleton: every observer finds the same one, and it leads until it stops.
    """
    if snapshot.agent.spec.conflict_resolution != ConflictResolver.LEADER_ELECTION:
        return None
    variables = [variable for variable in snapshot.variables if variable.metadata.name in conflicting]
    running = [
        agent
        for agent in snapshot.co_selected
        if agent.status.state is AgentState.RUNNING
        and any(variable.selects(agent.metadata.name, agent.metadata.labels) for variable in variables)
    ]
    if not running:
        return None
    leader = min(running, key=_seniority)
    return Leader(leader.metadata.name, {p.variable: _weight(p) for p in leader.spec.preferences})


def _seniority(agent: Agent) -> tuple[bool, float, str]:
    """The sort key of age: the start of the oldest running replica, agents without one last, then the name."""
    running = (record for record in agent.status.pods if record.state is AgentState.RUNNING)
    since = min((record.start_time for record in running if record.start_time is not None), default=None)
    return since is None, since.timestamp() if since is not None else 0.0, agent.metadata.name


def _weight(preference: Preference) -> float:
    return 1.0 if preference.weight is None else preference.weight


# --- all conflicts of one agent ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ConflictContext:
    """The inputs of a resolution besides the settings themselves."""

    leader_of: Callable[[frozenset[str]], Leader | None] = lambda variables: None  # names of variables → their leader
    last_good: JsonDict = field(default_factory=dict)  # parameter → its value in force before this pass
    answers: Mapping[str, FunctionResult] = field(default_factory=dict)  # call id → result of a plug-in


@dataclass(frozen=True)
class ResolvedSettings:
    """The settings in force, and how the conflicts among all settings were decided."""

    in_force: Mapping[Subject, DesiredSetting]
    conflicts: tuple[Conflict, ...] = ()
    unresolved: frozenset[Subject] = frozenset()  # subjects of conflicts without a winner
    problems: tuple[str, ...] = ()  # one sentence for each plug-in that failed
    function_calls: tuple[FunctionCall, ...] = ()  # the calls of plug-ins that have no usable result yet


def resolve(
    settings: Sequence[DesiredSetting],
    resolver: str,
    context: ConflictContext = ConflictContext(),
) -> ResolvedSettings:
    """The settings in force and the conflicts decided, in order of their subjects.

    A conflict that cannot be resolved (its plug-in is absent or fails) leaves the last good value of its parameter in force.
    """
    by_subject: dict[Subject, list[DesiredSetting]] = {}
    for setting in settings:
        by_subject.setdefault(setting.subject, []).append(setting)
    ordered = sorted(by_subject, key=lambda subject: (subject[0] or "", subject[1]))
    parts = [_resolve_subject(by_subject[subject], resolver, context) for subject in ordered]
    return ResolvedSettings(
        in_force={subject: setting for part in parts for subject, setting in part.in_force.items()},
        conflicts=tuple(conflict for part in parts for conflict in part.conflicts),
        unresolved=frozenset(subject for part in parts for subject in part.unresolved),
        problems=tuple(problem for part in parts for problem in part.problems),
        function_calls=tuple(call for part in parts for call in part.function_calls),
    )


def _resolve_subject(own: Sequence[DesiredSetting], resolver: str, context: ConflictContext) -> ResolvedSettings:
    """The settings of one subject, resolved."""
    if all(setting.value == own[0].value for setting in own):
        first = min(own, key=precedence)
        return ResolvedSettings({first.subject: first})
    if resolver not in RESOLVERS:
        return _by_plugin(own, resolver, context)
    leader = context.leader_of(frozenset(setting.variable for setting in own))
    return _resolved(RESOLVERS[resolver](own, leader), resolver)


def _by_plugin(own: Sequence[DesiredSetting], name: str, context: ConflictContext) -> ResolvedSettings:
    """The settings of one subject, resolved by the plug-in: it answers with a variable's name, or `{winner: name}`."""
    ranked = sorted(own, key=precedence)
    first = ranked[0]
    claims = [{"variable": one.variable, "value": one.value, "priority": one.priority} for one in ranked]
    about = {"parameter": first.parameter, "action": first.action, "claims": claims}
    call = FunctionCall(Language.PLUGIN, name, about, PluginGroup.CONFLICT)
    answer = context.answers.get(call.id)
    if answer is None:
        return _unresolved(own, name, context, call=call)
    chosen = answer.value.get("winner") if isinstance(answer.value, dict) else answer.value
    winner = next((setting for setting in ranked if setting.variable == chosen), None)
    if answer.error is None and winner is not None:
        reason = f"the plug-in {name} chose {winner.variable}"
        return _resolved(Resolution(winner, tuple((one, reason) for one in ranked if one is not winner)), name)
    wrong = answer.error or f"it named {chosen!r:.60}, which is none of them"
    problem = f"the conflict over {first.parameter} is not resolved by spec.conflictResolution {name}: {wrong}"
    # Called again, each time after a longer delay.
    return _unresolved(own, name, context, call=call, problem=f"{problem}; built in are {', '.join(RESOLVERS)}")


def _resolved(resolution: Resolution, resolver: str) -> ResolvedSettings:
    winner = resolution.winner
    value = winner.value if resolution.together else None
    conflicts = tuple(
        _conflict((winner, loser), resolver, reason, value=value)
        for loser, reason in resolution.losers
        if resolution.together or loser.value != winner.value
    )
    return ResolvedSettings({winner.subject: winner}, conflicts)


def _unresolved(
    own: Sequence[DesiredSetting], resolver: str, context: ConflictContext, *, call: FunctionCall, problem: str = ""
) -> ResolvedSettings:
    """The last good value of the parameter in force, if there is one.

    The first by precedence is named as winner of every conflict; its conflict with itself carries the value that stays, by
    which the next pass knows what is in force (`last_good.parameters_in_force`).
    """
    first = min(own, key=precedence)
    good = context.last_good.get(first.parameter) if first.action is None else None
    reason = f"not resolved: {'the last good value stays' if good is not None else 'none of them is in force'}"
    reason += f" ({problem})" if problem else ""
    return ResolvedSettings(
        in_force={first.subject: replace(first, value=good)} if good is not None else {},
        conflicts=tuple(_conflict((first, one), resolver, reason, value=good if one is first else None) for one in own),
        unresolved=frozenset({first.subject}),
        problems=(problem,) if problem else (),
        function_calls=(call,),
    )


def _conflict(
    pair: tuple[DesiredSetting, DesiredSetting], resolver: str, reason: str, *, value: Any = None
) -> Conflict:
    winner, loser = pair
    return Conflict(
        parameter=winner.parameter,
        action=winner.action,
        winner=winner.variable,
        loser=loser.variable,
        resolver=resolver,
        value=value,
        message=reason[:1024],
    )
