"""Records and pods → one state word and the conditions: what `kubectl get`, `kubectl wait`, Helm and Argo CD read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from mabeam.api.agent import Agent, ExitCodeAction
from mabeam.api.agent_status import AgentState, AgentStatus, DesiredState, Failure, FailureCause, PodRecord
from mabeam.api.base import Condition
from mabeam.api.names import ANNOTATION_RELEASE, ConditionType, Reason
from mabeam.core.conventions.conditions import KStatus, condition, kstatus_conditions, merge_conditions
from mabeam.core.decision import Decision, Event
from mabeam.core.pods import lifecycle
from mabeam.core.pods.lifecycle import CAUSE_DESCRIPTIONS, START_FAILURE_CAUSES, describe_exit_code
from mabeam.core.snapshot import AgentSnapshot, PodFacts, held_by, permanent_stop
from mabeam.core.supervision import ledger as budget
from mabeam.core.supervision.working_set import escalates, is_held


@dataclass(frozen=True, slots=True)
class _Verdict:
    """One line about the whole agent. `stalled` is the only "failed" (kstatus); `ready` also means as desired."""

    state: AgentState
    ready: bool
    reason: str
    message: str
    stalled: bool = False


def invalid(snapshot: AgentSnapshot, now: datetime) -> Decision[AgentStatus]:
    """The decision on an Agent whose spec cannot be read: say so, and leave its pods as they are."""
    before = snapshot.agent.status
    verdict = _Verdict(
        before.state or AgentState.REGISTERED, False, Reason.INVALID_SPEC, snapshot.invalid or "", stalled=True
    )
    status = before.model_copy(
        update={
            "observed_generation": snapshot.agent.metadata.generation,
            "state": verdict.state,
            "conditions": _conditions(snapshot, before, verdict, (), now, accepted=False),
        }
    )
    events = (Event(Reason.INVALID_SPEC, verdict.message, "Warning"),) if not _known(before, verdict) else ()
    return Decision(status, "invalid", (), events)


def conclude(snapshot: AgentSnapshot, status: AgentStatus, problems: Sequence[str], now: datetime) -> AgentStatus:
    """The status with its state word and its conditions, from the records in it and the pods that were seen."""
    verdict = _verdict(snapshot, status)
    accepted = snapshot.refused is None
    return status.model_copy(
        update={
            "state": verdict.state,
            "conditions": _conditions(snapshot, status, verdict, problems, now, accepted=accepted),
        }
    )


def told(agent: Agent, events: Sequence[Event]) -> tuple[Event, ...]:
    """The pass's Events; of an agent's first pass one more, into which the start of its pods goes when that was seen already."""
    if agent.status.observed_generation >= 0:
        return tuple(events)
    started = [event.note for event in events if event.reason is Reason.AGENT_STARTED]
    follow = agent.spec.desired_state is DesiredState.RUNNING and agent.spec.replicas > 0
    note = "accepted; " + ("; ".join(started) or ("its pods follow" if follow else "it is to rest"))
    rest = (event for event in events if event.reason is not Reason.AGENT_STARTED)
    return (Event(Reason.AGENT_REGISTERED, note, action="Register"), *rest)


def status_reason(before: AgentStatus, after: AgentStatus) -> str:
    """A word for why the status is written, for `mabeam plan` and the log."""
    if before == after:
        return "unchanged"
    if after.parked_at is not None and before.parked_at is None:
        return "parked"
    if after.parked_at is None and before.parked_at is not None:
        return "released"
    if before.observed_generation < 0:
        return "registered"
    if after.disruptions != before.disruptions:
        return "disrupted"
    if len(after.failures) != len(before.failures) or after.restarts != before.restarts:
        return "failed"
    if [r.incarnation for r in after.pods] != [r.incarnation for r in before.pods]:
        return "incarnated"
    if after.state != before.state:
        return str(after.state).lower()
    return "directives" if after.directives != before.directives else "observed"


def parked_message(snapshot: AgentSnapshot, ledger: Sequence[Failure]) -> str:
    """What a parked agent says of itself: how it came to it, and the two ways out, or who decides on it now."""
    agent = snapshot.agent
    tolerance = agent.spec.fault_tolerance
    last = ledger[-1]
    count = budget.failures_in_window(ledger, last.time, tolerance.failure_window_seconds)
    failures = "failure" if count == 1 else "failures"
    meta = agent.metadata
    told = (
        f"{count} {failures} in {tolerance.failure_window_seconds} s (allowed: {tolerance.max_failures}). "
        f"Last: {describe_failure(last)}. "
    )
    if parked_reason(snapshot, ledger) is Reason.PARKED_BY_RULE:
        told = f"{describe_failure(last)}, after which `exitCodeRules` ask for no restart. "
    elif count <= tolerance.max_failures:
        told = f"It failed again when it was tried: {describe_failure(last)}. "
    if escalates(snapshot):
        return f"{told}Its Supervisor decides"
    return (
        f"{told}Fix it, then change the spec or: "
        f'kubectl annotate mba {meta.name} -n {meta.namespace} --overwrite {ANNOTATION_RELEASE}="$(date +%s)"'
    )


def parked_reason(snapshot: AgentSnapshot, ledger: Sequence[Failure]) -> Reason:
    """Why it is parked, in a word."""
    last = ledger[-1] if ledger else None
    spec = snapshot.agent.spec
    if last is not None and lifecycle.exit_code_action(spec, last.cause, last.exit_code) is ExitCodeAction.PARK:
        return Reason.PARKED_BY_RULE
    return Reason.RESTART_BUDGET_EXHAUSTED


def describe_failure(failure: Failure) -> str:
    """A ledger entry in words."""
    if failure.exit_code is not None and failure.cause in (FailureCause.CRASH, FailureCause.NORMAL_EXIT):
        return describe_exit_code(failure.exit_code, failure.message)
    words = CAUSE_DESCRIPTIONS.get(failure.cause, str(failure.cause))
    detail = (failure.message if failure.cause in START_FAILURE_CAUSES else None) or failure.reason
    return f"{words} ({detail})" if detail else words


def _verdict(snapshot: AgentSnapshot, status: AgentStatus) -> _Verdict:
    agent = snapshot.agent
    records = status.pods
    wanted = agent.spec.replicas
    if snapshot.refused is not None:
        state = AgentState.RUNNING if status.ready_replicas else AgentState.REGISTERED
        message = f"the apiserver refused the pod: {snapshot.refused.message}"
        return _Verdict(state, False, Reason.POD_REFUSED, message, stalled=True)
    if status.parked_at is not None and not (permanent_stop(snapshot.parent) and escalates(snapshot)):
        message = parked_message(snapshot, status.failures) if status.failures else "parked"
        if escalates(snapshot):
            return _Verdict(AgentState.FAILED, False, Reason.ESCALATED, message)
        why = parked_reason(snapshot, status.failures)
        return _Verdict(AgentState.FAILED, False, why, message, stalled=True)
    stopping = [record for record in records if record.state is AgentState.STOPPING or record.terminating]
    if agent.spec.desired_state is DesiredState.STOPPED or wanted == 0:
        if stopping:
            names = _names(stopping)
            return _Verdict(AgentState.STOPPING, False, Reason.STOPPING, f"waiting for {names} to stop")
        return _Verdict(AgentState.STOPPED, True, Reason.STOPPED, "stopped, as desired")
    if is_held(snapshot):
        ended_for_good = permanent_stop(snapshot.parent)
        if stopping or not ended_for_good:
            return _held(snapshot, stopping, bool(records))
        if status.parked_at is not None or all(record.reason == Reason.STOPPED for record in records):
            return _Verdict(AgentState.STOPPED, True, Reason.STOPPED, ended_for_good)
    own = [record for record in records if record.ordinal < wanted]
    failed = [record for record in own if record.state is AgentState.FAILED]
    if failed:
        last = next(
            (describe_failure(f) for f in reversed(status.failures) if f.ordinal == failed[-1].ordinal), "unknown"
        )
        message = f"{_names(failed)} ended with {last}; {agent.spec.restart_strategy} agents are not restarted"
        return _Verdict(AgentState.FAILED, False, Reason.FAILED, message, stalled=True)
    alive = [record for record in own if record.is_alive]
    if not alive:
        reason = next((record.reason for record in own if record.reason), Reason.COMPLETED)
        return _Verdict(AgentState.STOPPED, True, reason, _REST_MESSAGES.get(reason, "ended, as desired"))
    return _progress(snapshot, status, alive)


def _held(snapshot: AgentSnapshot, stopping: Sequence[PodRecord], ran: bool) -> _Verdict:
    if stopping:
        return _Verdict(AgentState.STOPPING, False, Reason.STOPPING, f"waiting for {_names(stopping)} to stop")
    message = f"waits for {held_by(snapshot.parent)} to start it" + (" again" if ran else "")
    return _Verdict(AgentState.STOPPED if ran else AgentState.REGISTERED, False, Reason.HELD, message)


_REST_MESSAGES: Final[Mapping[str, str]] = {
    Reason.COMPLETED: "completed; a spec change or a release starts it again",
    Reason.DISRUPTED: "ended by a disruption, as a Temporary agent does; a spec change or a release starts it again",
}


def _progress(snapshot: AgentSnapshot, status: AgentStatus, alive: list[PodRecord]) -> _Verdict:
    """The verdict on an agent that should run: Running when all its records are, else the first one's trouble."""
    pods = {pod.name: pod for pod in snapshot.pods}
    starting = [record for record in alive if record.state is AgentState.STARTING]
    total = len(alive)
    if not starting:
        unready = [r for r in alive if r.name not in pods or not lifecycle.is_ready(pods[r.name])]
        if not unready:
            return _Verdict(AgentState.RUNNING, True, Reason.RUNNING, f"{total}/{total} ready")
        message = f"{total - len(unready)}/{total} ready; waiting for {_names(unready)}"
        return _Verdict(AgentState.RUNNING, False, Reason.NOT_READY, message)
    moving = any(record.migrating_from for record in starting)
    reason, message = _waiting_for(snapshot, status, starting[0], pods)
    return _Verdict(AgentState.MIGRATING if moving else AgentState.STARTING, False, reason, message)


