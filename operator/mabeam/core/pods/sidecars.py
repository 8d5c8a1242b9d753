"""Sidecars: containers beside the main one. Which of them has failed, in words, and whether that ends the agent's pod.

Nothing restarts a regular container (`restartPolicy: Never`), and a pod of which one has ended is never Ready again; a native
sidecar (KEP-753) is restarted by the kubelet. `spec.sidecarFailure` says whether a failed one counts as the agent's failure.
"""

from dataclasses import dataclass
from datetime import datetime

from mabeam.api.agent import AgentSpec, SidecarFailurePolicy
from mabeam.api.agent_status import FailureCause
from mabeam.api.names import Reason
from mabeam.core.algorithms.otp import ExitKind
from mabeam.core.pods.lifecycle import PodExit, describe_exit_code, last_line
from mabeam.core.pods.starting import CONTAINER_NAMES, failure_to_start
from mabeam.core.snapshot import ContainerFacts, OtherContainer, PodFacts


@dataclass(frozen=True, slots=True)
class SidecarFailure:
    """A sidecar because of which a pod whose main container runs is not Ready."""

    reason: str  # `SidecarFailed`, or the kubelet's waiting reason
    message: str  # names the container; the same until its state changes
    is_final: bool = False  # nothing starts it again


def sidecar_failure(pod: PodFacts) -> SidecarFailure | None:
    """The first sidecar that has ended or cannot start, while the main container runs and the pod is not Ready."""
    if pod.main.state != "running" or pod.ready or pod.deleting:
        return None
    found = (_failure_of(other) for other in pod.others if other.role != "init")
    return next((failure for failure in found if failure is not None), None)


def find_sidecar_exit(pod: PodFacts, spec: AgentSpec, now: datetime) -> PodExit | None:
    """How the pod ended by the failure of a sidecar; None when none failed, or `sidecarFailure` is Ignore.

    As with linked processes in Erlang, a normal end (exit code 0) takes nobody along.
    """
    if spec.sidecar_failure is SidecarFailurePolicy.IGNORE or pod.main.state != "running" or pod.deleting:
        return None
    for other in pod.others:
        end = _last_end(other)
        if end is None or end.exit_code == 0 or _is_before_main(pod, end):
            continue
        time = min(end.finished_at or now, now)
        message = last_line(end.message)
        cause = FailureCause.SIDECAR_FAILED
        return PodExit(ExitKind.ABNORMAL, cause, time, end.exit_code, end.reason, message, other.name)
    return None


def _failure_of(other: OtherContainer) -> SidecarFailure | None:
    end = _last_end(other)
    if end is not None and not (other.now.state == "running" and other.ready):
        code = describe_exit_code(end.exit_code or 0, last_line(end.message))
        what = f"{CONTAINER_NAMES[other.role]} {other.name} ended with {code}"
        if other.role == "native":
            return SidecarFailure(Reason.SIDECAR_FAILED, f"{what}; the kubelet restarts it")
        return SidecarFailure(Reason.SIDECAR_FAILED, f"{what}, and without it the pod is never Ready", True)
    failure = failure_to_start(other)
    return SidecarFailure(failure.reason, failure.detail) if failure is not None else None


def _last_end(other: OtherContainer) -> ContainerFacts | None:
    if other.role == "init":
        return None
    return other.now if other.now.state == "terminated" else other.last_end


def _is_before_main(pod: PodFacts, end: ContainerFacts) -> bool:
    """Whether the sidecar's process ended before the main container started: then the start had to wait, no more."""
    started = pod.main.started_at
    return end.finished_at is not None and started is not None and end.finished_at < started
