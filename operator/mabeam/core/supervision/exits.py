"""Exits: what the end of a pod leads to (restart, replacement, rest or parking), and which other ordinals restart with it.

docs/design/0007-supervision.md; supervisor.erl do_restart/3, restart/3 and add_restart/3.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from mabeam.api.agent import ExitCodeAction, RestartStrategy, SupervisionStrategy
from mabeam.api.agent_status import AgentState, Failure, FailureCause, PodRecord
from mabeam.api.names import Reason
from mabeam.core.algorithms.backoff import restart_delay
from mabeam.core.algorithms.otp import POLICY, ExitAction, ExitKind, restart_group, within_budget
from mabeam.core.decision import Event
from mabeam.core.pods import lifecycle
from mabeam.core.pods.lifecycle import PodExit
from mabeam.core.pods.sidecars import find_sidecar_exit, sidecar_failure
from mabeam.core.pods.starting import (
    is_same_start_failure,
    start_deadline,
    start_failure,
    wait_description,
    worth_telling_at,
)
from mabeam.core.pods.terminations import UNKNOWN_NODE, PodNode, Termination, announced_cause, deletion_cause
from mabeam.core.snapshot import PodFacts
from mabeam.core.supervision import ledger
from mabeam.core.supervision.records import made_from, new_incarnation, serves_earlier_spec
from mabeam.core.supervision.summary import join_names, parked_message, parked_reason
from mabeam.core.supervision.working_set import AgentPass, escalates

# The state and reason of a record whose exit leads to no restart.
RESTING: Final[Mapping[ExitAction, tuple[AgentState, Reason]]] = {
    ExitAction.DONE: (AgentState.STOPPED, Reason.COMPLETED),
    ExitAction.END: (AgentState.STOPPED, Reason.DISRUPTED),
    ExitAction.FAIL: (AgentState.FAILED, Reason.FAILED),
}

# --- finding exits ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _FoundExit:
    exit: PodExit
    ordinal: int
    incarnation: int
    pod: PodFacts | None  # None: the pod object is gone


def handle_exits(pass_: AgentPass) -> None:
    """Apply POLICY and the failure budget to each incarnation that ended, in the order of their ends.

    The records of the others take over what their pods show.
    """
    found = list(_find_exits(pass_))
    for one in sorted(found, key=lambda one: (one.exit.time, one.ordinal)):
        if pass_.parked_at is not None:
            break  # what ended after the budget was exhausted is stopped with the rest
        record = pass_.records[one.ordinal]
        if record.incarnation != one.incarnation:
            continue  # restarted with another ordinal already: supervisor.erl terminate_children/2 counts no such exit
        _handle_exit(pass_, record, one.exit, one.pod)
    if pass_.parked_at is not None:
        _stop_all(pass_)


def _find_exits(pass_: AgentPass) -> Iterator[_FoundExit]:
    """The ends of the incarnations that are to run; records of incarnations that have not ended are brought up to date."""
    for ordinal, record in pass_.records.items():
        if not record.is_alive:
            continue
        current = pass_.current_pod(record)
        found = _find_exit(pass_, record, current)
        if found is not None:
            yield _FoundExit(found, ordinal, record.incarnation, current)
        elif current is not None:
            pass_.records[ordinal] = _observed(pass_, record, current)


def _find_exit(pass_: AgentPass, record: PodRecord, current: PodFacts | None) -> PodExit | None:
    if current is not None:
        spec = pass_.snapshot.agent.spec
        found = lifecycle.find_exit(current, spec, pass_.now, _node_of(pass_, record, current))
        found = found or find_sidecar_exit(current, spec, pass_.now)
        return found or _find_hang(pass_, current)
    stored = pass_.stored.get(record.ordinal)
    if stored is None or stored.incarnation != record.incarnation:
        return None
    if stored.state is not AgentState.RUNNING and stored.start_time is None and not stored.created:
        return None  # not created yet
    # The pod ran and is gone, and the operator did not delete it: its intents to do so are stored in the status first.
    # Perhaps drained while the operator did not run (or drained itself): the eviction left no other trace than the node's.
    announced = Termination(announced_cause(record.disruption), record.disruption) if record.disruption else None
    return lifecycle.terminated(announced or deletion_cause(_node_of(pass_, record, None)), pass_.now)


def _node_of(pass_: AgentPass, record: PodRecord, pod: PodFacts | None) -> PodNode:
    """The node of the record's pod, as far as it explains the end of the pod."""
    snapshot = pass_.snapshot
    name = (pod.node if pod is not None else None) or record.node
    if name is None:
        return UNKNOWN_NODE
    boot_id = snapshot.boot_ids.get(name)
    return PodNode(
        name,
        is_gone=snapshot.nodes is not None and name not in snapshot.nodes,
        is_cordoned=name in snapshot.cordoned,
        is_unreachable=name in snapshot.unreachable,
        was_rebooted=None not in (boot_id, record.boot_id) and boot_id != record.boot_id,
    )


