"""What one agent is told, all its variables together: each variable's instruction, and what conflicts leave of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from mabeam.api.agent import Agent
from mabeam.api.base import JsonDict
from mabeam.api.directive import AgentDirective, Conflict, DirectiveAction
from mabeam.api.variable import Mode, OrchestrationType, OrchestrationVariable
from mabeam.core.conflict import Claim, precedence, resolve

# design, "Directive timeout": in code, not a CRD default.
DEFAULT_TIMEOUT_SECONDS: Final[Mapping[DirectiveAction, int]] = {DirectiveAction.ALLOCATE_RESOURCES: 5}
OTHER_TIMEOUT_SECONDS: Final = 30
# As many as an agent's status carries.
MAX_ITEMS: Final = 64


@dataclass(frozen=True, slots=True)
class Instruction:
    """What a variable's value means for one agent."""

    action: DirectiveAction
    parameters: JsonDict


def _adjust_parameters(variable: OrchestrationVariable, value: Any) -> Instruction:
    return Instruction(DirectiveAction.ADJUST_PARAMETERS, {variable.parameter: value})


INSTRUCTIONS: Final[Mapping[OrchestrationType, Callable[[OrchestrationVariable, Any], Instruction]]] = {
    OrchestrationType.PARAMETER: _adjust_parameters,
}


def instruct(variable: OrchestrationVariable, value: Any) -> Instruction | None:
    """What the variable tells each of its agents when `value` is in force; None when it tells them nothing."""
    instruction = INSTRUCTIONS.get(variable.spec.type)
    return None if value is None or instruction is None else instruction(variable, value)


def timeout_seconds(variable: OrchestrationVariable, action: DirectiveAction) -> float:
    """How long an agent may take to acknowledge."""
    constraints = variable.spec.constraints
    if constraints is not None and constraints.timeout_seconds is not None:
        return constraints.timeout_seconds
    return DEFAULT_TIMEOUT_SECONDS.get(action, OTHER_TIMEOUT_SECONDS)


@dataclass(frozen=True)
class EffectiveSet:
    """Each variable's directive, in order of name; the conflicts among them; and the parameters that are in force."""

    items: tuple[AgentDirective, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    parameters: JsonDict = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    def lost(self, item: AgentDirective) -> Conflict | None:
        """The conflict the item lost, None when it is in force."""
        return next((c for c in self.conflicts if c.loser == item.variable and c.parameter in item.parameters), None)


def effective_set(
    agent: Agent, variables: Sequence[OrchestrationVariable], before: Sequence[AgentDirective]
) -> EffectiveSet:
    """Every variable's directive for this agent, and what remains of them after conflicts are resolved.

    `before` are the directives of the agent's stored status; those whose order is the same go on, state and all.
    """
    previous = {item.variable: item for item in before}
    claimed: list[tuple[Claim, AgentDirective]] = []
    for variable in variables:
        item = _item(variable, previous.get(variable.metadata.name), agent)
        if item is not None:
            claimed.extend((_claim(variable, parameter, value), item) for parameter, value in item.parameters.items())
    claimed.sort(key=lambda pair: precedence(pair[0]))
    names = list(dict.fromkeys(claim.variable for claim, _ in claimed))
    heard = set(names[:MAX_ITEMS])
    problems = (
        (f"{len(names)} variables select this agent; it obeys the first {MAX_ITEMS} by priority",)
        if len(names) > MAX_ITEMS
        else ()
    )
    claims = [claim for claim, _ in claimed if claim.variable in heard]
    in_force, conflicts = resolve(claims, agent.spec.conflict_resolution)
    items = {item.variable: item for _, item in claimed if item.variable in heard}
    return EffectiveSet(
        items=tuple(items[name] for name in sorted(items)),
        conflicts=conflicts,
        parameters={parameter: claim.value for parameter, claim in sorted(in_force.items())},
        problems=problems,
    )


def _claim(variable: OrchestrationVariable, parameter: str, value: Any) -> Claim:
    meta = variable.metadata
    return Claim(meta.name, parameter, value, variable.spec.priority, meta.creation_timestamp)


def _item(variable: OrchestrationVariable, previous: AgentDirective | None, agent: Agent) -> AgentDirective | None:
    """The variable's directive for this agent, not yet advanced; None when it has none.

    A variable that is paused, advises only, or was not looked at yet (its status is new) leaves things as they are.
    """
    if variable.metadata.deletion_timestamp is not None:
        return None
    if not variable.selects(agent.metadata.name, agent.metadata.labels):
        return None
    if variable.spec.paused or variable.spec.mode is Mode.ADVISE or variable.status.observed_generation < 0:
        return previous
    instruction = instruct(variable, variable.status.value)
    if instruction is None:
        return None
    wanted = AgentDirective(
        variable=variable.metadata.name,
        action=instruction.action,
        parameters=instruction.parameters,
        priority=variable.spec.priority,
        timeout_seconds=timeout_seconds(variable, instruction.action),
    )
    if previous is None or not same_order(previous, wanted):
        return wanted
    changed = {"priority": wanted.priority, "timeout_seconds": wanted.timeout_seconds}
    return previous.model_copy(update=changed)


def same_order(one: AgentDirective, other: AgentDirective) -> bool:
    """Whether two directives order the same: same action, same parameters."""
    return one.action is other.action and one.parameters == other.parameters
