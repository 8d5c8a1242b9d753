"""`mabeam-agent run module:Class`: run one agent and turn its end into the process's exit code.

0: `run` returned.  1: an exception, its traceback on stderr.  2: the class cannot be started.  SystemExit(n): n.
The operator decides about restarts by these codes, so there are no others.

At the end the worker's `terminate(reason)` is called once, then the last report and the reason are written to the
termination message. A failure of `terminate` can turn a success into a failure, never the reverse. After a failure the
process ends, whatever threads it has left behind: a crash that leaves a running container would never be seen.
"""

from __future__ import annotations

import argparse
import contextlib
import inspect
import io
import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from mabeam.agent import termination_message
from mabeam.agent.agent import Agent
from mabeam.agent.error_text import error_text
from mabeam.agent.worker_class import Unstartable, check_methods, load_class

log = logging.getLogger("mabeam.agent")

# The attribute of a class that calls `agent.ready()` itself, because it cannot work yet when its `__init__` returns.
READY_BY_CALL = "ready_by_call"

# The prefix of every reason passed to `terminate` other than "normal" and "shutdown".
ERROR = "error: "

# How long the event loop, other threads and `atexit` functions may outlast a failure.
END_SECONDS = 5.0


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
        _print_error(f"mabeam-agent: {reason}")
        termination_message.write(environ, str(reason))
        return 2
    except KeyboardInterrupt:
        termination_message.write(environ, "KeyboardInterrupt")
        return 130
    finally:
        _flush_streams()


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
    process = os.getpid()

    def ended(error: BaseException | None) -> WorkerExit:
        ending = _ending(agent, error)
        if os.getpid() != process:
            _end_child(ending)
        return ending

    def finish(ending: WorkerExit) -> int:
        report = agent.last_report()
        # First of all: stdout may be full or closed.
        termination_message.write(environ, str(ending), report)
        log.info("ended: %s; last report: %s", ending, termination_message.as_json(report))
        threading.Thread(target=_end_in_time, args=(ending.code,), name="mabeam-end", daemon=True).start()
        return ending.code

    try:
        worker = load_class(target)(agent)
    except (Unstartable, KeyboardInterrupt):
        raise
    except BaseException as error:
        return finish(ended(error))
    check_methods(worker, target)
    with _worker_calls(agent, worker, target) as (run, terminate):
        if not getattr(worker, READY_BY_CALL, False):
            agent.ready()
        ending = ended(_attempt(run))
        agent.stop_listening()
        if terminate is not None:
            late = ended(_attempt(lambda: terminate(ending.reason)))
            # A failure of `run` decides the exit code; after a success of `run`, a failure of `terminate` does.
            ending = ending if ending.code or not late.code else late
        # Inside the block: closing the event loop may outlast the grace period.
        return finish(ending)


@contextlib.contextmanager
def _worker_calls(
    agent: Agent, worker: Any, target: str
) -> Iterator[tuple[Callable[[], None], Callable[[str], None] | None]]:
    """Two functions that call the worker's `run` and `terminate` (None: it has none)."""
    handler, terminate = (getattr(worker, name, None) for name in ("on_directives", "terminate"))
    if handler is None:
        log.info("%s has no on_directives: only agent.applied(directives) acknowledges what it is sent", target)
    if inspect.iscoroutinefunction(worker.run):
        # Imported only here: an agent that is not async does not pay for asyncio.
        from mabeam.agent import async_worker

        with async_worker.worker_calls(agent, worker) as calls:
            yield calls
        return

    def run() -> None:
        if handler is not None:
            agent.on_directives(handler)
        if not agent.stopping.is_set():
            _check_result(worker.run(), f"cannot start {target}: its run")

    def end(reason: str) -> None:
        if terminate is not None:
            _check_result(terminate(reason), f"{target}: its terminate")

    yield run, end if terminate is not None else None


def _check_result(result: object, method: str) -> None:
    """Raise Unstartable where a call has run nothing but returned what had to be awaited, or iterated over."""
    if inspect.iscoroutine(result) or inspect.isgenerator(result):
        result.close()
        kind = type(result).__name__
        raise Unstartable(f"{method} returned a {kind}, which nothing runs: declare it with async def, without a yield")


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
        code = _exit_code(error.code)
        if not (error.code is None or isinstance(error.code, int)):
            _print_error(error.code)
    elif error is not None:
        code = 1
        # An exception that cannot be printed, or a stderr that is closed, changes nothing about the exit.
        with contextlib.suppress(Exception):
            traceback.print_exception(error)
            sys.stderr.flush()
    if error is not None and code:
        return WorkerExit(code, ERROR + error_text(error))
    return WorkerExit(0, "shutdown" if agent.stopping.is_set() else "normal")


def _exit_code(code: object) -> int:
    """The process's exit code for that of a SystemExit: as in Python, but a failure stays one in the eight bits that are kept."""
    if code is None:
        return 0
    if not isinstance(code, int):
        return 1
    return code & 0xFF or int(code != 0)


def _end_child(ending: WorkerExit) -> NoReturn:
    """End a child made by fork that came out of the worker's code: the parent terminates the worker and reports its end."""
    _flush_streams()
    # Not by returning: that would close the event loop, whose selector the child shares with its parent.
    os._exit(ending.code)


def _end_in_time(code: int) -> None:
    """After a failure, end the process when something still keeps it from ending; after a success, log what that is."""
    time.sleep(END_SECONDS)
    others = [t.name for t in threading.enumerate() if not t.daemon and t is not threading.main_thread()]
    busy = f"its threads {', '.join(others)}" if others else "its event loop or an atexit function"
    log.warning("the agent ended %.0f s ago, but %s still keep the process from ending", END_SECONDS, busy)
    if code:
        _flush_streams()
        os._exit(code)


def _print_error(text: object) -> None:
    with contextlib.suppress(Exception):
        print(text, file=sys.stderr, flush=True)


def _flush_streams() -> None:
    """Flush stdout and stderr; one that is broken is replaced, because Python would make its failure the exit code (120)."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _log_to_stdout() -> None:
    """Log to stdout: one line per event, UTC, unbuffered, because after a crash the last lines matter most."""
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(
        stream=sys.stdout, level=logging.INFO, format="%(asctime)sZ %(levelname)s %(name)s: %(message)s"
    )
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A text that the stream's encoding does not have is escaped rather than lost with an error.
        sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")


if __name__ == "__main__":
    sys.exit(main())
