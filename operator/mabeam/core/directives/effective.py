"""The directives of one agent from all its variables, and the settings in force after conflicts are resolved."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from mabeam.api.agent import Agent, NetworkPriority
from mabeam.api.agent_status import DesiredState
from mabeam.api.base import JsonDict
from mabeam.api.directive import AgentDirective, Conflict, DirectiveAction, DirectiveReason
from mabeam.api.variable import VALUED, Mode, OrchestrationVariable
from mabeam.core.directives.conflicts import (
    ConflictContext,
    DesiredSetting,
    ResolvedSettings,
    Subject,
    precedence,
    resolve,
)
from mabeam.core.directives.desired import NETWORK_PRIORITY, desired_directives
from mabeam.core.directives.suspension import is_suspended
from mabeam.core.directives.validity import VALIDATORS
from mabeam.core.functions import FunctionCall
from mabeam.core.values import DesiredDirective

# In code and not in the CRD: a default there would be stored in every object.
DEFAULT_TIMEOUT_SECONDS: Final[Mapping[DirectiveAction, int]] = {DirectiveAction.ALLOCATE_RESOURCES: 5}
OTHER_TIMEOUT_SECONDS: Final = 30
# Used where the variable's spec sets no priority.
DEFAULT_PRIORITY: Final[Mapping[DirectiveAction, int]] = {DirectiveAction.ALLOCATE_RESOURCES: 1}
# The bound of the lists in an agent's status (api/directive.py AgentDirectives), and of the variables that an agent follows.
MAX_ITEMS: Final = 64
# The most bytes of parameters of one agent: they are in its status, there as last good ones once more, and in its ConfigMap.
MAX_BYTES: Final = 384 * 1024

# The actions whose parameters are parameters of the process; Reconfigure also replaces the pods, so that they start with them.
PARAMETRIC: Final = frozenset({DirectiveAction.ADJUST_PARAMETERS, DirectiveAction.RECONFIGURE})

# The reasons by which a directive is not in force although no process was asked about it.
OVERRULED_REASONS: Final = frozenset({DirectiveReason.OVERRULED, DirectiveReason.CONFLICT_UNRESOLVED})
SET_ASIDE_REASONS: Final = OVERRULED_REASONS | {DirectiveReason.DROPPED, DirectiveReason.CANNOT_BE_DONE}


def timeout_seconds(variable: OrchestrationVariable, action: DirectiveAction) -> float:
    """Seconds from a directive's issue in which its agent must acknowledge it."""
    constraints = variable.spec.constraints
    if constraints is not None and constraints.timeout_seconds is not None:
        return constraints.timeout_seconds
    return DEFAULT_TIMEOUT_SECONDS.get(action, OTHER_TIMEOUT_SECONDS)


def priority_of(variable: OrchestrationVariable, action: DirectiveAction) -> int:
    """The directive's priority: the variable's where its spec sets one, else the action's default."""
    if "priority" in variable.spec.model_fields_set:
        return variable.spec.priority
    return DEFAULT_PRIORITY.get(action, variable.spec.priority)


@dataclass(frozen=True, slots=True)
class SetAside:
    """Why the operator does not put a directive in force, as its record states it."""

    reason: DirectiveReason  # one of SET_ASIDE_REASONS
    message: str
    overruled_by: str | None = None  # the variable that won (Overruled)


@dataclass(frozen=True)
class EffectiveSet:
    """The directives of one agent, and the settings that they put in force."""

    items: tuple[AgentDirective, ...] = ()  # in order of variable and action
    set_aside: Mapping[int, SetAside] = field(default_factory=dict)  # index in `items` → why it is not in force
    conflicts: tuple[Conflict, ...] = ()  # all that were decided; `listed` are those that a status carries
    problems: tuple[str, ...] = ()  # sentences for the Agent's condition
    function_calls: tuple[FunctionCall, ...] = ()  # calls of conflict plug-ins that have no usable result yet
    parameters: JsonDict = field(default_factory=dict)  # parameter → value
    desired_state: DesiredState | None = None  # None, here and below: no directive sets it
    replicas: int | None = None
    active: bool = True
    role: str | None = None
    term: int | None = None  # of the role
    communication: JsonDict | None = None  # parameters of UpdateCommunication: {peers, pattern?, coordinator?, term?}
    resources: Mapping[str, str] = field(default_factory=dict)  # resource → quantity for each replica
    network_priority: NetworkPriority | None = None

    @property
    def stopped_by(self) -> str | None:
        """The variable by whose directive in force no replica runs; None when there is none."""
        stopping = (
            item.variable
            for index, item in enumerate(self.items)
            if index not in self.set_aside
            and (item.action is DirectiveAction.STOP or (self.replicas == 0 and item.action in _SCALING))
        )
        return next(stopping, None)

    def is_overruled(self, index: int) -> bool:
        """Whether the directive lost a conflict, or is part of an unresolved one."""
        return index in self.set_aside and self.set_aside[index].reason in OVERRULED_REASONS

    @property
    def listed(self) -> tuple[Conflict, ...]:
        """The conflicts for the status, MAX_ITEMS at most: those that set a directive aside before all others."""
        if len(self.conflicts) <= MAX_ITEMS:
            return self.conflicts
        decisive = {id(_conflict_lost(self.conflicts, item)) for item in self.items}
        ranked = sorted(
            range(len(self.conflicts)), key=lambda index: (id(self.conflicts[index]) not in decisive, index)
        )
        return tuple(self.conflicts[index] for index in sorted(ranked[:MAX_ITEMS]))


