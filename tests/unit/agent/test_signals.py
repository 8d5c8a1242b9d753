"""SIGTERM reaches the agent, whatever else in the process wants signals for itself."""

import signal
import threading
from pathlib import Path

import pytest

from mabeam.agent import Agent
from support.agent_process import Start
from support.agent_process import start_agent as start_agent

WORKER = """
    import asyncio, hashlib, os, signal, socket, threading, time

    class Worker:
        def __init__(self, agent):
            self.agent = agent

        {run}

        def terminate(self, reason):
            print("terminate:", reason)
"""


def doing(run: str) -> str:
    return WORKER.replace("{run}", "\n        ".join(run.strip("\n").splitlines()))


# What takes the wakeup descriptor, the handler, or both. `wait` is how that kind of `run` waits.
TAKERS = {
    "a handler of asyncio's for another signal": """
async def run(self):
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, print, "hup")
    print("running")
    await asyncio.Event().wait()
""",
    "one that was removed again": """
async def run(self):
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, print, "hup")
    asyncio.get_running_loop().remove_signal_handler(signal.SIGHUP)
    print("running")
    await asyncio.Event().wait()
""",
    "a handler of asyncio's for SIGTERM": """
async def run(self):
    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asked.set)
    print("running")
    await asked.wait()
    await asyncio.sleep(600)
""",
    "a handler of asyncio's that fails": """
async def run(self):
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: 1 / 0)
    print("running")
    await asyncio.Event().wait()
""",
    "a loop inside a run that is not async": """
def run(self):
    async def work():
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, print, "hup")
        print("running")
        while not self.agent.stopping.is_set():
            await asyncio.sleep(0.01)
    asyncio.run(work())
""",
    "a loop that ended before": """
def run(self):
    async def work():
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, print, "hup")
    asyncio.run(work())
    print("running")
    self.agent.stopping.wait()
""",
    "a loop that always takes the descriptor, as uvloop does": """
def run(self):
    mine, theirs = socket.socketpair()
    theirs.setblocking(False)
    signal.set_wakeup_fd(theirs.fileno())
    print("running")
    mine.recv(1)
    self.agent.stopping.wait()
""",
    "a handler of the user's": """
def run(self):
    signal.signal(signal.SIGTERM, lambda number, frame: print("mine"))
    print("running")
    self.agent.stopping.wait()
""",
    "a long call that no Python handler interrupts": """
def run(self):
    threading.Thread(target=lambda: self.agent.stopping.wait() and os._exit(0)).start()
    print("running", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
""",
}


@pytest.mark.parametrize("run", TAKERS.values(), ids=TAKERS)
def test_sigterm_stops_the_agent_beside(start: Start, run: str) -> None:
    agent = start(doing(run))
    agent.says("running")
    agent.process.terminate()
    assert agent.exit_code() == 0
    if "os._exit" not in run:
        assert "terminate: shutdown" in agent.out
        assert agent.termination_message[-1] == "shutdown"


def test_a_second_interrupt_counts_though_a_loop_has_the_descriptor(start: Start) -> None:
    agent = start(
        doing("""
async def run(self):
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, print, "hup")
    print("running")
    try:
        await asyncio.Event().wait()
    finally:
        print("deaf")
        time.sleep(600)
""")
    )
    agent.says("running")
    agent.process.send_signal(signal.SIGINT)
    agent.says("deaf")
    agent.process.send_signal(signal.SIGINT)
    assert agent.exit_code() == 130
    assert agent.termination_message[-1] == "KeyboardInterrupt"


def test_handlers_and_descriptor_are_put_back_but_only_where_they_are_still_the_agents(tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with Agent(directory=tmp_path, port=0):
        assert signal.getsignal(signal.SIGTERM) != before[0]
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
    assert signal.set_wakeup_fd(-1) == -1
    try:
        with Agent(directory=tmp_path, port=0):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before[0])


def test_an_agent_that_is_opened_in_another_thread_leaves_signals_alone(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    during = []

    def use() -> None:
        with Agent(directory=tmp_path, port=0):
            during.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert during == [before]


def test_a_callback_that_fails_keeps_no_other_from_learning_of_the_stop(tmp_path: Path) -> None:
    agent = Agent(directory=tmp_path, port=0)
    called: list[str] = []
    agent.on_stop(lambda: called.append("first"))
    agent.on_stop(lambda: 1 / 0)  # type: ignore[arg-type, return-value]
    agent.on_stop(lambda: called.append("last"))
    agent.stop()
    assert called == ["first", "last"]