def _find_hang(pass_: AgentPass, pod: PodFacts) -> PodExit | None:
    """A hang counts as an exit: a process that reports a progress counter, no progress in time, and no reason to wait.

    It is judged on reports that were read: a report that cannot be read is the operator's trouble, and no sign of a hang.
    """
    timeout = pass_.snapshot.agent.spec.fault_tolerance.progress_timeout_seconds
    progress = pass_.snapshot.progress.get(pod.name)
    if timeout is None or progress is None or not lifecycle.is_running(pod):
        return None
    deadline = lifecycle.hang_deadline(progress, timeout)
    if pass_.now < deadline:
        pass_.requeue_at(deadline)
        return None
    if progress.read_at is not None and progress.read_at < deadline:
        return None  # the report that shows the hang wakes the agent (shell/reports/reader.py)
    return PodExit(ExitKind.ABNORMAL, FailureCause.HANG, pass_.now, reason=f"for {timeout} s")


# --- handling one exit ------------------------------------------------------------------------------------------------


def _handle_exit(pass_: AgentPass, record: PodRecord, exit_: PodExit, pod: PodFacts | None) -> None:
    spec = pass_.snapshot.agent.spec
    action = POLICY[exit_.kind, spec.restart_strategy]
    if action is ExitAction.DONE:
        _rest(pass_, record, action)
        pass_.events.append(Event(Reason.AGENT_STOPPED, f"{record.name} completed with {exit_}"))
        return
    rule = lifecycle.exit_code_action(spec, exit_.cause, exit_.exit_code)
    counted = action is ExitAction.RESTART and rule is not ExitCodeAction.IGNORE
    failure = _failure(record, exit_, pod, counted=counted)
    may_restart = not counted or (rule is not ExitCodeAction.PARK and _is_affordable(pass_, failure))
    pass_.ledger.append(failure)
    pass_.disruptions += exit_.kind is ExitKind.DISRUPTION
    if action in RESTING:
        _end(pass_, record, action, exit_)
    elif may_restart:
        pass_.restarts += counted
        _restart(pass_, record, failure, exit_)
    elif rule is not ExitCodeAction.PARK and _halts_roll(pass_, record):
        _halt_roll(pass_, record, exit_)
    else:
        _park(pass_, record)


def _failure(record: PodRecord, exit_: PodExit, pod: PodFacts | None, *, counted: bool) -> Failure:
    """The ledger entry of the exit."""
    return Failure(
        time=exit_.time,
        ordinal=record.ordinal,
        cause=exit_.cause,
        exit_code=exit_.exit_code,
        reason=exit_.reason[:256] if exit_.reason else None,
        message=exit_.message[:1024] if exit_.message else None,
        pod=record.name,
        container=exit_.container[:256] if exit_.container else None,
        node=record.node or (pod.node if pod else None),
        counted=counted,
        start_time=record.start_time or (pod.main.started_at if pod else None),
    )


def _is_affordable(pass_: AgentPass, failure: Failure) -> bool:
    """Whether the budget allows a restart after one more counted failure: none on trial, else add_restart/3."""
    if pass_.probed_at is not None:
        return False
    tolerance = pass_.snapshot.agent.spec.fault_tolerance
    times = ledger.counted_times(pass_.ledger)
    return within_budget(times, failure.time, tolerance.max_failures, tolerance.failure_window_seconds)


def _rest(pass_: AgentPass, record: PodRecord, action: ExitAction) -> None:
    state, reason = RESTING[action]
    update = {"state": state, "reason": reason, "next_restart_time": None}
    pass_.records[record.ordinal] = record.model_copy(update=update)


def _end(pass_: AgentPass, record: PodRecord, action: ExitAction, exit_: PodExit) -> None:
    _rest(pass_, record, action)
    note = f"{record.name}: {exit_}; {pass_.snapshot.agent.spec.restart_strategy} agents are not restarted"
    if action is ExitAction.FAIL:
        pass_.events.append(Event(Reason.AGENT_FAILED, note, "Warning"))
    else:
        pass_.events.append(Event(Reason.AGENT_DISRUPTED, note))


def _halts_roll(pass_: AgentPass, record: PodRecord) -> bool:
    """Whether the budget was spent by a replica of the new spec, while others of the earlier one are ready.

    The new spec is to blame then, and the others have not got it. Where replicas depend on each other, or a Supervisor decides,
    the agent is parked as ever.
    """
    one_for_one = pass_.snapshot.agent.spec.supervision_strategy is SupervisionStrategy.ONE_FOR_ONE
    if not one_for_one or escalates(pass_.snapshot) or made_from(pass_, record) != pass_.pod_hash:
        return False
    return any(serves_earlier_spec(pass_, other) for other in pass_.records.values())


