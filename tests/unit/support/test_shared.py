"""What several use together is set up once and taken away once, even when the first try fails."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from support.shared import shared

USERS = 4


# A file's lock holds between two openings of it: threads stand for processes.
def test_of_several_users_the_first_sets_up_and_the_last_takes_away(tmp_path: Path) -> None:
    done: list[str] = []
    together = Barrier(USERS, timeout=30)

    def use(_: int) -> None:
        with shared(tmp_path / "count", lambda: done.append("up"), lambda: done.append("down")):
            together.wait()
            done.append("used")
            together.wait()

    with ThreadPoolExecutor(USERS) as pool:
        list(pool.map(use, range(USERS)))
    assert done == ["up", *["used"] * USERS, "down"]


def test_a_set_up_that_fails_is_tried_again_by_the_next_user(tmp_path: Path) -> None:
    done: list[str] = []

    def refused() -> None:
        raise ConnectionError("not yet")

    with pytest.raises(ConnectionError), shared(tmp_path / "count", refused, lambda: done.append("down")):
        raise AssertionError("it was not set up")
    with shared(tmp_path / "count", lambda: done.append("up"), lambda: done.append("down")):
        assert done == ["up"]
    assert done == ["up", "down"]
