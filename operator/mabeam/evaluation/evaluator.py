"""Answers the questions that are evaluated on this machine: CEL and plug-ins, each in a worker process with limits.

Everything here blocks; `functions` calls it from threads, `evaluate` straight.
"""

import atexit
import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, Final

from mabeam.core.functions import MAX_INPUT_BYTES, FunctionCall, FunctionResult, Language
from mabeam.evaluation.results import InvalidResult, failed_result, parse_result
from mabeam.evaluation.worker_pool import EvaluationTimeout, WorkerEnded, WorkerPool, WorkerProcess

MAX_PLUGINS: Final = 32
# What an edge takes with names, for each byte that it takes with places.
NAMED_BYTES: Final = 30


@dataclass(frozen=True, slots=True)
class Evaluation:
    """An answer, its size; and whether it was `costly`: it took all its time, or a worker with it."""

    answer: FunctionResult
    size: int = 0
    costly: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """How long one answer may take (None: as long as the question says), and how large it may be."""

    seconds: float | None
    most_bytes: int


LIMITS: Final[Mapping[Language, Limits]] = {
    Language.CEL: Limits(1.0, 256 * 1024),
    # All the pairs of three hundred agents are a third of it.
    Language.CEL_EDGES: Limits(10.0, 1024 * 1024),
    Language.PLUGIN: Limits(None, 1024 * 1024),
}

# What a plug-in may find of the environment; the operator's has nothing that it needs, and may have what it must not see.
_PASSED_ON: Final = ("PATH", "HOME", "LANG", "TZ", "TMPDIR")


def _cel_worker() -> WorkerProcess:
    return WorkerProcess("mabeam.evaluation.worker_cel", (), {}, quiet=True)


def _plugin_worker(group: str, name: str) -> WorkerProcess:
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return WorkerProcess("mabeam.evaluation.worker_plugin", (group, name), environment, quiet=False)


@dataclass
class Evaluator:
    """The worker processes, started when they are first needed."""

    limits: Mapping[Language, Limits] = field(default_factory=lambda: LIMITS)
    cel: WorkerPool = field(default_factory=lambda: WorkerPool(_cel_worker))
    _plugins: dict[tuple[str, str], WorkerPool] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, ask: FunctionCall) -> Evaluation:
        """What the function says, or what went wrong; never raises for what a user wrote."""
        if (whole := _too_large(ask)) is not None:
            return Evaluation(failed_result(whole))
        limits = self.limits[ask.language]
        seconds = limits.seconds if limits.seconds is not None else ask.timeout_seconds
        question = {"language": ask.language, "text": ask.text, "inputs": ask.inputs}
        try:
            raw = _ROOMS[ask.language](self, ask).answer(question, seconds, limits.most_bytes)
            answer = parse_result(raw)
            if ask.language is Language.CEL_EDGES and answer.error is None:
                return Evaluation(FunctionResult(_named(answer.value, ask)), len(raw) * NAMED_BYTES)
            return Evaluation(answer, len(raw))
        except EvaluationTimeout:
            return Evaluation(
                failed_result(f"it took longer than {seconds:g} s, and was ended", timed_out=True), costly=True
            )
        except WorkerEnded as problem:
            return Evaluation(failed_result(str(problem)), costly=True)
        except OSError as problem:
            return Evaluation(failed_result(f"its worker could not be started: {problem}"), costly=True)
        except InvalidResult as problem:
            return Evaluation(failed_result(f"the answer cannot be used: {problem}"))

    def _cel(self, _: FunctionCall) -> WorkerPool:
        return self.cel

    def _plugin(self, ask: FunctionCall) -> WorkerPool:
        name = (str(ask.group), ask.text)
        with self._lock:
            workers = self._plugins.pop(name, None) or WorkerPool(partial(_plugin_worker, *name))
            self._plugins[name] = workers  # at the end: used last
            first = self._plugins.pop(next(iter(self._plugins))) if len(self._plugins) > MAX_PLUGINS else None
        if first is not None:
            first.close()
        return workers

    @property
    def pids(self) -> list[int]:
        """The numbers of all worker processes there are."""
        with self._lock:
            return [pid for workers in (self.cel, *self._plugins.values()) for pid in workers.pids]

    def close(self) -> None:
        """End all workers; threads that wait for an answer get an error at once."""
        with self._lock:
            everything = (self.cel, *self._plugins.values())
        for workers in everything:
            workers.close()


_ROOMS: Final[Mapping[Language, Callable[[Evaluator, FunctionCall], WorkerPool]]] = {
    Language.CEL: Evaluator._cel,
    Language.CEL_EDGES: Evaluator._cel,
    Language.PLUGIN: Evaluator._plugin,
}


def _named(places: Any, ask: FunctionCall) -> list[list[str]]:
    """The [from, to] names for the places of each agent's peers in the list of agents."""
    names = [agent["name"] for agent in ask.inputs["agents"]]
    try:
        return [[one, names[place]] for one, row in zip(names, places, strict=True) for place in row]
    except (TypeError, ValueError, IndexError):
        raise InvalidResult("its worker named agents that are not there") from None


def _too_large(ask: FunctionCall) -> str | None:
    """What is wrong with the inputs, None when nothing is."""
    try:
        size = len(json.dumps(ask.inputs, allow_nan=False).encode())
    except (TypeError, ValueError, RecursionError) as problem:
        return f"the inputs are not JSON: {problem}"
    return (
        f"the inputs have {size} bytes, at most {MAX_INPUT_BYTES} are handed over" if size > MAX_INPUT_BYTES else None
    )


def evaluate(ask: FunctionCall) -> FunctionResult:
    """What the function says, within its limits; a webhook is not called, for a plan must not do anything."""
    if ask.language is Language.WEBHOOK:
        return FunctionResult(error="a plan calls no webhook")
    return _evaluator().answer(ask).answer


def evaluate_all(asks: Sequence[FunctionCall], known: Mapping[str, FunctionResult]) -> dict[str, FunctionResult]:
    """The answers known, and those to what is not answered yet."""
    found = dict(known)
    for ask in asks:
        if ask.id not in found:
            found[ask.id] = evaluate(ask)
    return found


@cache
def _evaluator() -> Evaluator:
    evaluator = Evaluator()
    atexit.register(evaluator.close)
    return evaluator
