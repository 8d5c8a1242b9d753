"""Pod facts → whether the agent's process runs, is ready, or ended, and how: by the main container, else by the pod's phase."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from mabeam.api.agent import AgentSpec, ExitCodeAction
from mabeam.api.agent_status import FailureCause
from mabeam.core.algorithms.otp import ExitKind
from mabeam.core.conventions.times import add_seconds
from mabeam.core.snapshot import PodFacts, Progress


@dataclass(frozen=True, slots=True)
class PodExit:
    """How an incarnation ended, and when."""

    kind: ExitKind  # the row of POLICY (core/algorithms/otp.py)
    cause: FailureCause
    time: datetime  # never after the pass's own time
    exit_code: int | None = None  # None: no container exit is known
    reason: str | None = None  # a Kubernetes reason, or the agent's own text
    message: str | None = None  # free text by the kubelet or the process, one line

    def __str__(self) -> str:
        """The exit as a phrase for messages: cause and detail."""
        if self.cause is FailureCause.NORMAL_EXIT:
            return f"exit code {self.exit_code} (normal)"
        if self.cause is FailureCause.CRASH and self.exit_code is not None:
            return describe_exit_code(self.exit_code, self.message)
        detail = self.message if self.cause in START_FAILURE_CAUSES else None
        cause = CAUSE_DESCRIPTIONS.get(self.cause, str(self.cause))
        return f"{cause} ({detail or self.reason})" if detail or self.reason else cause


# The phrase stands inside a longer message.
_MAX_MESSAGE_LENGTH: Final = 256


def describe_exit_code(code: int, message: str | None) -> str:
    """The exit code as a phrase for messages, with the process's own message."""
    return f"exit code {code}: {message[:_MAX_MESSAGE_LENGTH]}" if message else f"exit code {code}"


CAUSE_DESCRIPTIONS: Final = {
    FailureCause.OOM: "out of memory",
    FailureCause.CRASH: "the pod failed",
    FailureCause.IMAGE_ERROR: "its image could not be pulled in time",
    FailureCause.CONFIG_ERROR: "it could not be started in time",
    FailureCause.HANG: "it made no progress",
    FailureCause.REPORTED: "reported as failed",
    FailureCause.DELETED_BY_OTHER: "its pod was deleted by someone else",
    FailureCause.EVICTED: "evicted",
    FailureCause.PREEMPTED: "preempted",
    FailureCause.NODE_LOST: "its node was lost",
}
START_FAILURE_CAUSES: Final = frozenset({FailureCause.IMAGE_ERROR, FailureCause.CONFIG_ERROR})

# Reason of the pod condition DisruptionTarget (KEP-3329) → cause.
DISRUPTION_CAUSES: Final = {
    "PreemptionByScheduler": FailureCause.PREEMPTED,
    "DeletionByTaintManager": FailureCause.NODE_LOST,
    "DeletionByPodGC": FailureCause.NODE_LOST,
    "EvictionByEvictionAPI": FailureCause.EVICTED,
    "TerminationByKubelet": FailureCause.EVICTED,
}
# A Failed pod's `status.reason`, set by the node or the scheduler → cause. From NodeAffinity on they are refusals of the
# kubelet's admission: the pod never ran, so its agent cannot be to blame.
POD_REASON_CAUSES: Final = {
    "Evicted": FailureCause.EVICTED,
    "Preempting": FailureCause.PREEMPTED,
    "NodeLost": FailureCause.NODE_LOST,
    "NodeShutdown": FailureCause.NODE_LOST,
    "Shutdown": FailureCause.NODE_LOST,
    "Terminated": FailureCause.NODE_LOST,
    "NodeAffinity": FailureCause.EVICTED,
    "OutOfcpu": FailureCause.EVICTED,
    "OutOfmemory": FailureCause.EVICTED,
    "OutOfpods": FailureCause.EVICTED,
    "OutOfephemeral-storage": FailureCause.EVICTED,
    "UnexpectedAdmissionError": FailureCause.EVICTED,
    "TopologyAffinityError": FailureCause.EVICTED,
}
IMAGE_REASONS: Final = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "ErrImageNeverPull",
        "InvalidImageName",
        "ImageInspectError",
        "RegistryUnavailable",
    }
)
CONFIG_REASONS: Final = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})

TERMINAL_PHASES: Final = frozenset({"Succeeded", "Failed"})


def is_terminal(pod: PodFacts) -> bool:
    """Whether every container of the pod has ended for good.

    The kubelet reports a container's end before the phase; with `restartPolicy: Never` the former is enough.
    """
    return pod.phase in TERMINAL_PHASES or (pod.main.state == "terminated" and not pod.others_running)


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


def start_failure_reason(pod: PodFacts) -> str | None:
    """The kubelet's waiting reason when it means that the container cannot start; None otherwise."""
    if pod.main.state == "waiting" and pod.main.reason in IMAGE_REASONS | CONFIG_REASONS:
        return pod.main.reason
    return None


