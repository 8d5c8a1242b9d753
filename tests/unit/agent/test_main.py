"""`mabeam-agent run` as a process: what it starts, what it answers, and how it ends."""

import signal
from pathlib import Path

import pytest

from support.agent_process import Start
from support.agent_process import start_agent as start_agent

LISTENER = """
    from mabeam.agent import Refused

    class Worker:
        def __init__(self, agent):
            self.agent = agent
            print("port", agent.port)

        def on_directives(self, directives):
            if directives.number("temperature", 0) > 2:
                raise Refused("too hot")
            print("temperature", directives.parameters["temperature"])

        def run(self):
            print("running")
            self.agent.stopping.wait()
            print("stopping")
"""

LISTENER_IN_A_LOOP = """
    import asyncio, threading

    class Worker:
        def __init__(self, agent):
            self.agent = agent
            print("port", agent.port)

        async def on_directives(self, directives):
            assert asyncio.get_running_loop() and threading.current_thread() is threading.main_thread()
            print("temperature", directives.parameters["temperature"])

        async def run(self):
            print("running")
            try:
                await asyncio.Event().wait()
            finally:
                print("stopping", self.agent.stopping.is_set())
"""


def test_an_agent_applies_refuses_and_survives_malformed_directives(start: Start) -> None:
    agent = start(LISTENER)
    agent.says("running")
    agent.reports("mabeam_applied_generation 0.0")
    agent.tell(1, temperature=0.5)
    agent.reports("mabeam_applied_generation 1.0")
    assert "temperature 0.5" in agent.out
    agent.tell(2, temperature=3)
    agent.reports('mabeam_refused{generation="2",reason="too hot",variable=""} 1.0')
    agent.reports("mabeam_applied_generation 1.0")
    agent.publish("{")
    agent.reports("mabeam_directives_malformed_total 1.0")
    agent.tell(3, temperature=1)
    agent.reports("mabeam_applied_generation 3.0")
    assert "refused" not in agent.report()


def test_directives_that_were_there_first_are_applied_before_run(start: Start, tmp_path: Path) -> None:
    (tmp_path / "directives.json").write_text('{"generation": 9, "parameters": {"temperature": 1}}')
    agent = start(LISTENER)
    agent.says("running")
    assert agent.out.index("temperature 1") < agent.out.index("running")
    agent.reports("mabeam_applied_generation 9.0")


LOADS = """
    import os, time

    class Worker:
        def __init__(self, agent):
            self.agent = agent
            print("port", agent.port)
            while not os.path.exists("loaded"):
                time.sleep(0.01)

        def run(self):
            print("running")
            self.agent.stopping.wait()
"""

READY_BY_CALL = """
    import os, time

    class Worker:
        ready_by_call = True

        def __init__(self, agent):
            self.agent = agent
            print("port", agent.port)

        def run(self):
            print("running")
            while not os.path.exists("loaded"):
                time.sleep(0.01)
            self.agent.ready()
            print("loaded")
            self.agent.stopping.wait()
"""


def test_an_agent_is_ready_once_its_init_has_returned(start: Start, tmp_path: Path) -> None:
    agent = start(LOADS)
    agent.says("port")
    assert agent.readiness() == 503
    agent.report()
    (tmp_path / "loaded").touch()
    agent.says("running")
    assert agent.readiness() == 200


def test_a_class_that_is_ready_by_call_is_ready_when_it_says_so(start: Start, tmp_path: Path) -> None:
    agent = start(READY_BY_CALL)
    agent.says("running")
    assert agent.readiness() == 503
    (tmp_path / "loaded").touch()
    agent.says("loaded")
    assert agent.readiness() == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_run_return_and_the_exit_is_normal(start: Start, number: int) -> None:
    agent = start(LISTENER)
    agent.says("running")
    agent.process.send_signal(number)
    assert agent.exit_code() == 0
    assert "stopping" in agent.out
    assert agent.err == ""


def test_a_second_interrupt_ends_an_agent_that_ignores_the_first(start: Start) -> None:
    agent = start(
        """
        import time

        class Worker:
            def __init__(self, agent):
                self.agent = agent

            def run(self):
                print("running")
                while True:
                    time.sleep(0.01)
                    if self.agent.stopping.is_set():
                        print("deaf")
        """
    )
    agent.says("running")
    agent.process.send_signal(signal.SIGINT)
    agent.says("deaf")
    agent.process.send_signal(signal.SIGINT)
    assert agent.exit_code() == 130


def test_an_async_agent_hears_directives_in_its_loop_and_is_cancelled_by_sigterm(start: Start) -> None:
    agent = start(LISTENER_IN_A_LOOP)
    agent.says("running")
    agent.tell(1, temperature=0.5)
    agent.reports("mabeam_applied_generation 1.0")
    agent.process.terminate()
    assert agent.exit_code() == 0
    assert "stopping True" in agent.out
    assert agent.err == ""


def test_an_async_agent_that_fails_exits_1(start: Start) -> None:
    agent = start(
        """
        import asyncio

        class Worker:
            def __init__(self, agent):
                pass

            async def run(self):
                raise asyncio.CancelledError("by nobody")
        """
    )
    assert agent.exit_code() == 1


ENDS = {
    "return": 0,
    "raise RuntimeError('on purpose')": 1,
    "raise SystemExit(42)": 42,
    "raise SystemExit": 0,
    "raise SystemExit('in words')": 1,
}


