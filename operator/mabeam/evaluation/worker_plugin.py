"""The worker of one plug-in: a function in the operator's image that is found by its entry point, imported once, and asked often.

A plug-in is trusted as the image is. It has a process of its own because it may hang, crash, or print.
"""

import os
from collections.abc import Callable
from functools import partial
from importlib.metadata import EntryPoints, entry_points
from typing import Any

from mabeam.evaluation.worker_main import Evaluate, InvalidFunction, serve


def _found(group: str, name: str) -> Evaluate:
    there: EntryPoints = entry_points(group=group)
    for entry in there.select(name=name):
        function = entry.load()
        if not callable(function):
            raise InvalidFunction(f"the plug-in {name!r} ({entry.value}) is no function")
        return partial(_called, function)
    names = ", ".join(sorted(there.names)) or "none"
    raise InvalidFunction(f"there is no plug-in {name!r} in the group {group}; there are: {names}")


def _called(function: Callable[[Any], Any], question: dict[str, Any]) -> Any:
    return function(question["inputs"])


def main(arguments: list[str]) -> None:
    """Answer with the plug-in of this group and name until the operator closes the pipe."""
    group, name = arguments
    serve(lambda: _found(group, name), processors=os.cpu_count() or 1)
