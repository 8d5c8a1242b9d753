"""Pods that others ended, or their nodes: whose doing it was, and what the kubelet's words mean."""

import pytest

from mabeam.api.agent_status import FailureCause
from mabeam.core.algorithms.otp import ExitKind
from mabeam.core.pods.lifecycle import PodExit, find_exit
from mabeam.core.pods.terminations import DISRUPTION_CAUSES, DISRUPTIONS, POD_REASON_CAUSES, UNKNOWN_NODE, PodNode
from mabeam.core.snapshot import ContainerFacts, OtherContainer, PodFacts
from support.builders import a_pod, an_agent, at, exited, waiting

SPEC = an_agent(normalExitCodes=[42]).spec


def ended(pod: PodFacts, node: PodNode = UNKNOWN_NODE) -> PodExit:
    found = find_exit(pod, SPEC, at(100), node)
    assert found is not None
    return found


# --- disruptions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("reason", "cause"), DISRUPTION_CAUSES.items())
def test_a_pod_deleted_for_a_disruption_was_disrupted(reason: str, cause: FailureCause) -> None:
    found = ended(a_pod(deleting=True, deletion_requested_at=at(50), disruption=reason, disrupted_at=at(50)))
    assert (found.kind, found.cause) == (ExitKind.DISRUPTION, cause)


@pytest.mark.parametrize(("reason", "cause"), [(r, c) for r, c in POD_REASON_CAUSES.items() if c in DISRUPTIONS])
@pytest.mark.parametrize("main", [ContainerFacts(), exited(137)], ids=["never reported", "killed"])
def test_a_pod_failed_by_its_node_was_disrupted(reason: str, cause: FailureCause, main: ContainerFacts) -> None:
    found = ended(a_pod(phase="Failed", reason=reason, main=main))
    assert (found.kind, found.cause) == (ExitKind.DISRUPTION, cause)


@pytest.mark.parametrize("main", [ContainerFacts(), waiting("ContainerCreating")], ids=["no status", "waiting"])
@pytest.mark.parametrize(
    "reason",
    ["OutOfexample.com/gpu", "OutOfhugepages-2Mi", "OutOfpods", "PodOSSelectorNodeLabelDoesNotMatch", "InvalidNodeInfo",
     "VolumeAttachmentLimitExceeded", "SysctlForbidden", "AppArmor", "AReasonOfALaterKubelet"],
)  # fmt: skip
def test_a_pod_that_the_kubelet_rejected_never_ran(reason: str, main: ContainerFacts) -> None:
    found = ended(a_pod(phase="Failed", reason=reason, message="Pod was rejected: no", main=main))
    assert (found.kind, found.cause, found.reason) == (ExitKind.DISRUPTION, FailureCause.EVICTED, reason)


@pytest.mark.parametrize(
    ("reason", "message", "cause"),
    [
        ("OutOfexample.com/gpu", None, FailureCause.EVICTED),
        ("ALaterReason", "Pod was rejected: again", FailureCause.EVICTED),
        ("ALaterReason", None, FailureCause.CRASH),
        (None, "Pod was rejected: without a reason", FailureCause.CRASH),
    ],
)
def test_a_pod_that_ran_was_rejected_when_the_kubelet_says_so(
    reason: str | None, message: str | None, cause: FailureCause
) -> None:
    assert ended(a_pod(phase="Failed", reason=reason, message=message, main=exited(137))).cause is cause


# --- its own limits -------------------------------------------------------------------------------------------------

OWN_LIMITS = (
    'Usage of EmptyDir volume "tmp" exceeds the limit "1Mi". ',
    "Pod ephemeral local storage usage exceeds the total limit of containers 1Mi. ",
    'Container agent exceeded its local ephemeral storage limit "1Mi". ',
)


@pytest.mark.parametrize("message", OWN_LIMITS)
@pytest.mark.parametrize("main", [exited(137), exited(0), ContainerFacts()], ids=["killed", "answered", "unseen"])
def test_an_agent_that_filled_its_own_storage_did_it_itself(message: str, main: ContainerFacts) -> None:
    found = ended(a_pod(phase="Failed", reason="Evicted", message=message, main=main))
    assert (found.kind, found.cause) == (ExitKind.ABNORMAL, FailureCause.STORAGE_EXCEEDED)
    assert str(found) == f"it used more local storage than its limit ({message.strip()})"


