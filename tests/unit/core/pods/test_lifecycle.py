"""Pod facts → what became of the agent's process."""

from typing import Any

import pytest

from mabeam.api.agent_status import FailureCause
from mabeam.core.algorithms.otp import ExitKind
from mabeam.core.pods.lifecycle import (
    CAUSE_DESCRIPTIONS,
    PodExit,
    find_exit,
    is_live,
    is_ready,
    is_running,
    is_terminal,
)
from mabeam.core.snapshot import ContainerFacts, PodFacts
from support.builders import a_pod, a_sidecar, an_agent, at, exited, running, waiting

SPEC = an_agent(normalExitCodes=[42], startTimeoutSeconds=300).spec


def judged(pod: PodFacts, seconds: float = 100) -> PodExit | None:
    return find_exit(pod, SPEC, at(seconds))


def ended(pod: PodFacts, seconds: float = 100) -> PodExit:
    found = judged(pod, seconds)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("pod", "kind", "cause", "code"),
    [
        (a_pod(main=exited(0)), ExitKind.NORMAL, FailureCause.NORMAL_EXIT, 0),
        (a_pod(main=exited(42)), ExitKind.NORMAL, FailureCause.NORMAL_EXIT, 42),
        (a_pod(main=exited(1)), ExitKind.ABNORMAL, FailureCause.CRASH, 1),
        (a_pod(main=exited(143)), ExitKind.ABNORMAL, FailureCause.CRASH, 143),
        (a_pod(main=exited(137, reason="OOMKilled")), ExitKind.ABNORMAL, FailureCause.OOM, 137),
        (a_pod(main=exited(1, reason="OOMKilled")), ExitKind.ABNORMAL, FailureCause.OOM, 1),
        # a child was killed for memory, and the process itself went on and finished
        (a_pod(main=exited(0, reason="OOMKilled")), ExitKind.NORMAL, FailureCause.NORMAL_EXIT, 0),
        (a_pod(main=exited(42, reason="OOMKilled")), ExitKind.NORMAL, FailureCause.NORMAL_EXIT, 42),
        (a_pod(phase="Succeeded", main=ContainerFacts()), ExitKind.NORMAL, FailureCause.NORMAL_EXIT, 0),
        (
            a_pod(phase="Failed", reason="DeadlineExceeded", main=ContainerFacts()),
            ExitKind.ABNORMAL,
            FailureCause.DEADLINE_EXCEEDED,
            None,
        ),
        (
            a_pod(phase="Failed", reason="DeadlineExceeded", main=exited(0)),
            ExitKind.ABNORMAL,
            FailureCause.DEADLINE_EXCEEDED,
            0,
        ),
        (a_pod(deleting=True, deletion_requested_at=at(50)), ExitKind.ABNORMAL, FailureCause.DELETED_BY_OTHER, None),
    ],
)
def test_how_it_ended(pod: PodFacts, kind: ExitKind, cause: FailureCause, code: int | None) -> None:
    found = ended(pod)
    assert (found.kind, found.cause, found.exit_code) == (kind, cause, code)


def test_zero_is_normal_whatever_else_is() -> None:
    assert find_exit(a_pod(main=exited(0)), an_agent(normalExitCodes=[7]).spec, at(100)) is not None
    assert ended(a_pod(main=exited(0))).kind is ExitKind.NORMAL


@pytest.mark.parametrize(
    "pod",
    [
        a_pod(),
        a_pod(main=ContainerFacts(), phase="Running"),
        a_pod(main=waiting("ContainerCreating")),
        a_pod(main=waiting("ImagePullBackOff"), scheduled_at=None, node=None),
        a_pod(disruption="PreemptionByScheduler", disrupted_at=at(50)),
        a_pod(ready=False),
    ],
)
def test_a_pod_that_runs_or_may_still_start_has_not_ended(pod: PodFacts) -> None:
    assert judged(pod) is None


# --- deletions ------------------------------------------------------------------------------------------------------


def test_an_exit_before_the_deletion_is_the_agents_own() -> None:
    pod = a_pod(main=exited(0, 40), deleting=True, deletion_requested_at=at(50))
    assert ended(pod).cause is FailureCause.NORMAL_EXIT


def test_an_exit_that_followed_the_deletion_is_its_consequence() -> None:
    pod = a_pod(main=exited(0, 52), deleting=True, deletion_requested_at=at(50))
    assert ended(pod).cause is FailureCause.DELETED_BY_OTHER


def test_an_exit_in_the_very_second_of_the_deletion_is_taken_for_its_consequence() -> None:
    pod = a_pod(main=exited(0, 50), deleting=True, deletion_requested_at=at(50))
    assert ended(pod).cause is FailureCause.DELETED_BY_OTHER


# --- times ----------------------------------------------------------------------------------------------------------