def _conflict_lost(conflicts: Sequence[Conflict], item: AgentDirective) -> Conflict | None:
    """The first conflict that the directive lost (a compromise is lost by none); None when it lost none."""
    own = [c for c in conflicts if c.loser == item.variable and (c.value is None or c.loser == c.winner)]
    subjects = {subject for subject, _ in _subjects(item.action, item.parameters)} if own else set()
    return next((conflict for conflict in own if (conflict.action, conflict.parameter) in subjects), None)


def _subjects(action: DirectiveAction, parameters: JsonDict) -> list[tuple[Subject, Any]]:
    """The subjects of a directive, each with the value that the directive wants for it."""
    if action in PARAMETRIC:
        return [((None, name), value) for name, value in parameters.items()]
    return SUBJECTS[action](parameters)


_SCALING: Final = frozenset({DirectiveAction.SCALE_UP, DirectiveAction.SCALE_DOWN})
_STATE: Final = DirectiveAction.START
_REPLICAS: Final = DirectiveAction.SCALE_UP


# Start and Stop share a subject, and so do ScaleUp and ScaleDown. Migrate has none: two of them cannot differ.
SUBJECTS: Final[Mapping[DirectiveAction, Callable[[JsonDict], list[tuple[Subject, Any]]]]] = {
    DirectiveAction.START: lambda p: [((_STATE, "desiredState"), "Running")],
    DirectiveAction.STOP: lambda p: [((_STATE, "desiredState"), "Stopped")],
    DirectiveAction.SCALE_UP: lambda p: [((_REPLICAS, "replicas"), ("up", p.get("replicas")))],
    DirectiveAction.SCALE_DOWN: lambda p: [((_REPLICAS, "replicas"), ("down", p.get("replicas")))],
    DirectiveAction.CHANGE_ROLE: lambda p: [((DirectiveAction.CHANGE_ROLE, "role"), (p.get("role"), p.get("term")))],
    DirectiveAction.ACTIVATE: lambda p: [((DirectiveAction.ACTIVATE, "active"), p.get("active", True))],
    DirectiveAction.UPDATE_COMMUNICATION: lambda p: [((DirectiveAction.UPDATE_COMMUNICATION, "peers"), p)],
    DirectiveAction.ALLOCATE_RESOURCES: lambda p: [
        ((DirectiveAction.ALLOCATE_RESOURCES, resource), amount) for resource, amount in p.items()
    ],
    DirectiveAction.MIGRATE: lambda p: [],
    DirectiveAction.RECONFIGURE: lambda p: [],
    DirectiveAction.ADJUST_PARAMETERS: lambda p: [],
}


# --- the set ------------------------------------------------------------------------------------------------------------------


