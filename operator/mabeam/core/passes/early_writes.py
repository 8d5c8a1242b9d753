"""What may be done before the status tells of it, because the number is kept elsewhere: first pods, and new directives.

The first intent of an agent goes without saying: of one that nothing is stored of, each ordinal's incarnation is 1. Every
other restart is a number in the status before it is a pod. Here the number follows from there being no status: whoever looks,
however often the operator dies, comes to it again, and the pod's name holds it. So the first pods may be made at once and told
of together with how they started: one status write less for each agent, and its pods a write earlier.

A new generation of directives is a number in the agent's ConfigMap, beside the content that it stands for, and the write is
guarded by the version of the ConfigMap that was read. So it may be delivered first and told of as Delivered, in one status write.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Final

from mabeam.api.agent import Agent
from mabeam.api.agent_status import AgentState, AgentStatus, PodRecord
from mabeam.api.names import ConditionType, Reason
from mabeam.core.decision import Decision, Effect
from mabeam.core.directives.delivery import writes_only_directives
from mabeam.core.snapshot import AgentSnapshot

Decide = Callable[[AgentSnapshot, datetime], Decision[AgentStatus]]

# What is told of a new agent may wait this long for its pods to run, so that one status write tells all of it.
FIRST_STATUS_SECONDS: Final = 2.0
# When very many start at once, the apiserver's time belongs to their pods: words on those that do not run yet are paced.
FIRST_STATUSES_PER_SECOND: Final = 100
MOST_SECONDS: Final = 30.0


def defer_first_status(
    snapshot: AgentSnapshot, decision: Decision[AgentStatus], now: datetime, decide: Decide, left: float
) -> Decision[AgentStatus]:
    """The decision; on a new agent its first pods without a status yet, or nothing while they are on their way.

    `left` is for how many seconds more the first status may wait. What is held back is to be decided anew when they are over.
    """
    starts = _starts(snapshot, decision, now, decide)
    if starts:
        return Decision(snapshot.agent.status, "implied", starts)
    if left > 0 and _are_on_their_way(snapshot, decision.status):
        return Decision(snapshot.agent.status, "on their way")
    return decision


def deliver_before_status(snapshot: AgentSnapshot, decision: Decision[AgentStatus]) -> Decision[AgentStatus]:
    """The decision; of a new generation of directives only the writes that deliver it, to be told of by the pass after.

    The status comes first when the pass has anything else to tell or to do, and when ConfigMap, pods and status do not agree on
    the generation so far: the status is never more than one behind, however fast variables change. It should also come first
    in the pass after this one, whatever became of the writes: what cannot be delivered is to be seen, and to expire.
    """
    before, after = snapshot.agent.status, decision.status
    if decision.events or before.directives == after.directives or not _differ_in_directives_only(before, after):
        return decision
    if not writes_only_directives(snapshot, decision.effects):
        return decision
    return Decision(before, "delivered first", decision.effects, requeue_after=0.0)


def _differ_in_directives_only(before: AgentStatus, after: AgentStatus) -> bool:
    return after.model_copy(update={"directives": before.directives}) == before


def first_status_delay(others: int) -> float:
    """For how many seconds the first status of one more new agent may wait, when so many others were not told of yet."""
    return min(FIRST_STATUS_SECONDS + others / FIRST_STATUSES_PER_SECOND, MOST_SECONDS)


def _starts(
    snapshot: AgentSnapshot, decision: Decision[AgentStatus], now: datetime, decide: Decide
) -> tuple[Effect, ...]:
    """The pods that may be created before anything is stored; empty when the status has to come first.

    It has to when there is more to it than the numbers: pods that are there already, a name that is taken, a refusal of the
    apiserver, directives.
    """
    agent, status = snapshot.agent, decision.status
    if not _is_untold(agent) or snapshot.pods or snapshot.refused or snapshot.name_taken or snapshot.invalid:
        return ()
    if decision.effects or status.directives is not None or any(record.incarnation != 1 for record in status.pods):
        return ()
    foreseen = replace(snapshot, agent=agent.model_copy(update={"status": status}))
    effects = decide(foreseen, now).effects
    return effects if all((effect.verb, effect.kind) == ("create", "Pod") for effect in effects) else ()


def _are_on_their_way(snapshot: AgentSnapshot, status: AgentStatus) -> bool:
    """Whether there is nothing to tell yet but that every first pod was made: no trouble, no end, none that runs."""
    ready = next((c for c in status.conditions if c.type == ConditionType.READY), None)
    if not _is_untold(snapshot.agent) or ready is None or ready.reason != Reason.STARTING:
        return False
    made = {pod.name for pod in snapshot.pods}
    return (
        status.directives is None
        and not status.failures
        and made == {record.name for record in status.pods}
        and all(_only_asked_for(record) for record in status.pods)
    )


def _only_asked_for(record: PodRecord) -> bool:
    return record.incarnation == 1 and record.state is AgentState.STARTING and record.start_time is None


def _is_untold(agent: Agent) -> bool:
    status = agent.status
    return status.observed_generation < 0 and not status.pods and not status.failures