def _waiting_for(
    snapshot: AgentSnapshot, status: AgentStatus, record: PodRecord, pods: Mapping[str, PodFacts]
) -> tuple[str, str]:
    pod = pods.get(record.name)
    if snapshot.name_taken == record.name:
        return Reason.NAME_TAKEN, f"a pod named {record.name} belongs to someone else; waiting for it to go"
    if pod is not None and record.reason:
        detail = f": {pod.main.message}" if pod.main.message else ""
        return record.reason, _first_words(snapshot, record, record.reason, f"cannot start{detail}")
    if pod is not None and pod.unschedulable:
        words = f"cannot be scheduled: {pod.unschedulable}"
        return Reason.UNSCHEDULABLE, _first_words(snapshot, record, Reason.UNSCHEDULABLE, words)
    fenced = next((pod for pod in snapshot.pods if pod.ordinal == record.ordinal and lifecycle.is_fenced(pod)), None)
    if pod is None and fenced is not None:
        return Reason.FENCING, (
            f"{record.name} waits until {fenced.name} is known to be gone: its node {fenced.node} does not answer. It starts "
            f"when the node answers, is deleted or is tainted {OUT_OF_SERVICE}, or when the pod is deleted by force"
        )
    if record.next_restart_time is not None:
        # Told until it runs: a message that turns with the clock is a write too many.
        last = next((f for f in reversed(status.failures) if f.ordinal == record.ordinal), None)
        after = f" after {describe_failure(last)}" if last else ""
        return Reason.BACK_OFF, f"{record.name} starts at {record.next_restart_time:%H:%M:%S} UTC{after}"
    if record.migrating_from is not None:
        return Reason.MIGRATING, f"{record.name} moves from {record.migrating_from}"
    return Reason.STARTING, f"{record.name} is starting"


