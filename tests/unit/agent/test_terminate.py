"""How an agent takes its leave: `terminate(reason)` once, the last words for the kubelet, and an exit code that stays true."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from support.agent_process import DEADLINE, ROOT, Process, Start
from support.agent_process import start_agent as start_agent

# A worker that says when it terminates; what `run` and `terminate` do besides is filled in.
SYNC = """
    class Worker:
        def __init__(self, agent):
            self.agent = agent
            print("port", agent.port)

        def run(self):
            print("running")
            {run}

        def terminate(self, reason):
            print("terminate:", reason)
            {terminate}
"""
ASYNC = SYNC.replace("def run", "async def run").replace("def terminate", "async def terminate")
WAITS = {SYNC: "self.agent.stopping.wait()", ASYNC: "import asyncio; await asyncio.Event().wait()"}

kinds = pytest.mark.parametrize("worker", [SYNC, ASYNC], ids=["sync", "async"])


def doing(worker: str, run: str | None = None, terminate: str = "pass") -> str:
    return worker.format(run=run if run is not None else WAITS[worker], terminate=terminate)


def terminations(agent: Process) -> list[str]:
    return [line.removeprefix("terminate: ") for line in agent.out.splitlines() if line.startswith("terminate: ")]


def last_report(agent: Process) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(agent.termination_message[0])
    return found


@pytest.mark.parametrize(
    ("worker", "number"),
    [(SYNC, signal.SIGTERM), (SYNC, signal.SIGINT), (ASYNC, signal.SIGTERM)],
    ids=["sync-term", "sync-int", "async-term"],
)
def test_a_signal_is_a_shutdown(start: Start, worker: str, number: int) -> None:
    agent = start(doing(worker))
    agent.says("running")
    agent.process.send_signal(number)
    assert agent.exit_code() == 0
    assert terminations(agent) == ["shutdown"]
    assert agent.termination_message[-1] == "shutdown"
    assert agent.err == ""


@kinds
def test_a_run_that_returns_by_itself_is_normal(start: Start, worker: str) -> None:
    agent = start(doing(worker, run="return"))
    assert (agent.exit_code(), terminations(agent), agent.termination_message[-1]) == (0, ["normal"], "normal")


ERRORS = {
    "raise ValueError('no\\nsuch\\nmodel')": (1, "ValueError: no such model"),
    "raise SystemExit(42)": (42, "SystemExit: 42"),
    "raise SystemExit('in words')": (1, "SystemExit: in words"),
    # The system keeps eight bits of the code: these would be a success, and another number.
    "raise SystemExit(512)": (1, "SystemExit: 512"),
    "raise SystemExit(-1)": (255, "SystemExit: -1"),
    "raise ValueError('caf\\udce9.txt')": (1, "ValueError: caf\\udce9.txt"),
    "raise type('Odd', (Exception,), {'__str__': None})": (1, "worker.Odd: <exception str() failed>"),
    "raise ExceptionGroup('all', [KeyError('a'), ExceptionGroup('b', [OSError('c'), KeyError('a')])])": (
        1, "ExceptionGroup: all (2 sub-exceptions): KeyError: 'a'; OSError: c"
    ),
}  # fmt: skip


@kinds
@pytest.mark.parametrize(("statement", "expected"), ERRORS.items(), ids=ERRORS)
def test_a_run_that_raises_is_an_error(start: Start, worker: str, statement: str, expected: tuple[int, str]) -> None:
    code, words = expected
    agent = start(doing(worker, run=statement))
    assert agent.exit_code() == code
    assert terminations(agent) == [f"error: {words}"]
    assert agent.termination_message[-1] == words


@kinds
def test_an_exit_with_code_0_is_normal(start: Start, worker: str) -> None:
    agent = start(doing(worker, run="raise SystemExit"))
    assert (agent.exit_code(), terminations(agent), agent.termination_message[-1]) == (0, ["normal"], "normal")


@kinds
def test_an_error_while_stopping_is_an_error(start: Start, worker: str) -> None:
    late = "try:\n                {}\n            finally:\n                raise OSError('cannot save')"
    agent = start(doing(worker, run=late.format(WAITS[worker])))
    agent.says("running")
    agent.process.terminate()
    assert agent.exit_code() == 1
    assert terminations(agent) == ["error: OSError: cannot save"]
    assert agent.termination_message[-1] == "OSError: cannot save"


def test_of_a_task_group_the_exceptions_of_its_tasks_are_told(start: Start) -> None:
    agent = start(
        """
        import asyncio

        class Worker:
            def __init__(self, agent): ...

            async def run(self):
                async with asyncio.TaskGroup() as group:
                    group.create_task(self.ask("gpt-99"))
                    group.create_task(asyncio.sleep(600))

            async def ask(self, model):
                raise ValueError(f"no such model: {model}")

            async def terminate(self, reason):
                print("terminate:", reason)
        """
    )
    assert agent.exit_code() == 1
    words = "ExceptionGroup: unhandled errors in a TaskGroup (1 sub-exception): ValueError: no such model: gpt-99"
    assert terminations(agent) == [f"error: {words}"]
    assert agent.termination_message[-1] == words


# --- what could hide an end ---------------------------------------------------------------------------------------------

# What a run leaves behind, which keeps Python from ending.
LEFT_BEHIND = {
    "a thread": (SYNC, "import threading; threading.Thread(target=time.sleep, args=(600,)).start()"),
    "a thread of the loop": (
        ASYNC,
        "import asyncio; asyncio.create_task(asyncio.to_thread(time.sleep, 600)); await asyncio.sleep(0.1)",
    ),
    "an atexit function": (SYNC, "import atexit; atexit.register(time.sleep, 600)"),
    "a child": (
        SYNC,
        "from multiprocessing import get_context; get_context('fork').Process(target=time.sleep, args=(20,)).start()",
    ),
}


@pytest.mark.parametrize(("worker", "statements"), LEFT_BEHIND.values(), ids=LEFT_BEHIND)
def test_a_failure_ends_the_process_whatever_it_left_behind(start: Start, worker: str, statements: str) -> None:
    agent = start(doing(worker, run=f"import time; {statements}; raise ValueError('no such model')"))
    assert agent.exit_code() == 1
    assert agent.termination_message[-1] == "ValueError: no such model"
    assert "keep the process from ending" in agent.out


# How a shell starts the agent → what is wrong with its streams.
STREAMS = {
    "closed stdout": 'exec "$@" >&-',
    "closed stderr": 'exec "$@" 2>&-',
    "all closed": 'exec "$@" <&- >&- 2>&-',
    "full": 'exec "$@" >/dev/full 2>/dev/full',
    "nobody reads": '"$@" | true; exit ${PIPESTATUS[0]}',
}


@pytest.mark.parametrize("command", STREAMS.values(), ids=STREAMS)
@pytest.mark.parametrize(
    ("statement", "expected"),
    [("pass", (0, "normal")), ("raise ValueError('no such model')", (1, "ValueError: no such model"))],
)
def test_streams_that_are_gone_change_neither_the_code_nor_the_message(
    tmp_path: Path, command: str, statement: str, expected: tuple[int, str]
) -> None:
    source = f"class Worker:\n    def __init__(self, agent): ...\n\n    def run(self):\n        {statement}\n"
    (tmp_path / "worker.py").write_text(source)
    message = tmp_path / "termination-log"
    message.touch()
    agent = [sys.executable, "-m", "mabeam.agent.main", "run", "worker:Worker", "--port", "0"]
    paths = {"PYTHONPATH": str(ROOT / "operator"), "MABEAM_TERMINATION_MESSAGE_PATH": str(message)}
    done = subprocess.run(
        ["bash", "-c", command, "bash", *agent],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], **paths},
        timeout=DEADLINE,
        check=False,
    )
    assert (done.returncode, message.read_text().splitlines()[-1]) == expected


# --- terminate that fails --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("worker", "run", "terminate", "code", "words"),
    [
        (SYNC, "return", "raise OSError('disk full')", 1, "OSError: disk full"),
        (ASYNC, "return", "raise OSError('disk full')", 1, "OSError: disk full"),
        (SYNC, "return", "raise SystemExit(9)", 9, "SystemExit: 9"),
        (ASYNC, "return", "raise SystemExit(9)", 9, "SystemExit: 9"),
        (SYNC, "return", "raise SystemExit", 0, "normal"),
        (SYNC, "raise SystemExit(42)", "raise OSError('disk full')", 42, "SystemExit: 42"),
        (ASYNC, "raise ValueError('no such model')", "raise SystemExit(0)", 1, "ValueError: no such model"),
    ],
    ids=lambda value: {SYNC: "sync", ASYNC: "async"}.get(value, str(value)),
)
def test_a_terminate_that_fails_never_hides_how_run_ended(
    start: Start, worker: str, run: str, terminate: str, code: int, words: str
) -> None:
    agent = start(doing(worker, run, terminate))
    assert agent.exit_code() == code
    assert agent.termination_message[-1] == words
    assert ("OSError: disk full" in agent.err) == ("OSError" in terminate)


def test_an_interrupt_ends_a_terminate_that_takes_too_long(start: Start) -> None:
    agent = start(doing(SYNC, terminate="import time; time.sleep(600)"))
    agent.says("running")
    agent.process.send_signal(signal.SIGINT)
    agent.says("terminate: shutdown")
    agent.process.send_signal(signal.SIGINT)
    assert agent.exit_code() == 130


def test_an_agent_that_does_not_hear_is_left_to_sigkill(start: Start) -> None:
    agent = start(doing(SYNC, run="while not self.agent.stopping.wait(600) or not print('deaf'): pass"))
    agent.says("running")
    agent.process.terminate()
    agent.says("deaf")
    agent.process.kill()
    assert agent.exit_code() == -signal.SIGKILL
    assert (terminations(agent), agent.termination_message) == ([], [])


# --- when it is called -----------------------------------------------------------------------------------------------


def test_a_worker_that_was_asked_to_stop_before_it_ran_still_terminates(start: Start) -> None:
    agent = start(
        """
        class Worker:
            def __init__(self, agent):
                print("made")
                agent.stopping.wait()

            def run(self):
                print("ran")

            def terminate(self, reason):
                print("terminate:", reason)
        """
    )
    agent.says("made")
    agent.process.terminate()
    assert agent.exit_code() == 0
    assert terminations(agent) == ["shutdown"]
    assert "ran" not in agent.out


def test_a_worker_that_could_not_be_made_has_nothing_to_terminate(start: Start) -> None:
    agent = start(
        """
        class Worker:
            def __init__(self, agent):
                raise ValueError("no such model")

            def run(self): ...

            def terminate(self, reason):
                print("terminate:", reason)
        """
    )
    assert agent.exit_code() == 1
    assert (terminations(agent), agent.termination_message[-1]) == ([], "ValueError: no such model")


def test_an_async_terminate_needs_an_async_run(start: Start) -> None:
    agent = start(doing(SYNC).replace("def terminate", "async def terminate"))
    assert agent.exit_code() == 2
    assert "its terminate is async, so its run must be async too" in agent.err
    assert "so its run must be async too" in agent.termination_message[-1]


def test_an_async_worker_may_terminate_without_await(start: Start) -> None:
    agent = start(doing(ASYNC).replace("async def terminate", "def terminate"))
    agent.says("running")
    agent.process.terminate()
    assert (agent.exit_code(), terminations(agent)) == (0, ["shutdown"])


def test_an_async_terminate_runs_in_the_loop_of_run_with_its_tasks_alive(start: Start) -> None:
    agent = start(
        """
        import asyncio

        class Worker:
            def __init__(self, agent): ...

            async def run(self):
                self.loop, self.work = asyncio.get_running_loop(), asyncio.create_task(self.answer())
                print("running")
                await asyncio.Event().wait()

            async def answer(self):
                await self.asked.wait()
                return 42

            asked = asyncio.Event()

            async def terminate(self, reason):
                assert asyncio.get_running_loop() is self.loop
                self.asked.set()
                print("terminate:", reason, await self.work)
        """
    )
    agent.says("running")
    agent.process.terminate()
    assert agent.exit_code() == 0
    assert terminations(agent) == ["shutdown 42"]


def test_directives_that_come_while_it_terminates_are_not_handed_over(start: Start, tmp_path: Path) -> None:
    agent = start(
        """
        import pathlib, time

        class Worker:
            def __init__(self, agent):
                self.agent = agent
                print("port", agent.port)

            def on_directives(self, directives):
                print("applied", directives.generation)

            def run(self):
                self.agent.stopping.wait()

            def terminate(self, reason):
                print("terminate:", reason)
                while not pathlib.Path("enough").exists():
                    time.sleep(0.01)
        """
    )
    agent.tell(1)
    agent.says("applied 1")
    agent.process.terminate()
    agent.says("terminate: shutdown")
    agent.tell(2)
    agent.reports("mabeam_applied_generation 1.0")
    (tmp_path / "enough").touch()
    assert agent.exit_code() == 0
    assert "applied 2" not in agent.out
    assert last_report(agent)["generation"] == 1


# --- the last report -------------------------------------------------------------------------------------------------

PERFORMER = """
    class Worker:
        def __init__(self, agent):
            self.agent = agent
            print("port", agent.port)

        def run(self):
            self.agent.perform(0.5)
            self.agent.perform(0.2, metric="loss")
            self.agent.progress(41)
            print("running")
            self.agent.stopping.wait()

        def terminate(self, reason):
            self.agent.progress()
            self.agent.perform(0.93)
            print("terminate:", reason)
