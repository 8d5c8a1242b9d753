"""How ended pods are judged: restart, replace, rest or park, and which other ordinals restart with them."""

import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from mabeam.api.agent import ExitCodeAction
from mabeam.api.agent_status import AgentState, Failure, FailureCause, PodRecord
from mabeam.api.names import Reason
from mabeam.core.algorithms import backoff, otp
from mabeam.core.algorithms import otp as groups
from mabeam.core.algorithms.otp import POLICY, ExitAction, ExitKind
from mabeam.core.decision import Event
from mabeam.core.pods import lifecycle
from mabeam.core.pods.lifecycle import PodExit
from mabeam.core.snapshot import PodFacts
from mabeam.core.supervision import ledger as budget
from mabeam.core.supervision import status as summary
from mabeam.core.supervision.records import incarnate
from mabeam.core.supervision.working_set import AgentPass, current_pod, stored_records

# How a record rests once its exit leads to no restart.
RESTING: Final[Mapping[ExitAction, tuple[AgentState, Reason]]] = {
    ExitAction.DONE: (AgentState.STOPPED, Reason.COMPLETED),
    ExitAction.END: (AgentState.STOPPED, Reason.DISRUPTED),
    ExitAction.FAIL: (AgentState.FAILED, Reason.FAILED),
}


# --- endings: the table, then the budget ----------------------------------------------------------------------------------


def _judge_endings(pass_: AgentPass, stored: Mapping[int, PodRecord], pods: Mapping[int, tuple[PodFacts, ...]]) -> None:
    """Find the incarnations that ended, in the order they did, and let the table and the budget decide on each."""
    found: list[tuple[datetime, int, PodExit, PodFacts | None]] = []
    lives = {ordinal: record.incarnation for ordinal, record in pass_.records.items()}
    for ordinal, record in pass_.records.items():
        if not record.is_alive:
            continue
        current = current_pod(record, pods.get(ordinal, ()))
        ended = _ending_of(pass_, record, stored.get(ordinal), current)
        if ended is not None:
            found.append((ended.time, ordinal, ended, current))
        elif current is not None:
            pass_.records[ordinal] = _seen(pass_, record, current)
    for _, ordinal, ended, current in sorted(found, key=lambda item: item[:2]):
        if pass_.parked_at is not None:
            break  # whatever ended after the budget did is stopped with the rest
        if pass_.records[ordinal].incarnation != lives[ordinal]:
            continue  # it ended while another took it along: supervisor.erl terminate_children/2 counts none of those
        _judge(pass_, pass_.records[ordinal], ended, current)
    if pass_.parked_at is not None:
        for ordinal, record in pass_.records.items():
            if record.is_alive:
                pass_.records[ordinal] = record.model_copy(
                    update={"state": AgentState.STOPPING, "next_restart_time": None}
                )


def _ending_of(
    pass_: AgentPass, record: PodRecord, stored: PodRecord | None, current: PodFacts | None
) -> PodExit | None:
    if current is not None:
        return lifecycle.find_exit(current, pass_.snapshot.agent.spec, pass_.now) or _hang(pass_, current)
    if stored is None or stored.incarnation != record.incarnation:
        return None
    if stored.state is not AgentState.RUNNING and stored.start_time is None:
        return None  # not created yet
    # It was seen running and is no more: whoever did that was not the operator, whose intents are in the status.
    nodes = pass_.snapshot.nodes
    if nodes is not None and record.node is not None and record.node not in nodes:
        return PodExit(ExitKind.DISRUPTION, FailureCause.NODE_LOST, pass_.now, reason=record.node)
    if record.node in pass_.snapshot.cordoned:
        # Drained while nobody looked, perhaps along with the operator itself: the eviction left no other trace.
        return PodExit(ExitKind.DISRUPTION, FailureCause.EVICTED, pass_.now, reason=f"{record.node} is cordoned")
    return PodExit(ExitKind.ABNORMAL, FailureCause.DELETED_BY_OTHER, pass_.now)


def _hang(pass_: AgentPass, pod: PodFacts) -> PodExit | None:
    """The end of a process that counts its progress and makes none, though it does not say that it waits."""
    timeout = pass_.snapshot.agent.spec.fault_tolerance.progress_timeout_seconds
    progress = pass_.snapshot.progress.get(pod.name)
    if timeout is None or progress is None or not lifecycle.is_running(pod):
        return None
    deadline = lifecycle.hang_deadline(progress, timeout)
    if pass_.now < deadline:
        pass_.wake(deadline)
        return None
    return PodExit(ExitKind.ABNORMAL, FailureCause.HANG, pass_.now, reason=f"for {timeout} s")


