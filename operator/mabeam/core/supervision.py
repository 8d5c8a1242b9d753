"""One pass over an Agent: restart strategies × exits, the failure budget, and one incarnation number per ordinal.

`decide(snapshot, now)` returns the whole status, then what to do about it. A restart is first a number
(`status.pods[].incarnation += 1`): an ordinal whose record changes in this pass causes no write to its pods in it; the next
pass reads the number back from the cluster and acts. So a crash between any two writes converges to the same end.
"""

import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import Enum
from typing import Final

from mabeam.api.agent import ExitCodeAction, RestartStrategy
from mabeam.api.agent_status import (
    AgentState,
    AgentStatus,
    EffectiveAgent,
    Failure,
    FailureCause,
    PodRecord,
)
from mabeam.api.names import ANNOTATION_MIGRATE, ANNOTATION_RELEASE, LABEL_AGENT, Reason
from mabeam.core import budget, family, groups, lifecycle, objects, summary
from mabeam.core.acts import act, same_intent, turns
from mabeam.core.confirmation import Seen
from mabeam.core.decision import Decision, Event, soonest
from mabeam.core.delivery import deliver
from mabeam.core.enforcement import enforce
from mabeam.core.lifecycle import Ending, ExitKind
from mabeam.core.obedience import Orders, obey, orders_of
from mabeam.core.ordinals import Pass, by_ordinal, current_pod, incarnate, next_record, roll, stored_records
from mabeam.core.release import asked_for, probe, release
from mabeam.core.restore import Lapse
from mabeam.core.snapshot import AgentSnapshot, PodFacts


class Verdict(Enum):
    """What an exit leads to."""

    RESTART = "restart, counted"
    REPLACE = "replace, not counted"
    DONE = "done"
    END = "ended by a disruption"
    FAIL = "failed, never restarted"


# The table is the policy. supervisor.erl do_restart/3 for the first two rows; the third is the cluster's own doing.
POLICY: Final[Mapping[tuple[ExitKind, RestartStrategy], Verdict]] = {
    (ExitKind.NORMAL, RestartStrategy.PERMANENT): Verdict.RESTART,
    (ExitKind.NORMAL, RestartStrategy.TRANSIENT): Verdict.DONE,
    (ExitKind.NORMAL, RestartStrategy.TEMPORARY): Verdict.DONE,
    (ExitKind.ABNORMAL, RestartStrategy.PERMANENT): Verdict.RESTART,
    (ExitKind.ABNORMAL, RestartStrategy.TRANSIENT): Verdict.RESTART,
    (ExitKind.ABNORMAL, RestartStrategy.TEMPORARY): Verdict.FAIL,
    (ExitKind.DISRUPTION, RestartStrategy.PERMANENT): Verdict.REPLACE,
    (ExitKind.DISRUPTION, RestartStrategy.TRANSIENT): Verdict.REPLACE,
    (ExitKind.DISRUPTION, RestartStrategy.TEMPORARY): Verdict.END,
}

# The largest number a status can hold (api/base.py Count).
MOST_COUNTED: Final = 2**31 - 1

# How a record rests once its exit leads to no restart.
RESTING: Final[Mapping[Verdict, tuple[AgentState, Reason]]] = {
    Verdict.DONE: (AgentState.STOPPED, Reason.COMPLETED),
    Verdict.END: (AgentState.STOPPED, Reason.DISRUPTED),
    Verdict.FAIL: (AgentState.FAILED, Reason.FAILED),
}