@pytest.mark.parametrize(("statement", "code"), ENDS.items(), ids=ENDS)
def test_how_run_ends_is_the_exit_code(start: Start, statement: str, code: int) -> None:
    agent = start(
        f"""
        class Worker:
            def __init__(self, agent):
                pass

            def run(self):
                {statement}
        """
    )
    assert agent.exit_code() == code
    if "RuntimeError" in statement:
        assert "Traceback" in agent.err
        assert "RuntimeError: on purpose" in agent.err


UNSTARTABLE = {
    "worker": "expected module:Class, for example annealers.executor:Executor",
    "absent.module:Worker": "no module 'absent'; looked in: ",
    "worker:Absent": "worker has no such class; it has: HandlerTakesNothing, ",
    "worker:function": "function is of type function, not a class; it has: HandlerTakesNothing, ",
    "json:dumps": "dumps is of type function, not a class; it has: none",
    "worker:number": "number is of type int, not a class; it has: ",
    "worker:Idle": "expected a class with a method run, Idle has none",
    "worker:NoArgument": "NoArgument is made with one argument, the Agent: def __init__(self, agent)",
    "worker:NoInit": "NoInit is made with one argument, the Agent: def __init__(self, agent)",
    "worker:TwoArguments": "TwoArguments is made with one argument, the Agent: def __init__(self, agent)",
    "worker:RunTakesMore": "its run must be def run(self)",
    "worker:HandlerTakesNothing": "its on_directives must be def on_directives(self, directives)",
    "worker:TerminateTakesNothing": "its terminate must be def terminate(self, reason)",
    "worker:Yields": "its run has a yield in it, so a call would not run it",
    "worker:YieldsAsync": "its run has a yield in it, so a call would not run it",
    "worker:Wrapped": "its run returned a coroutine, which nothing runs: declare it with async def",
    "exits:Worker": "importing exits failed: SystemExit: 0 (",
    "broken:Worker": "importing broken failed: ModuleNotFoundError: No module named 'absent_dependency'",
}


CLASSES = """
    number = 42

    def function(): ...

    class _Base:
        def __init__(self, agent): ...

        def run(self): ...

    class Worker:
        def run(self): ...

    class Idle: ...

    class NoArgument(_Base):
        def __init__(self): ...

    class NoInit:
        def run(self): ...

    class TwoArguments(_Base):
        def __init__(self, agent, model): ...

    class RunTakesMore(_Base):
        def run(self, agent): ...

    class HandlerTakesNothing(_Base):
        def on_directives(self): ...

    class TerminateTakesNothing(_Base):
        def terminate(self): ...

    class Yields(_Base):
        def run(self):
            yield

    class YieldsAsync(_Base):
        async def run(self):
            yield

    class Wrapped(_Base):
        async def ask(self): ...

        def run(self):
            return self.ask()
"""


@pytest.mark.parametrize(("target", "message"), UNSTARTABLE.items(), ids=UNSTARTABLE)
def test_what_cannot_be_started_exits_2_with_one_line(start: Start, tmp_path: Path, target: str, message: str) -> None:
    (tmp_path / "broken.py").write_text("import absent_dependency\n")
    (tmp_path / "exits.py").write_text("raise SystemExit(0)\n")
    agent = start(CLASSES, target)
    assert agent.exit_code() == 2
    assert message in agent.err
    assert agent.err.count("\n") == 1
    assert "_Base" not in agent.err


def test_an_async_handler_needs_an_async_run(start: Start) -> None:
    agent = start(
        """
        class Worker:
            def __init__(self, agent): ...
            async def on_directives(self, directives): ...
            def run(self): ...
        """
    )
    assert agent.exit_code() == 2
    assert "so its run must be async too" in agent.err


def test_a_bad_environment_exits_2_and_names_the_variable(start: Start) -> None:
    agent = start(LISTENER, MABEAM_ORDINAL="first")
    assert agent.exit_code() == 2
    assert "MABEAM_ORDINAL must be a whole number" in agent.err


def test_an_agent_knows_who_it_is(start: Start) -> None:
    agent = start(
        """
        class Worker:
            def __init__(self, agent):
                print(agent.identity)

            def run(self): ...
        """,
        MABEAM_AGENT="coder", MABEAM_NAMESPACE="team", MABEAM_POD="coder-1-4",
        MABEAM_ORDINAL="1", MABEAM_INCARNATION="4", MABEAM_ROLE="Executor",
    )  # fmt: skip
    assert agent.exit_code() == 0
    assert (
        "Identity(agent='coder', namespace='team', pod='coder-1-4', ordinal=1, incarnation=4, role='Executor')"
        in agent.out
    )


def test_starting_an_agent_imports_nothing_of_the_operator(start: Start) -> None:
    agent = start(
        """
        import sys

        class Worker:
            def __init__(self, agent): ...

            def run(self):
                rooms = {name.split(".")[1] for name in sys.modules if name.startswith("mabeam.")}
                print("rooms", sorted(rooms))
                print("heavy", sorted({"asyncio", "pydantic", "kopf", "kubernetes", "aiohttp"} & set(sys.modules)))
        """
    )
    assert agent.exit_code() == 0
    assert "rooms ['agent']" in agent.out
    assert "heavy []" in agent.out
