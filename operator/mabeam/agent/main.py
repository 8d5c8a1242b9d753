"""`mabeam-agent run module:Class`: start one agent, and let its end be the process's exit code.

0: `run` returned.  1: an exception, its traceback on stderr.  2: asked for something that cannot be started.
SystemExit(n): n.  The supervisor judges by these, so nothing else may come out.

However it ends, the worker's `terminate(reason)` is called once, then the last report and the reason are left to the
kubelet. What goes wrong there is never milder than what `run` said.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import inspect
import io
import logging
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from mabeam.agent import termination_message
from mabeam.agent.agent import Agent

log = logging.getLogger("mabeam.agent")

TARGET = re.compile(r"(?P<module>[A-Za-z_]\w*(\.[A-Za-z_]\w*)*):(?P<name>[A-Za-z_]\w*)")

# What a `terminate` is told besides "normal" and "shutdown" begins with it.
ERROR = "error: "


class Unstartable(Exception):
    """What was asked for cannot be started; the message says why and what would be allowed."""


@dataclass(frozen=True, slots=True)
class WorkerExit:
    """How a life ended: its exit code, and why, as its `terminate` is told."""

    code: int
    reason: str

    def __str__(self) -> str:
        """The reason as people want to read it beside an exit code."""
        return self.reason.removeprefix(ERROR)


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code of one agent's life."""
    options = _parser().parse_args(arguments)
    _log_to_stdout()
    environ = _environment(options)
    try:
        with contextlib.ExitStack() as life:
            agent = _open_agent(environ, life)
            return _run_worker(agent, options.target, environ)
    except Unstartable as reason:
        print(f"mabeam-agent: {reason}", file=sys.stderr, flush=True)
        termination_message.write(environ, str(reason))
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mabeam-agent", description="Run one agent inside its pod.")
    commands = parser.add_subparsers(required=True, metavar="run")
    run = commands.add_parser("run", help="run a class as an agent", description="Run a class as an agent.")
    run.add_argument("target", metavar="module:Class", help="a class that takes an Agent and has a method run")
    run.add_argument("--port", help="port of the report, 0 for any (default: $MABEAM_REPORT_PORT, else 9464)")
    where = "folder in which directives.json appears (default: $MABEAM_DIRECTIVES_DIR, else /etc/mabeam)"
    run.add_argument("--directives", help=where)
    return parser


def _environment(options: argparse.Namespace) -> dict[str, str]:
    """The process's environment, overridden by the options that were given."""
    given = {"MABEAM_REPORT_PORT": options.port, "MABEAM_DIRECTIVES_DIR": options.directives}
    return {**os.environ, **{name: value for name, value in given.items() if value is not None}}


def _open_agent(environ: Mapping[str, str], life: contextlib.ExitStack) -> Agent:
    """The agent of this environment, listening and reporting for as long as `life`; raises Unstartable."""
    try:
        agent = Agent.from_environment(environ)
    except ValueError as error:
        raise Unstartable(str(error)) from error
    try:
        return life.enter_context(agent)
    except (OSError, OverflowError) as error:
        raise Unstartable(f"cannot report on port {agent.port}: {error}") from error


def _run_worker(agent: Agent, target: str, environ: Mapping[str, str]) -> int:
    """The exit code after the class was made, told its first directives, run to its end and let terminate."""

    def leave(ending: WorkerExit) -> int:
        report = agent.last_report()
        log.info("ended: %s; last report: %s", ending, termination_message.as_json(report))
        termination_message.write(environ, str(ending), report)
        return ending.code

    try:
        worker = _load_class(target)(agent)
    except (Unstartable, KeyboardInterrupt):
        raise
    except BaseException as error:
        return leave(_ending(agent, error))
    with _worker_calls(agent, worker, target) as (run, terminate):
        ending = _ending(agent, _attempt(run))
        agent.stop_listening()
        if terminate is not None:
            late = _ending(agent, _attempt(lambda: terminate(ending.reason)))
            # Whoever failed in `run` is judged by that. Whoever did not, and fails now, has failed.
            ending = ending if ending.code or not late.code else late
        # Within the stage: what an event loop still has to tidy up may outlast the grace period.
        return leave(ending)


