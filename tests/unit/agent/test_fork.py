"""A child that an agent makes is a process like any other: it ends when told to, and leaves its parent alone."""

import json
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mabeam.agent import Agent
from support.agent_process import DEADLINE, Process, Start
from support.agent_process import start_agent as start_agent

# Python 3.12 and newer warn of any fork in a process that has threads, as every agent has.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

# `{run}` is the body of `run`; the children's functions are of the module, so that every start method finds them.
WORKER = """
    import asyncio, multiprocessing, os, signal, subprocess, sys, threading, time

    def work():
        time.sleep(600)

    class Worker:
        def __init__(self, agent):
            self.agent = agent
            print("port", agent.port)

        {run}

        def terminate(self, reason):
            print("terminate:", reason)
"""


def doing(run: str) -> str:
    return WORKER.replace("{run}", "\n        ".join(run.strip("\n").splitlines()))


def ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def number_after(agent: Process, text: str) -> int:
    agent.says(f"{text} ")
    return int(agent.out.partition(f"{text} ")[2].split()[0])


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("place", ["main thread", "other thread"])
def test_a_child_of_multiprocessing_that_is_terminated_dies_and_its_parent_works_on(
    start: Start, method: str, place: str
) -> None:
    agent = start(
        doing(f"""
def run(self):
    context = multiprocessing.get_context("{method}")

    def terminate_one():
        child = context.Process(target=work)
        child.start()
        child.terminate()
        child.join()
        print("exit code", child.exitcode, "stopping", self.agent.stopping.is_set())

    if "{place}" == "main thread":
        terminate_one()
    else:
        thread = threading.Thread(target=terminate_one)
        thread.start()
        thread.join()
    self.agent.progress()
    self.agent.stopping.wait()
""")
    )
    agent.says("exit code -15 stopping False")
    agent.reports("mabeam_progress_total 1.0")
    agent.process.terminate()
    assert agent.exit_code() == 0
    assert agent.termination_message[-1] == "shutdown"


def test_a_pool_that_is_a_context_manager_ends_again_and_again(start: Start) -> None:
    agent = start(
        doing("""
def run(self):
    for _ in range(3):
        with multiprocessing.get_context("fork").Pool(2) as pool:
            assert pool.map(abs, range(-4, 0)) == [4, 3, 2, 1]
        self.agent.progress()
    print("stopping", self.agent.stopping.is_set())
""")
    )
    assert agent.exit_code() == 0
    assert "stopping False" in agent.out
    assert agent.termination_message[-1] == "normal"
    assert json.loads(agent.termination_message[0])["progress"] == 3


def test_a_signal_that_comes_right_after_the_fork_is_the_childs_alone(start: Start) -> None:
    agent = start(
        doing("""
def run(self):
    for _ in range(200):
        if not (child := os.fork()):
            time.sleep(600)
        os.kill(child, signal.SIGTERM)
        assert os.waitpid(child, 0)[1] == signal.SIGTERM
    print("stopping", self.agent.stopping.is_set())
""")
    )
    assert agent.exit_code() == 0
    assert "stopping False" in agent.out


def test_children_of_an_agent_with_an_event_loop_die_too(start: Start) -> None:
    agent = start(
        doing("""
async def run(self):
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, print, "hup")
    loop.add_signal_handler(signal.SIGTERM, print, "term")
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.terminate()
    await asyncio.to_thread(child.join)
    print("exit code", child.exitcode, "stopping", self.agent.stopping.is_set())
    await asyncio.Event().wait()
""")
    )
    agent.says("exit code -15 stopping False")
    assert "term\n" not in agent.out
    agent.process.terminate()
    assert agent.exit_code() == 0
    assert "term\n" in agent.out


def test_a_worker_of_a_data_loader_keeps_the_handlers_that_it_sets_itself(start: Start) -> None:
    agent = start(
        doing("""
def run(self):
    # As loaders do: the parent watches SIGCHLD and calls the handler before its own, a worker has its own SIGTERM.
    signal.signal(signal.SIGCHLD, lambda number, frame: print("a child ended"))

    def load():
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(7))
        print("loading", flush=True)
        time.sleep(600)

    child = multiprocessing.get_context("fork").Process(target=load)
    child.start()
    print("loader", child.pid)
    self.agent.stopping.wait()
""")
    )
    loader = number_after(agent, "loader")
    agent.says("loading")
    os.kill(loader, signal.SIGTERM)
    agent.says("a child ended")
    assert agent.process.poll() is None
    agent.process.terminate()
    assert agent.exit_code() == 0


def test_a_handler_that_calls_the_one_before_it_ends_the_child_as_without_an_agent(start: Start) -> None:
    agent = start(
        doing("""
def run(self):
    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, lambda number, frame: before(number, frame))
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.terminate()
    child.join()
    print("exit code", child.exitcode)
    self.agent.stopping.wait()
""")
    )
    agent.says("exit code -15")
    agent.process.terminate()
    assert agent.exit_code() == 0


