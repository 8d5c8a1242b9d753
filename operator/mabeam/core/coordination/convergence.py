"""The directives of one variable: one per agent and action, with the progress that the agents' own statuses record.

Delivery and acknowledgement are decided in the agents' passes (`directives/delivery`). Their statuses are the only source:
this module stores no delivery state.
"""

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

# As many directives as a status carries; a variable with more keeps all of them in ConfigMaps.
STATUS_ITEMS: Final = 100
SHOWN_AGENTS: Final = 3
LIMIT_REACHED: Final = f"the agent already follows {MAX_ITEMS} variables, all of higher precedence"


@dataclass(frozen=True, slots=True)
class DirectiveProgress:
    """One agent and what it is told. `settled` says that nothing more is waited for; `reached`, that it was delivered."""

    agent: Agent
    directive: VariableDirective
    settled: bool
    reached: bool


def directives_progress(
    variable: OrchestrationVariable, agents: Sequence[Agent], value: Any
) -> tuple[DirectiveProgress, ...]:
    """What each agent is told while `value` is in force, in order of name, with the state its own status gives it.

    A paused variable tells nobody anything new: only the directives that its agents hold already are left.
    """
    tell, told = directives_for_value(variable, parse_value(variable.spec.type, value)), []
    for agent in agents:
        items = _items_of(agent, variable.metadata.name)
        wanted = (
            tuple(DesiredDirective(item.action, item.parameters) for item in items)
            if is_suspended(variable)
            else tell(agent.metadata.name)
        )
        for instruction in wanted:
            same = (i for i in items if i.action is instruction.action and i.parameters == instruction.parameters)
            item = next(same, None)
            directive = VariableDirective(
                agent=agent.metadata.name,
                action=instruction.action,
                parameters=instruction.parameters,
                priority=priority_of(variable, instruction.action),
                timeout_seconds=timeout_seconds(variable, instruction.action),
                **_state(agent, item),
            )
            told.append(DirectiveProgress(agent, directive, _settled(agent, directive), _reached(directive)))
    return tuple(told)


def _items_of(agent: Agent, variable: str) -> tuple[AgentDirective, ...]:
    held = agent.status.directives
    return tuple(item for item in held.items if item.variable == variable) if held is not None else ()


def _state(agent: Agent, item: AgentDirective | None) -> JsonDict:
    if item is not None:
        told = {"state": item.state, "reason": item.reason}
        return told | {"message": item.message, "overruled_by": item.overruled_by}
    held = agent.status.directives
    if held is not None and len(held.items) >= MAX_ITEMS:
        limit = {"state": DirectiveState.REFUSED, "reason": DirectiveReason.LIMIT_REACHED}
        return limit | {"message": LIMIT_REACHED}
    return {"state": DirectiveState.ISSUED}


def _settled(agent: Agent, directive: VariableDirective) -> bool:
    """Acknowledged; or delivered, when the agent rests as desired or never reports: no answer can be waited for."""
    if directive.state is DirectiveState.ACKNOWLEDGED:
        return True
    silent = agent.status.state is AgentState.STOPPED or not expects_reports(agent)
    if directive.action in CONFIRMATIONS:
        return False
    return directive.state is DirectiveState.DELIVERED and silent


_NEVER_REACHED: Final = OVERRULED_REASONS | {DirectiveReason.LIMIT_REACHED, DirectiveReason.NOT_DELIVERED}


def _reached(directive: VariableDirective) -> bool:
    """Whether the directive came as far as the agent's ConfigMap; an overruled one and one that expired before did not."""
    return directive.state is not DirectiveState.ISSUED and directive.reason not in _NEVER_REACHED


def directives_summary(told: Sequence[DirectiveProgress]) -> VariableDirectives:
    """Counts over all directives, and the first hundred of them.

    `issued` counts every one, `delivered` those that reached their agent, whatever became of them; the others a state.
    """
    states = Counter(one.directive.state for one in told)
    return VariableDirectives(
        issued=len(told),
        delivered=sum(one.reached for one in told),
        acknowledged=states[DirectiveState.ACKNOWLEDGED],
        refused=states[DirectiveState.REFUSED],
        expired=states[DirectiveState.EXPIRED],
        items=tuple(one.directive for one in told[:STATUS_ITEMS]),
    )


def overall_progress(told: Sequence[DirectiveProgress]) -> tuple[Reason, str]:
    """In a word and a sentence how far the value came; Converged when nothing more is waited for."""
    settled = sum(one.settled for one in told)
    progress = f"{settled}/{len(told)} applied"
    for state, reason in _TROUBLES:
        troubled = [one.directive for one in told if one.directive.state is state]
        if troubled:
            shown = "; ".join(f"{d.agent}: {d.message or state.lower()}" for d in troubled[:SHOWN_AGENTS])
            more = f" and {len(troubled) - SHOWN_AGENTS} more" if len(troubled) > SHOWN_AGENTS else ""
            return reason, f"{progress}; {shown}{more}"
    return (Reason.CONVERGED if settled == len(told) else Reason.DELIVERING), progress


# The graver trouble first.
_TROUBLES: Final = ((DirectiveState.REFUSED, Reason.REFUSED), (DirectiveState.EXPIRED, Reason.TIMEOUT))