def _halt_roll(pass_: AgentPass, record: PodRecord, exit_: PodExit) -> None:
    update = {"state": AgentState.FAILED, "reason": Reason.FAILED, "next_restart_time": None}
    pass_.records[record.ordinal] = record.model_copy(update=update)
    note = (
        f"{record.name}: {exit_}; not restarted, and no other replica is replaced: the budget is spent by the new spec"
    )
    pass_.events.append(Event(Reason.ROLLOUT_HALTED, note, "Warning"))


def _park(pass_: AgentPass, record: PodRecord) -> None:
    """The budget is exhausted: this ordinal is Failed, and `_stop_all` stops the others."""
    pass_.parked_at, pass_.probed_at = pass_.now, None
    update = {"state": AgentState.FAILED, "reason": Reason.FAILED}
    pass_.records[record.ordinal] = record.model_copy(update=update)
    message = parked_message(pass_.snapshot, pass_.ledger)
    pass_.events.append(Event(parked_reason(pass_.snapshot, pass_.ledger), message, "Warning"))


def _stop_all(pass_: AgentPass) -> None:
    """A supervisor that gives up terminates its children."""
    for ordinal, record in pass_.records.items():
        if record.is_alive:
            update = {"state": AgentState.STOPPING, "next_restart_time": None}
            pass_.records[ordinal] = record.model_copy(update=update)


# --- restarts ---------------------------------------------------------------------------------------------------------


def _restart(pass_: AgentPass, record: PodRecord, failure: Failure, exit_: PodExit) -> None:
    """Give the ordinal a new incarnation, after its backoff, and restart its group with it."""
    delay = _backoff_seconds(pass_, record)
    # Rounded up to metav1.Time's whole seconds: a delay may be longer than asked for, never shorter.
    at = (pass_.now + timedelta(seconds=delay + 0.999999)).replace(microsecond=0) if delay else None
    if failure.cause is FailureCause.EVICTED and failure.node in pass_.snapshot.cordoned:
        record = record.model_copy(update={"migrating_from": failure.node})  # a drain is a migration
    pass_.records[record.ordinal] = new_incarnation(pass_, record, at)
    others = _restart_group(pass_, record.ordinal, at)
    when = f"in {math.ceil(delay)} s" if at else "now"
    when += f", and {others} with it" if others else ""
    pass_.events.append(_restart_event(pass_, failure, exit_, when))


def _backoff_seconds(pass_: AgentPass, record: PodRecord) -> float:
    agent = pass_.snapshot.agent
    backoff = agent.spec.fault_tolerance.backoff
    restarts = ledger.streak(pass_.ledger, record.ordinal, backoff.reset_after_seconds)
    return restart_delay(backoff, restarts, f"{agent.metadata.uid}:{record.ordinal}:{record.incarnation + 1}")


def _restart_event(pass_: AgentPass, failure: Failure, exit_: PodExit, when: str) -> Event:
    if not failure.counted:
        if exit_.kind is ExitKind.ABNORMAL:
            return Event(Reason.AGENT_FAILED, f"{failure.pod}: {exit_}; restarted {when}, not counted")
        return Event(Reason.AGENT_DISRUPTED, f"{failure.pod}: {exit_}; replaced {when}, not counted")
    tolerance = pass_.snapshot.agent.spec.fault_tolerance
    window = tolerance.failure_window_seconds
    used = ledger.failures_in_window(pass_.ledger, failure.time, window)
    note = f"{failure.pod}: {exit_}; restart {used} of {tolerance.max_failures} in {window} s, {when}"
    type_: Literal["Normal", "Warning"] = "Normal" if failure.cause is FailureCause.NORMAL_EXIT else "Warning"
    return Event(Reason.AGENT_FAILED, note, type_)


def _restart_group(pass_: AgentPass, failed: int, next_restart_time: datetime | None) -> str:
    """The names of the other ordinals that are restarted with the failed one, at the same time.

    A finished Transient ordinal is restarted too, as by supervisor.erl restart/3.
    """
    spec = pass_.snapshot.agent.spec
    restarted = []
    for ordinal in restart_group(spec.supervision_strategy, failed, pass_.records):
        record, stored = pass_.records[ordinal], pass_.stored.get(ordinal)
        restartable = record.is_alive or record.reason == Reason.COMPLETED
        if ordinal == failed or ordinal >= spec.replicas or not restartable:
            continue
        if stored is not None and record.incarnation == stored.incarnation:
            restarted.append(record.name)
            pass_.records[ordinal] = new_incarnation(pass_, record, next_restart_time)
        else:  # it has no pod yet, or got its new incarnation in this pass
            pass_.records[ordinal] = record.model_copy(update={"next_restart_time": next_restart_time})
    return join_names(restarted)


