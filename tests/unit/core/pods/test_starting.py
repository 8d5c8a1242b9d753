"""What keeps a pod from starting, and what only takes its time."""

from typing import Any

import pytest

from mabeam.api.agent_status import FailureCause
from mabeam.core.pods.lifecycle import find_exit
from mabeam.core.pods.starting import (
    is_same_start_failure,
    start_deadline,
    start_failure,
    wait_description,
    worth_telling_at,
)
from mabeam.core.snapshot import ContainerFacts, PodFacts
from support.builders import a_pod, a_sidecar, an_agent, an_init, at, exited, running, waiting

SPEC = an_agent(startTimeoutSeconds=300).spec
STRICT = an_agent(startTimeoutSeconds=300, sidecarFailure="Fail").spec
INIT_WAITS = waiting("PodInitializing")
READY = {"containers_ready_at": at(1)}


def reason(pod: PodFacts) -> str | None:
    failure = start_failure(pod, SPEC)
    return failure.reason if failure is not None else None


# --- what is wrong --------------------------------------------------------------------------------------------------


def test_a_start_fails_for_what_the_kubelet_calls_so() -> None:
    assert reason(a_pod(main=waiting("ErrImagePull"))) == "ErrImagePull"
    assert reason(a_pod(main=waiting("ContainerCreating"))) is None
    assert reason(a_pod(main=waiting("PodInitializing"))) is None
    assert reason(a_pod()) is None


@pytest.mark.parametrize(
    ("pod", "cause", "code", "container", "words"),
    [
        (
            {"main": waiting("ImagePullBackOff"), "main_name": "agent", "main_image": "x:1"},
            FailureCause.IMAGE_ERROR, None, None, "container agent, image x:1: ImagePullBackOff",
        ),
        (
            {"main": waiting("ErrImagePull", "no such image")},
            FailureCause.IMAGE_ERROR, None, None, "no such image",
        ),
        (
            {"main": INIT_WAITS, "others": (an_init(waiting("ErrImagePull", "denied"), image="y:1"),)},
            FailureCause.IMAGE_ERROR, None, "setup", "init container setup, image y:1: ErrImagePull: denied",
        ),
        (
            {"main": INIT_WAITS, "others": (an_init(waiting("CreateContainerConfigError", "secret not found")),)},
            FailureCause.CONFIG_ERROR, None, "setup",
            "init container setup: CreateContainerConfigError: secret not found",
        ),
        (
            {"main": INIT_WAITS, "others": (a_sidecar(waiting("InvalidImageName"), role="native", image="!"),)},
            FailureCause.IMAGE_ERROR, None, "proxy", "sidecar proxy, image !: InvalidImageName",
        ),
        (
            {
                "main": INIT_WAITS,
                "others": (a_sidecar(waiting("CrashLoopBackOff", "back-off 40s"), role="native", last_end=exited(3)),),
            },
            FailureCause.SIDECAR_FAILED, 3, "proxy", "sidecar proxy: CrashLoopBackOff, exit code 3",
        ),
    ],
)  # fmt: skip
def test_what_cannot_start_is_named_and_has_failed_when_the_time_is_over(
    pod: dict[str, Any], cause: FailureCause, code: int | None, container: str | None, words: str
) -> None:
    facts = a_pod(**pod)
    assert find_exit(facts, SPEC, at(299)) is None
    found = find_exit(facts, SPEC, at(300))
    assert found is not None
    assert (found.cause, found.exit_code, found.container, found.message) == (cause, code, container, words)


def test_a_sidecar_that_cannot_start_beside_a_process_that_runs_counts_only_by_its_policy() -> None:
    pod = a_pod(ready=False, others=(a_sidecar(waiting("ImagePullBackOff"), image="y:1"),))
    assert find_exit(pod, SPEC, at(9000)) is None
    found = find_exit(pod, STRICT, at(300))
    assert found is not None
    assert (found.cause, found.container) == (FailureCause.IMAGE_ERROR, "proxy")
    assert find_exit(pod, STRICT, at(299)) is None


def test_the_kubelets_two_words_for_a_missing_image_are_one_failure() -> None:
    assert is_same_start_failure("ErrImagePull", "ImagePullBackOff")
    assert not is_same_start_failure("ErrImagePull", "CreateContainerConfigError")
    assert not is_same_start_failure("ErrImagePull", None)


# --- since when it counts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "deadline"),
    [
        ({"main": waiting("ErrImagePull"), "scheduled_at": at(5)}, 305),
        ({"main": waiting("ErrImagePull"), "scheduled_at": at(5), "containers_ready_at": at(60)}, 360),
        ({"main": waiting("ErrImagePull"), "others": (an_init(exited(0, 900)),)}, 1200),
        ({"main": waiting("ErrImagePull"), "scheduled_at": None}, None),
        ({"main": running()}, None),
        ({"main": exited(1)}, None),
        ({"main": ContainerFacts(), "phase": "Running"}, None),
        ({"main": waiting("ContainerCreating")}, None),
        ({"main": waiting("ContainerCreating"), "has_start_hook": True}, 300),
        ({"main": INIT_WAITS, "has_start_hook": True, "others": (an_init(running()),)}, None),
    ],
)
def test_the_start_timeout_runs_from_when_the_containers_could_start(
    facts: dict[str, Any], deadline: int | None
) -> None:
    assert start_deadline(a_pod(**facts), SPEC) == (at(deadline) if deadline is not None else None)


def test_a_start_hook_that_never_returns_is_a_start_that_failed() -> None:
    found = find_exit(a_pod(main=waiting("ContainerCreating"), has_start_hook=True), SPEC, at(300))
    assert found is not None
    assert (found.cause, found.reason) == (FailureCause.CONFIG_ERROR, "ContainerCreating")


# --- what only takes its time ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"others": (an_init(running(3)),)}, "its init container setup runs since 00:00:03 UTC"),
        ({"others": (an_init(INIT_WAITS, image="y:1"),), **READY}, "the image y:1 of container setup is being pulled"),
        ({"others": (an_init(exited(0)), an_init(running(9), "more"))}, "its init container more runs since 00:00:09 UTC"),
        ({"others": (an_init(exited(0)),), **READY}, "the image x:1 of container agent is being pulled"),
        (
            {"others": (a_sidecar(INIT_WAITS, role="native"),), **READY},
            "the image y of container proxy is being pulled",
        ),
        ({}, "its volumes and network are made ready, or the image x:1 of container agent is being pulled"),
        ({"main": ContainerFacts()}, "the kubelet of node1 has not reported it yet"),
        ({"main": running()}, None),
        ({"scheduled_at": None}, None),
        ({"main": waiting("ErrImagePull")}, None),
    ],
)  # fmt: skip
def test_a_pod_that_takes_its_time_says_for_what_and_never_fails(facts: dict[str, Any], words: str | None) -> None:
    pod = a_pod(**{"main": INIT_WAITS, "main_name": "agent", "main_image": "x:1", **facts})
    assert wait_description(pod, SPEC) == words
    if words is not None:
        assert find_exit(pod, SPEC, at(1_000_000)) is None


def test_a_short_start_is_not_worth_telling() -> None:
    assert worth_telling_at(a_pod(scheduled_at=at(5))) == at(15)
    assert worth_telling_at(a_pod(scheduled_at=None)) is None
