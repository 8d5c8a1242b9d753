"""The directives of one variable: one per agent and action, with the progress that the agents' own statuses record.

Delivery and acknowledgement are decided in the agents' passes (`directives/delivery`). Their statuses are the only source:
this module stores no delivery state.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from mabeam.api.agent import Agent
from mabeam.api.agent_status import AgentState
from mabeam.api.base import JsonDict
from mabeam.api.directive import AgentDirective, DirectiveReason, DirectiveState, VariableDirective, VariableDirectives
from mabeam.api.names import Reason
from mabeam.api.variable import OrchestrationVariable
from mabeam.core.directives.confirmation import CONFIRMATIONS
from mabeam.core.directives.desired import directives_for_value
from mabeam.core.directives.effective import MAX_ITEMS, OVERRULED_REASONS, priority_of, timeout_seconds
from mabeam.core.directives.suspension import is_suspended
from mabeam.core.reports.report import expects_reports
from mabeam.core.values import DesiredDirective, parse_value

# The most directives that a status lists; a variable with more keeps all of them in ConfigMaps.
STATUS_ITEMS: Final = 100
# The most bytes of parameters in that list: a value may have 256 KiB, and each agent's directive repeats it.
STATUS_BYTES: Final = 128 * 1024
# The most agents that a message names.
SHOWN_AGENTS: Final = 3
LIMIT_REACHED: Final = f"the agent already follows {MAX_ITEMS} variables, all of higher precedence"


@dataclass(frozen=True, slots=True)
class DirectiveProgress:
    """One directive of the variable, and how far its agent is with it."""

    agent: Agent
    directive: VariableDirective
    settled: bool  # nothing more is waited for
    reached: bool  # it is in the agent's ConfigMap, or was


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
        **_state(agent, item),
    )
    return DirectiveProgress(agent, directive, _is_settled(agent, directive), _is_reached(directive))


def _state(agent: Agent, item: AgentDirective | None) -> JsonDict:
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
    return {"state": DirectiveState.ISSUED}


def _is_settled(agent: Agent, directive: VariableDirective) -> bool:
    """Whether it is acknowledged; or delivered to an agent that is stopped or never reports, and so cannot acknowledge it."""
    if directive.state is DirectiveState.ACKNOWLEDGED:
        return True
    silent = agent.status.state is AgentState.STOPPED or not expects_reports(agent)
    if directive.action in CONFIRMATIONS:
        return False
    return directive.state is DirectiveState.DELIVERED and silent


_NEVER_REACHED: Final = OVERRULED_REASONS | {DirectiveReason.LIMIT_REACHED, DirectiveReason.NOT_DELIVERED}


def _is_reached(directive: VariableDirective) -> bool:
    """Whether the directive is or was in the agent's ConfigMap: not an overruled one, nor one that expired before that."""
    return directive.state is not DirectiveState.ISSUED and directive.reason not in _NEVER_REACHED


def directives_summary(progress: Sequence[DirectiveProgress]) -> VariableDirectives:
    """Counts over all directives, and the first STATUS_ITEMS of them.

    `issued` counts all, `delivered` those that reached their agent whatever their state is now, the others one state each.
    """
    states = Counter(one.directive.state for one in progress)
    return VariableDirectives(
        issued=len(progress),
        delivered=sum(one.reached for one in progress),
        acknowledged=states[DirectiveState.ACKNOWLEDGED],
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
    message = f"{settled}/{len(progress)} applied"
    for state, reason in _FAILED_STATES:
        failed = [one.directive for one in progress if one.directive.state is state]
        if failed:
            shown = "; ".join(f"{d.agent}: {d.message or state.lower()}" for d in failed[:SHOWN_AGENTS])
            more = f" and {len(failed) - SHOWN_AGENTS} more" if len(failed) > SHOWN_AGENTS else ""
            return reason, f"{message}; {shown}{more}"
    return (Reason.CONVERGED if settled == len(progress) else Reason.DELIVERING), message


# The more severe state first.
_FAILED_STATES: Final = ((DirectiveState.REFUSED, Reason.REFUSED), (DirectiveState.EXPIRED, Reason.TIMEOUT))
