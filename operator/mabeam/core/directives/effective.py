"""What one agent is told, all its variables together: each variable's instructions, and what conflicts leave of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from mabeam.api.agent import Agent, NetworkPriority
from mabeam.api.agent_status import DesiredState
from mabeam.api.base import JsonDict
from mabeam.api.directive import AgentDirective, Conflict, DirectiveAction
from mabeam.api.variable import Mode, OrchestrationVariable
from mabeam.core.directives.conflicts import ConflictContext, DesiredSetting, Subject, precedence, resolve
from mabeam.core.directives.desired import NETWORK_PRIORITY, DesiredDirective, desired_directives
from mabeam.core.directives.suspension import is_suspended
from mabeam.core.directives.validity import VALIDATORS
from mabeam.core.functions import FunctionCall

# design, "Directive timeout": in code, not a CRD default.
DEFAULT_TIMEOUT_SECONDS: Final[Mapping[DirectiveAction, int]] = {DirectiveAction.ALLOCATE_RESOURCES: 5}
OTHER_TIMEOUT_SECONDS: Final = 30
# design: "AllocateResources, priority 1"; what a variable says of itself comes first.
DEFAULT_PRIORITY: Final[Mapping[DirectiveAction, int]] = {DirectiveAction.ALLOCATE_RESOURCES: 1}
# As many as an agent's status carries.
MAX_ITEMS: Final = 64

# Their parameters are parameters of the process. Reconfigure also has the pods made anew, so that they start with them.
PARAMETRIC: Final = frozenset({DirectiveAction.ADJUST_PARAMETERS, DirectiveAction.RECONFIGURE})


def timeout_seconds(variable: OrchestrationVariable, action: DirectiveAction) -> float:
    """How long an agent may take to acknowledge."""
    constraints = variable.spec.constraints
    if constraints is not None and constraints.timeout_seconds is not None:
        return constraints.timeout_seconds
    return DEFAULT_TIMEOUT_SECONDS.get(action, OTHER_TIMEOUT_SECONDS)


def priority_of(variable: OrchestrationVariable, action: DirectiveAction) -> int:
    """The directive's priority: the variable's, where it says one."""
    if "priority" in variable.spec.model_fields_set:
        return variable.spec.priority
    return DEFAULT_PRIORITY.get(action, variable.spec.priority)


@dataclass(frozen=True)
class EffectiveSet:
    """Each variable's directives in order of name and action, the conflicts among them, and what is in force.

    `refused` says why the operator itself will not carry out an item, by its place in `items`.
    """

    items: tuple[AgentDirective, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    parameters: JsonDict = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    refused: Mapping[int, str] = field(default_factory=dict)
    function_calls: tuple[FunctionCall, ...] = ()
    desired_state: DesiredState | None = None
    replicas: int | None = None
    active: bool = True
    role: str | None = None
    term: int | None = None
    communication: JsonDict | None = None
    resources: Mapping[str, str] = field(default_factory=dict)
    network_priority: NetworkPriority | None = None

    def lost(self, item: AgentDirective) -> Conflict | None:
        """The conflict the item lost, None when it is in force."""
        return conflict_lost(self.conflicts, item)

    @property
    def listed(self) -> tuple[Conflict, ...]:
        """As many conflicts as a status carries; that by which a directive is known to have lost is always among them."""
        if len(self.conflicts) <= MAX_ITEMS:
            return self.conflicts
        needed = {id(self.lost(item)) for item in self.items}
        first = sorted(range(len(self.conflicts)), key=lambda place: (id(self.conflicts[place]) not in needed, place))
        return tuple(self.conflicts[place] for place in sorted(first[:MAX_ITEMS]))


def conflict_lost(conflicts: Sequence[Conflict], item: AgentDirective) -> Conflict | None:
    """The conflict the item lost, of those; None when it lost none."""
    own = [c for c in conflicts if c.loser == item.variable and (c.value is None or c.loser == c.winner)]
    about = {key for key, _ in _subjects(item.action, item.parameters)} if own else set()
    return next((conflict for conflict in own if (conflict.action, conflict.parameter) in about), None)


def _subjects(action: DirectiveAction, parameters: JsonDict) -> list[tuple[Subject, Any]]:
    """What a directive claims: each thing that it is about, and what it wants of it."""
    if action in PARAMETRIC:
        return [((None, name), value) for name, value in parameters.items()]
    return SUBJECTS[action](parameters)


_STATE: Final = DirectiveAction.START
_REPLICAS: Final = DirectiveAction.SCALE_UP


# Start and Stop are about one thing, and so are ScaleUp and ScaleDown. A Migrate is about nothing that two could differ in.
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
    context: ConflictContext = ConflictContext(),  # noqa: B008 - frozen
) -> EffectiveSet:
    """Every variable's directives for this agent, and what remains of them after conflicts are resolved.

    `before` are the directives of the agent's stored status; those whose order is the same go on, state and all.
    """
    items: list[tuple[OrchestrationVariable, AgentDirective]] = []
    for variable in variables:
        own = tuple(item for item in before if item.variable == variable.metadata.name)
        items.extend((variable, item) for item in _items(variable, own, agent))
    ranked = sorted({variable.metadata.name: variable for variable, _ in items}.values(), key=_rank)
    heard = {variable.metadata.name for variable in ranked[:MAX_ITEMS]}
    problems = (
        (f"{len(ranked)} variables select this agent; it obeys the first {MAX_ITEMS} by priority",)
        if len(ranked) > MAX_ITEMS
        else ()
    )
    kept = sorted(
        ((variable, item) for variable, item in items if variable.metadata.name in heard),
        key=lambda pair: (pair[1].variable, pair[1].action),
    )[:MAX_ITEMS]
    refused = {
        place: wrong
        for place, (_, item) in enumerate(kept)
        if item.action in VALIDATORS and (wrong := VALIDATORS[item.action](agent, item.parameters))
    }
    settings = [setting for place, pair in enumerate(kept) if place not in refused for setting in _claims(*pair)]
    resolved = resolve(settings, agent.spec.conflict_resolution, context)
    return EffectiveSet(
        items=tuple(item for _, item in kept),
        conflicts=resolved.conflicts,
        parameters={key[1]: setting.value for key, setting in resolved.in_force.items() if key[0] is None},
        problems=(*problems, *resolved.problems),
        refused=refused,
        function_calls=resolved.function_calls,
        **_orders(agent, {key: setting.value for key, setting in resolved.in_force.items() if key[0] is not None}),
    )


def _rank(variable: OrchestrationVariable) -> tuple[int, bool, float, str]:
    return precedence(
        DesiredSetting(variable.metadata.name, "", None, variable.spec.priority, variable.metadata.creation_timestamp)
    )


def _claims(variable: OrchestrationVariable, item: AgentDirective) -> list[DesiredSetting]:
    meta = variable.metadata
    return [
        DesiredSetting(
            meta.name,
            parameter,
            value,
            variable.spec.priority,
            meta.creation_timestamp,
            action,
            variable.spec.domain if action is None else None,
        )
        for (action, parameter), value in _subjects(item.action, item.parameters)
    ]


def _orders(agent: Agent, in_force: Mapping[Subject, Any]) -> dict[str, Any]:
    """What the claims on other things than parameters come to, as fields of the set."""
    orders: dict[str, Any] = {}
    state = in_force.get((_STATE, "desiredState"))
    if state is not None:
        orders["desired_state"] = DesiredState(state)
    scaled = in_force.get((_REPLICAS, "replicas"))
    if scaled is not None:  # never less than the user asks for by scaling up, nor more by scaling down
        orders["replicas"] = (max if scaled[0] == "up" else min)(agent.spec.replicas, scaled[1])
    role = in_force.get((DirectiveAction.CHANGE_ROLE, "role"))
    if role is not None:
        orders |= {"role": role[0], "term": role[1] if type(role[1]) is int else None}
    orders["active"] = in_force.get((DirectiveAction.ACTIVATE, "active"), True)
    orders["communication"] = in_force.get((DirectiveAction.UPDATE_COMMUNICATION, "peers"))
    shares = {key[1]: v for key, v in in_force.items() if key[0] is DirectiveAction.ALLOCATE_RESOURCES}
    priority = shares.pop(NETWORK_PRIORITY, None)
    if priority in set(NetworkPriority):
        orders["network_priority"] = NetworkPriority(priority)
    orders["resources"] = shares
    return orders


def _items(
    variable: OrchestrationVariable, previous: tuple[AgentDirective, ...], agent: Agent
) -> tuple[AgentDirective, ...]:
    """The variable's directives for this agent, not yet advanced.

    A variable that is paused, advises only, or was not looked at yet (its status is new) leaves things as they are.
    """
    if variable.metadata.deletion_timestamp is not None:
        return ()
    if not variable.selects(agent.metadata.name, agent.metadata.labels):
        return ()
    if is_suspended(variable) or variable.spec.mode is Mode.ADVISE or variable.status.observed_generation < 0:
        return previous
    found = []
    for instruction in desired_directives(variable)(agent.metadata.name):
        old = next((item for item in previous if item.action is instruction.action), None)
        found.append(_item(variable, instruction, old))
    return tuple(found)


def _item(variable: OrchestrationVariable, instruction: DesiredDirective, old: AgentDirective | None) -> AgentDirective:
    wanted = AgentDirective(
        variable=variable.metadata.name,
        action=instruction.action,
        parameters=instruction.parameters,
        priority=priority_of(variable, instruction.action),
        timeout_seconds=timeout_seconds(variable, instruction.action),
    )
    if old is None or not same_directive(old, wanted):
        return wanted
    return old.model_copy(update={"priority": wanted.priority, "timeout_seconds": wanted.timeout_seconds})


def same_directive(one: AgentDirective, other: AgentDirective) -> bool:
    """Whether two directives order the same: same action, same parameters."""
    return one.action is other.action and one.parameters == other.parameters
