"""`mabeam-agent run module:Class`: start one agent, and let its end be the process's exit code.

0: `run` returned.  1: an exception, its traceback on stderr.  2: asked for something that cannot be started.
SystemExit(n): n.  The supervisor judges by these, so nothing else may come out.
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
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

from mabeam.agent.agent import Agent

log = logging.getLogger("mabeam.agent")

TARGET = re.compile(r"(?P<module>[A-Za-z_]\w*(\.[A-Za-z_]\w*)*):(?P<name>[A-Za-z_]\w*)")


class Unstartable(Exception):
    """What was asked for cannot be started; the message says why and what would be allowed."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code of one agent's life."""
    options = _parser().parse_args(arguments)
    _log_to_stdout()
    try:
        with contextlib.ExitStack() as life:
            return _live(_listening(_environment(options), life), options.target)
    except Unstartable as reason:
        print(f"mabeam-agent: {reason}", file=sys.stderr, flush=True)
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


def _listening(environ: Mapping[str, str], life: contextlib.ExitStack) -> Agent:
    """The agent of this environment, listening and reporting for as long as `life`; raises Unstartable."""
    try:
        agent = Agent.from_environment(environ)
    except ValueError as error:
        raise Unstartable(str(error)) from error
    try:
        return life.enter_context(agent)
    except (OSError, OverflowError) as error:
        raise Unstartable(f"cannot report on port {agent.port}: {error}") from error


def _live(agent: Agent, target: str) -> int:
    """The exit code after the class was made, told its first directives, and run to its end."""
    try:
        worker = _load(target)(agent)
        if inspect.iscoroutinefunction(worker.run):
            # Only here: an agent that is not async should not pay for the import.
            from mabeam.agent import loop

            loop.live(agent, worker)
        else:
            handler = getattr(worker, "on_directives", None)
            if inspect.iscoroutinefunction(handler):
                raise Unstartable(f"cannot start {target}: its on_directives is async, so its run must be async too")
            if handler is not None:
                agent.on_directives(handler)
            if not agent.stopping.is_set():
                worker.run()
    except Unstartable:
        raise
    except Exception:
        traceback.print_exc()
        sys.stderr.flush()
        return 1
    log.info("finished")
    return 0


def _load(target: str) -> Callable[[Agent], Any]:
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
    raise Unstartable(f"cannot start {target}: {name} has no such class; it has: {_startable(module)}")


def _startable(module: ModuleType) -> str:
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
