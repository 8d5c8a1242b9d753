"""Answers the core's questions beside the passes: what a user wrote may be slow, and costs its own object a wait, never a worker.

Each language has a lane: so many run at once, and of one object so few that others always get their turn. An answer rings the
object's key. A function that failed is asked again after a growing delay; one that took all its time is not even asked anything
new before that.
"""

import asyncio
import hashlib
import json
import logging
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final

from mabeam.core.algorithms.backoff import capped_exponential
from mabeam.core.functions import FunctionCall, FunctionResult, Language
from mabeam.core.snapshot import Key
from mabeam.evaluation.evaluator import Evaluation, Evaluator
from mabeam.evaluation.results import failed_result
from mabeam.shell.functions.webhook import Webhooks

log = logging.getLogger("mabeam.functions")

FIRST_DELAY_SECONDS: Final = 1.0
MAX_DELAY_SECONDS: Final = 60.0
# Seconds before a failure without a call wakes its object: otherwise an object whose every pass makes a new call would spin.
NOTIFY_SECONDS: Final = 0.1
# Answers to earlier questions of one object, and of all objects together. Those of its last questions always stay.
MAX_EARLIER: Final = 8
MAX_EARLIER_OF_ALL: Final = 4096
MAX_EARLIER_BYTES: Final = 32 * 1024 * 1024
NONE: Final[Mapping[str, FunctionResult]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class ConcurrencyLimit:
    """The number of calls that run at once: of all objects, of one of them, and of those of one namespace."""

    total: int
    per_object: int
    per_namespace: int | None = None  # None: no limit of its own


# Three workers with CEL at most, each within 96 MiB beyond its own size: together they fit into the operator's memory limit.
CONCURRENCY_LIMITS: Final[Mapping[Language, ConcurrencyLimit]] = {
    Language.CEL: ConcurrencyLimit(2, 1),
    Language.CEL_EDGES: ConcurrencyLimit(1, 1),
    Language.PLUGIN: ConcurrencyLimit(4, 2),
    Language.WEBHOOK: ConcurrencyLimit(8, 2, 6),
}


@dataclass
class PendingCall:
    """One call of a function, and its result once there is one."""

    ask: FunctionCall
    answer: FunctionResult | None = None
    open: bool = True  # it waits or runs
    timer: asyncio.TimerHandle | None = None  # of the retry after a failure
    size: int = 0  # bytes of the result


@dataclass
class FunctionFailures:
    """The failures in a row of one function."""

    failures: int
    until: float  # the loop's time (seconds) before which it is not called again
    outcome: Evaluation  # of the last failure


@dataclass
class CallHistory:
    """The calls of one object, by id, and what they are to it."""

    questions: "OrderedDict[str, PendingCall]" = field(default_factory=OrderedDict)
    now: frozenset[str] = frozenset()  # the object waits for these
    unused: frozenset[str] = frozenset()  # made for the decision under way, which has not used their results yet
    last: frozenset[str] = frozenset()  # the last calls that it made
    completed_at: datetime | None = None  # when a decision last used the results of all its calls
    failing: dict[str, FunctionFailures] = field(default_factory=dict)  # by function, as `_function`


class FunctionScheduler:
    """Evaluates the calls of objects, by key; `on_result(key)` is called when a result is new."""

    def __init__(
        self,
        on_result: Callable[[Key], None],
        *,
        allow_loopback: bool = False,
        limits: Mapping[Language, ConcurrencyLimit] = CONCURRENCY_LIMITS,
        evaluator: Evaluator | None = None,
    ) -> None:
        self._on_result = on_result
        self._limits = limits
        self._evaluator = evaluator or Evaluator()
        own = {language: limit.total for language, limit in limits.items() if language is not Language.WEBHOOK}
        self._threads = ThreadPoolExecutor(max(1, sum(own.values())), "function")
        # A name that nobody resolves holds its thread for half a minute: it must be no thread that a function needs.
        lookups = limits[Language.WEBHOOK].total if Language.WEBHOOK in limits else 1
        self._lookups = ThreadPoolExecutor(lookups, "name")
        self._webhooks = Webhooks(self._lookups, allow_loopback)
        self._histories: dict[Key, CallHistory] = {}
        self._earlier: OrderedDict[tuple[Key, str], int] = OrderedDict()
        self._earlier_bytes = 0
        self._waiting: dict[Language, OrderedDict[Key, deque[str]]] = {language: OrderedDict() for language in limits}
        self._running: dict[Language, Counter[Key]] = {language: Counter() for language in limits}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    # --- what is known --------------------------------------------------------------------------------------------------

    def results_for(self, key: Key) -> Mapping[str, FunctionResult]:
        """Call id → result, of the object's last calls and of a few earlier ones."""
        history = self._histories.get(key)
        if history is None:
            return NONE
        return {id_: question.answer for id_, question in history.questions.items() if question.answer is not None}

    def unused_calls(self, key: Key) -> tuple[FunctionCall, ...]:
        """The calls of the decision under way, the oldest first: the object has not used their results yet."""
        history = self._histories.get(key)
        if history is None or not history.unused:
            return ()
        return tuple(question.ask for id_, question in history.questions.items() if id_ in history.unused)

    def completed_at(self, key: Key) -> datetime | None:
        """When a decision of the object last used the results of all its calls; None when none has."""
        history = self._histories.get(key)
        return None if history is None else history.completed_at

    # --- questions --------------------------------------------------------------------------------------------------------

    def submit(self, key: Key, asks: Sequence[FunctionCall], now: datetime) -> None:
        """Replace the calls that the object waits for: new ones are evaluated, and those that it no longer makes are dropped."""
        history = self._histories.get(key)
        if self._closed or (history is None and not asks):
            return
        if history is None:
            history = self._histories[key] = CallHistory()
        history.now = frozenset(ask.id for ask in asks)
        if history.unused and not history.now:
            history.completed_at = now
        # A decision that is asked about in steps goes on with its first answers; one that was taken has used all of them.
        history.unused = (history.unused & history.questions.keys()) | history.now if history.now else frozenset()
        if history.now:
            history.last = history.now
        self._drop_waiting(key, history)
        for ask in asks:
            known = history.questions.get(ask.id)
            if known is None:
                self._start_call(key, history, ask)
            else:
                history.questions.move_to_end(ask.id)
        self._trim(key, history)
        for language in {ask.language for ask in asks}:
            self._start(language)

    def forget(self, key: Key) -> None:
        """The object is gone: forget what it asked. What already runs ends by itself, and rings nobody."""
        history = self._histories.get(key)
        if history is None:
            return
        history.now = history.last = frozenset()
        self._drop_waiting(key, history)
        for id_ in list(history.questions):
            self._drop(key, history, id_)
        del self._histories[key]

    async def close(self) -> None:
        """End everything that runs; nothing is answered any more."""
        self._closed = True
        for key in list(self._histories):
            self.forget(key)
        for task in self._tasks:
            task.cancel()
        self._evaluator.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for threads in (self._threads, self._lookups):
            threads.shutdown(wait=False, cancel_futures=True)

    def _start_call(self, key: Key, history: CallHistory, ask: FunctionCall) -> None:
        question = history.questions[ask.id] = PendingCall(ask)
        failure_ = history.failing.get(_function(ask))
        loop = asyncio.get_running_loop()
        if failure_ is not None and failure_.outcome.costly and failure_.until > loop.time():
            question.answer, question.open = failure_.outcome.answer, False
            question.timer = loop.call_at(failure_.until, self._retry, key, ask.id)
            loop.call_later(NOTIFY_SECONDS, self._notify, key, ask.id)
        else:
            self._queue(key, ask)

    def _queue(self, key: Key, ask: FunctionCall) -> None:
        self._waiting[ask.language].setdefault(key, deque()).append(ask.id)

    def _drop_waiting(self, key: Key, history: CallHistory) -> None:
        """Questions that nobody started on, and that are not asked any more, are not answered at all."""
        for waiting in self._waiting.values():
            line = waiting.get(key)
            if line is None:
                continue
            for id_ in [id_ for id_ in line if id_ not in history.now]:
                line.remove(id_)
                question = history.questions[id_]
                if question.answer is None:
                    self._drop(key, history, id_)
                else:
                    question.open = False
            if not line:
                del waiting[key]

    # --- answering ----------------------------------------------------------------------------------------------------------

    def _start(self, language: Language) -> None:
        """Start as many as the lane has room for; each object gets its turn before any gets a second one."""
        limit, waiting, running = self._limits[language], self._waiting[language], self._running[language]
        for key in list(waiting):
            if running.total() >= limit.total:
                return
            if running[key] >= limit.per_object or self._is_crowded(key, limit, running):
                continue
            line = waiting.pop(key)
            id_ = line.popleft()
            if line:
                waiting[key] = line  # at the end
            running[key] += 1
            task = asyncio.create_task(self._answer(key, self._histories[key].questions[id_].ask))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    @staticmethod
    def _is_crowded(key: Key, limit: ConcurrencyLimit, running: Counter[Key]) -> bool:
        """Whether the key's namespace has as many calls under way as one namespace may have."""
        if limit.per_namespace is None:
            return False
        return sum(count for other, count in running.items() if other.namespace == key.namespace) >= limit.per_namespace

    async def _answer(self, key: Key, ask: FunctionCall) -> None:
        lookups: list[Future[Any]] = []
        try:
            outcome = await self._evaluate(ask, lookups)
        except Exception as problem:  # a mistake of our own must not keep the lane's place for ever
            log.exception("a function of %s could not be evaluated", key)
            outcome = Evaluation(failed_result(f"{type(problem).__name__}: {problem}"))
        finally:
            self._release(key, ask.language, lookups)
            if key in self._waiting[ask.language]:
                self._waiting[ask.language].move_to_end(key)  # behind those who came while it was served
        if self._closed:
            return
        self._store(key, ask, outcome)
        self._start(ask.language)

    def _release(self, key: Key, language: Language, lookups: Sequence[Future[Any]]) -> None:
        """Give the lane's place back; not while a thread of the call still looks a name up: then when it is done."""
        pending = next((lookup for lookup in lookups if not lookup.done()), None)
        if pending is not None and not self._closed:
            loop = asyncio.get_running_loop()

            def back(_: object) -> None:
                with suppress(RuntimeError):  # the loop is closed
                    loop.call_soon_threadsafe(self._back, key, language, lookups)

            pending.add_done_callback(back)
            return
        running = self._running[language]
        running[key] -= 1
        if not running[key]:
            del running[key]

    def _back(self, key: Key, language: Language, lookups: Sequence[Future[Any]]) -> None:
        self._release(key, language, lookups)
        if not self._closed:
            self._start(language)

    async def _evaluate(self, ask: FunctionCall, lookups: list[Future[Any]]) -> Evaluation:
        if ask.language is Language.WEBHOOK:
            answer = await self._webhooks.answer(ask, lookups.append)
            return Evaluation(answer, len(json.dumps(answer.value)), costly=answer.timed_out)
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._evaluator.answer, ask)

    def _store(self, key: Key, ask: FunctionCall, outcome: Evaluation) -> None:
        history = self._histories.get(key)
        if history is None or ask.id not in history.questions:
            return  # it was forgotten while it was answered
        question = history.questions[ask.id]
        question.answer, question.open = outcome.answer, False
        question.size = outcome.size
        function = _function(ask)
        if outcome.answer.error is None:
            history.failing.pop(function, None)
        else:
            failures = history.failing[function].failures + 1 if function in history.failing else 1
            delay = capped_exponential(failures - 1, FIRST_DELAY_SECONDS, MAX_DELAY_SECONDS)
            loop = asyncio.get_running_loop()
            history.failing[function] = FunctionFailures(failures, loop.time() + delay, outcome)
            question.timer = loop.call_later(delay, self._retry, key, ask.id)
        self._trim(key, history)
        self._notify(key, ask.id)

    def _notify(self, key: Key, id_: str) -> None:
        history = self._histories.get(key)
        if history is not None and id_ in history.last and not self._closed:
            self._on_result(key)

    def _retry(self, key: Key, id_: str) -> None:
        """The delay is over: ask again if that is still asked, else let the object say whether it still wants to know."""
        history = self._histories.get(key)
        question = history.questions.get(id_) if history is not None else None
        if history is None or question is None or self._closed:
            return
        question.timer = None
        if id_ in history.now:
            if not question.open:
                question.open = True
                self._queue(key, question.ask)
                self._start(question.ask.language)
            return
        self._drop(key, history, id_)
        self._notify(key, id_)

    # --- what is kept -----------------------------------------------------------------------------------------------------

    def _trim(self, key: Key, history: CallHistory) -> None:
        """Keep of the questions before the last a few answered ones, of this object and of all of them together."""
        kept = history.now | history.last
        earlier = [id_ for id_, question in history.questions.items() if id_ not in kept and not question.open]
        for id_ in earlier[: max(0, len(earlier) - MAX_EARLIER)]:
            self._drop(key, history, id_)
        functions = {_function(question.ask) for question in history.questions.values()}
        for function in [function for function in history.failing if function not in functions]:
            del history.failing[function]
        for id_ in kept:
            self._earlier_bytes -= self._earlier.pop((key, id_), 0)
        for id_ in earlier:
            if id_ in history.questions and (key, id_) not in self._earlier:
                self._earlier[key, id_] = history.questions[id_].size
                self._earlier_bytes += history.questions[id_].size
        while len(self._earlier) > MAX_EARLIER_OF_ALL or self._earlier_bytes > MAX_EARLIER_BYTES:
            (whose, id_), _ = next(iter(self._earlier.items()))
            self._drop(whose, self._histories[whose], id_)

    def _drop(self, key: Key, history: CallHistory, id_: str) -> None:
        question = history.questions.pop(id_)
        if question.timer is not None:
            question.timer.cancel()
        self._earlier_bytes -= self._earlier.pop((key, id_), 0)


def _function(ask: FunctionCall) -> str:
    """The function without its inputs: what fails is seldom one question."""
    whole = [ask.language, ask.text, ask.group, ask.ca_bundle]
    return hashlib.sha256(json.dumps(whole).encode()).hexdigest()