def decide(snapshot: AgentSnapshot, now: datetime) -> Decision[AgentStatus]:
    """The agent's next status, then its pods' and directives' writes in order, then the Events.

    Rules: design section 5; supervisor.erl do_restart/3 and add_restart/3.
    """
    agent, before = snapshot.agent, snapshot.agent.status
    if agent.metadata.deletion_timestamp is not None:
        return Decision(before, "unchanged")  # the garbage collector has the rest; a new pod would only be in its way
    if snapshot.invalid is not None:
        return summary.invalid(snapshot, now)
    orders = orders_of(snapshot)
    snapshot = obey(snapshot, orders)
    agent = snapshot.agent
    supervision, reborn = family.obeyed(before.supervision, snapshot.word)
    wanted_down = summary.is_wanted_down(snapshot)
    run = Pass(
        snapshot,
        now,
        list(before.failures),
        {},
        before.restarts,
        before.disruptions,
        before.parked_at,
        before.probed_at,
        orders.migrations,
        shape=orders.shape,
        resources=orders.resources,
    )
    migrated_by = _told_to_move(run)
    released = release(run, reborn)
    fresh = released or probe(run)
    stored = stored_records(snapshot)
    pods = by_ordinal(snapshot.pods)
    for ordinal in sorted({*stored, *pods, *range(agent.spec.replicas)}):
        own = pods.get(ordinal, ())
        wanted = ordinal < agent.spec.replicas and not wanted_down and run.parked_at is None
        record = next_record(run, ordinal, stored.get(ordinal), own, wanted, fresh)
        if (
            reborn
            and wanted
            and record is not None
            and record.incarnation == getattr(stored.get(ordinal), "incarnation", 0)
        ):
            record = incarnate(run, record, None)
        if record is not None:
            run.records[ordinal] = record
    _judge_endings(run, stored, pods)
    roll(run, pods)
    turn = turns(run, pods)
    for ordinal, record in run.records.items():
        if same_intent(record, stored.get(ordinal)):
            act(run, record, pods.get(ordinal, ()), turn)
        run.records[ordinal] = _terminating(record, pods.get(ordinal, ()))
    ready = tuple(pod for pod in snapshot.pods if run.is_current(pod) and lifecycle.is_ready(pod))
    rests = wanted_down or summary.at_rest(run.records.values())
    seen = _seen_of(run, orders, agent.spec.replicas)
    delivery = deliver(snapshot, ready, rests, now, _lapse(run, released), orders, seen)
    policy = enforce(snapshot, orders.told)
    status = before.model_copy(
        update={
            "observed_generation": agent.metadata.generation,
            "role": orders.told.role or agent.spec.role_name,
            "active": not wanted_down and run.parked_at is None and orders.told.active,
            "pods": tuple(run.records[ordinal] for ordinal in sorted(run.records)),
            "restarts": min(run.restarts, MOST_COUNTED),
            "disruptions": min(run.disruptions, MOST_COUNTED),
            "replicas": sum(1 for record in run.records.values() if record.state in summary.ALIVE),
            "ready_replicas": len(ready),
            "selector": f"{LABEL_AGENT}={agent.metadata.name}",
            "spec_hash": objects.spec_hash(snapshot.user_spec),
            "failures": budget.trim(run.ledger, agent.spec.fault_tolerance),
            "parked_at": run.parked_at,
            "probed_at": run.probed_at,
            "released_by": asked_for(agent.metadata, ANNOTATION_RELEASE) or before.released_by,
            "migrations": run.migrations or None,
            "migrated_by": migrated_by,
            "reconfigurations": orders.reconfigurations or None,
            "effective": EffectiveAgent(
                replicas=agent.spec.replicas,
                desired_state=agent.spec.desired_state,
                resources=orders.resources.to_wire() if orders.resources is not None else {},
            ),
            "directives": delivery.directives,
            "supervision": supervision,
        }
    )
    status = summary.conclude(snapshot, status, delivery.problems, now)
    return Decision(
        status=status,
        status_reason=summary.status_reason(before, status),
        effects=(*run.effects, *delivery.effects, *policy),
        events=summary.told(agent, run.events),
        requeue_after=soonest(run.requeue, delivery.requeue_after),
        asks=orders.told.asks,
    )


