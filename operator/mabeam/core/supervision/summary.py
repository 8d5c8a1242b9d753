"""Summary: records and pods → one state for the whole agent, with the reason and message of its conditions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from mabeam.api.agent import ExitCodeAction, RestartStrategy
from mabeam.api.agent_status import AgentState, AgentStatus, DesiredState, Failure, FailureCause, PodRecord
from mabeam.api.names import ConditionType, Reason
from mabeam.core.conventions.conditions import find_condition
from mabeam.core.conventions.metadata import release_command
from mabeam.core.pods import lifecycle
from mabeam.core.pods.lifecycle import describe_end
from mabeam.core.pods.sidecars import sidecar_failure
from mabeam.core.pods.starting import start_failure, wait_description, worth_telling_at
from mabeam.core.snapshot import AgentSnapshot, PodFacts, held_by, permanent_stop
from mabeam.core.supervision.fencing import blocking_namesake
from mabeam.core.supervision.ledger import failed_starts_in_a_row, failures_in_window
from mabeam.core.supervision.refusal import refusal_in_force, refusal_message
from mabeam.core.supervision.working_set import escalates, is_held


@dataclass(frozen=True, slots=True)
class AgentSummary:
    """The agent's state, and what its conditions Ready and Stalled are made of."""

    state: AgentState
    ready: bool  # the agent is as desired; a stopped one can be, too
    reason: str  # of condition Ready: one of `Reason`, or the kubelet's waiting reason
    message: str
    stalled: bool = False  # kstatus "Failed": nothing changes until a user acts


def summarize(snapshot: AgentSnapshot, status: AgentStatus, now: datetime) -> AgentSummary:
    """The summary by the first of SUMMARY_RULES that applies; `status` has this pass's records already."""
    summaries = (rule(snapshot, status) for rule in SUMMARY_RULES)
    summary = next(summary for summary in summaries if summary is not None)
    return _with_wait(snapshot, status, summary, now)


# --- the rules --------------------------------------------------------------------------------------------------------


def _pod_refused(snapshot: AgentSnapshot, status: AgentStatus) -> AgentSummary | None:
    refused = refusal_in_force(snapshot, status.pods)
    if refused is None:
        return None
    state = AgentState.RUNNING if status.ready_replicas else AgentState.REGISTERED
    stalled = not refused.of_server
    return AgentSummary(state, False, Reason.POD_REFUSED, refusal_message(refused), stalled=stalled)


def _parked(snapshot: AgentSnapshot, status: AgentStatus) -> AgentSummary | None:
    # An escalated agent whose parent never starts it again is stopped for good, not parked (`_stopped_for_good`).
    if status.parked_at is None or (permanent_stop(snapshot.parent) and escalates(snapshot)):
        return None
    message = parked_message(snapshot, status.failures) if status.failures else "parked"
    if escalates(snapshot):
        return AgentSummary(AgentState.FAILED, False, Reason.ESCALATED, message)
    return AgentSummary(AgentState.FAILED, False, parked_reason(snapshot, status.failures), message, stalled=True)


def _stop_desired(snapshot: AgentSnapshot, status: AgentStatus) -> AgentSummary | None:
    spec = snapshot.agent.spec
    if spec.desired_state is not DesiredState.STOPPED and spec.replicas > 0:
        return None
    stopped = AgentSummary(AgentState.STOPPED, True, Reason.STOPPED, f"stopped, {stop_reason(snapshot)}")
    return _stopping(status) or stopped


def stop_reason(snapshot: AgentSnapshot) -> str:
    """Why no replica is to run, as a phrase: the variable that stops the agent, unless its user does too."""
    declared = snapshot.user_spec
    wanted = declared.desired_state is not DesiredState.STOPPED and declared.replicas > 0
    return f"by variable {snapshot.stopped_by}" if wanted and snapshot.stopped_by else "as desired"


def _stopping(status: AgentStatus) -> AgentSummary | None:
    stopping = [record for record in status.pods if record.state is AgentState.STOPPING or record.terminating]
    if not stopping:
        return None
    return AgentSummary(AgentState.STOPPING, False, Reason.STOPPING, f"waiting for {_names(stopping)} to stop")


