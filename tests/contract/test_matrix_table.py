"""docs/supervision.md: the table that `make matrix` wrote tells of every cell, and every cell was as expected."""

import re

import pytest

from e2e.injuries import INJURIES
from e2e.matrix import CAUSES, HEADER, RESTARTS, SUPERVISIONS, Cause, expected, kept, ledger, verdict
from mabeam.api.agent import RestartStrategy, SupervisionStrategy
from mabeam.api.agent_status import FailureCause

# Not in the matrix: tests/unit/core/pods has all, tests/e2e has all but Preempted and SidecarFailed on a real cluster.
NOT_TRIED = {
    FailureCause.CONFIG_ERROR,
    FailureCause.PREEMPTED,
    FailureCause.SIDECAR_FAILED,
    FailureCause.STORAGE_EXCEEDED,
    FailureCause.DEADLINE_EXCEEDED,
}
LINES = {line.split(" | ")[0].removeprefix("| "): line.strip("| ").split(" | ") for line in kept().splitlines()}


def test_the_table_is_the_one_that_the_run_would_write() -> None:
    assert kept().strip().startswith(HEADER)


@pytest.mark.parametrize("cause", CAUSES, ids=lambda cause: cause.key)
def test_a_line_says_what_must_follow_and_that_all_nine_agents_did_it(cause: Cause) -> None:
    _, called, *verdicts, right, noticed, whole = LINES[cause.words]
    assert called == ledger(cause)
    assert verdicts == [verdict(cause, restart) for restart in RESTARTS]
    assert right == "9 of 9"
    assert all(re.fullmatch(r"\d+\.\d / \d+\.\d s", times) for times in (noticed, whole))


def test_every_strategy_and_every_cause_is_tried() -> None:
    assert set(RESTARTS) == {str(strategy) for strategy in RestartStrategy}
    assert set(SUPERVISIONS) == {str(strategy) for strategy in SupervisionStrategy}
    assert {cause.ledger for cause in CAUSES} == {str(cause) for cause in set(FailureCause) - NOT_TRIED}
    assert set(INJURIES) == {cause.key for cause in CAUSES}


def test_the_three_supervision_strategies_differ_where_something_is_restarted() -> None:
    crash = CAUSES[0]
    lives = {supervision: expected(crash, "Permanent", supervision).lives for supervision in SUPERVISIONS}
    assert lives == {
        "OneForOne": ("kept", "anew", "kept"),
        "RestForOne": ("kept", "anew", "anew"),
        "OneForAll": ("anew", "anew", "anew"),
    }