def _seen_of(run: Pass, orders: Orders, replicas: int) -> Seen:
    """How far the agent's pods are with what it is told about them."""
    live = sum(1 for pod in run.snapshot.pods if lifecycle.is_live(pod))
    records = tuple(run.records[ordinal] for ordinal in sorted(run.records))
    return Seen(records, live, replicas, orders.shape, orders.migrations, orders.resources)


def _terminating(record: PodRecord, pods: tuple[PodFacts, ...]) -> PodRecord:
    """The record, saying whether its end is known before its process is gone: then those before it in a tree wait on."""
    lingers = True if record.state in family.AT_REST and any(map(lifecycle.is_live, pods)) else None
    return record if record.terminating == lingers else record.model_copy(update={"terminating": lingers})


def _lapse(run: Pass, released: bool) -> Lapse:
    """Whether this pass found an abnormal end that its directives may be to blame for, or the agent begins anew."""
    found = run.ledger[len(run.snapshot.agent.status.failures) :]
    if any(failure.counted and failure.cause is not FailureCause.NORMAL_EXIT for failure in found):
        return Lapse.FAILED
    return Lapse.RELEASED if released else Lapse.NONE


def _told_to_move(run: Pass) -> str | None:
    """The value of the annotation that was used; a new one is one more migration, in which every replica takes part."""
    before = run.snapshot.agent.status
    asked = asked_for(run.snapshot.agent.metadata, ANNOTATION_MIGRATE)
    if not asked or asked == before.migrated_by:
        return before.migrated_by
    run.migrations = min(run.migrations + 1, MOST_COUNTED)
    return asked


# --- endings: the table, then the budget ----------------------------------------------------------------------------------


def _judge_endings(run: Pass, stored: Mapping[int, PodRecord], pods: Mapping[int, tuple[PodFacts, ...]]) -> None:
    """Find the incarnations that ended, in the order they did, and let the table and the budget decide on each."""
    found: list[tuple[datetime, int, Ending, PodFacts | None]] = []
    lives = {ordinal: record.incarnation for ordinal, record in run.records.items()}
    for ordinal, record in run.records.items():
        if record.state not in summary.ALIVE:
            continue
        current = current_pod(record, pods.get(ordinal, ()))
        ended = _ending_of(run, record, stored.get(ordinal), current)
        if ended is not None:
            found.append((ended.time, ordinal, ended, current))
        elif current is not None:
            run.records[ordinal] = _seen(run, record, current)
    for _, ordinal, ended, current in sorted(found, key=lambda item: item[:2]):
        if run.parked_at is not None:
            break  # whatever ended after the budget did is stopped with the rest
        if run.records[ordinal].incarnation != lives[ordinal]:
            continue  # it ended while another took it along: supervisor.erl terminate_children/2 counts none of those
        _judge(run, run.records[ordinal], ended, current)
    if run.parked_at is not None:
        for ordinal, record in run.records.items():
            if record.state in summary.ALIVE:
                run.records[ordinal] = record.model_copy(
                    update={"state": AgentState.STOPPING, "next_restart_time": None}
                )


def _ending_of(run: Pass, record: PodRecord, stored: PodRecord | None, current: PodFacts | None) -> Ending | None:
    if current is not None:
        return lifecycle.ending(current, run.snapshot.agent.spec, run.now) or _hang(run, current)
    if stored is None or stored.incarnation != record.incarnation:
        return None
    if stored.state is not AgentState.RUNNING and stored.start_time is None:
        return None  # not created yet
    # It was seen running and is no more: whoever did that was not the operator, whose intents are in the status.
    nodes = run.snapshot.nodes
    if nodes is not None and record.node is not None and record.node not in nodes:
        return Ending(ExitKind.DISRUPTION, FailureCause.NODE_LOST, run.now, reason=record.node)
    if record.node in run.snapshot.cordoned:
        # Drained while nobody looked, perhaps along with the operator itself: the eviction left no other trace.
        return Ending(ExitKind.DISRUPTION, FailureCause.EVICTED, run.now, reason=f"{record.node} is cordoned")
    return Ending(ExitKind.ABNORMAL, FailureCause.DELETED_BY_OTHER, run.now)