def _judge(pass_: AgentPass, record: PodRecord, ended: PodExit, pod: PodFacts | None) -> None:
    spec = pass_.snapshot.agent.spec
    tolerance = spec.fault_tolerance
    verdict = POLICY[ended.kind, spec.restart_strategy]
    if verdict is ExitAction.DONE:
        _rest(pass_, record, verdict)
        pass_.events.append(Event(Reason.AGENT_STOPPED, f"{record.name} completed with {ended}"))
        return
    by_code = lifecycle.exit_code_action(spec, ended.cause, ended.exit_code)
    counted = verdict is ExitAction.RESTART and by_code is not ExitCodeAction.IGNORE
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
    on_trial = pass_.probed_at is not None
    within = not counted or (
        not on_trial
        and by_code is not ExitCodeAction.PARK
        and otp.within_budget(
            budget.counted_times(pass_.ledger), failure.time, tolerance.max_failures, tolerance.failure_window_seconds
        )
    )
    pass_.ledger.append(failure)
    pass_.disruptions += ended.kind is ExitKind.DISRUPTION
    if verdict in RESTING:
        _rest(pass_, record, verdict)
        note = f"{record.name}: {ended}; {spec.restart_strategy} is not restarted"
        failed = verdict is ExitAction.FAIL
        pass_.events.append(
            Event(Reason.AGENT_FAILED if failed else Reason.AGENT_DISRUPTED, note, "Warning" if failed else "Normal")
        )
    elif within:
        pass_.restarts += counted
        _restart(pass_, record, failure, ended)
    else:
        pass_.parked_at, pass_.probed_at = pass_.now, None
        pass_.records[record.ordinal] = record.model_copy(update={"state": AgentState.FAILED, "reason": Reason.FAILED})
        reason = summary.parked_reason(pass_.snapshot, pass_.ledger)
        pass_.events.append(Event(reason, summary.parked_message(pass_.snapshot, pass_.ledger), "Warning"))


def _rest(pass_: AgentPass, record: PodRecord, verdict: ExitAction) -> None:
    state, reason = RESTING[verdict]
    pass_.records[record.ordinal] = record.model_copy(
        update={"state": state, "reason": reason, "next_restart_time": None}
    )


def _restart(pass_: AgentPass, record: PodRecord, failure: Failure, ended: PodExit) -> None:
    agent = pass_.snapshot.agent
    tolerance = agent.spec.fault_tolerance
    run_of_failures = budget.streak(pass_.ledger, record.ordinal, tolerance.backoff.reset_after_seconds)
    seed = f"{agent.metadata.uid}:{record.ordinal}:{record.incarnation + 1}"
    delay = backoff.restart_delay(tolerance.backoff, run_of_failures, seed)
    # Rounded up to metav1.Time's whole seconds: a delay may come out longer than asked for, never shorter.
    ceiled = (pass_.now + timedelta(seconds=delay + 0.999999)).replace(microsecond=0) if delay else None
    if failure.cause is FailureCause.EVICTED and failure.node in pass_.snapshot.cordoned:
        record = record.model_copy(update={"migrating_from": failure.node})  # a drain moves it
    pass_.records[record.ordinal] = incarnate(pass_, record, ceiled)
    taken = _take_along(pass_, record.ordinal, ceiled)
    when = f"in {math.ceil(delay)} s" if ceiled else "now"
    when += f", and {taken} with it" if taken else ""
    if failure.counted:
        used = budget.failures_in_window(pass_.ledger, failure.time, tolerance.failure_window_seconds)
        window = tolerance.failure_window_seconds
        note = f"{record.name}: {ended}; restart {used} of {tolerance.max_failures} in {window} s, {when}"
        kind = "Normal" if failure.cause is FailureCause.NORMAL_EXIT else "Warning"
        pass_.events.append(Event(Reason.AGENT_FAILED, note, kind))  # type: ignore[arg-type]
    else:
        own = ended.kind is ExitKind.ABNORMAL
        what = "restarted" if own else "replaced"
        reason = Reason.AGENT_FAILED if own else Reason.AGENT_DISRUPTED
        pass_.events.append(Event(reason, f"{record.name}: {ended}; {what} {when}, not counted"))


def _take_along(pass_: AgentPass, failed: int, next_restart_time: datetime | None) -> str:
    """Restart the others of the failed ordinal's group, a finished Transient too, as supervisor.erl does; their names.

    They come back with it, so they wait as long as it does.
    """
    spec = pass_.snapshot.agent.spec
    stored = stored_records(pass_.snapshot)
    taken = []
    for ordinal in groups.restart_group(spec.supervision_strategy, failed, pass_.records):
        record = pass_.records[ordinal]
        restartable = record.is_alive or record.reason == Reason.COMPLETED
        if ordinal == failed or ordinal >= spec.replicas or not restartable:
            continue
        if ordinal in stored and record.incarnation == stored[ordinal].incarnation:
            taken.append(record.name)
            pass_.records[ordinal] = incarnate(pass_, record, next_restart_time)
        else:  # it has no pod yet, or fell in this very pass
            pass_.records[ordinal] = record.model_copy(update={"next_restart_time": next_restart_time})
    return summary.names_of(taken)


def _seen(pass_: AgentPass, record: PodRecord, pod: PodFacts) -> PodRecord:
    """The record with what its pod shows; Running once it was ready, and from then on as long as it runs."""
    node = pod.node or record.node
    started = pod.main.started_at or pass_.now
    if record.state is AgentState.RUNNING or not lifecycle.is_ready(pod):
        trouble = lifecycle.start_failure_reason(pod)
        deadline = lifecycle.start_deadline(pod, pass_.snapshot.agent.spec)
        if deadline is not None:
            pass_.wake(deadline)
        if lifecycle.is_running(pod) and record.start_time is None:
            # It runs and is not Ready yet: told, so that its loss is not taken for "not created yet".
            return record.model_copy(update={"start_time": started, "node": node, "reason": None})
        # The node is told with the trouble or with the start: a write for it alone would be a write too many.
        if trouble is None or lifecycle.is_same_start_failure(trouble, record.reason):
            return record
        return record.model_copy(update={"reason": trouble, "node": node})
    pass_.events.append(_arrived(record, node) if record.migrating_from else _started(record, node))
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