@pytest.mark.parametrize(
    "message",
    [
        "The node was low on resource: ephemeral-storage. Container agent was using 8Mi, request is 0, has larger consumption of "
        "ephemeral-storage. ",
        "The node had condition: [DiskPressure]. ",
        None,
    ],
)
def test_an_eviction_under_pressure_of_the_node_is_a_disruption(message: str | None) -> None:
    assert ended(a_pod(phase="Failed", reason="Evicted", message=message, main=exited(137))).kind is ExitKind.DISRUPTION


# --- the node -------------------------------------------------------------------------------------------------------

REBOOTED = PodNode("node1", was_rebooted=True)


@pytest.mark.parametrize(
    ("main", "node", "cause"),
    [
        (exited(255, reason="Unknown"), PodNode("node1"), FailureCause.NODE_LOST),
        (exited(137, reason="ContainerStatusUnknown"), PodNode("node1"), FailureCause.NODE_LOST),
        (exited(255), REBOOTED, FailureCause.NODE_LOST),
        (exited(137), REBOOTED, FailureCause.NODE_LOST),
        (exited(143), REBOOTED, FailureCause.NODE_LOST),
        (exited(255), PodNode("node1"), FailureCause.CRASH),
        (exited(3), REBOOTED, FailureCause.CRASH),
        (exited(0), REBOOTED, FailureCause.NORMAL_EXIT),
        (exited(137, reason="OOMKilled"), REBOOTED, FailureCause.OOM),
    ],
)
def test_a_process_that_went_down_with_its_node_did_not_crash(
    main: ContainerFacts, node: PodNode, cause: FailureCause
) -> None:
    found = ended(a_pod(main=main), node)
    assert found.cause is cause
    assert (found.kind is ExitKind.DISRUPTION) == (cause is FailureCause.NODE_LOST)


@pytest.mark.parametrize("reason", ["Unknown", "ContainerStatusUnknown"])
def test_an_init_container_that_went_down_with_its_node_did_not_fail(reason: str) -> None:
    init = OtherContainer("setup", "init", now=exited(255, reason=reason))
    found = ended(a_pod(phase="Failed", main=waiting("PodInitializing"), others=(init,)))
    assert (found.kind, found.cause, found.container) == (ExitKind.DISRUPTION, FailureCause.NODE_LOST, "setup")


@pytest.mark.parametrize(
    ("node", "cause"),
    [
        (PodNode("node1"), FailureCause.DELETED_BY_OTHER),
        (PodNode("node1", is_cordoned=True), FailureCause.EVICTED),
        (PodNode("node1", is_unreachable=True), FailureCause.NODE_LOST),
        (PodNode("node1", is_unreachable=True, is_cordoned=True), FailureCause.NODE_LOST),
        (PodNode("node1", is_gone=True), FailureCause.NODE_LOST),
    ],
)
def test_who_deletes_a_pod_of_a_node_that_is_drained_or_lost_is_the_cluster(node: PodNode, cause: FailureCause) -> None:
    going = a_pod(deleting=True, deletion_requested_at=at(50))
    assert ended(going, node).cause is cause
    crashed = a_pod(main=exited(3, 40), deleting=True, deletion_requested_at=at(50))
    assert ended(crashed, node).cause is FailureCause.CRASH


def test_a_disruption_of_a_kind_nobody_knows_yet_is_an_eviction() -> None:
    assert ended(a_pod(deleting=True, disruption="NewKind", disrupted_at=at(5))).cause is FailureCause.EVICTED


def test_what_was_killed_by_a_disruption_is_the_disruptions_victim() -> None:
    pod = a_pod(main=exited(137, 60), disruption="TerminationByKubelet", disrupted_at=at(50))
    found = ended(pod)
    assert (found.kind, found.time, found.exit_code) == (ExitKind.DISRUPTION, at(60), 137)


def test_an_exit_before_the_disruption_is_the_agents_own() -> None:
    pod = a_pod(main=exited(1, 40), disruption="EvictionByEvictionAPI", disrupted_at=at(50))
    assert (ended(pod).kind, ended(pod).cause) == (ExitKind.ABNORMAL, FailureCause.CRASH)


@pytest.mark.parametrize("code", [0, 143, 137])
def test_the_kubelet_announces_its_disruption_when_the_process_has_ended(code: int) -> None:
    pod = a_pod(main=exited(code, 40), disruption="TerminationByKubelet", disrupted_at=at(41))
    assert (ended(pod).kind, ended(pod).cause) == (ExitKind.DISRUPTION, FailureCause.EVICTED)
