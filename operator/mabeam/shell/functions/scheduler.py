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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Final

from mabeam.core.functions import Answer, Ask, Language
from mabeam.core.snapshot import Key
from mabeam.evaluation.evaluator import Evaluator, Outcome
from mabeam.evaluation.results import failure
from mabeam.shell.functions.webhook import Webhooks

log = logging.getLogger("mabeam.functions")

FIRST_DELAY_SECONDS: Final = 1.0
MAX_DELAY_SECONDS: Final = 60.0
# A failure that is told without asking rings a little later: else an object whose every pass asks anew would spin.
RING_SECONDS: Final = 0.1
# Answers to earlier questions of one object, and of all objects together. Those of its last questions always stay.
MAX_EARLIER: Final = 8
MAX_EARLIER_OF_ALL: Final = 4096
MAX_EARLIER_BYTES: Final = 32 * 1024 * 1024
NONE: Final[Mapping[str, Answer]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Lane:
    """How many questions run at once, and how many of one object."""

    at_once: int
    of_one: int


# Three workers with CEL at most, each within 96 MiB beyond its own size: together they fit into the operator's memory limit.
LANES: Final[Mapping[Language, Lane]] = {
    Language.CEL: Lane(2, 1),
    Language.CEL_EDGES: Lane(1, 1),
    Language.PLUGIN: Lane(4, 2),
    Language.WEBHOOK: Lane(8, 2),
}


@dataclass
class _Question:
    ask: Ask
    answer: Answer | None = None
    open: bool = True
    timer: asyncio.TimerHandle | None = None
    size: int = 0


@dataclass
class _Trouble:
    """How a function has failed, and until when it is let alone."""

    failures: int
    until: float
    outcome: Outcome


@dataclass
class _Book:
    """What one object asked: `now` what it waits for, `last` the last questions it had, `unused` those of this decision."""

    questions: "OrderedDict[str, _Question]" = field(default_factory=OrderedDict)
    now: frozenset[str] = frozenset()
    unused: frozenset[str] = frozenset()
    last: frozenset[str] = frozenset()
    heard_at: datetime | None = None
    troubles: dict[str, _Trouble] = field(default_factory=dict)


class Functions:
    """Answers questions by key; `answered(key)` is called when there is something new to know."""

    def __init__(
        self,
        answered: Callable[[Key], None],
        *,
        allow_loopback: bool = False,
        lanes: Mapping[Language, Lane] = LANES,
        evaluator: Evaluator | None = None,
    ) -> None:
        self._answered = answered
        self._lanes = lanes
        self._evaluator = evaluator or Evaluator()
        self._threads = ThreadPoolExecutor(sum(lane.at_once for lane in lanes.values()), "function")
        self._webhooks = Webhooks(self._threads, allow_loopback)
        self._books: dict[Key, _Book] = {}
        self._earlier: OrderedDict[tuple[Key, str], int] = OrderedDict()
        self._earlier_bytes = 0
        self._waiting: dict[Language, OrderedDict[Key, deque[str]]] = {language: OrderedDict() for language in lanes}
        self._running: dict[Language, Counter[Key]] = {language: Counter() for language in lanes}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    # --- what is known --------------------------------------------------------------------------------------------------

    def answers_for(self, key: Key) -> Mapping[str, Answer]:
        """The answers to what the object asked, last and a little before, by the question's id."""
        book = self._books.get(key)
        if book is None:
            return NONE
        return {id_: question.answer for id_, question in book.questions.items() if question.answer is not None}

    def asked_by(self, key: Key) -> tuple[Ask, ...]:
        """What the object asked since it last had nothing to ask, the oldest first: whose answers it has not used yet."""
        book = self._books.get(key)
        if book is None or not book.unused:
            return ()
        return tuple(question.ask for id_, question in book.questions.items() if id_ in book.unused)

    def heard_at(self, key: Key) -> datetime | None:
        """When the object's decision last used all the answers that it had asked for; None when it did not yet."""
        book = self._books.get(key)
        return None if book is None else book.heard_at

    # --- questions --------------------------------------------------------------------------------------------------------

    def ask(self, key: Key, asks: Sequence[Ask], now: datetime) -> None:
        """Take these for all that the object wants to know now: answer those that are new, forget what it asked before."""
        book = self._books.get(key)
        if self._closed or (book is None and not asks):
            return
        if book is None:
            book = self._books[key] = _Book()
        book.now = frozenset(ask.id for ask in asks)
        if book.unused and not book.now:
            book.heard_at = now
        # A decision that is asked about in steps goes on with its first answers; one that was taken has used all of them.
        book.unused = (book.unused & book.questions.keys()) | book.now if book.now else frozenset()
        if book.now:
            book.last = book.now
        self._drop_waiting(key, book)
        for ask in asks:
            known = book.questions.get(ask.id)
            if known is None:
                self._open(key, book, ask)
            else:
                book.questions.move_to_end(ask.id)
        self._trim(key, book)
        for language in {ask.language for ask in asks}:
            self._start(language)

    def forget(self, key: Key) -> None:
        """The object is gone: forget what it asked. What already runs ends by itself, and rings nobody."""
        book = self._books.get(key)
        if book is None:
            return
        book.now = book.last = frozenset()
        self._drop_waiting(key, book)
        for id_ in list(book.questions):
            self._drop(key, book, id_)
        del self._books[key]

    async def close(self) -> None:
        """End everything that runs; nothing is answered any more."""
        self._closed = True
        for key in list(self._books):
            self.forget(key)
        for task in self._tasks:
            task.cancel()
        self._evaluator.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _open(self, key: Key, book: _Book, ask: Ask) -> None:
        question = book.questions[ask.id] = _Question(ask)
        trouble = book.troubles.get(_function(ask))
        loop = asyncio.get_running_loop()
        if trouble is not None and trouble.outcome.costly and trouble.until > loop.time():
            question.answer, question.open = trouble.outcome.answer, False
            question.timer = loop.call_at(trouble.until, self._again, key, ask.id)
            loop.call_later(RING_SECONDS, self._ring, key, ask.id)
        else:
            self._queue(key, ask)

    def _queue(self, key: Key, ask: Ask) -> None:
        self._waiting[ask.language].setdefault(key, deque()).append(ask.id)

    def _drop_waiting(self, key: Key, book: _Book) -> None:
        """Questions that nobody started on, and that are not asked any more, are not answered at all."""
        for waiting in self._waiting.values():
            line = waiting.get(key)
            if line is None:
                continue
            for id_ in [id_ for id_ in line if id_ not in book.now]:
                line.remove(id_)
                question = book.questions[id_]
                if question.answer is None:
                    self._drop(key, book, id_)
                else:
                    question.open = False
            if not line:
                del waiting[key]

    # --- answering ----------------------------------------------------------------------------------------------------------

    def _start(self, language: Language) -> None:
        """Start as many as the lane has room for; each object gets its turn before any gets a second one."""
        lane, waiting, running = self._lanes[language], self._waiting[language], self._running[language]
        for key in list(waiting):
            if running.total() >= lane.at_once:
                return
            if running[key] >= lane.of_one:
                continue
            line = waiting.pop(key)
            id_ = line.popleft()
            if line:
                waiting[key] = line  # at the end
            running[key] += 1
            task = asyncio.create_task(self._answer(key, self._books[key].questions[id_].ask))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answer(self, key: Key, ask: Ask) -> None:
        running = self._running[ask.language]
        try:
            outcome = await self._evaluate(ask)
        except Exception as problem:  # a mistake of our own must not keep the lane's place for ever
            log.exception("a function of %s could not be evaluated", key)
            outcome = Outcome(failure(f"{type(problem).__name__}: {problem}"))
        finally:
            running[key] -= 1
            if not running[key]:
                del running[key]
            if key in self._waiting[ask.language]:
                self._waiting[ask.language].move_to_end(key)  # behind those who came while it was served
        if self._closed:
            return
        self._learn(key, ask, outcome)
        self._start(ask.language)

    async def _evaluate(self, ask: Ask) -> Outcome:
        if ask.language is Language.WEBHOOK:
            answer = await self._webhooks.answer(ask)
            return Outcome(answer, len(json.dumps(answer.value)), costly=answer.timed_out)
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._evaluator.answer, ask)

    def _learn(self, key: Key, ask: Ask, outcome: Outcome) -> None:
        book = self._books.get(key)
        if book is None or ask.id not in book.questions:
            return  # it was forgotten while it was answered
        question = book.questions[ask.id]
        question.answer, question.open = outcome.answer, False
        question.size = outcome.size
        function = _function(ask)
        if outcome.answer.error is None:
            book.troubles.pop(function, None)
        else:
            failures = book.troubles[function].failures + 1 if function in book.troubles else 1
            delay = min(FIRST_DELAY_SECONDS * float(1 << min(failures - 1, 16)), MAX_DELAY_SECONDS)
            loop = asyncio.get_running_loop()
            book.troubles[function] = _Trouble(failures, loop.time() + delay, outcome)
            question.timer = loop.call_later(delay, self._again, key, ask.id)
        self._trim(key, book)
        self._ring(key, ask.id)

    def _ring(self, key: Key, id_: str) -> None:
        book = self._books.get(key)
        if book is not None and id_ in book.last and not self._closed:
            self._answered(key)

    def _again(self, key: Key, id_: str) -> None:
        """The delay is over: ask again if that is still asked, else let the object say whether it still wants to know."""
        book = self._books.get(key)
        question = book.questions.get(id_) if book is not None else None
        if book is None or question is None or self._closed:
            return
        question.timer = None
        if id_ in book.now:
            if not question.open:
                question.open = True
                self._queue(key, question.ask)
                self._start(question.ask.language)
            return
        self._drop(key, book, id_)
        self._ring(key, id_)

    # --- what is kept -----------------------------------------------------------------------------------------------------

    def _trim(self, key: Key, book: _Book) -> None:
        """Keep of the questions before the last a few answered ones, of this object and of all of them together."""
        kept = book.now | book.last
        earlier = [id_ for id_, question in book.questions.items() if id_ not in kept and not question.open]
        for id_ in earlier[: max(0, len(earlier) - MAX_EARLIER)]:
            self._drop(key, book, id_)
        functions = {_function(question.ask) for question in book.questions.values()}
        for function in [function for function in book.troubles if function not in functions]:
            del book.troubles[function]
        for id_ in kept:
            self._earlier_bytes -= self._earlier.pop((key, id_), 0)
        for id_ in earlier:
            if id_ in book.questions and (key, id_) not in self._earlier:
                self._earlier[key, id_] = book.questions[id_].size
                self._earlier_bytes += book.questions[id_].size
        while len(self._earlier) > MAX_EARLIER_OF_ALL or self._earlier_bytes > MAX_EARLIER_BYTES:
            (whose, id_), _ = next(iter(self._earlier.items()))
            self._drop(whose, self._books[whose], id_)

    def _drop(self, key: Key, book: _Book, id_: str) -> None:
        question = book.questions.pop(id_)
        if question.timer is not None:
            question.timer.cancel()
        self._earlier_bytes -= self._earlier.pop((key, id_), 0)


def _function(ask: Ask) -> str:
    """The function without its inputs: what fails is seldom one question."""
    whole = [ask.language, ask.text, ask.group, ask.ca_bundle]
    return hashlib.sha256(json.dumps(whole).encode()).hexdigest()
