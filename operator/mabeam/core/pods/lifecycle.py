"""Pod facts → what became of the agent's process: the main container decides, else the pod's phase."""

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

    kind: ExitKind
    cause: FailureCause
    time: datetime
    exit_code: int | None = None
    reason: str | None = None
    message: str | None = None

    def __str__(self) -> str:
        """The ending in words, for messages."""
        if self.cause is FailureCause.NORMAL_EXIT:
            return f"exit code {self.exit_code} (normal)"
        if self.cause is FailureCause.CRASH and self.exit_code is not None:
            return describe_exit_code(self.exit_code, self.message)
        detail = self.message if self.cause in START_FAILURE_CAUSES else None
        words = CAUSE_DESCRIPTIONS.get(self.cause, str(self.cause))
        return f"{words} ({detail or self.reason})" if detail or self.reason else words


# A sentence goes on after them.
_WORDS_LENGTH: Final = 256


def describe_exit_code(code: int, message: str | None) -> str:
    """An exit code in words, with what the process said of it."""
    return f"exit code {code}: {message[:_WORDS_LENGTH]}" if message else f"exit code {code}"


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

# Reasons of the pod condition DisruptionTarget (KEP-3329).
DISRUPTION_CAUSES: Final = {
    "PreemptionByScheduler": FailureCause.PREEMPTED,
    "DeletionByTaintManager": FailureCause.NODE_LOST,
    "DeletionByPodGC": FailureCause.NODE_LOST,
    "EvictionByEvictionAPI": FailureCause.EVICTED,
    "TerminationByKubelet": FailureCause.EVICTED,
}
# Values of `status.reason` that a pod's death by its node or by the scheduler leaves behind. The lower half are the
# kubelet's admission refusals: the pod never ran, its agent has done nothing wrong.
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

    The kubelet tells of the container before it tells of the phase; with `restartPolicy: Never` the former is enough.
    """
    return pod.phase in TERMINAL_PHASES or (pod.main.state == "terminated" and not pod.others_running)


def is_live(pod: PodFacts) -> bool:
    """Whether a process of the pod may still run: only a terminal phase, or the object's absence, proves it does not."""
    return not is_terminal(pod)


def is_running(pod: PodFacts) -> bool:
    """Whether the main container runs."""
    if pod.deleting or is_terminal(pod):
        return False
    return pod.main.state == "running" or (pod.main.state == "unknown" and pod.phase == "Running")


def is_ready(pod: PodFacts) -> bool:
    """Whether the main container runs and the kubelet calls the pod Ready."""
    return is_running(pod) and pod.ready


def start_failure_reason(pod: PodFacts) -> str | None:
    """Why the pod cannot start, in the kubelet's own word; None when nothing says that it cannot."""
    if pod.main.state == "waiting" and pod.main.reason in IMAGE_REASONS | CONFIG_REASONS:
        return pod.main.reason
    return None


def is_same_start_failure(one: str, other: str | None) -> bool:
    """Whether two reasons tell of the same trouble: the kubelet alternates ErrImagePull and ImagePullBackOff at every try."""
    return one == other or any(one in kin and other in kin for kin in (IMAGE_REASONS, CONFIG_REASONS))


def start_deadline(pod: PodFacts, spec: AgentSpec) -> datetime | None:
    """When a pod that has not started becomes a failure; None before it is scheduled and once it has started.

    An unschedulable pod waits for ever: the cluster is full, the agent has done nothing wrong.
    """
    if pod.scheduled_at is None or is_terminal(pod) or pod.main.state in ("running", "terminated"):
        return None
    if pod.main.state == "unknown" and pod.phase == "Running":
        return None
    return pod.scheduled_at + timedelta(seconds=spec.start_timeout_seconds)


def find_exit(pod: PodFacts, spec: AgentSpec, now: datetime) -> PodExit | None:
    """How the pod ended, None while it has not; the time is the container's `finishedAt`, bounded by `now`.

    An exit that came before the disruption or the deletion is the agent's own; one that followed it is its consequence.
    """
    finished = min(pod.main.finished_at, now) if pod.main.finished_at is not None else None
    disrupted = _disruption(pod)
    over = pod.deleting or is_terminal(pod) or pod.main.state == "terminated"
    if over and disrupted is not None and not _came_first(finished, pod.disrupted_at):
        return PodExit(
            ExitKind.DISRUPTION,
            disrupted,
            finished or now,
            pod.main.exit_code,
            pod.disruption or pod.reason,
            pod.message,
        )
    if pod.deleting and not _came_first(finished, pod.deletion_requested_at):
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
    """What the first of the agent's rules that names the code says of such an exit; None when it is a failure like any other."""
    if cause is not FailureCause.CRASH:
        return None
    return next((rule.action for rule in spec.fault_tolerance.exit_code_rules if code in rule.codes), None)


def is_fenced(pod: PodFacts) -> bool:
    """Whether the pod may still run on a node that the cluster has lost sight of; its object stays until that is settled."""
    return pod.deleting and is_live(pod) and _disruption(pod) is FailureCause.NODE_LOST


def hang_deadline(progress: Progress, timeout_seconds: int) -> datetime:
    """When a process that goes on like this is taken for hung: never while it says that it waits."""
    waits = progress.waiting_until
    since = max(progress.since, waits) if waits is not None else progress.since
    return add_seconds(since, timeout_seconds)


def _exit(pod: PodFacts, spec: AgentSpec, time: datetime) -> PodExit:
    code, reason = pod.main.exit_code, pod.main.reason
    if reason == "OOMKilled":
        return PodExit(ExitKind.ABNORMAL, FailureCause.OOM, time, code, reason, last_line(pod.main.message))
    if code == 0 or code in spec.normal_exit_codes:
        return PodExit(ExitKind.NORMAL, FailureCause.NORMAL_EXIT, time, code, reason)
    return PodExit(ExitKind.ABNORMAL, FailureCause.CRASH, time, code, reason, last_line(pod.main.message))


def last_line(text: str | None) -> str | None:
    """The last line of a termination message that says something: there the reason is, in a traceback or a log.

    It comes from the agent, and goes to terminals: without what they would obey.
    """
    lines = ("".join(c for c in line if c.isprintable()).strip() for line in reversed((text or "").splitlines()))
    return next((line for line in lines if line), None)


def _disruption(pod: PodFacts) -> FailureCause | None:
    if pod.disruption is not None:
        return DISRUPTION_CAUSES.get(pod.disruption, FailureCause.EVICTED)
    return POD_REASON_CAUSES.get(pod.reason or "") if pod.phase == "Failed" else None


def _came_first(finished: datetime | None, other: datetime | None) -> bool:
    return finished is not None and other is not None and finished < other