def _held(snapshot: AgentSnapshot, status: AgentStatus) -> AgentSummary | None:
    if not is_held(snapshot):
        return None
    if permanent_stop(snapshot.parent):
        return _stopping(status)
    message = f"waits to be started {'again ' if status.pods else ''}by {held_by(snapshot.parent)}"
    state = AgentState.STOPPED if status.pods else AgentState.REGISTERED
    return _stopping(status) or AgentSummary(state, False, Reason.HELD, message)


def _stopped_for_good(snapshot: AgentSnapshot, status: AgentStatus) -> AgentSummary | None:
    """A permanent stop by the parent, unless the agent had ended by itself before: then its own end is reported."""
    why = permanent_stop(snapshot.parent)
    stopped_by_parent = status.parked_at is not None or all(r.reason == Reason.STOPPED for r in status.pods)
    if not is_held(snapshot) or why is None or not stopped_by_parent:
        return None
    return AgentSummary(AgentState.STOPPED, True, Reason.STOPPED, why)


def _failed(snapshot: AgentSnapshot, status: AgentStatus) -> AgentSummary | None:
    """Ordinals that ended abnormally and are not restarted: Temporary ones, and one that halted a roll."""
    failed = [record for record in _desired_records(snapshot, status) if record.state is AgentState.FAILED]
    if not failed:
        return None
    last = _last_failure(status, failed[-1])
    how = describe_failure(last) if last is not None else "unknown"
    if snapshot.agent.spec.restart_strategy is not RestartStrategy.TEMPORARY:
        state = AgentState.RUNNING if status.ready_replicas else AgentState.FAILED
        message = (
            f"{_names(failed)} ended with {how}, which spent the budget. The change of the spec stops there, and the others "
            f"go on as before. Fix it, then change the spec or: {release_command('mba', snapshot.agent.metadata)}"
        )
        return AgentSummary(state, False, Reason.ROLLOUT_HALTED, message, stalled=True)
    message = f"{_names(failed)} ended with {how}; {snapshot.agent.spec.restart_strategy} agents are not restarted"
    return AgentSummary(AgentState.FAILED, False, Reason.FAILED, message, stalled=True)


def _ended(snapshot: AgentSnapshot, status: AgentStatus) -> AgentSummary | None:
    own = _desired_records(snapshot, status)
    if any(record.is_alive for record in own):
        return None
    reason = next((record.reason for record in own if record.reason), Reason.COMPLETED)
    message = _END_MESSAGES.get(reason, "ended, as desired")
    return AgentSummary(AgentState.STOPPED, True, reason, message)


_END_MESSAGES: Final[Mapping[str, str]] = {
    Reason.COMPLETED: "completed; a spec change or a release starts it again",
    Reason.DISRUPTED: "ended by a disruption, as Temporary agents do; a spec change or a release starts it again",
}


def _starting(snapshot: AgentSnapshot, status: AgentStatus) -> AgentSummary | None:
    """Some ordinal does not run yet: the reason is the first such ordinal's."""
    starting = [r for r in _desired_records(snapshot, status) if r.state is AgentState.STARTING]
    if not starting:
        return None
    migrating = any(record.migrating_from for record in starting)
    state = AgentState.MIGRATING if migrating else AgentState.STARTING
    reason, message = _why_not_running(snapshot, status, starting[0])
    tolerance = snapshot.agent.spec.fault_tolerance
    failed_starts = failed_starts_in_a_row(status.failures, starting[0].ordinal)
    if failed_starts <= tolerance.max_failures:
        return AgentSummary(state, False, reason, message)
    budget = f"{tolerance.max_failures} in {tolerance.failure_window_seconds} s"
    message += (
        f". It could not start {failed_starts} times in a row; it is tried again, as its budget ({budget}) allows"
    )
    return AgentSummary(state, False, reason, message, stalled=True)