# KEP-2268; the pod garbage collector then deletes the node's pods by force.
OUT_OF_SERVICE: Final = "node.kubernetes.io/out-of-service"


def _first_words(snapshot: AgentSnapshot, record: PodRecord, reason: str, words: str) -> str:
    """What was first said of this pod's trouble: the kubelet words it anew at every try, and a status must not tick."""
    ready = next((c for c in snapshot.agent.status.conditions if c.type == ConditionType.READY), None)
    if ready is not None and ready.reason == reason and ready.message.startswith(f"{record.name} "):
        return ready.message
    return f"{record.name} {words}"


def _names(records: Sequence[PodRecord]) -> str:
    return names_of([record.name for record in records])


def names_of(names: Sequence[str]) -> str:
    """The first three names, and how many more there are."""
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def _conditions(
    snapshot: AgentSnapshot,
    status: AgentStatus,
    verdict: _Verdict,
    problems: Sequence[str],
    now: datetime,
    *,
    accepted: bool,
) -> tuple[object, ...]:
    progressing = not verdict.ready and not verdict.stalled
    reports = [problem for report in snapshot.reports.values() for problem in report.problems]
    line = KStatus(verdict.ready, verdict.reason, verdict.message, progressing, verdict.stalled, accepted)
    wanted = list(kstatus_conditions(line))
    wanted += _complaint(status, ConditionType.REPORTS_VALID, reports, Reason.BAD_REPORT, Reason.REPORTS_OK)
    wanted += _complaint(
        status, ConditionType.DIRECTIVES_DELIVERABLE, problems, Reason.NOT_DELIVERABLE, Reason.DELIVERABLE
    )
    return merge_conditions(status.conditions, wanted, snapshot.agent.metadata.generation, now)


def _complaint(
    status: AgentStatus, type_: ConditionType, problems: Sequence[str], wrong: Reason, right: Reason
) -> list[Condition]:
    """A condition that is there from the first problem on: an agent that never had one is spared it."""
    if problems:
        return [condition(type_, False, wrong, "; ".join(sorted(set(problems))[:4]))]
    return [condition(type_, True, right)] if any(c.type == type_ for c in status.conditions) else []


def _known(before: AgentStatus, verdict: _Verdict) -> bool:
    return any(
        c.type == ConditionType.READY and c.reason == verdict.reason and c.message == verdict.message
        for c in before.conditions
    )
