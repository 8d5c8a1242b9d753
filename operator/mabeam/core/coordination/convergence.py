"""The directives of one variable: one per agent and action, with the progress that the agents' own statuses record.

Delivery and acknowledgement are decided in the agents' passes (`directives/delivery`). Their statuses are the only source:
this module stores no delivery state.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mabeam.api.agent import Agent
from mabeam.api.agent_status import AgentState
from mabeam.api.base import JsonDict
from mabeam.api.directive import (
    AgentDirective,
    DirectiveAction,
    DirectiveReason,
    DirectiveState,
    VariableDirective,
    VariableDirectives,
)
from mabeam.api.names import ConditionType, Reason
from mabeam.api.variable import OrchestrationVariable
from mabeam.core.algorithms.domain import format_value
from mabeam.core.directives.confirmation import CONFIRMATIONS, STARTS_AND_STOPS
from mabeam.core.directives.desired import directives_for_value
from mabeam.core.directives.effective import (
    MAX_BYTES,
    MAX_ITEMS,
    OVERRULED_REASONS,
    PARAMETRIC,
    parameter_bytes,
    priority_of,
    timeout_seconds,
    too_large_message,
)
from mabeam.core.directives.last_good import parameters_in_force
from mabeam.core.directives.suspension import is_suspended
from mabeam.core.reports.report import expects_reports
from mabeam.core.values import DesiredDirective, parse_value

# The most directives that a status lists; a variable with more keeps all of them in ConfigMaps.
STATUS_ITEMS: Final = 100
# The most bytes of parameters in that list: a value may have 256 KiB, and each agent's directive repeats it.
STATUS_BYTES: Final = 128 * 1024
# The most agents that a message names.
SHOWN_AGENTS: Final = 3
# The most characters of one value in the column VALUE.
SHOWN_VALUE: Final = 40
LIMIT_REACHED: Final = f"the agent already follows {MAX_ITEMS} variables, all of higher precedence"


@dataclass(frozen=True, slots=True)
class DirectiveProgress:
    """One directive of the variable, and how far its agent is with it."""

    agent: Agent
    directive: VariableDirective
    applied: bool  # the agent carries it out: acknowledged, or delivered to a running one that never reports
    reached: bool  # it is in the agent's ConfigMap, or was
    at_rest: str = ""  # why nothing is waited for until the agent runs again, as a phrase; empty: it is waited for
    in_force: Any = None  # JSON value that the agent has instead of the variable's; None: it has the variable's

    @property
    def settled(self) -> bool:
        """Whether nothing more is waited for."""
        return self.applied or bool(self.at_rest)


def directives_progress(
    variable: OrchestrationVariable, agents: Sequence[Agent], value: Any
) -> tuple[DirectiveProgress, ...]:
    """The directives of each agent while the JSON `value` is in force, by the agents' order, with the states in their statuses.

    A suspended variable gives no new directive: only those that its agents hold already are left.
    """
    desired = directives_for_value(variable, parse_value(variable.spec.type, value))
    suspended = is_suspended(variable)
    progress: list[DirectiveProgress] = []
    for agent in agents:
        items = _items_of(agent, variable.metadata.name)
        held = (DesiredDirective(item.action, item.parameters) for item in items)
        for one in held if suspended else desired(agent.metadata.name):
            item = next((i for i in items if (i.action, i.parameters) == (one.action, one.parameters)), None)
            progress.append(_progress(variable, agent, one, item))
    return tuple(progress)


def _items_of(agent: Agent, variable: str) -> tuple[AgentDirective, ...]:
    held = agent.status.directives
    return tuple(item for item in held.items if item.variable == variable) if held is not None else ()


def _progress(
    variable: OrchestrationVariable, agent: Agent, desired: DesiredDirective, item: AgentDirective | None
) -> DirectiveProgress:
    directive = VariableDirective(
        agent=agent.metadata.name,
        action=desired.action,
        parameters=desired.parameters,
        priority=priority_of(variable, desired.action),
        timeout_seconds=timeout_seconds(variable, desired.action),
        **_state(agent, item, desired),
    )
    return DirectiveProgress(
        agent,
        directive,
        applied=_is_applied(agent, directive),
        reached=_is_reached(directive),
        at_rest=_why_at_rest(agent, directive),
        in_force=_other_value(variable, agent, directive),
    )


def _state(agent: Agent, item: AgentDirective | None, desired: DesiredDirective) -> JsonDict:
    """State, reason, message and `overruled_by` of the directive: those of the agent's item; Issued until its pass has one."""
    if item is not None:
        return {
            "state": item.state,
            "reason": item.reason,
            "message": item.message,
            "overruled_by": item.overruled_by,
        }
    held = agent.status.directives
    if held is not None and len(held.items) >= MAX_ITEMS:
        return {
            "state": DirectiveState.REFUSED,
            "reason": DirectiveReason.LIMIT_REACHED,
            "message": LIMIT_REACHED,
        }
    others = sum(parameter_bytes(one.parameters) for one in held.items) if held is not None else 0
    if others + parameter_bytes(desired.parameters) > MAX_BYTES:
        return {
            "state": DirectiveState.REFUSED,
            "reason": DirectiveReason.LIMIT_REACHED,
            "message": f"{too_large_message()}; a smaller value, or fewer variables, helps",
        }
    return {"state": DirectiveState.ISSUED}