def _running(snapshot: AgentSnapshot, status: AgentStatus) -> AgentSummary | None:
    pods = {pod.name: pod for pod in snapshot.pods}
    alive = [record for record in _desired_records(snapshot, status) if record.is_alive]
    unready = [r for r in alive if r.name not in pods or not lifecycle.is_ready(pods[r.name])]
    share = f"{len(alive) - len(unready)}/{len(alive)} ready"
    for record in unready:
        sidecar = sidecar_failure(pods[record.name]) if record.name in pods else None
        if sidecar is not None:
            message = f"{share}; {record.name}: {sidecar.message}"
            return AgentSummary(AgentState.RUNNING, False, sidecar.reason, message, stalled=sidecar.is_final)
    if unready:
        return AgentSummary(AgentState.RUNNING, False, Reason.NOT_READY, f"{share}; waiting for {_names(unready)}")
    return AgentSummary(AgentState.RUNNING, True, Reason.RUNNING, share)


Rule = Callable[[AgentSnapshot, AgentStatus], AgentSummary | None]
# In order of priority; the last one always applies.
SUMMARY_RULES: Final[tuple[Rule, ...]] = (
    _pod_refused,
    _parked,
    _stop_desired,
    _held,
    _stopped_for_good,
    _failed,
    _ended,
    _starting,
    _running,
)


def _desired_records(snapshot: AgentSnapshot, status: AgentStatus) -> list[PodRecord]:
    """The records of the ordinals below `replicas`."""
    return [record for record in status.pods if record.ordinal < snapshot.agent.spec.replicas]


def _last_failure(status: AgentStatus, record: PodRecord) -> Failure | None:
    return next((failure for failure in reversed(status.failures) if failure.ordinal == record.ordinal), None)


# --- why one ordinal does not run yet ---------------------------------------------------------------------------------

# KEP-2268; the pod garbage collector then deletes the node's pods by force.
OUT_OF_SERVICE: Final = "node.kubernetes.io/out-of-service"


def _why_not_running(snapshot: AgentSnapshot, status: AgentStatus, record: PodRecord) -> tuple[str, str]:
    """The reason and message of an ordinal that is Starting."""
    pod = next((pod for pod in snapshot.pods if pod.name == record.name), None)
    if snapshot.name_taken == record.name:
        return Reason.NAME_TAKEN, f"a pod named {record.name} belongs to another owner; waiting until it is deleted"
    problem = _pod_problem(snapshot, record, pod) if pod is not None else _fencing(snapshot, record)
    if problem is not None:
        return problem
    if record.next_restart_time is not None:
        # Until it runs: a message that changed with the clock would cost a status write for nothing.
        last = _last_failure(status, record)
        after = f" after {describe_failure(last)}" if last else ""
        return Reason.BACK_OFF, f"{record.name} starts at {record.next_restart_time:%H:%M:%S} UTC{after}"
    if record.migrating_from is not None:
        return Reason.MIGRATING, f"{record.name} moves from {record.migrating_from}"
    if pod is not None and lifecycle.is_running(pod):
        return Reason.STARTING, f"{record.name} runs and is not ready yet{_missing_readiness(snapshot)}"
    return Reason.STARTING, f"{record.name} is starting"


def _missing_readiness(snapshot: AgentSnapshot) -> str:
    """What a running pod of a module still lacks to be ready, for messages; a template's probes are its author's."""
    if snapshot.agent.spec.module is None:
        return ""
    return ": `__init__` has not returned, or the agent SDK in its image does not serve /readyz"


def _pod_problem(snapshot: AgentSnapshot, record: PodRecord, pod: PodFacts) -> tuple[str, str] | None:
    if record.reason:
        failure, sidecar = start_failure(pod, snapshot.agent.spec), sidecar_failure(pod)
        detail = f": {failure.detail}" if failure is not None else ""
        message = f"is not ready: {sidecar.message}" if sidecar is not None else f"cannot start{detail}"
        return record.reason, _first_message(snapshot, record, record.reason, message)
    if pod.unschedulable:
        message = f"cannot be scheduled: {pod.unschedulable}"
        return Reason.UNSCHEDULABLE, _first_message(snapshot, record, Reason.UNSCHEDULABLE, message)
    return None


