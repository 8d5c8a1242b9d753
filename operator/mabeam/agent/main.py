"""`mabeam-agent run module:Class`: run one agent and turn its end into the process's exit code.

0: `run` returned.  1: an exception, its traceback on stderr.  2: the class cannot be started.  SystemExit(n): n.
The operator decides about restarts by these codes, so there are no others.

At the end the worker's `terminate(reason)` is called once, then the last report and the reason are written to the
termination message. A failure of `terminate` can turn a success into a failure, never the reverse.
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

# The attribute of a class that calls `agent.ready()` itself, because it cannot work yet when its `__init__` returns.
READY_BY_CALL = "ready_by_call"

# The prefix of every reason passed to `terminate` other than "normal" and "shutdown".
ERROR = "error: "


class Unstartable(Exception):
    """The requested class cannot be started; the message says why and what is allowed."""


@dataclass(frozen=True, slots=True)
class WorkerExit:
    """How a worker ended."""

    code: int  # the process's exit code
    reason: str  # "normal", "shutdown" or "error: …": the argument of `terminate`

    def __str__(self) -> str:
        """The reason without its prefix, as it is shown beside an exit code."""
        return self.reason.removeprefix(ERROR)


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code of one agent process."""
    options = _parser().parse_args(arguments)
    _log_to_stdout()
    environ = _environment(options)
    try:
        with contextlib.ExitStack() as stack:
            agent = _open_agent(environ, stack)
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


def _open_agent(environ: Mapping[str, str], stack: contextlib.ExitStack) -> Agent:
    """The agent of this environment, entered on `stack`, which closes it; raises Unstartable."""
    try:
        agent = Agent.from_environment(environ)
    except ValueError as error:
        raise Unstartable(str(error)) from error
    try:
        return stack.enter_context(agent)
    except (OSError, OverflowError) as error:
        raise Unstartable(f"cannot report on port {agent.port}: {error}") from error


def _run_worker(agent: Agent, target: str, environ: Mapping[str, str]) -> int:
    """The exit code after constructing the class, passing it the first directives, `run` and `terminate`."""

    def finish(ending: WorkerExit) -> int:
        report = agent.last_report()
        log.info("ended: %s; last report: %s", ending, termination_message.as_json(report))
        termination_message.write(environ, str(ending), report)
        return ending.code

    try:
        worker = _load_class(target)(agent)
    except (Unstartable, KeyboardInterrupt):
        raise
    except BaseException as error:
        return finish(_ending(agent, error))
    with _worker_calls(agent, worker, target) as (run, terminate):
        if not getattr(worker, READY_BY_CALL, False):
            agent.ready()
        ending = _ending(agent, _attempt(run))
        agent.stop_listening()
        if terminate is not None:
            late = _ending(agent, _attempt(lambda: terminate(ending.reason)))
            # A failure of `run` decides the exit code; after a success of `run`, a failure of `terminate` does.
            ending = ending if ending.code or not late.code else late
        # Inside the block: closing the event loop may outlast the grace period.
        return finish(ending)


@contextlib.contextmanager
def _worker_calls(
    agent: Agent, worker: Any, target: str
) -> Iterator[tuple[Callable[[], None], Callable[[str], None] | None]]:
    """Two functions that call the worker's `run` and `terminate` (None: it has none)."""
    if inspect.iscoroutinefunction(worker.run):
        # Imported only here: an agent that is not async does not pay for asyncio.
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
    """The exception that the call raised, None when it returned. A second Ctrl-C is raised: the user wants the end now."""
    try:
        call()
    except (Unstartable, KeyboardInterrupt):
        raise
    except BaseException as error:
        return error
    return None


def _ending(agent: Agent, error: BaseException | None) -> WorkerExit:
    """The exit that follows from the exception of a call; as in Python, its traceback or SystemExit's text goes to stderr."""
    code = 0
    if isinstance(error, SystemExit):
        has_text = not (error.code is None or isinstance(error.code, int))
        code = 1 if has_text else int(error.code or 0)
        if has_text:
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
    # As `python -m` does, but at the end: a folder in the working directory must not hide an installed package.
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
        raise Unstartable(f"cannot start {target}: expected a class with a method run, got {found!r:.80}")
    raise Unstartable(f"cannot start {target}: {name} has no such class; it has: {_startable_classes(module)}")


def _startable_classes(module: ModuleType) -> str:
    """The names of the module's classes that have a `run`, separated by commas."""
    classes = inspect.getmembers(module, inspect.isclass)
    names = [name for name, cls in classes if cls.__module__ == module.__name__ and callable(getattr(cls, "run", None))]
    return ", ".join(names) or "none"


def _log_to_stdout() -> None:
    """Log to stdout: one line per event, UTC, unbuffered, because after a crash the last lines matter most."""
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(
        stream=sys.stdout, level=logging.INFO, format="%(asctime)sZ %(levelname)s %(name)s: %(message)s"
    )
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)


if __name__ == "__main__":
    sys.exit(main())
