"""The class that `mabeam-agent run module:Class` names, and what is asked of it before it is started."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import sys
import traceback
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from mabeam.agent.agent import Agent
from mabeam.agent.error_text import error_text

TARGET = re.compile(r"(?P<module>[A-Za-z_]\w*(\.[A-Za-z_]\w*)*):(?P<name>[A-Za-z_]\w*)")


class Unstartable(Exception):
    """The requested class cannot be started; the message says why and what is allowed."""


# Method of a worker → how it is called, and how it is written. All but `run` are optional.
METHODS: Mapping[str, tuple[tuple[object, ...], str]] = {
    "run": ((), "def run(self)"),
    "on_directives": ((object(),), "def on_directives(self, directives)"),
    "terminate": (("",), "def terminate(self, reason)"),
}


def load_class(target: str) -> Callable[[Agent], Any]:
    """The class that `module:Class` names; raises Unstartable."""
    match = TARGET.fullmatch(target)
    if match is None:
        raise Unstartable(f"cannot start {target!r}: expected module:Class, for example annealers.executor:Executor")
    name, module = match["name"], _load_module(target, match["module"])
    found = getattr(module, name, None)
    if found is None:
        raise Unstartable(f"cannot start {target}: {module.__name__} has no such class; {_offer(module)}")
    if not inspect.isclass(found):
        raise Unstartable(
            f"cannot start {target}: {name} is of type {type(found).__name__}, not a class; {_offer(module)}"
        )
    if not callable(getattr(found, "run", None)):
        raise Unstartable(f"cannot start {target}: expected a class with a method run, {name} has none")
    if not _takes(found, (object(),)):
        wanted = "def __init__(self, agent)"
        raise Unstartable(f"cannot start {target}: {name} is made with one argument, the Agent: {wanted}")
    return found


def check_methods(worker: Any, target: str) -> None:
    """Raise Unstartable for a method that cannot be called as it will be, or that a call would not run."""
    is_async = inspect.iscoroutinefunction(worker.run)
    for name, (arguments, wanted) in METHODS.items():
        method = getattr(worker, name, None)
        if method is None:
            continue
        if not callable(method) or not _takes(method, arguments):
            raise Unstartable(f"cannot start {target}: its {name} must be {wanted}")
        if inspect.isgeneratorfunction(method) or inspect.isasyncgenfunction(method):
            raise Unstartable(f"cannot start {target}: its {name} has a yield in it, so a call would not run it")
        if inspect.iscoroutinefunction(method) and not is_async:
            raise Unstartable(f"cannot start {target}: its {name} is async, so its run must be async too")


def _load_module(target: str, name: str) -> ModuleType:
    # As `python -m` does, but at the end: a folder in the working directory must not hide an installed package.
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        # A module that exits when it is imported has run nothing, whatever code it exits with.
        if isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(f"{error.name}."):
            where = ", ".join(path or os.getcwd() for path in sys.path)
            raise Unstartable(f"cannot start {target}: no module {error.name!r}; looked in: {where}") from error
        last = traceback.extract_tb(error.__traceback__)[-1]
        cause = f"{error_text(error)} ({last.filename}:{last.lineno})"
        raise Unstartable(f"cannot start {target}: importing {name} failed: {cause}") from error


def _takes(function: Callable[..., Any], arguments: tuple[object, ...]) -> bool:
    """Whether the function can be called with these arguments; True where its signature is not known."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return True
    try:
        signature.bind(*arguments)
    except TypeError:
        return False
    return True


def _offer(module: ModuleType) -> str:
    """The module's own classes that could be started."""
    names = [
        name
        for name, found in inspect.getmembers(module, inspect.isclass)
        if found.__module__ == module.__name__ and callable(getattr(found, "run", None)) and not name.startswith("_")
    ]
    return f"it has: {', '.join(names) or 'none'}"