def _with_wait(snapshot: AgentSnapshot, status: AgentStatus, summary: AgentSummary, now: datetime) -> AgentSummary:
    """The summary; when a start takes long though nothing is wrong, with what it waits for."""
    if summary.reason not in (Reason.STARTING, Reason.MIGRATING) or summary.stalled:
        return summary
    starting = next(r for r in _desired_records(snapshot, status) if r.state is AgentState.STARTING)
    pod = next((pod for pod in snapshot.pods if pod.name == starting.name), None)
    due = worth_telling_at(pod) if pod is not None else None
    if pod is None or due is None or now < due:
        return summary
    wait = wait_description(pod, snapshot.agent.spec)
    return replace(summary, message=f"{summary.message}: {wait}") if wait else summary


def _fencing(snapshot: AgentSnapshot, record: PodRecord) -> tuple[str, str] | None:
    namesake = blocking_namesake(snapshot, record)
    if namesake is not None:
        earlier = f"an earlier Agent {snapshot.agent.metadata.name}, which was deleted"
        return Reason.FENCING, f"{record.name} waits until {namesake.name} is gone: it belongs to {earlier}"
    fenced = next((p for p in snapshot.pods if p.ordinal == record.ordinal and lifecycle.is_fenced(p)), None)
    if fenced is None:
        return None
    return Reason.FENCING, (
        f"{record.name} waits until {fenced.name} is known to be gone: its node {fenced.node} does not answer. It starts "
        f"when the node answers, is deleted or is tainted {OUT_OF_SERVICE}, or when the pod is deleted by force"
    )


def _first_message(snapshot: AgentSnapshot, record: PodRecord, reason: str, message: str) -> str:
    """The pod's name and the message; the stored message when it is about the same pod and reason.

    The kubelet rephrases its message at every try, and each new one would cost a status write.
    """
    ready = find_condition(snapshot.agent.status.conditions, ConditionType.READY)
    if ready is not None and ready.reason == reason and ready.message.startswith(f"{record.name} "):
        return ready.message
    return f"{record.name} {message}"


# --- texts ------------------------------------------------------------------------------------------------------------


def parked_message(snapshot: AgentSnapshot, ledger: Sequence[Failure]) -> str:
    """Why the agent is parked, and how it is started again: by its user, or by its Supervisor when it escalates."""
    agent = snapshot.agent
    tolerance, last = agent.spec.fault_tolerance, ledger[-1]
    count = failures_in_window(ledger, last.time, tolerance.failure_window_seconds)
    if parked_reason(snapshot, ledger) is Reason.PARKED_BY_RULE:
        why = f"{describe_failure(last)}, for which `exitCodeRules` say Park. "
    elif count <= tolerance.max_failures:
        why = f"It failed again when it was started on trial: {describe_failure(last)}. "
    else:
        failures = "failure" if count == 1 else "failures"
        allowed = f"{count} {failures} in {tolerance.failure_window_seconds} s (allowed: {tolerance.max_failures})"
        why = f"{allowed}. Last: {describe_failure(last)}. {_advice(snapshot, last)}"
    if escalates(snapshot):
        return f"{why}Its Supervisor decides"
    return f"{why}Fix it, then change the spec or: {release_command('mba', agent.metadata)}"


def _advice(snapshot: AgentSnapshot, last: Failure) -> str:
    if last.cause is not FailureCause.NORMAL_EXIT:
        return ""
    strategy = snapshot.agent.spec.restart_strategy
    return (
        f"{strategy} agents are restarted after a normal exit too; with restartStrategy: Transient its work is done. "
    )


def parked_reason(snapshot: AgentSnapshot, ledger: Sequence[Failure]) -> Reason:
    """Why the agent is parked: by a rule for the exit code of its last failure, or by its exhausted budget."""
    last = ledger[-1] if ledger else None
    spec = snapshot.agent.spec
    if last is not None and lifecycle.exit_code_action(spec, last.cause, last.exit_code) is ExitCodeAction.PARK:
        return Reason.PARKED_BY_RULE
    return Reason.RESTART_BUDGET_EXHAUSTED


def describe_failure(failure: Failure) -> str:
    """A failure of the ledger as a phrase for messages: cause and detail."""
    return describe_end(failure.cause, failure.exit_code, failure.reason, failure.message, container=failure.container)


def _names(records: Sequence[PodRecord]) -> str:
    return join_names([record.name for record in records])


def join_names(names: Sequence[str]) -> str:
    """The first three names, and the number of the others."""
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