def effective_set(
    agent: Agent,
    variables: Sequence[OrchestrationVariable],
    before: Sequence[AgentDirective],
    *,
    context: ConflictContext = ConflictContext(),  # noqa: B008 - frozen
) -> EffectiveSet:
    """The directives of all variables for this agent, and the settings in force after conflicts are resolved.

    `before` are the directives of the agent's stored status; one that a variable still desires keeps its state.
    """
    items = [
        (variable, item)
        for variable in variables
        for item in _items(variable, tuple(i for i in before if i.variable == variable.metadata.name), agent)
    ]
    kept, problems = _within_limit(items)
    invalid = {
        index: problem
        for index, (_, item) in enumerate(kept)
        if item.action in VALIDATORS and (problem := VALIDATORS[item.action](agent, item.parameters))
    }
    settings = [setting for index, pair in enumerate(kept) if index not in invalid for setting in _settings(*pair)]
    settings, withheld = _without_unapproved(variables, settings)
    resolved = resolve(settings, agent.spec.conflict_resolution, context)
    resolved = replace(resolved, conflicts=(*resolved.conflicts, *withheld))
    directives = tuple(item for _, item in kept)
    return EffectiveSet(
        items=directives,
        set_aside={index: _cannot(problem) for index, problem in invalid.items()} | _overruled(directives, resolved),
        conflicts=resolved.conflicts,
        problems=(*problems, *resolved.problems),
        function_calls=resolved.function_calls,
        parameters={subject[1]: one.value for subject, one in resolved.in_force.items() if subject[0] is None},
        **_agent_fields(agent, {s: setting.value for s, setting in resolved.in_force.items() if s[0] is not None}),
    )


# The resolver of a conflict between a variable that needs approval and one that does not.
APPROVAL: Final = "Approval"


def _without_unapproved(
    variables: Sequence[OrchestrationVariable], settings: list[DesiredSetting]
) -> tuple[list[DesiredSetting], tuple[Conflict, ...]]:
    """(the settings without those that would go round an approval, a conflict for each of these).

    What a variable with `consensus.requireApproval` sets, or would set once it has a value, no variable without it changes:
    neither by priority, nor by compromise, nor by a plug-in.
    """
    guards = {variable.metadata.name: variable for variable in variables if needs_approval(variable)}
    approved = {one.subject: one for one in sorted(settings, key=precedence, reverse=True) if one.variable in guards}
    guarded: dict[Subject, str] = {
        (None, guard.parameter): name for name, guard in guards.items() if guard.spec.type in VALUED
    }
    guarded |= {subject: one.variable for subject, one in approved.items()}
    kept, withheld = [], []
    for one in settings:
        guard = guarded.get(one.subject)
        agrees = one.subject in approved and approved[one.subject].value == one.value
        if guard is None or one.variable in guards or agrees:
            kept.append(one)
        else:
            withheld.append(_withheld(one, guard))
    return kept, tuple(withheld)


def needs_approval(variable: OrchestrationVariable) -> bool:
    """Whether each new value of the variable needs a human's approval."""
    consensus = variable.spec.consensus
    return consensus is not None and consensus.require_approval and variable.metadata.deletion_timestamp is None


def _withheld(setting: DesiredSetting, guard: str) -> Conflict:
    return Conflict(
        parameter=setting.parameter,
        action=setting.action,
        winner=guard,
        loser=setting.variable,
        resolver=APPROVAL,
        message=f"variable {guard} guards {setting.parameter} by `consensus.requireApproval`, and variable {setting.variable} "
        f"would change it without an approval: set `consensus.requireApproval` on it, or change {guard}",
    )


_Items = list[tuple[OrchestrationVariable, AgentDirective]]


def _within_limit(items: _Items) -> tuple[_Items, tuple[str, ...]]:
    """The directives of the first variables by precedence that MAX_ITEMS and MAX_BYTES allow, in order of variable and action.

    The problems name what is left out.
    """
    ranked = sorted({variable.metadata.name: variable for variable, _ in items}.values(), key=_rank)
    names = [variable.metadata.name for variable in ranked[:MAX_ITEMS]]
    sizes = dict.fromkeys(names, 0)
    for _, item in items:
        if item.variable in sizes:
            sizes[item.variable] += parameter_bytes(item.parameters)
    followed, size = set(), 0
    for name in names:
        if size + sizes[name] <= MAX_BYTES:
            followed.add(name)
            size += sizes[name]
    own = [(variable, item) for variable, item in items if variable.metadata.name in followed]
    kept = sorted(own, key=lambda pair: (pair[1].variable, pair[1].action))[:MAX_ITEMS]
    problems = [f"{too_large_message()}: it does not follow {name}" for name in names if name not in followed]
    if len(ranked) > MAX_ITEMS:
        problems.append(f"{len(ranked)} variables select this agent; it follows the first {MAX_ITEMS} by priority")
    return kept, tuple(problems)


def parameter_bytes(parameters: JsonDict) -> int:
    """The bytes of the parameters as JSON."""
    return len(json.dumps(parameters).encode())


def too_large_message() -> str:
    """Why a directive is left out for its size, as a clause."""
    return f"the agent's directives would have more than {MAX_BYTES // 1024} KiB"


