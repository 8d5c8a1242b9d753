"""A variable's directives: one per agent, how far each came, and what all of them together come to.

The agents' own passes deliver and judge (`core/delivery.py`); here their word is only read. Nothing is remembered twice.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mabeam.api.agent import Agent
from mabeam.api.agent_status import AgentState
from mabeam.api.base import JsonDict
from mabeam.api.directive import AgentDirective, DirectiveState, VariableDirective, VariableDirectives
from mabeam.api.names import DIRECTIVES_KEY, Reason, variable_config_map
from mabeam.api.variable import OrchestrationVariable
from mabeam.core.confirmation import CONFIRMED
from mabeam.core.decision import Effect
from mabeam.core.delivery import NOT_ACKNOWLEDGED, expects_reports
from mabeam.core.effective import MAX_ITEMS, holds, lost_in, priority_of, timeout_seconds
from mabeam.core.instructions import Instruction, instructions
from mabeam.core.snapshot import ConfigMapFacts, VariableSnapshot
from mabeam.core.variable_config_maps import written

# As many directives as a status carries; a variable with more keeps all of them in ConfigMaps.
STATUS_ITEMS: Final = 100
# Half of what the apiserver takes, so that metadata and managed fields never tip it over.
SHARD_BYTES: Final = 512 * 1024
SHOWN_AGENTS: Final = 3
FULL: Final = f"the agent obeys {MAX_ITEMS} variables already, all of higher precedence"


@dataclass(frozen=True, slots=True)
class Told:
    """One agent and what it is told. `settled` says that nothing more is waited for; `reached`, that it was delivered."""

    agent: Agent
    directive: VariableDirective
    settled: bool
    reached: bool


def directives_of(variable: OrchestrationVariable, agents: Sequence[Agent], value: Any) -> tuple[Told, ...]:
    """What each agent is told while `value` is in force, in order of name, with the state its own status gives it.

    A paused variable tells nobody anything new: only the directives that its agents hold already are left.
    """
    tell, told = instructions(variable, value), []
    for agent in agents:
        items = _items_of(agent, variable.metadata.name)
        wanted = (
            tuple(Instruction(item.action, item.parameters) for item in items)
            if holds(variable)
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
            told.append(Told(agent, directive, _settled(agent, directive), _reached(agent, item, directive)))
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
    if directive.action in CONFIRMED:
        return False
    return directive.state is DirectiveState.DELIVERED and silent


def _reached(agent: Agent, item: AgentDirective | None, directive: VariableDirective) -> bool:
    """Whether the directive got as far as the agent's ConfigMap; what lost a conflict or expired before it did not."""
    held = agent.status.directives
    if directive.state is DirectiveState.REFUSED:
        lost = held is not None and item is not None and lost_in(held.conflicts, item) is not None
        return not lost and directive.reason != FULL
    if directive.state is DirectiveState.EXPIRED:
        return directive.reason == NOT_ACKNOWLEDGED
    return directive.state is not DirectiveState.ISSUED


def summarize(told: Sequence[Told]) -> VariableDirectives:
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


def judge(told: Sequence[Told]) -> tuple[Reason, str]:
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


# --- the ConfigMaps of a variable with more directives than its status carries ----------------------------------------


def config_map_effects(snapshot: VariableSnapshot, told: Sequence[Told]) -> tuple[Effect, ...]:
    """The writes that make the variable's ConfigMaps hold all of its directives; those it needs no more are deleted.

    They hold what was told, not how far it came: that changes with every answer, and is counted in the status.
    """
    variable = snapshot.variable
    wanted = dict(_shards(variable, told)) if len(told) > STATUS_ITEMS else {}
    prefix = variable_config_map(variable.metadata.name)
    found = {facts.name: facts for facts in snapshot.config_maps if facts.name.startswith(prefix)}
    writes = [_write(variable, name, document, found.get(name)) for name, document in wanted.items()]
    space = variable.metadata.namespace
    spent = (facts for name, facts in sorted(found.items()) if name not in wanted and facts.ours)
    deletes = (Effect("delete", "ConfigMap", space, facts.name, "spent", uid=facts.uid) for facts in spent)
    return (*(write for write in writes if write is not None), *deletes)


def _shards(variable: OrchestrationVariable, told: Sequence[Told]) -> Iterator[tuple[str, JsonDict]]:
    name = variable_config_map(variable.metadata.name)
    chunks = list(_chunks([_entry(one.directive) for one in told]))
    for number, chunk in enumerate(chunks):
        yield (
            name if len(chunks) == 1 else f"{name}-{number}",
            {"variable": variable.metadata.name, "directives": chunk},
        )


def _entry(directive: VariableDirective) -> JsonDict:
    return directive.model_dump(mode="json", by_alias=True, exclude={"state", "reason"})


def _chunks(entries: list[JsonDict]) -> Iterator[list[JsonDict]]:
    chunk: list[JsonDict] = []
    size = 0
    for entry in entries:
        # 512 for the document around the entries; 2 for the separator after each.
        length = len(json.dumps(entry, sort_keys=True).encode()) + 2
        if chunk and size + length > SHARD_BYTES - 512:
            yield chunk
            chunk, size = [], 0
        chunk.append(entry)
        size += length
    yield chunk


def _write(
    variable: OrchestrationVariable, name: str, document: JsonDict, found: ConfigMapFacts | None
) -> Effect | None:
    if found is not None and (not found.ours or found.document == document):
        return None
    data = {DIRECTIVES_KEY: json.dumps(document, sort_keys=True)}
    return written(variable, name, "directives", "directives", data, found)