def test_the_time_of_an_end_is_when_the_container_finished() -> None:
    assert ended(a_pod(main=exited(1, 40))).time == at(40)


def test_the_time_of_an_end_is_never_in_the_future() -> None:
    assert ended(a_pod(main=exited(1, 400)), 100).time == at(100)


def test_an_end_without_a_time_is_one_of_now() -> None:
    assert ended(a_pod(main=ContainerFacts("terminated", exit_code=1))).time == at(100)


# --- starting -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("main", "cause"),
    [
        (waiting("ImagePullBackOff"), FailureCause.IMAGE_ERROR),
        (waiting("ErrImageNeverPull"), FailureCause.IMAGE_ERROR),
        (waiting("CreateContainerConfigError"), FailureCause.CONFIG_ERROR),
        (waiting("AReasonOfALaterKubelet"), FailureCause.CONFIG_ERROR),
    ],
)
def test_what_has_not_started_in_time_has_failed(main: ContainerFacts, cause: FailureCause) -> None:
    pod = a_pod(main=main, scheduled_at=at(50))
    assert judged(pod, 349) is None
    found = ended(pod, 350)
    assert (found.kind, found.cause, found.time) == (ExitKind.ABNORMAL, cause, at(350))


# --- is it alive ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "terminal", "runs", "ready"),
    [
        ({}, False, True, True),
        ({"ready": False}, False, True, False),
        ({"deleting": True}, False, False, False),
        ({"main": ContainerFacts(), "phase": "Running", "ready": True}, False, True, True),
        ({"main": waiting()}, False, False, False),
        ({"main": exited(1)}, True, False, False),
        ({"main": exited(1), "phase": "Running"}, True, False, False),
        ({"main": exited(1), "phase": "Running", "others": (a_sidecar(running()),)}, False, False, False),
        ({"main": exited(1), "phase": "Running", "others": (a_sidecar(exited(1)),)}, True, False, False),
        ({"main": exited(1), "phase": "Running", "restarts_in_place": True}, False, False, False),
        ({"phase": "Failed", "main": running()}, True, False, False),
    ],
)
def test_only_the_end_of_every_container_proves_that_nothing_runs(
    facts: dict[str, Any], terminal: bool, runs: bool, ready: bool
) -> None:
    pod = a_pod(**facts)
    assert (is_terminal(pod), is_live(pod), is_running(pod), is_ready(pod)) == (terminal, not terminal, runs, ready)


# --- its last line --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (None, None),
        ("", None),
        (" \n\t\n", None),
        ("one", "one"),
        ('{"progress": 3}\nValueError: no such model\n\n', "ValueError: no such model"),
        ("Traceback:\r\n  out of luck  \r\n", "out of luck"),
        ("told\n\x1b\x07\n", "told"),
        ("\x1b[31mred\x07", "[31mred"),
    ],
)
def test_the_last_line_that_says_something_is_kept(text: str | None, line: str | None) -> None:
    for code, cause in ((1, FailureCause.CRASH), (137, FailureCause.OOM)):
        reason = "OOMKilled" if cause is FailureCause.OOM else None
        found = ended(a_pod(main=exited(code, reason=reason, message=text)))
        assert (found.cause, found.message) == (cause, line)


# --- words ----------------------------------------------------------------------------------------------------------


def test_every_cause_but_the_obvious_has_words_of_its_own() -> None:
    spoken_for_itself = {FailureCause.NORMAL_EXIT}
    assert set(CAUSE_DESCRIPTIONS) == set(FailureCause) - spoken_for_itself


@pytest.mark.parametrize(
    ("pod", "words"),
    [
        (a_pod(main=exited(0)), "exit code 0 (normal)"),
        (a_pod(main=exited(3)), "exit code 3"),
        (
            a_pod(main=exited(1, message="Traceback\nValueError: no such model\n")),
            "exit code 1: ValueError: no such model",
        ),
        (a_pod(main=exited(137, reason="OOMKilled")), "out of memory (OOMKilled)"),
        (a_pod(phase="Failed", main=ContainerFacts()), "the pod failed"),
        (
            a_pod(phase="Failed", reason="DeadlineExceeded", main=ContainerFacts()),
            "it ran longer than `activeDeadlineSeconds` (DeadlineExceeded)",
        ),
        (a_pod(deleting=True), "its pod was deleted by someone else"),
        (a_pod(phase="Failed", reason="Evicted", main=ContainerFacts()), "evicted (Evicted)"),
    ],
)
def test_an_ending_in_words(pod: PodFacts, words: str) -> None:
    assert str(ended(pod)) == words


def test_an_image_error_tells_the_kubelets_message() -> None:
    pod = a_pod(main=waiting("ImagePullBackOff", "no such image"))
    assert str(ended(pod, 1000)) == "its image could not be pulled in time (no such image)"