def _is_applied(agent: Agent, directive: VariableDirective) -> bool:
    """Whether it is acknowledged, by an agent that still runs; or delivered to a running one that never reports.

    An agent at rest has carried out what is about its pods; the process that acknowledged anything else is gone.
    """
    about_pods = directive.action in CONFIRMATIONS and directive.action is not DirectiveAction.ALLOCATE_RESOURCES
    if directive.state is DirectiveState.ACKNOWLEDGED:
        return about_pods or not _is_at_rest(agent)
    if directive.action in CONFIRMATIONS or expects_reports(agent) or _is_at_rest(agent):
        return False
    return directive.state is DirectiveState.DELIVERED


def _is_at_rest(agent: Agent) -> bool:
    status = agent.status
    return status.parked_at is not None or status.state in _RESTING or _ready_reason(agent) == Reason.HELD


_RESTING: Final = frozenset({AgentState.STOPPED, AgentState.FAILED})
# Reason of the agent's condition Ready → the phrase for messages.
_WHY_AT_REST: Final[Mapping[str, str]] = {
    Reason.HELD: "waits for its Supervisor",
    Reason.ESCALATED: "waits for its Supervisor",
    Reason.COMPLETED: "completed",
    Reason.DISRUPTED: "ended by a disruption",
    Reason.FAILED: "failed",
}


# The states of a directive that the agent's next process will not find in its file.
_NOT_STORED: Final = frozenset({DirectiveState.ISSUED, DirectiveState.REFUSED})


def _ready_reason(agent: Agent) -> str:
    return next((c.reason for c in agent.status.conditions if c.type == ConditionType.READY), "")


def _why_at_rest(agent: Agent, directive: VariableDirective) -> str:
    """Why the agent cannot carry the directive out before it runs again, as a phrase; empty when it can."""
    parked = agent.status.parked_at is not None
    starts_or_stops = directive.action in STARTS_AND_STOPS and not parked
    if starts_or_stops or not _is_at_rest(agent) or directive.state in _NOT_STORED:
        return ""
    return _WHY_AT_REST.get(_ready_reason(agent), "parked" if parked else "stopped")


def _other_value(variable: OrchestrationVariable, agent: Agent, directive: VariableDirective) -> Any:
    """The value of the variable's parameter that the agent has once a conflict is decided or a directive dropped; else None."""
    held, decided = agent.status.directives, directive.parameters.get(variable.parameter)
    if (
        held is None
        or directive.action not in PARAMETRIC
        or decided is None
        or directive.state is DirectiveState.ISSUED
    ):
        return None
    found = parameters_in_force(held).get(variable.parameter)
    return None if found == decided else found


_NEVER_REACHED: Final = OVERRULED_REASONS | {DirectiveReason.LIMIT_REACHED, DirectiveReason.NOT_DELIVERED}


def _is_reached(directive: VariableDirective) -> bool:
    """Whether the directive is or was in the agent's ConfigMap: not an overruled one, nor one that expired before that."""
    return directive.state is not DirectiveState.ISSUED and directive.reason not in _NEVER_REACHED