def _hang(run: Pass, pod: PodFacts) -> Ending | None:
    """The end of a process that counts its progress and makes none, though it does not say that it waits."""
    timeout = run.snapshot.agent.spec.fault_tolerance.progress_timeout_seconds
    progress = run.snapshot.progress.get(pod.name)
    if timeout is None or progress is None or not lifecycle.is_running(pod):
        return None
    deadline = lifecycle.hang_deadline(progress, timeout)
    if run.now < deadline:
        run.wake(deadline)
        return None
    return Ending(ExitKind.ABNORMAL, FailureCause.HANG, run.now, reason=f"for {timeout} s")


def _judge(run: Pass, record: PodRecord, ended: Ending, pod: PodFacts | None) -> None:
    spec = run.snapshot.agent.spec
    tolerance = spec.fault_tolerance
    verdict = POLICY[ended.kind, spec.restart_strategy]
    if verdict is Verdict.DONE:
        _rest(run, record, verdict)
        run.events.append(Event(Reason.AGENT_STOPPED, f"{record.name} completed with {ended}"))
        return
    by_code = lifecycle.exit_code_action(spec, ended.cause, ended.exit_code)
    counted = verdict is Verdict.RESTART and by_code is not ExitCodeAction.IGNORE
    failure = Failure(
        time=ended.time,
        ordinal=record.ordinal,
        cause=ended.cause,
        exit_code=ended.exit_code,
        reason=ended.reason[:256] if ended.reason else None,
        message=ended.message[:1024] if ended.message else None,
        pod=record.name,
        node=record.node or (pod.node if pod else None),
        counted=counted,
        start_time=record.start_time or (pod.main.started_at if pod else None),
    )
    on_trial = run.probed_at is not None
    within = not counted or (
        not on_trial
        and by_code is not ExitCodeAction.PARK
        and budget.within_budget(
            budget.counted_times(run.ledger), failure.time, tolerance.max_failures, tolerance.failure_window_seconds
        )
    )
    run.ledger.append(failure)
    run.disruptions += ended.kind is ExitKind.DISRUPTION
    if verdict in RESTING:
        _rest(run, record, verdict)
        note = f"{record.name}: {ended}; {spec.restart_strategy} is not restarted"
        failed = verdict is Verdict.FAIL
        run.events.append(
            Event(Reason.AGENT_FAILED if failed else Reason.AGENT_DISRUPTED, note, "Warning" if failed else "Normal")
        )
    elif within:
        run.restarts += counted
        _restart(run, record, failure, ended)
    else:
        run.parked_at, run.probed_at = run.now, None
        run.records[record.ordinal] = record.model_copy(update={"state": AgentState.FAILED, "reason": Reason.FAILED})
        reason = summary.parked_reason(run.snapshot, run.ledger)
        run.events.append(Event(reason, summary.parked_message(run.snapshot, run.ledger), "Warning"))


def _rest(run: Pass, record: PodRecord, verdict: Verdict) -> None:
    state, reason = RESTING[verdict]
    run.records[record.ordinal] = record.model_copy(
        update={"state": state, "reason": reason, "next_restart_time": None}
    )


