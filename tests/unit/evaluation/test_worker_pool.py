"""A worker that can never be asked says why."""

from contextlib import closing
from types import SimpleNamespace

import pytest

from mabeam.evaluation.worker_pool import WorkerEnded, WorkerProcess


def test_a_library_that_is_missing_is_named() -> None:
    worker = WorkerProcess("mabeam.shell.no_such_worker", (), {}, quiet=True)
    with (
        closing(SimpleNamespace(close=worker.end)),
        pytest.raises(WorkerEnded, match=r"No module named .*no_such_worker"),
    ):
        worker.wait_until_ready()
