"""Pod facts → whether the agent's process runs, is ready, or ended, and how: by the main container, else by the pod's phase."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from mabeam.api.agent import AgentSpec, ExitCodeAction
from mabeam.api.agent_status import FailureCause
from mabeam.core.algorithms.otp import ExitKind
from mabeam.core.conventions.times import add_seconds
from mabeam.core.pods.starting import start_deadline, start_failure
from mabeam.core.pods.terminations import (
    DISRUPTIONS,
    UNKNOWN_NODE,
    PodNode,
    Termination,
    announced_cause,
    find_termination,
    has_unseen_end,
)
from mabeam.core.snapshot import OtherContainer, PodFacts, Progress


@dataclass(frozen=True, slots=True)
class PodExit:
    """How an incarnation ended, and when."""

    kind: ExitKind  # the row of POLICY (core/algorithms/otp.py)
    cause: FailureCause
    time: datetime  # never after the pass's own time
    exit_code: int | None = None  # None: no container exit is known
    reason: str | None = None  # a Kubernetes reason, or the agent's own text
    message: str | None = None  # free text by the kubelet or the process, one line
    container: str | None = None  # name of the container that ended or cannot start; None: the main one

    def __str__(self) -> str:
        """The exit as a phrase for messages: cause and detail."""
        if self.cause is FailureCause.NORMAL_EXIT:
            return f"exit code {self.exit_code} (normal)"
        return describe_end(self.cause, self.exit_code, self.reason, self.message, container=self.container)


# The phrase stands inside a longer message.
_MAX_MESSAGE_LENGTH: Final = 256
# Codes of a process that a signal ended, though the kernel names no lack of memory → the signal.
_KILLS: Final = {137: "SIGKILL", 143: "SIGTERM"}


def describe_end(
    cause: FailureCause, code: int | None, reason: str | None, message: str | None, *, container: str | None
) -> str:
    """A failure as a phrase for messages: cause and detail, and the container if it is not the main one."""
    if code is not None and cause in (FailureCause.CRASH, FailureCause.NORMAL_EXIT):
        return describe_exit_code(code, message, container)
    phrase = CAUSE_DESCRIPTIONS.get(cause, str(cause))
    if cause in EXPLAINED_CAUSES:
        detail = message or reason
    elif code is not None and cause is FailureCause.SIDECAR_FAILED:
        detail = describe_exit_code(code, message or (reason if reason == "OOMKilled" else None), container)
    else:
        detail = f"container {container}: {reason}" if container else reason
    return f"{phrase} ({detail})" if detail else phrase


def describe_exit_code(code: int, message: str | None, container: str | None = None) -> str:
    """The exit code as a phrase for messages, with the process's own message; `container`: which, if not the main one."""
    of = f" of container {container}" if container else ""
    signal = f" ({_KILLS[code]} from outside: a failing liveness probe, perhaps)" if code in _KILLS else ""
    return f"exit code {code}{of}{signal}" + (f": {message[:_MAX_MESSAGE_LENGTH]}" if message else "")


CAUSE_DESCRIPTIONS: Final = {
    FailureCause.OOM: "out of memory",
    FailureCause.CRASH: "the pod failed",
    FailureCause.IMAGE_ERROR: "its image could not be pulled in time",
    FailureCause.CONFIG_ERROR: "it could not be started in time",
    FailureCause.SIDECAR_FAILED: "its sidecar failed",
    FailureCause.STORAGE_EXCEEDED: "it used more local storage than its limit",
    FailureCause.DEADLINE_EXCEEDED: "it ran longer than `activeDeadlineSeconds`",
    FailureCause.HANG: "it made no progress",
    FailureCause.REPORTED: "reported as failed",
    FailureCause.DELETED_BY_OTHER: "its pod was deleted by someone else",
    FailureCause.EVICTED: "evicted",
    FailureCause.PREEMPTED: "preempted",
    FailureCause.NODE_LOST: "its node was lost",
}
# The kubelet's message says more than its reason.
EXPLAINED_CAUSES: Final = frozenset(
    {FailureCause.IMAGE_ERROR, FailureCause.CONFIG_ERROR, FailureCause.STORAGE_EXCEEDED, FailureCause.DEADLINE_EXCEEDED}
)