def test_programs_that_are_started_die_of_sigterm(start: Start) -> None:
    agent = start(
        doing("""
def run(self):
    for started in (lambda: subprocess.Popen(["sleep", "600"]),
                    lambda: subprocess.Popen(["sleep", "600"], preexec_fn=lambda: None)):
        child = started()
        child.terminate()
        print("exit code", child.wait())
    print("stopping", self.agent.stopping.is_set())
""")
    )
    assert agent.exit_code() == 0
    assert agent.out.count("exit code -15") == 2
    assert "stopping False" in agent.out


CHILD_EXITS = {
    "sys.exit(3)": 3,
    "return": 0,
    "raise ValueError('in the child')": 1,
    "os._exit(5)": 5,
}


@pytest.mark.parametrize("kind", ["def", "async def"])
@pytest.mark.parametrize(("statement", "code"), CHILD_EXITS.items(), ids=CHILD_EXITS)
def test_a_child_that_comes_out_of_run_says_nothing_in_the_name_of_its_parent(
    start: Start, kind: str, statement: str, code: int
) -> None:
    agent = start(
        doing(f"""
{kind} run(self):
    if not (child := os.fork()):
        {statement}
    print("exit code", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    self.agent.progress()
    print("waited", flush=True)
    {"await asyncio.to_thread(self.agent.stopping.wait)" if kind == "async def" else "self.agent.stopping.wait()"}
""")
    )
    agent.says("waited")
    assert f"exit code {code}\n" in agent.out
    assert agent.termination_message == []
    agent.reports("mabeam_progress_total 1.0")
    agent.process.terminate()
    assert agent.exit_code() == 0
    assert agent.out.count("terminate:") == 1
    assert agent.termination_message[-1] == "shutdown"


def in_child(function: Callable[[], object]) -> int:
    """The exit code of a child that calls the function: 0 when it returned true."""
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            signal.alarm(int(DEADLINE))  # a deadlock ends here
            code = 0 if function() else 1
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_child_waits_for_no_lock_that_a_thread_of_its_parent_held(tmp_path: Path) -> None:
    with Agent(directory=tmp_path, port=0) as agent:

        def use_everything() -> bool:
            agent.progress()
            agent.prefer("temperature", 1)
            agent.wait_for_change(agent.directives, timeout=0)
            agent.on_directives(lambda directives: None)
            agent.stop()
            return agent.stopping.wait(0)

        # As another thread would at the moment of the fork.
        with agent._samples._lock, agent._changed, agent._handler_lock:
            code = in_child(use_everything)
        assert (code, agent.stopping.is_set()) == (0, False)


def test_a_child_that_leaves_the_block_of_the_agent_closes_nothing_of_its_parent(tmp_path: Path) -> None:
    with Agent(directory=tmp_path, port=0) as agent:
        assert in_child(lambda: agent.__exit__(None, None, None) is None) == 0
        with socket.create_connection(("127.0.0.1", agent.port), timeout=DEADLINE) as client:
            client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            assert client.recv(1024).startswith(b"HTTP/1.0 200")


def test_a_child_that_outlives_its_parent_does_not_keep_the_port(start: Start) -> None:
    agent = start(
        doing("""
def run(self):
    # A client that is connected at the moment of the fork would wait for a child that holds its connection open.
    if not (child := os.fork()):
        work()
    print("child", child)
    os._exit(4)
""")
    )
    port, child = agent.port, number_after(agent, "child")
    try:
        assert agent.exit_code() == 4
        # The parent may end before its child has run a single line, so the child's copy is closed a moment later.
        end = time.monotonic() + DEADLINE
        while not is_free(port):
            assert time.monotonic() < end, f"port {port} is never free"
            time.sleep(0.01)
        assert not ended(child)
    finally:
        os.kill(child, signal.SIGKILL)


def is_free(port: int) -> bool:
    """Whether a server can listen on the port."""
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def test_a_client_sees_its_connection_end_though_a_child_was_made_meanwhile(tmp_path: Path) -> None:
    with (
        Agent(directory=tmp_path, port=0) as agent,
        socket.create_connection(("127.0.0.1", agent.port), timeout=DEADLINE) as client,
    ):
        end = time.monotonic() + DEADLINE
        while not agent._server._server.connections._open:
            assert time.monotonic() < end
            time.sleep(0.005)
        pid = os.fork()
        if pid == 0:
            time.sleep(600)
            os._exit(0)
        try:
            client.sendall(b"GET /readyz HTTP/1.0\r\n\r\n")
            answer = b""
            while part := client.recv(1024):
                answer += part
            assert answer.startswith(b"HTTP/1.0 503")
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def test_an_agent_that_is_opened_in_a_child_is_the_childs_own(start: Start) -> None:
    agent = start(
        doing("""
def run(self):
    from mabeam.agent import Agent

    def child():
        with Agent(port=0) as agent:
            print("open", flush=True)
            print("stopped", agent.stopping.wait(600), flush=True)

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    print("child", process.pid)
    process.join()
    print("exit code", process.exitcode, "stopping", self.agent.stopping.is_set())
""")
    )
    child = number_after(agent, "child")
    agent.says("open")
    os.kill(child, signal.SIGTERM)
    assert agent.exit_code() == 0
    assert "stopped True" in agent.out
    assert "exit code 0 stopping False" in agent.out
