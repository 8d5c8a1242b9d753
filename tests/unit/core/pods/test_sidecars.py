"""Sidecars that fail: what is said of them, and when they end the agent's pod."""

from typing import Any

import pytest

from mabeam.api.agent_status import FailureCause
from mabeam.core.algorithms.otp import ExitKind
from mabeam.core.pods.sidecars import SidecarFailure, find_sidecar_exit, sidecar_failure
from mabeam.core.snapshot import OtherContainer
from support.builders import a_pod, a_sidecar, an_agent, an_init, at, exited, running, waiting

IGNORE = an_agent().spec
FAIL = an_agent(sidecarFailure="Fail").spec
NEVER = "and without it the pod is never Ready"


@pytest.mark.parametrize(
    ("other", "failure"),
    [
        (a_sidecar(exited(1)), SidecarFailure("SidecarFailed", f"container proxy ended with exit code 1, {NEVER}", True)),
        (
            a_sidecar(exited(1, message="Traceback\nno route")),
            SidecarFailure("SidecarFailed", f"container proxy ended with exit code 1: no route, {NEVER}", True),
        ),
        (a_sidecar(exited(0)), SidecarFailure("SidecarFailed", f"container proxy ended with exit code 0, {NEVER}", True)),
        (
            a_sidecar(waiting("CrashLoopBackOff"), role="native", last_end=exited(3)),
            SidecarFailure("SidecarFailed", "sidecar proxy ended with exit code 3; the kubelet restarts it"),
        ),
        (
            a_sidecar(running(), role="native", last_end=exited(3), ready=False),
            SidecarFailure("SidecarFailed", "sidecar proxy ended with exit code 3; the kubelet restarts it"),
        ),
        (a_sidecar(running(), role="native", last_end=exited(3)), None),
        (
            a_sidecar(waiting("ImagePullBackOff")),
            SidecarFailure("ImagePullBackOff", "container proxy, image y: ImagePullBackOff"),
        ),
        (a_sidecar(running()), None),
        (a_sidecar(waiting("ContainerCreating")), None),
        (an_init(exited(0)), None),
    ],
)  # fmt: skip
def test_the_sidecar_that_keeps_a_pod_from_being_ready_is_named(
    other: OtherContainer, failure: SidecarFailure | None
) -> None:
    assert sidecar_failure(a_pod(ready=False, others=(other,))) == failure


@pytest.mark.parametrize("facts", [{"ready": True}, {"main": exited(1)}, {"deleting": True}])
def test_nothing_is_said_of_the_sidecars_of_a_pod_that_is_ready_or_over(facts: dict[str, Any]) -> None:
    assert sidecar_failure(a_pod(others=(a_sidecar(exited(1)),), **{"ready": False, **facts})) is None


@pytest.mark.parametrize(
    ("other", "code"),
    [
        (a_sidecar(exited(1, 40)), 1),
        (a_sidecar(exited(137, 40, reason="OOMKilled")), 137),
        (a_sidecar(running(), role="native", last_end=exited(3, 40)), 3),
        (a_sidecar(exited(0, 40)), None),
        (a_sidecar(running(), role="native", last_end=exited(3, 4)), None),
        (a_sidecar(running()), None),
        (an_init(exited(0)), None),
    ],
    ids=["ended", "out of memory", "restarted", "normally", "before the agent started", "runs", "an init container"],
)
def test_a_sidecar_that_fails_beside_the_process_ends_the_pod_by_policy_alone(
    other: OtherContainer, code: int | None
) -> None:
    pod = a_pod(main=running(10), ready=False, others=(other,))
    assert find_sidecar_exit(pod, IGNORE, at(100)) is None
    found = find_sidecar_exit(pod, FAIL, at(100))
    if code is None:
        assert found is None
        return
    assert found is not None
    assert (found.kind, found.cause, found.exit_code) == (ExitKind.ABNORMAL, FailureCause.SIDECAR_FAILED, code)
    assert (found.time, found.container) == (at(40), "proxy")


def test_the_end_by_a_sidecar_in_words() -> None:
    pod = a_pod(ready=False, others=(a_sidecar(exited(2, 40, message="no route")),))
    assert str(find_sidecar_exit(pod, FAIL, at(100))) == "its sidecar failed (exit code 2 of container proxy: no route)"


def test_the_main_container_decides_once_it_has_ended() -> None:
    assert find_sidecar_exit(a_pod(main=exited(0), others=(a_sidecar(exited(1)),)), FAIL, at(100)) is None