def _rank(variable: OrchestrationVariable) -> tuple[int, bool, float, str]:
    meta = variable.metadata
    return precedence(
        DesiredSetting(meta.name, "", None, priority=variable.spec.priority, created_at=meta.creation_timestamp)
    )


def _settings(variable: OrchestrationVariable, item: AgentDirective) -> list[DesiredSetting]:
    meta = variable.metadata
    return [
        DesiredSetting(
            meta.name,
            parameter,
            value,
            priority=variable.spec.priority,
            created_at=meta.creation_timestamp,
            action=action,
            domain=variable.spec.domain if action is None else None,
        )
        for (action, parameter), value in _subjects(item.action, item.parameters)
    ]


def _cannot(problem: str) -> SetAside:
    return SetAside(DirectiveReason.CANNOT_BE_DONE, f"cannot be done: {problem}")


def _overruled(items: Sequence[AgentDirective], resolved: ResolvedSettings) -> dict[int, SetAside]:
    """The directives that lost a conflict or are part of an unresolved one, by index."""
    found: dict[int, SetAside] = {}
    for index, item in enumerate(items):
        conflict = _conflict_lost(resolved.conflicts, item)
        if conflict is None:
            continue
        if (conflict.action, conflict.parameter) in resolved.unresolved:
            found[index] = SetAside(DirectiveReason.CONFLICT_UNRESOLVED, conflict.message)
        else:
            found[index] = SetAside(DirectiveReason.OVERRULED, conflict.message, conflict.winner)
    return found


def _agent_fields(agent: Agent, in_force: Mapping[Subject, Any]) -> dict[str, Any]:
    """The settings of actions (not of parameters) as fields of EffectiveSet."""
    fields: dict[str, Any] = {
        "active": in_force.get((DirectiveAction.ACTIVATE, "active"), True),
        "communication": in_force.get((DirectiveAction.UPDATE_COMMUNICATION, "peers")),
    }
    state = in_force.get((_STATE, "desiredState"))
    if state is not None:
        fields["desired_state"] = DesiredState(state)
    scaled = in_force.get((_REPLICAS, "replicas"))
    if scaled is not None:  # scaling up never goes below the user's own number, nor scaling down above it
        direction, replicas = scaled
        fields["replicas"] = (max if direction == "up" else min)(agent.spec.replicas, replicas)
    role = in_force.get((DirectiveAction.CHANGE_ROLE, "role"))
    if role is not None:
        name, term = role
        fields |= {"role": name, "term": term if type(term) is int else None}
    shares = {key[1]: v for key, v in in_force.items() if key[0] is DirectiveAction.ALLOCATE_RESOURCES}
    priority = shares.pop(NETWORK_PRIORITY, None)
    if priority in set(NetworkPriority):
        fields["network_priority"] = NetworkPriority(priority)
    return fields | {"resources": shares}


# --- one variable's directives --------------------------------------------------------------------------------------------------


def _items(
    variable: OrchestrationVariable, previous: tuple[AgentDirective, ...], agent: Agent
) -> tuple[AgentDirective, ...]:
    """The variable's directives for this agent, each with the state of the pass before.

    A variable that is suspended, that only advises, or whose first pass is still to come leaves the previous ones unchanged.
    """
    if variable.metadata.deletion_timestamp is not None:
        return ()
    if not variable.selects(agent.metadata.name, agent.metadata.labels):
        return ()
    if is_suspended(variable) or variable.spec.mode is Mode.ADVISE or variable.status.observed_generation < 0:
        return previous
    items = []
    for desired in desired_directives(variable)(agent.metadata.name):
        old = next((item for item in previous if item.action is desired.action), None)
        items.append(_item(variable, desired, old))
    return tuple(items)


def _item(variable: OrchestrationVariable, desired: DesiredDirective, old: AgentDirective | None) -> AgentDirective:
    wanted = AgentDirective(
        variable=variable.metadata.name,
        action=desired.action,
        parameters=desired.parameters,
        priority=priority_of(variable, desired.action),
        timeout_seconds=timeout_seconds(variable, desired.action),
    )
    if old is None or not same_directive(old, wanted):
        return wanted
    return old.model_copy(update={"priority": wanted.priority, "timeout_seconds": wanted.timeout_seconds})


def same_directive(one: AgentDirective, other: AgentDirective) -> bool:
    """Whether two directives have the same action and the same parameters; their variables may differ."""
    return one.action is other.action and one.parameters == other.parameters
