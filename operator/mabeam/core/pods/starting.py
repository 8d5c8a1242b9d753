"""Starting: what keeps a pod's containers from starting, since when that counts, and what a pod waits for that has no fault."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from mabeam.api.agent import AgentSpec, SidecarFailurePolicy
from mabeam.api.agent_status import FailureCause
from mabeam.core.conventions.times import add_seconds
from mabeam.core.snapshot import ContainerFacts, OtherContainer, PodFacts

# The kubelet's waiting reasons about images (pkg/kubelet/images/types.go).
IMAGE_REASONS: Final = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "ErrImageNeverPull",
        "InvalidImageName",
        "ImageInspectError",
        "RegistryUnavailable",
        "SignatureValidationFailed",
        "ImageVolumeMountFailed",
    }
)
# Those about making and starting a container (pkg/kubelet/kuberuntime/kuberuntime_container.go).
CONFIG_REASONS: Final = frozenset(
    {
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
        "PreCreateHookError",
        "PreStartHookError",
        "PostStartHookError",
    }
)
CRASH_LOOP: Final = "CrashLoopBackOff"
# Waiting without a fault: sandbox, network, volumes or the image are on their way, or init containers run.
_ON_THE_WAY: Final = frozenset({None, "", "ContainerCreating", "PodInitializing"})
# A start that takes no longer is not worth a status write of its own.
SHORT_START_SECONDS: Final = 10


@dataclass(frozen=True, slots=True)
class StartFailure:
    """A container that the kubelet cannot start, and why."""

    container: str
    role: Literal["main", "init", "native", "regular"]
    image: str | None
    reason: str  # the kubelet's waiting reason
    message: str | None = None  # the kubelet's
    exit_code: int | None = None  # of its last process, if the kubelet has started it before

    @property
    def cause(self) -> FailureCause:
        """The cause of the pod's end, if it does not start in time."""
        if self.reason in IMAGE_REASONS:
            return FailureCause.IMAGE_ERROR
        if self.reason != CRASH_LOOP:
            return FailureCause.CONFIG_ERROR
        return FailureCause.CRASH if self.role == "init" else FailureCause.SIDECAR_FAILED

    @property
    def detail(self) -> str:
        """What cannot be started, and the kubelet's words; its message about the main container names the image itself."""
        if self.role == "main" and self.message:
            return self.message
        name = f"{CONTAINER_NAMES[self.role]} {self.container}".rstrip()
        image = f", image {self.image}" if self.image and self.reason in IMAGE_REASONS else ""
        code = f", exit code {self.exit_code}" if self.exit_code is not None else ""
        return f"{name}{image}: {self.reason}{code}" + (f": {self.message}" if self.message else "")


CONTAINER_NAMES: Final = {
    "main": "container",
    "init": "init container",
    "native": "sidecar",
    "regular": "container",
}


def start_failure(pod: PodFacts, spec: AgentSpec) -> StartFailure | None:
    """Why the pod cannot start; None when it runs, has ended, or waits for nothing that has failed.

    What keeps a sidecar from starting beside a main container that runs counts only with `sidecarFailure: Fail`.
    """
    if pod.main.state == "terminated":
        return None
    if pod.main.state == "running":
        counts = spec.sidecar_failure is SidecarFailurePolicy.FAIL and not pod.ready
        candidates = [other for other in pod.others if counts and other.role == "regular"]
    else:
        candidates = [other for other in pod.others if other.role != "regular"]
    found = (failure_to_start(other) for other in candidates)
    first = next((failure for failure in found if failure is not None), None)
    if first is None and is_waiting_in_vain(pod.main):
        return StartFailure(pod.main_name, "main", pod.main_image, pod.main.reason or "", pod.main.message)
    return first


def failure_to_start(other: OtherContainer) -> StartFailure | None:
    """Why the kubelet cannot start the container; None when it can, or has."""
    if not is_waiting_in_vain(other.now):
        return None
    code = other.last_end.exit_code if other.last_end is not None else None
    # What the kubelet says of a crash loop is how long it waits.
    message = other.now.message if other.now.reason != CRASH_LOOP else None
    return StartFailure(other.name, other.role, other.image, other.now.reason or "", message, code)


def is_waiting_in_vain(container: ContainerFacts) -> bool:
    """Whether the kubelet says that it cannot start the container."""
    return container.state == "waiting" and container.reason not in _ON_THE_WAY


def is_same_start_failure(one: str, other: str | None) -> bool:
    """Whether two waiting reasons mean the same failure: the kubelet alternates ErrImagePull and ImagePullBackOff."""
    return one == other or any(one in group and other in group for group in (IMAGE_REASONS, CONFIG_REASONS))


def start_deadline(pod: PodFacts, spec: AgentSpec) -> datetime | None:
    """When a pod that cannot start counts as failed; None while nothing is wrong with it.

    `startTimeoutSeconds` runs from when its containers can start: scheduled, with sandbox and volumes, init containers done. A
    pod without room, one whose image is being pulled and one whose init container works wait, however long: as in OTP, where
    a child's start has no timeout. A postStart hook looks like a pull and may never return: it has the same timeout.
    """
    if pod.scheduled_at is None or pod.phase in ("Succeeded", "Failed"):
        return None
    hook_may_hang = pod.has_start_hook and pod.main.state == "waiting" and waits_for_init(pod) is None
    if start_failure(pod, spec) is None and not hook_may_hang:
        return None
    ends = [other.now.finished_at for other in pod.others if other.role == "init"]
    since = max(at for at in (pod.scheduled_at, pod.containers_ready_at, *ends) if at is not None)
    return add_seconds(since, spec.start_timeout_seconds)


def waits_for_init(pod: PodFacts) -> OtherContainer | None:
    """The container that has to end, or as a native sidecar to start, before the main one does; None: there is none."""
    return next((other for other in pod.others if _holds_back(other)), None)


def _holds_back(other: OtherContainer) -> bool:
    done = {"init": ("terminated",), "native": ("running", "terminated")}.get(other.role)
    return done is not None and other.now.state not in done


def wait_description(pod: PodFacts, spec: AgentSpec) -> str | None:
    """What a pod that is scheduled waits for, though nothing is wrong with it; None when something is, or when it runs."""
    if pod.scheduled_at is None or pod.main.state in ("running", "terminated"):
        return None
    if start_failure(pod, spec) is not None:
        return None
    if pod.main.state == "unknown":
        return f"the kubelet of {pod.node} has not reported it yet"
    init = waits_for_init(pod)
    if init is not None and init.now.state == "running":
        since = f" since {init.now.started_at:%H:%M:%S} UTC" if init.now.started_at else ""
        return f"its init container {init.name} runs{since}"
    name, image = (init.name, init.image) if init is not None else (pod.main_name, pod.main_image)
    pulled = f"the image {image} of container {name} is being pulled"
    return pulled if pod.containers_ready_at is not None else f"its volumes and network are made ready, or {pulled}"


def worth_telling_at(pod: PodFacts) -> datetime | None:
    """When a start has taken so long that what it waits for is worth a status write; None before it is scheduled."""
    return add_seconds(pod.scheduled_at, SHORT_START_SECONDS) if pod.scheduled_at is not None else None