def directives_summary(progress: Sequence[DirectiveProgress]) -> VariableDirectives:
    """Counts over all directives, and the first STATUS_ITEMS of them.

    `issued` counts all, `delivered` those that reached their agent whatever their state is now, `acknowledged` those of agents
    that run, the others one state each.
    """
    states = Counter(one.directive.state for one in progress)
    acknowledged = [one.applied and one.directive.state is DirectiveState.ACKNOWLEDGED for one in progress]
    names = [one.agent.metadata.name for one in progress]
    unfinished = {name for name, done in zip(names, acknowledged, strict=True) if not done}
    return VariableDirectives(
        issued=len(progress),
        delivered=sum(one.reached for one in progress),
        acknowledged=sum(acknowledged),
        agents_acknowledged=len(set(names) - unfinished),
        refused=states[DirectiveState.REFUSED],
        expired=states[DirectiveState.EXPIRED],
        items=tuple(one.directive for one in listed(progress)),
    )


def listed(progress: Sequence[DirectiveProgress]) -> Sequence[DirectiveProgress]:
    """The first directives, STATUS_ITEMS at most, whose parameters together have no more than STATUS_BYTES of JSON."""
    size = 0
    for number, one in enumerate(progress[:STATUS_ITEMS]):
        size += len(json.dumps(one.directive.parameters).encode())
        if size > STATUS_BYTES:
            return progress[:number]
    return progress[:STATUS_ITEMS]


def overall_progress(progress: Sequence[DirectiveProgress]) -> tuple[Reason, str]:
    """(reason, message) of all directives together; Converged when nothing more is waited for."""
    settled = sum(one.settled for one in progress)
    message = f"{sum(one.applied for one in progress)}/{len(progress)} applied{_resting(progress)}{_instead(progress)}"
    for state, reason in _FAILED_STATES:
        failed = [one.directive for one in progress if one.directive.state is state and not one.at_rest]
        if failed:
            shown = "; ".join(f"{d.agent}: {d.message or state.lower()}" for d in failed[:SHOWN_AGENTS])
            more = f" and {len(failed) - SHOWN_AGENTS} more" if len(failed) > SHOWN_AGENTS else ""
            return reason, f"{message}; {shown}{more}"
    return (Reason.CONVERGED if settled == len(progress) else Reason.DELIVERING), message


def _resting(progress: Sequence[DirectiveProgress]) -> str:
    """The agents that cannot answer before they run again, and why, as a phrase; empty without one."""
    resting = {one.agent.metadata.name: one.at_rest for one in progress if one.at_rest and not one.applied}
    shown = ", ".join(f"{name} ({why})" for name, why in list(resting.items())[:SHOWN_AGENTS])
    more = f" and {len(resting) - SHOWN_AGENTS} more" if len(resting) > SHOWN_AGENTS else ""
    return f"; not running: {shown}{more}" if resting else ""


def _instead(progress: Sequence[DirectiveProgress]) -> str:
    """The values that agents have instead of the variable's, as a phrase; empty when all have the variable's."""
    others = {one.agent.metadata.name: one.in_force for one in progress if one.in_force is not None}
    shown = ", ".join(f"{format_value(value)} at {name}" for name, value in list(others.items())[:SHOWN_AGENTS])
    more = f" and {len(others) - SHOWN_AGENTS} more" if len(others) > SHOWN_AGENTS else ""
    return f"; in force instead: {shown}{more}" if others else ""


def value_in_force(value: Any, progress: Sequence[DirectiveProgress]) -> str | None:
    """The value that the agents have, as short text; with several values all of them; None without a value."""
    if value is None:
        return None
    found = dict.fromkeys(_short(value if one.in_force is None else one.in_force) for one in progress)
    own = _short(value)
    if set(found) <= {own}:
        return own
    return f"{', '.join(list(found)[:SHOWN_AGENTS])} (decided: {own})"


def _short(value: Any) -> str:
    text = format_value(value)
    return text if len(text) <= SHOWN_VALUE else f"{text[: SHOWN_VALUE - 1].rstrip('…')}…"


# The more severe state first.
_FAILED_STATES: Final = ((DirectiveState.REFUSED, Reason.REFUSED), (DirectiveState.EXPIRED, Reason.TIMEOUT))
