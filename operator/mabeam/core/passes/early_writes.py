"""Writes that may precede the status that records them: a new agent's first pods, and a new generation of directives.

First pods: an agent without a stored status has incarnation 1 at every ordinal. So the intent follows from there being no
status; every pass comes to it again, however often the operator ends, and the pods' names hold it. The pods can be created at
once, and recorded together with how they started: that saves one status write for each agent, and its pods are created one
write earlier. Every other restart is a number in the status before it is a pod.

Directives: the new generation is a number in the agent's ConfigMap, beside its content, and the write is guarded by the version
of the ConfigMap that was read. So it can be delivered first and recorded as Delivered, in one status write.

docs/design/0009-performance.md, "Choices".
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Final

from mabeam.api.agent import Agent
from mabeam.api.agent_status import AgentState, AgentStatus, PodRecord
from mabeam.api.names import ConditionType, Reason
from mabeam.core.conventions.conditions import find_condition
from mabeam.core.decision import Decision, Effect
from mabeam.core.directives.delivery import writes_only_directives
from mabeam.core.snapshot import AgentSnapshot

Decide = Callable[[AgentSnapshot, datetime], Decision[AgentStatus]]

# A new agent's first status may wait this long for its pods to run, so that one status write records all of it.
FIRST_STATUS_SECONDS: Final = 2.0
# When very many agents start at once, the apiserver's time belongs to their pods: the first statuses of agents whose pods do not
# run yet are spread over time at this rate.
FIRST_STATUSES_PER_SECOND: Final = 100
MAX_FIRST_STATUS_SECONDS: Final = 30.0


def defer_first_status(
    snapshot: AgentSnapshot, decision: Decision[AgentStatus], now: datetime, *, decide: Decide, left: float
) -> Decision[AgentStatus]:
    """The decision; for a new agent only its first pods, and then nothing while they start, as long as the status can wait.

    `left`: for how many seconds more. After that the caller decides anew, and nothing is deferred.
    """
    creates = _first_creates(snapshot, decision, now, decide)
    if creates:
        return Decision(snapshot.agent.status, "implied", creates)
    if left > 0 and _only_starts(snapshot, decision.status):
        return Decision(snapshot.agent.status, "on their way")
    return decision


def deliver_before_status(snapshot: AgentSnapshot, decision: Decision[AgentStatus]) -> Decision[AgentStatus]:
    """The decision; when it only delivers a new generation of directives, its writes alone, recorded by the pass after it.

    The status comes first when the pass changes or does anything else, and while ConfigMap, pods and status do not agree on
    the generation: so the status is never more than one generation behind, however fast variables change. The caller lets the
    status come first in the next pass, whether the writes succeeded or not: directives that cannot be delivered must be
    recorded, and expire.
    """
    before, after = snapshot.agent.status, decision.status
    if decision.events or before.directives == after.directives or not _only_directives_differ(before, after):
        return decision
    if not writes_only_directives(snapshot, decision.effects):
        return decision
    return Decision(before, "delivered first", decision.effects, requeue_after=0.0)


def first_status_delay(others: int) -> float:
    """The seconds for which a new agent's first status may wait; `others`: how many first statuses wait already."""
    return min(FIRST_STATUS_SECONDS + others / FIRST_STATUSES_PER_SECOND, MAX_FIRST_STATUS_SECONDS)


def _only_directives_differ(before: AgentStatus, after: AgentStatus) -> bool:
    return after.model_copy(update={"directives": before.directives}) == before


def _first_creates(
    snapshot: AgentSnapshot, decision: Decision[AgentStatus], now: datetime, decide: Decide
) -> tuple[Effect, ...]:
    """The creates of a new agent's first pods; empty when the status has to come first.

    It has to when it holds more than the numbers: pods that exist already, a name that is taken, a refusal by the apiserver,
    directives.
    """
    agent, status = snapshot.agent, decision.status
    if not _has_no_status(agent) or snapshot.pods or snapshot.refused or snapshot.name_taken or snapshot.invalid:
        return ()
    if decision.effects or status.directives is not None or any(record.incarnation != 1 for record in status.pods):
        return ()
    as_if_stored = replace(snapshot, agent=agent.model_copy(update={"status": status}))
    effects = decide(as_if_stored, now).effects
    return effects if all((effect.verb, effect.kind) == ("create", "Pod") for effect in effects) else ()


def _only_starts(snapshot: AgentSnapshot, status: AgentStatus) -> bool:
    """Whether every first pod exists and nothing else happened yet: none runs, none failed, none cannot start."""
    ready = find_condition(status.conditions, ConditionType.READY)
    if not _has_no_status(snapshot.agent) or ready is None or ready.reason != Reason.STARTING:
        return False
    return (
        status.directives is None
        and not status.failures
        and {pod.name for pod in snapshot.pods} == {record.name for record in status.pods}
        and all(_is_first_start(record) for record in status.pods)
    )


def _is_first_start(record: PodRecord) -> bool:
    return (
        record.incarnation == 1
        and record.state is AgentState.STARTING
        and record.start_time is None
        and not record.created
    )


def _has_no_status(agent: Agent) -> bool:
    status = agent.status
    return status.observed_generation < 0 and not status.pods and not status.failures
