"""What a build starts ends with the build, however the build ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from embedded.owned import end_tree, owned

DEADLINE = 60.0
# A child with a grandchild in a session of its own, which a signal to the process group would miss; both write their ids.
FAMILY = """
import os, subprocess, sys, time
folder = sys.argv[1]
def note(name):
    path = os.path.join(folder, name)
    with open(path + ".new", "w") as file:
        file.write(str(os.getpid()))
    os.rename(path + ".new", path)
if len(sys.argv) > 2:
    note("grandchild")
else:
    subprocess.Popen([sys.executable, __file__, folder, "again"], start_new_session=True)
    note("child")
while True:
    time.sleep(3600)
"""
PARENT = """
import subprocess, sys, time
from embedded.owned import owned
with owned([sys.executable, sys.argv[1], sys.argv[2]]) as process:
    process.wait()
"""


def until(what: str, look: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not look():
        assert time.monotonic() < deadline, f"not within {DEADLINE} s: {what}"
        time.sleep(0.02)


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in ("Z", "X")
    except FileNotFoundError:
        return True


@pytest.fixture(name="program")
def a_program_with_a_grandchild(tmp_path: Path) -> Path:
    path = tmp_path / "family.py"
    path.write_text(FAMILY)
    return path


def family_of(folder: Path) -> list[int]:
    until("both run", lambda: all((folder / name).exists() for name in ("child", "grandchild")))
    return [int((folder / name).read_text()) for name in ("child", "grandchild")]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_parent_that_is_ended_by_a_signal_leaves_no_descendant(
    number: signal.Signals, program: Path, tmp_path: Path
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(program), str(tmp_path)], env=environment, stderr=subprocess.DEVNULL
    )
    family = family_of(tmp_path)
    parent.send_signal(number)
    parent.wait(DEADLINE)
    for pid in family:
        until(f"process {pid} is gone", lambda pid=pid: is_gone(pid))


def test_the_end_of_the_block_ends_what_still_runs(program: Path, tmp_path: Path) -> None:
    with owned([sys.executable, str(program), str(tmp_path)]):
        family = family_of(tmp_path)
    for pid in family:
        until(f"process {pid} is gone", lambda pid=pid: is_gone(pid))


def test_a_child_that_ends_by_itself_hands_back_its_exit_code() -> None:
    with owned(["sh", "-c", "exit 7"]) as process:
        process.wait(DEADLINE)
    assert process.returncode == 7


def test_a_program_that_is_not_there_is_the_usual_error() -> None:
    with pytest.raises(FileNotFoundError), owned(["/nowhere/to/be/found"]):
        pass


def test_ending_a_process_that_is_gone_is_no_error() -> None:
    ended = subprocess.Popen(["true"])
    ended.wait(DEADLINE)
    end_tree(ended.pid)