"""


def test_the_last_report_holds_what_terminate_still_said(start: Start) -> None:
    agent = start(PERFORMER)
    agent.says("running")
    agent.process.terminate()
    assert agent.exit_code() == 0
    assert len(agent.termination_message) == 2
    report = {"generation": 0, "progress": 42.0, "performance": 0.93, "metrics": {"loss": 0.2}}
    assert last_report(agent) == report
    assert f"ended: shutdown; last report: {json.dumps(report)}" in agent.out


def test_the_report_is_served_until_terminate_returned(start: Start, tmp_path: Path) -> None:
    agent = start(
        textwrap.dedent(PERFORMER)
        + "        import pathlib, time\n        while not pathlib.Path('enough').exists():\n            time.sleep(0.01)\n"
    )
    agent.says("running")
    agent.process.terminate()
    agent.says("terminate: shutdown")
    agent.reports("mabeam_progress_total 42.0")
    (tmp_path / "enough").touch()
    assert agent.exit_code() == 0


def test_last_words_fit_into_what_the_kubelet_keeps(start: Start) -> None:
    metrics = "[self.agent.perform(1, metric=f'{i:0200}') for i in range(400)]"
    agent = start(doing(SYNC, run=f"{metrics}; self.agent.perform(0.5); raise ValueError('ä' * 5000)"))
    assert agent.exit_code() == 1
    report, reason = agent.termination_message
    assert len(f"{report}\n{reason}\n".encode()) <= 4096
    assert json.loads(report) == {"generation": 0, "progress": 0.0, "performance": 0.5, "metrics": {}}
    assert reason.startswith("ValueError: ää")


def test_nobody_collects_a_termination_message_outside_a_container(start: Start, tmp_path: Path) -> None:
    absent = tmp_path / "absent"
    agent = start(doing(SYNC, run="return"), MABEAM_TERMINATION_MESSAGE_PATH=str(absent))
    assert (agent.exit_code(), terminations(agent)) == (0, ["normal"])
    assert not absent.exists()


def test_what_cannot_be_started_says_so_in_its_termination_message(start: Start) -> None:
    agent = start(doing(SYNC), "absent.module:Worker")
    assert agent.exit_code() == 2
    (line,) = agent.termination_message
    assert line.startswith("cannot start absent.module:Worker: no module 'absent'")