TERMINAL_PHASES: Final = frozenset({"Succeeded", "Failed"})


# Above a pod's own grace: until the kubelet has noticed the end of the main container, and reported that of the sidecars.
END_MARGIN_SECONDS: Final = 15
# Kubernetes' default of terminationGracePeriodSeconds.
_DEFAULT_GRACE_SECONDS: Final = 30


def is_terminal(pod: PodFacts) -> bool:
    """Whether every container of the pod has ended for good.

    The kubelet reports a container's end before the phase; with `restartPolicy: Never` the former is enough.
    """
    if pod.phase in TERMINAL_PHASES:
        return True
    is_over = pod.main.state == "terminated" and not pod.restarts_in_place
    return is_over and all(other.now.state == "terminated" for other in pod.others)


def ends_by_itself_until(pod: PodFacts) -> datetime | None:
    """Until when the kubelet is to have ended the pod, whose main container has ended; None: the kubelet is not going to.

    When all regular containers have ended, the kubelet ends the native sidecars (KEP-753) and keeps the pod with its logs.
    """
    failed_init = find_failed_init(pod)
    end = failed_init.now if failed_init is not None else pod.main
    if end.state != "terminated" or end.finished_at is None or pod.restarts_in_place or pod.deleting:
        return None
    if failed_init is None and any(o.role == "regular" and o.now.state != "terminated" for o in pod.others):
        return None
    grace = _DEFAULT_GRACE_SECONDS if pod.grace_seconds is None else pod.grace_seconds
    return add_seconds(end.finished_at, grace + END_MARGIN_SECONDS)


def is_live(pod: PodFacts) -> bool:
    """Whether a process of the pod may still run: only a terminal phase or the absence of the object proves the contrary."""
    return not is_terminal(pod)


def is_running(pod: PodFacts) -> bool:
    """Whether the main container runs."""
    if pod.deleting or is_terminal(pod):
        return False
    return pod.main.state == "running" or (pod.main.state == "unknown" and pod.phase == "Running")


def is_ready(pod: PodFacts) -> bool:
    """Whether the main container runs and the pod has the condition Ready."""
    return is_running(pod) and pod.ready


def find_exit(pod: PodFacts, spec: AgentSpec, now: datetime, node: PodNode = UNKNOWN_NODE) -> PodExit | None:
    """How the pod ended; None while it has not. The time is the container's `finishedAt`, at most `now`.

    An exit before the disruption or deletion is the agent's own; one after it is a consequence of it.
    """
    failed_init = find_failed_init(pod)
    at = failed_init.now.finished_at if failed_init is not None else pod.main.finished_at
    finished = min(at, now) if at is not None else None
    over = pod.deleting or is_terminal(pod) or pod.main.state == "terminated"
    termination = find_termination(pod, node, finished) if over else None
    if termination is not None:
        return terminated(termination, finished or now, pod.main.exit_code)
    if pod.main.state == "terminated":
        return _exit(pod, spec, finished or now)
    if failed_init is not None:
        return _init_exit(failed_init, finished or now)
    if pod.phase == "Succeeded":
        return PodExit(ExitKind.NORMAL, FailureCause.NORMAL_EXIT, now, 0, "Completed")
    if pod.phase == "Failed":
        return PodExit(ExitKind.ABNORMAL, FailureCause.CRASH, now, pod.main.exit_code, pod.reason, pod.message)
    if pod.reported_failed is not None:
        return PodExit(ExitKind.ABNORMAL, FailureCause.REPORTED, now, reason=pod.reported_failed or "no reason given")
    return _find_start_timeout(pod, spec, now)


def terminated(termination: Termination, time: datetime, exit_code: int | None = None) -> PodExit:
    """The exit of a pod that others, or its node, ended."""
    kind = ExitKind.DISRUPTION if termination.cause in DISRUPTIONS else ExitKind.ABNORMAL
    return PodExit(kind, termination.cause, time, exit_code, termination.reason, termination.message)