# --- pods that have not ended -----------------------------------------------------------------------------------------


def _observed(pass_: AgentPass, record: PodRecord, pod: PodFacts) -> PodRecord:
    """The record with what its pod shows: Running once the pod was ready, and from then on until its process ends."""
    if record.disruption != pod.disruption:
        # Recorded, because the pod may be gone at the next look, and its condition with it.
        record = record.model_copy(update={"disruption": pod.disruption})
    if not lifecycle.is_ready(pod):
        return _not_ready(pass_, record, pod)
    if record.state is AgentState.RUNNING:
        if record.reason is None and record.start_time is not None:
            return record
        return record.model_copy(update={"reason": None} | _start_fields(pass_, record, pod))
    node = pod.node or record.node
    pass_.events.append(_migrated_event(record, node) if record.migrating_from else _started_event(record, node))
    started = {**_start_fields(pass_, record, pod), "start_time": pod.main.started_at or pass_.now}
    cleared = {"next_restart_time": None, "migrating_from": None, "reason": None}
    return record.model_copy(update={"state": AgentState.RUNNING, **started, **cleared})


def _not_ready(pass_: AgentPass, record: PodRecord, pod: PodFacts) -> PodRecord:
    """The record of a pod that is not ready: its first start, and why it, or a sidecar, cannot start or has ended."""
    spec, node = pass_.snapshot.agent.spec, pod.node or record.node
    _requeue_for_start(pass_, pod)
    if not lifecycle.is_running(pod):
        record = _with_creation(pass_, record, node)
        failure = start_failure(pod, spec)
        reason = failure.reason if failure is not None else None
        if reason is None or is_same_start_failure(reason, record.reason):
            return record
        # The node is recorded with the reason or with the start: a status write for it alone is not worth its price.
        return record.model_copy(update={"reason": reason, "node": node})
    sidecar = sidecar_failure(pod)
    reason = sidecar.reason if sidecar is not None else None
    if sidecar is not None and not is_same_start_failure(sidecar.reason, record.reason):
        pass_.events.append(Event(Reason.SIDECAR_FAILED, f"{record.name}: {sidecar.message}", "Warning"))
    elif sidecar is not None:
        reason = record.reason
    if record.start_time is not None and record.reason == reason:
        return record
    # It runs and is not Ready yet: recorded, so that its loss is not taken for "not created yet".
    return record.model_copy(update={"reason": reason} | _start_fields(pass_, record, pod))


def _start_fields(pass_: AgentPass, record: PodRecord, pod: PodFacts) -> dict[str, object]:
    """When and where the process was first seen to run, and in which boot of the node."""
    node = pod.node or record.node
    return {
        "node": node,
        "start_time": record.start_time or pod.main.started_at or pass_.now,
        "boot_id": record.boot_id or pass_.snapshot.boot_ids.get(node or ""),
        "created": None,  # a recorded start says more
    }


def _requeue_for_start(pass_: AgentPass, pod: PodFacts) -> None:
    """Have a pass run when a start counts as failed, or when what it waits for is worth telling."""
    spec = pass_.snapshot.agent.spec
    due = worth_telling_at(pod) if wait_description(pod, spec) is not None else None
    for at in (start_deadline(pod, spec), due):
        if at is not None and at > pass_.now:
            pass_.requeue_at(at)


def _with_creation(pass_: AgentPass, record: PodRecord, node: str | None) -> PodRecord:
    """The record, `created` for an agent that must not run again after an end: the pod may run and be gone before anybody looks.

    A Permanent agent is started again after any end, so the status write would buy it nothing.
    """
    is_restarted_anyway = pass_.snapshot.agent.spec.restart_strategy is RestartStrategy.PERMANENT
    if record.created or record.start_time is not None or is_restarted_anyway:
        return record
    return record.model_copy(update={"created": True, "node": node})


def _started_event(record: PodRecord, node: str | None) -> Event:
    return Event(Reason.AGENT_STARTED, f"{record.name} runs on {node}")


def _migrated_event(record: PodRecord, node: str | None) -> Event:
    if node == record.migrating_from:
        note = f"{record.name} runs on {node} again: the scheduler found no other node for it"
        return Event(Reason.AGENT_MIGRATED, note, "Warning")
    return Event(Reason.AGENT_MIGRATED, f"{record.name} moved from {record.migrating_from} to {node}", action="Migrate")