def _restart(run: Pass, record: PodRecord, failure: Failure, ended: Ending) -> None:
    agent = run.snapshot.agent
    tolerance = agent.spec.fault_tolerance
    run_of_failures = budget.streak(run.ledger, record.ordinal, tolerance.backoff.reset_after_seconds)
    seed = f"{agent.metadata.uid}:{record.ordinal}:{record.incarnation + 1}"
    delay = budget.delay_seconds(tolerance.backoff, run_of_failures, seed)
    # Rounded up to metav1.Time's whole seconds: a delay may come out longer than asked for, never shorter.
    ceiled = (run.now + timedelta(seconds=delay + 0.999999)).replace(microsecond=0) if delay else None
    if failure.cause is FailureCause.EVICTED and failure.node in run.snapshot.cordoned:
        record = record.model_copy(update={"migrating_from": failure.node})  # a drain moves it
    run.records[record.ordinal] = incarnate(run, record, ceiled)
    taken = _take_along(run, record.ordinal, ceiled)
    when = f"in {math.ceil(delay)} s" if ceiled else "now"
    when += f", and {taken} with it" if taken else ""
    if failure.counted:
        used = budget.failures_in_window(run.ledger, failure.time, tolerance.failure_window_seconds)
        window = tolerance.failure_window_seconds
        note = f"{record.name}: {ended}; restart {used} of {tolerance.max_failures} in {window} s, {when}"
        kind = "Normal" if failure.cause is FailureCause.NORMAL_EXIT else "Warning"
        run.events.append(Event(Reason.AGENT_FAILED, note, kind))  # type: ignore[arg-type]
    else:
        own = ended.kind is ExitKind.ABNORMAL
        what = "restarted" if own else "replaced"
        reason = Reason.AGENT_FAILED if own else Reason.AGENT_DISRUPTED
        run.events.append(Event(reason, f"{record.name}: {ended}; {what} {when}, not counted"))


def _take_along(run: Pass, failed: int, next_restart_time: datetime | None) -> str:
    """Restart the others of the failed ordinal's group, a finished Transient too, as supervisor.erl does; their names.

    They come back with it, so they wait as long as it does.
    """
    spec = run.snapshot.agent.spec
    stored = stored_records(run.snapshot)
    taken = []
    for ordinal in groups.group(spec.supervision_strategy, failed, run.records):
        record = run.records[ordinal]
        restartable = record.state in summary.ALIVE or record.reason == Reason.COMPLETED
        if ordinal == failed or ordinal >= spec.replicas or not restartable:
            continue
        if ordinal in stored and record.incarnation == stored[ordinal].incarnation:
            taken.append(record.name)
            run.records[ordinal] = incarnate(run, record, next_restart_time)
        else:  # it has no pod yet, or fell in this very pass
            run.records[ordinal] = record.model_copy(update={"next_restart_time": next_restart_time})
    return summary.names_of(taken)


def _seen(run: Pass, record: PodRecord, pod: PodFacts) -> PodRecord:
    """The record with what its pod shows; Running once it was ready, and from then on as long as it runs."""
    node = pod.node or record.node
    started = pod.main.started_at or run.now
    if record.state is AgentState.RUNNING or not lifecycle.is_ready(pod):
        trouble = lifecycle.start_trouble(pod)
        deadline = lifecycle.start_deadline(pod, run.snapshot.agent.spec)
        if deadline is not None:
            run.wake(deadline)
        if lifecycle.is_running(pod) and record.start_time is None:
            # It runs and is not Ready yet: told, so that its loss is not taken for "not created yet".
            return record.model_copy(update={"start_time": started, "node": node, "reason": None})
        # The node is told with the trouble or with the start: a write for it alone would be a write too many.
        if trouble is None or lifecycle.same_trouble(trouble, record.reason):
            return record
        return record.model_copy(update={"reason": trouble, "node": node})
    run.events.append(_arrived(record, node) if record.migrating_from else _started(record, node))
    return record.model_copy(
        update={
            "state": AgentState.RUNNING,
            "node": node,
            "start_time": started,
            "next_restart_time": None,
            "migrating_from": None,
            "reason": None,
        }
    )


def _started(record: PodRecord, node: str | None) -> Event:
    return Event(Reason.AGENT_STARTED, f"{record.name} runs on {node}")


def _arrived(record: PodRecord, node: str | None) -> Event:
    if node == record.migrating_from:
        return Event(Reason.AGENT_MIGRATED, f"{record.name} runs on {node} again: no other node took it", "Warning")
    return Event(Reason.AGENT_MIGRATED, f"{record.name} moved from {record.migrating_from} to {node}", action="Migrate")
