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
from mabeam.api.directive import AgentDirective, DirectiveState, VariableDirective, VariableDirectives
from mabeam.api.names import Reason
from mabeam.api.variable import OrchestrationVariable
from mabeam.core.directives.confirmation import CONFIRMATIONS
from mabeam.core.directives.desired import DesiredDirective, directives_for_value
from mabeam.core.directives.effective import MAX_ITEMS, conflict_lost, priority_of, timeout_seconds
from mabeam.core.directives.progress import NOT_ACKNOWLEDGED
from mabeam.core.directives.suspension import is_suspended
from mabeam.core.reports.report import expects_reports

# As many directives as a status carries; a variable with more keeps all of them in ConfigMaps.
STATUS_ITEMS: Final = 100
SHOWN_AGENTS: Final = 3
FULL: Final = f"the agent obeys {MAX_ITEMS} variables already, all of higher precedence"


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
    tell, told = directives_for_value(variable, value), []
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
            told.append(
                DirectiveProgress(agent, directive, _settled(agent, directive), _reached(agent, item, directive))
            )
    return tuple(told)


def _items_of(agent: Agent, variable: str) -> tuple[AgentDirective, ...]:
    held = agent.status.directives
    return tuple(item for item in held.items if item.variable == variable) if held is not None else ()


def _state(agent: Agent, item: AgentDirective | None) -> JsonDict:
    if item is not None:
        return {"state": item.state, "reason": item.reason}
    held = agent.status.directives
    if held is not None and len(held.items) >= MAX_ITEMS:
        return {"state": DirectiveState.REFUSED, "reason": FULL}
    return {"state": DirectiveState.ISSUED}


def _settled(agent: Agent, directive: VariableDirective) -> bool:
    """Acknowledged; or delivered, when the agent rests as desired or never reports: no answer can be waited for."""
    if directive.state is DirectiveState.ACKNOWLEDGED:
        return True
    silent = agent.status.state is AgentState.STOPPED or not expects_reports(agent)
    if directive.action in CONFIRMATIONS:
        return False
    return directive.state is DirectiveState.DELIVERED and silent


def _reached(agent: Agent, item: AgentDirective | None, directive: VariableDirective) -> bool:
    """Whether the directive got as far as the agent's ConfigMap; what lost a conflict or expired before it did not."""
    held = agent.status.directives
    if directive.state is DirectiveState.REFUSED:
        lost = held is not None and item is not None and conflict_lost(held.conflicts, item) is not None
        return not lost and directive.reason != FULL
    if directive.state is DirectiveState.EXPIRED:
        return directive.reason == NOT_ACKNOWLEDGED
    return directive.state is not DirectiveState.ISSUED


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
            shown = "; ".join(f"{d.agent}: {d.reason or state.lower()}" for d in troubled[:SHOWN_AGENTS])
            more = f" and {len(troubled) - SHOWN_AGENTS} more" if len(troubled) > SHOWN_AGENTS else ""
            return reason, f"{progress}; {shown}{more}"
    return (Reason.CONVERGED if settled == len(told) else Reason.DELIVERING), progress


# The graver trouble first.
_TROUBLES: Final = ((DirectiveState.REFUSED, Reason.REFUSED), (DirectiveState.EXPIRED, Reason.TIMEOUT))
