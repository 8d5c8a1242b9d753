"""Terminations: ends of a pod that somebody else decided (its kubelet, a controller, a person) or that its node caused.

Sources: KEP-3329 (DisruptionTarget); in pkg/kubelet lifecycle/predicate.go, kubelet.go (rejectPod), eviction/helpers.go,
active_deadline.go and kubelet_pods.go (convertToAPIContainerStatuses); containerd, pkg/cri (loadContainer).
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from mabeam.api.agent_status import FailureCause
from mabeam.core.snapshot import ContainerFacts, PodFacts

# Ends that the cluster caused. Every other cause is one of the agent, or of a person.
DISRUPTIONS: Final = frozenset({FailureCause.EVICTED, FailureCause.PREEMPTED, FailureCause.NODE_LOST})

# Reason of the pod condition DisruptionTarget → cause; one that is not listed is an eviction.
DISRUPTION_CAUSES: Final[Mapping[str, FailureCause]] = {
    "PreemptionByScheduler": FailureCause.PREEMPTED,
    "DeletionByTaintManager": FailureCause.NODE_LOST,
    "DeletionByPodGC": FailureCause.NODE_LOST,
    "EvictionByEvictionAPI": FailureCause.EVICTED,
    "TerminationByKubelet": FailureCause.EVICTED,
}
# The kubelet publishes its condition when the pod's containers have ended (status_manager.go, mergePodStatus), so the
# condition is never older than the exit that it caused.
_ANNOUNCED_AFTERWARDS: Final = "TerminationByKubelet"

# A Failed pod's `status.reason` → cause. Also those that a pod can get which ran: after a restart of the kubelet its admission
# judges running pods anew. What is not listed and never ran was rejected, for whatever reason a later kubelet may have.
POD_REASON_CAUSES: Final[Mapping[str, FailureCause]] = {
    "Evicted": FailureCause.EVICTED,
    "Preempting": FailureCause.PREEMPTED,
    "NodeLost": FailureCause.NODE_LOST,
    "NodeShutdown": FailureCause.NODE_LOST,
    "Shutdown": FailureCause.NODE_LOST,
    "Terminated": FailureCause.NODE_LOST,
    "DeadlineExceeded": FailureCause.DEADLINE_EXCEEDED,
    "NodeAffinity": FailureCause.EVICTED,
    "NodePorts": FailureCause.EVICTED,
    "TaintToleration": FailureCause.EVICTED,
    "PodOSNotSupported": FailureCause.EVICTED,
    "UnexpectedAdmissionError": FailureCause.EVICTED,
    "TopologyAffinityError": FailureCause.EVICTED,
}
_INSUFFICIENT_PREFIX: Final = "OutOf"  # OutOfcpu, OutOfpods, OutOfhugepages-2Mi, OutOfexample.com/gpu
_REJECTED_PREFIX: Final = "Pod was rejected"

# The kubelet's messages about a pod that used more local storage than its own limits allow. Under pressure of the node it begins
# with "The node was low on resource".
OWN_LIMIT_MESSAGES: Final = re.compile(
    r"Usage of EmptyDir volume .* exceeds the limit"
    r"|Pod ephemeral local storage usage exceeds the total limit of containers"
    r"|Container .* exceeded its local ephemeral storage limit",
    re.IGNORECASE,
)

# Reasons of a terminated container whose end nobody saw: containerd's after a restart of the node (exit code 255), and the
# kubelet's for a container that it cannot find (exit code 137, which says nothing).
UNSEEN_END_REASONS: Final = frozenset({"Unknown", "ContainerStatusUnknown"})
# Exit codes of a process that a reboot ended: unknown to the runtime, or killed by SIGKILL or SIGTERM.
REBOOT_EXIT_CODES: Final = frozenset({255, 137, 143})


@dataclass(frozen=True, slots=True)
class PodNode:
    """The node that a pod is or was on, as far as it explains the pod's end."""

    name: str | None = None  # None: not scheduled, or not known
    is_gone: bool = False  # nodes are observed, and it is none of them
    is_cordoned: bool = False  # it takes no new pods, or is being drained or deleted
    is_unreachable: bool = False  # its kubelet does not answer
    was_rebooted: bool = False  # it was started again since the pod's process started


UNKNOWN_NODE: Final = PodNode()