@contextlib.contextmanager
def _worker_calls(
    agent: Agent, worker: Any, target: str
) -> Iterator[tuple[Callable[[], None], Callable[[str], None] | None]]:
    """Two calls: let the worker run, and let it terminate (None when it has no such method)."""
    if inspect.iscoroutinefunction(worker.run):
        # Only here: an agent that is not async should not pay for the import.
        from mabeam.agent import async_worker

        with async_worker.worker_calls(agent, worker) as calls:
            yield calls
        return
    handler, terminate = (getattr(worker, name, None) for name in ("on_directives", "terminate"))
    for method in (handler, terminate):
        if inspect.iscoroutinefunction(method):
            raise Unstartable(f"cannot start {target}: its {method.__name__} is async, so its run must be async too")

    def run() -> None:
        if handler is not None:
            agent.on_directives(handler)
        if not agent.stopping.is_set():
            worker.run()

    yield run, terminate


def _attempt(call: Callable[[], None]) -> BaseException | None:
    """What the call raised, None when it returned. A second Ctrl-C goes through: somebody wants the end now."""
    try:
        call()
    except (Unstartable, KeyboardInterrupt):
        raise
    except BaseException as error:
        return error
    return None


def _ending(agent: Agent, error: BaseException | None) -> WorkerExit:
    """What came of a call that raised this; a traceback or an exit's words go to stderr, as Python has it."""
    code = 0
    if isinstance(error, SystemExit):
        in_words = not (error.code is None or isinstance(error.code, int))
        code = 1 if in_words else int(error.code or 0)
        if in_words:
            print(error.code, file=sys.stderr, flush=True)
    elif error is not None:
        code = 1
        traceback.print_exception(error)
        sys.stderr.flush()
    if code:
        return WorkerExit(code, ERROR + termination_message.one_line("".join(traceback.format_exception_only(error))))
    return WorkerExit(0, "shutdown" if agent.stopping.is_set() else "normal")


def _load_class(target: str) -> Callable[[Agent], Any]:
    """The class that `module:Class` names; raises Unstartable."""
    match = TARGET.fullmatch(target)
    if match is None:
        raise Unstartable(f"cannot start {target!r}: expected module:Class, for example annealers.executor:Executor")
    # As python -m does; but last, so that a stray folder in the working directory hides nothing that is installed.
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    name = match["module"]
    try:
        module = importlib.import_module(name)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(f"{error.name}."):
            where = ", ".join(path or os.getcwd() for path in sys.path)
            raise Unstartable(f"cannot start {target}: no module {error.name!r}; looked in: {where}") from error
        last = traceback.extract_tb(error.__traceback__)[-1]
        cause = f"{type(error).__name__}: {error} ({last.filename}:{last.lineno})"
        raise Unstartable(f"cannot start {target}: importing {name} failed: {cause}") from error
    found = getattr(module, match["name"], None)
    if inspect.isclass(found) and callable(getattr(found, "run", None)):
        return found
    if found is not None:
        raise Unstartable(f"cannot start {target}: expected a class with a method run, that is {found!r:.80}")
    raise Unstartable(f"cannot start {target}: {name} has no such class; it has: {_startable_classes(module)}")


def _startable_classes(module: ModuleType) -> str:
    """The names of a module's classes that could be asked for."""
    classes = inspect.getmembers(module, inspect.isclass)
    names = [name for name, cls in classes if cls.__module__ == module.__name__ and callable(getattr(cls, "run", None))]
    return ", ".join(names) or "none"


def _log_to_stdout() -> None:
    """One line per event, UTC, never held back in a buffer: after a crash the last lines are the ones that matter."""
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(
        stream=sys.stdout, level=logging.INFO, format="%(asctime)sZ %(levelname)s %(name)s: %(message)s"
    )
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)


if __name__ == "__main__":
    sys.exit(main())