def exit_code_action(spec: AgentSpec, cause: FailureCause, code: int | None) -> ExitCodeAction | None:
    """The action of the first of the agent's `exitCodeRules` with this exit code; None: no rule applies."""
    killed = cause is FailureCause.OOM and code == 137  # by the kernel: the process chose no code
    if killed or cause not in (FailureCause.CRASH, FailureCause.OOM):
        return None
    return next((rule.action for rule in spec.fault_tolerance.exit_code_rules if code in rule.codes), None)


def find_failed_init(pod: PodFacts) -> OtherContainer | None:
    """The init container whose failure ended the pod, before the main container started; None: there is none."""
    if pod.main.state in ("running", "terminated") or (pod.restarts_in_place and pod.phase != "Failed"):
        return None
    ended = (other for other in pod.others if other.role == "init" and other.now.state == "terminated")
    return next((other for other in ended if other.now.exit_code != 0), None)


def is_fenced(pod: PodFacts) -> bool:
    """Whether the pod is being deleted but may still run, because its node does not answer."""
    announced = pod.disruption is not None and announced_cause(pod.disruption) is FailureCause.NODE_LOST
    return pod.deleting and is_live(pod) and announced


def hang_deadline(progress: Progress, timeout_seconds: int) -> datetime:
    """When a process without further progress counts as hung; the timeout starts after the end of a declared wait."""
    waiting_until = progress.waiting_until
    since = max(progress.since, waiting_until) if waiting_until is not None else progress.since
    return add_seconds(since, timeout_seconds)


def _exit(pod: PodFacts, spec: AgentSpec, time: datetime) -> PodExit:
    code, reason = pod.main.exit_code, pod.main.reason
    if code == 0 or code in spec.normal_exit_codes:
        # The kernel may have killed a child for memory (OOMKilled): the process that decides went on and finished.
        return PodExit(ExitKind.NORMAL, FailureCause.NORMAL_EXIT, time, code, reason)
    if reason == "OOMKilled":
        return PodExit(ExitKind.ABNORMAL, FailureCause.OOM, time, code, reason, last_line(pod.main.message))
    return PodExit(ExitKind.ABNORMAL, FailureCause.CRASH, time, code, reason, last_line(pod.main.message))


def _init_exit(init: OtherContainer, time: datetime) -> PodExit:
    """The end of an init container is the agent's, and never normal: its process was not started."""
    end, message = init.now, last_line(init.now.message)
    if has_unseen_end(end):
        lost = FailureCause.NODE_LOST
        return PodExit(ExitKind.DISRUPTION, lost, time, end.exit_code, end.reason, message, init.name)
    cause = FailureCause.OOM if end.reason == "OOMKilled" else FailureCause.CRASH
    return PodExit(ExitKind.ABNORMAL, cause, time, end.exit_code, end.reason, message, init.name)


def _find_start_timeout(pod: PodFacts, spec: AgentSpec, now: datetime) -> PodExit | None:
    deadline = start_deadline(pod, spec)
    if deadline is None or now < deadline:
        return None
    failure = start_failure(pod, spec)
    if failure is None:  # its postStart hook
        cause = FailureCause.CONFIG_ERROR
        return PodExit(ExitKind.ABNORMAL, cause, now, None, pod.main.reason, pod.main.message)
    container = failure.container if failure.role != "main" else None
    code, message = failure.exit_code, failure.detail
    return PodExit(ExitKind.ABNORMAL, failure.cause, now, code, failure.reason, message, container)


def last_line(text: str | None) -> str | None:
    """The last line that is not blank: a traceback or a log has its reason there. None: there is none.

    Without unprintable characters: the agent writes the text, and terminals would interpret control sequences in it.
    """
    lines = ("".join(c for c in line if c.isprintable()).strip() for line in reversed((text or "").splitlines()))
    return next((line for line in lines if line), None)