@dataclass(frozen=True, slots=True)
class Termination:
    """Why a pod ended that did not end by itself."""

    cause: FailureCause
    reason: str | None = None
    message: str | None = None


def find_termination(pod: PodFacts, node: PodNode, finished: datetime | None) -> Termination | None:
    """Why the pod, which is over, was ended by others or by its node; None when its process ended by itself.

    `finished`: when the process ended, None while that is not known. An exit before a disruption or deletion is its own.
    """
    found = (rule(pod, node, finished) for rule in _RULES)
    return next((termination for termination in found if termination is not None), None)


def announced_cause(reason: str) -> FailureCause:
    """The cause that a condition DisruptionTarget with this reason announces, whichever controller wrote it."""
    return DISRUPTION_CAUSES.get(reason, FailureCause.EVICTED)


def deletion_cause(node: PodNode) -> Termination:
    """Why a pod was deleted that the operator did not delete: by its node's fate or drain, else by somebody.

    `kubectl drain --disable-eviction`, and autoscalers at their deadline, delete pods without the condition DisruptionTarget.
    """
    if node.is_gone:
        return Termination(FailureCause.NODE_LOST, node.name)
    if node.is_unreachable:
        return Termination(FailureCause.NODE_LOST, f"{node.name} does not answer")
    if node.is_cordoned:
        return Termination(FailureCause.EVICTED, f"{node.name} is cordoned")
    return Termination(FailureCause.DELETED_BY_OTHER)


def has_unseen_end(container: ContainerFacts) -> bool:
    """Whether the container ended without anybody seeing it: with its node, or with its runtime's records."""
    return container.state == "terminated" and container.reason in UNSEEN_END_REASONS


def _by_condition(pod: PodFacts, _: PodNode, finished: datetime | None) -> Termination | None:
    if pod.disruption is None:
        return None
    if pod.disruption != _ANNOUNCED_AFTERWARDS and _is_before(finished, pod.disrupted_at):
        return None
    return Termination(announced_cause(pod.disruption), pod.disruption or pod.reason, _stripped(pod.message))


def _by_status_reason(pod: PodFacts, _: PodNode, __: datetime | None) -> Termination | None:
    if pod.phase != "Failed" or not pod.reason:
        return None
    cause = POD_REASON_CAUSES.get(pod.reason)
    if pod.reason == "Evicted" and OWN_LIMIT_MESSAGES.match(pod.message or ""):
        cause = FailureCause.STORAGE_EXCEEDED
    if cause is None and _was_rejected(pod):
        cause = FailureCause.EVICTED
    return Termination(cause, pod.reason, _stripped(pod.message)) if cause is not None else None


def _was_rejected(pod: PodFacts) -> bool:
    """Whether the kubelet's admission refused the Failed pod: its process never ran, so its agent cannot be to blame."""
    never_ran = pod.main.state in ("unknown", "waiting")
    is_refused = (pod.reason or "").startswith(_INSUFFICIENT_PREFIX) or (pod.message or "").startswith(_REJECTED_PREFIX)
    return never_ran or is_refused


def _by_deletion(pod: PodFacts, node: PodNode, finished: datetime | None) -> Termination | None:
    if not pod.deleting or _is_before(finished, pod.deletion_requested_at):
        return None
    return deletion_cause(node)


def _by_reboot(pod: PodFacts, node: PodNode, _: datetime | None) -> Termination | None:
    main = pod.main
    if has_unseen_end(main):
        return Termination(FailureCause.NODE_LOST, main.reason, main.message)
    if main.state == "terminated" and node.was_rebooted and main.exit_code in REBOOT_EXIT_CODES:
        return None if main.reason == "OOMKilled" else Termination(FailureCause.NODE_LOST, f"{node.name} was rebooted")
    return None


_RULES: Final[tuple[Callable[[PodFacts, PodNode, datetime | None], Termination | None], ...]] = (
    _by_condition,
    _by_status_reason,
    _by_deletion,
    _by_reboot,
)


def _stripped(message: str | None) -> str | None:
    """The message without the blank at the end of the kubelet's: it stands inside others."""
    return (message or "").strip() or None


def _is_before(finished: datetime | None, other: datetime | None) -> bool:
    return finished is not None and other is not None and finished < other