def is_same_start_failure(one: str, other: str | None) -> bool:
    """Whether two waiting reasons mean the same failure: the kubelet alternates ErrImagePull and ImagePullBackOff."""
    return one == other or any(one in group and other in group for group in (IMAGE_REASONS, CONFIG_REASONS))


def start_deadline(pod: PodFacts, spec: AgentSpec) -> datetime | None:
    """When a pod that has not started counts as failed; None before it is scheduled and once it has started.

    An unschedulable pod never does: the cluster is full, and its agent is not to blame.
    """
    if pod.scheduled_at is None or is_terminal(pod) or pod.main.state in ("running", "terminated"):
        return None
    if pod.main.state == "unknown" and pod.phase == "Running":
        return None
    return pod.scheduled_at + timedelta(seconds=spec.start_timeout_seconds)


def find_exit(pod: PodFacts, spec: AgentSpec, now: datetime) -> PodExit | None:
    """How the pod ended; None while it has not. The time is the container's `finishedAt`, at most `now`.

    An exit before the disruption or deletion is the agent's own; one after it is a consequence of it.
    """
    finished = min(pod.main.finished_at, now) if pod.main.finished_at is not None else None
    disrupted = _disruption(pod)
    over = pod.deleting or is_terminal(pod) or pod.main.state == "terminated"
    if over and disrupted is not None and not _is_before(finished, pod.disrupted_at):
        return PodExit(
            ExitKind.DISRUPTION,
            disrupted,
            finished or now,
            pod.main.exit_code,
            pod.disruption or pod.reason,
            pod.message,
        )
    if pod.deleting and not _is_before(finished, pod.deletion_requested_at):
        return PodExit(ExitKind.ABNORMAL, FailureCause.DELETED_BY_OTHER, finished or now, pod.main.exit_code)
    if pod.main.state == "terminated":
        return _exit(pod, spec, finished or now)
    if pod.phase == "Succeeded":
        return PodExit(ExitKind.NORMAL, FailureCause.NORMAL_EXIT, now, 0, "Completed")
    if pod.phase == "Failed":
        return PodExit(ExitKind.ABNORMAL, FailureCause.CRASH, now, pod.main.exit_code, pod.reason, pod.message)
    if pod.reported_failed is not None:
        return PodExit(ExitKind.ABNORMAL, FailureCause.REPORTED, now, reason=pod.reported_failed or "no reason given")
    deadline = start_deadline(pod, spec)
    if deadline is not None and now >= deadline:
        cause = FailureCause.IMAGE_ERROR if pod.main.reason in IMAGE_REASONS else FailureCause.CONFIG_ERROR
        return PodExit(ExitKind.ABNORMAL, cause, now, None, pod.main.reason, pod.main.message)
    return None


def exit_code_action(spec: AgentSpec, cause: FailureCause, code: int | None) -> ExitCodeAction | None:
    """The action of the first of the agent's `exitCodeRules` with this exit code; None: no rule applies."""
    if cause is not FailureCause.CRASH:
        return None
    return next((rule.action for rule in spec.fault_tolerance.exit_code_rules if code in rule.codes), None)


def is_fenced(pod: PodFacts) -> bool:
    """Whether the pod is being deleted but may still run, because its node does not answer."""
    return pod.deleting and is_live(pod) and _disruption(pod) is FailureCause.NODE_LOST


def hang_deadline(progress: Progress, timeout_seconds: int) -> datetime:
    """When a process without further progress counts as hung; the timeout starts after the end of a declared wait."""
    waiting_until = progress.waiting_until
    since = max(progress.since, waiting_until) if waiting_until is not None else progress.since
    return add_seconds(since, timeout_seconds)


def _exit(pod: PodFacts, spec: AgentSpec, time: datetime) -> PodExit:
    code, reason = pod.main.exit_code, pod.main.reason
    if reason == "OOMKilled":
        return PodExit(ExitKind.ABNORMAL, FailureCause.OOM, time, code, reason, last_line(pod.main.message))
    if code == 0 or code in spec.normal_exit_codes:
        return PodExit(ExitKind.NORMAL, FailureCause.NORMAL_EXIT, time, code, reason)
    return PodExit(ExitKind.ABNORMAL, FailureCause.CRASH, time, code, reason, last_line(pod.main.message))


def last_line(text: str | None) -> str | None:
    """The last line that is not blank: a traceback or a log has its reason there. None: there is none.

    Without unprintable characters: the agent writes the text, and terminals would interpret control sequences in it.
    """
    lines = ("".join(c for c in line if c.isprintable()).strip() for line in reversed((text or "").splitlines()))
    return next((line for line in lines if line), None)


def _disruption(pod: PodFacts) -> FailureCause | None:
    if pod.disruption is not None:
        return DISRUPTION_CAUSES.get(pod.disruption, FailureCause.EVICTED)
    return POD_REASON_CAUSES.get(pod.reason or "") if pod.phase == "Failed" else None


def _is_before(finished: datetime | None, other: datetime | None) -> bool:
    return finished is not None and other is not None and finished < other
