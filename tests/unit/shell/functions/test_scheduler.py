"""Questions beside the passes: who is answered when, who is woken, what is kept, and whom a bad function costs nothing."""

import asyncio
import json
import socket
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from mabeam.core.functions import FunctionCall, FunctionResult, Language
from mabeam.core.passes import agent as supervision
from mabeam.core.passes import variable as coordination
from mabeam.core.snapshot import Key
from mabeam.evaluation.evaluator import Evaluation, Evaluator
from mabeam.offline import plan as planning
from mabeam.offline.plan import MAX_FUNCTION_ROUNDS, plan
from mabeam.offline.world import read_world
from mabeam.shell.functions import scheduler as shell
from mabeam.shell.functions.scheduler import CONCURRENCY_LIMITS, MAX_EARLIER, FunctionScheduler
from support.builders import START, at

SECONDS = 20
RED, BLUE = Key("OrchestrationVariable", "ns", "red"), Key("OrchestrationVariable", "ns", "blue")


def cel(text: str, **inputs: Any) -> FunctionCall:
    return FunctionCall(Language.CEL, text, inputs)


class Scripted(Evaluator):
    """Answers by a script instead of a worker: `hang…` until it is let go, `fail…` with an error, else the text itself."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.total = 0
        self.most_at_once = 0
        self.costly = False
        self.failing = True
        self.let_go = threading.Event()
        self.lock = threading.Lock()

    def answer(self, ask: FunctionCall) -> Evaluation:
        with self.lock:
            self.asked.append(ask.text)
            self.total += 1
            self.most_at_once = max(self.most_at_once, self.total)
        try:
            if ask.text.startswith("hang"):
                self.let_go.wait(SECONDS)
            if ask.text.startswith("fail") and self.failing:
                return Evaluation(FunctionResult(error=f"{ask.text} failed", timed_out=self.costly), costly=self.costly)
            if ask.text.startswith("raise"):
                raise KeyError("a mistake of our own")
            return Evaluation(FunctionResult(ask.text), len(ask.text))
        finally:
            with self.lock:
                self.total -= 1

    def close(self) -> None:
        self.let_go.set()
        super().close()


@dataclass
class Desk:
    """Functions, the evaluator behind them, and whom they woke."""

    script: Scripted = field(default_factory=Scripted)
    woken: "Counter[Key]" = field(default_factory=Counter)
    functions: FunctionScheduler = field(init=False)

    def __post_init__(self) -> None:
        self.functions = FunctionScheduler(self.wake, evaluator=self.script)

    def wake(self, key: Key) -> None:
        self.woken[key] += 1

    def ask(self, key: Key, asks: Sequence[FunctionCall], now: datetime = START) -> None:
        self.functions.submit(key, asks, now)

    async def until(self, holds: Callable[[], object]) -> None:
        async with asyncio.timeout(SECONDS):
            while not holds():  # noqa: ASYNC110 - nothing rings when a thread is somewhere
                await asyncio.sleep(0.005)

    async def answers(self, key: Key, *asks: FunctionCall) -> list[FunctionResult]:
        """The answers, once all of these have one."""
        self.ask(key, asks)
        await self.until(lambda: all(ask.id in self.functions.results_for(key) for ask in asks))
        known = self.functions.results_for(key)
        return [known[ask.id] for ask in asks]


@asynccontextmanager
async def a_desk() -> AsyncIterator[Desk]:
    desk = Desk()
    try:
        yield desk
    finally:
        await desk.functions.close()


def with_a_desk(test: Callable[[Desk], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        async with asyncio.timeout(2 * SECONDS), a_desk() as desk:
            await test(desk)

    asyncio.run(run())


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Delays that a test can wait for."""
    monkeypatch.setattr(shell, "FIRST_DELAY_SECONDS", 0.02)
    monkeypatch.setattr(shell, "MAX_DELAY_SECONDS", 0.05)


# --- asked, answered, woken ---------------------------------------------------------------------------------------------


def test_an_answer_wakes_the_one_who_asked_and_nobody_else() -> None:
    async def test(desk: Desk) -> None:
        assert await desk.answers(RED, cel("a")) == [FunctionResult("a")]
        assert desk.woken == {RED: 1}
        assert desk.functions.results_for(BLUE) == {}

    with_a_desk(test)


def test_it_is_known_when_a_decision_had_used_all_its_answers() -> None:
    async def test(desk: Desk) -> None:
        await desk.answers(RED, cel("a"))
        assert desk.functions.completed_at(RED) is None
        desk.ask(RED, [cel("b")], at(1))
        desk.ask(RED, [], at(2))
        assert desk.functions.completed_at(RED) == at(2)
        # Who asked nothing heard nothing.
        desk.ask(RED, [], at(3))
        desk.ask(BLUE, [], at(3))
        assert (desk.functions.completed_at(RED), desk.functions.completed_at(BLUE)) == (at(2), None)

    with_a_desk(test)


def test_a_question_is_answered_once_however_often_it_is_asked() -> None:
    async def test(desk: Desk) -> None:
        desk.ask(RED, [cel("hang")])
        desk.ask(RED, [cel("hang"), cel("hang")])
        desk.script.let_go.set()
        await desk.answers(RED, cel("hang"))
        await desk.answers(RED, cel("hang"))
        assert desk.script.asked == ["hang"]
        assert desk.woken == {RED: 1}

    with_a_desk(test)


def test_an_object_that_asks_nothing_costs_nothing() -> None:
    async def test(desk: Desk) -> None:
        desk.ask(RED, [])
        assert desk.functions.results_for(RED) is desk.functions.results_for(BLUE)
        desk.functions.forget(RED)

    with_a_desk(test)


def test_a_pass_that_asks_in_two_steps_keeps_the_first_answer() -> None:
    async def test(desk: Desk) -> None:
        await desk.answers(RED, cel("first"))
        await desk.answers(RED, cel("second"))
        desk.ask(RED, [])
        assert set(desk.functions.results_for(RED)) == {cel("first").id, cel("second").id}

    with_a_desk(test)


def test_a_decision_goes_on_with_what_it_asked_until_it_asks_nothing_more() -> None:
    async def test(desk: Desk) -> None:
        await desk.answers(RED, cel("first"))
        await desk.answers(RED, cel("second"))
        assert [ask.text for ask in desk.functions.unused_calls(RED)] == ["first", "second"]
        desk.ask(RED, [])
        assert desk.functions.unused_calls(RED) == ()
        await desk.answers(RED, cel("third"))
        assert [ask.text for ask in desk.functions.unused_calls(RED)] == ["third"]

    with_a_desk(test)


def test_of_earlier_questions_a_few_are_kept_and_of_the_last_ones_all() -> None:
    async def test(desk: Desk) -> None:
        many = [cel(f"m{n}") for n in range(3 * MAX_EARLIER)]
        await desk.answers(RED, *many)
        desk.ask(RED, [])  # all are answered: nothing more to ask
        assert len(desk.functions.results_for(RED)) == len(many)
        for number in range(3 * MAX_EARLIER):
            await desk.answers(RED, cel(f"n{number}"))
        last = [cel(f"n{number}").id for number in range(3 * MAX_EARLIER)][-MAX_EARLIER - 1 :]
        assert set(desk.functions.results_for(RED)) == set(last)

    with_a_desk(test)


@pytest.mark.parametrize(("name", "most"), [("MAX_EARLIER_OF_ALL", 10), ("MAX_EARLIER_BYTES", 15)])
def test_all_earlier_answers_together_are_bounded(monkeypatch: pytest.MonkeyPatch, name: str, most: int) -> None:
    monkeypatch.setattr(shell, name, most)

    async def test(desk: Desk) -> None:
        keys = [Key("Agent", "ns", f"a{n}") for n in range(20)]
        for key in keys:
            for number in range(3):
                await desk.answers(key, cel(f"{number}"))
        kept = [len(desk.functions.results_for(key)) for key in keys]
        assert sum(kept) == len(keys) + most
        assert min(kept) == 1
        assert kept[0] == 1
        assert kept[-1] == 3

    with_a_desk(test)


def test_a_question_that_is_no_longer_asked_is_not_begun_and_its_answer_wakes_nobody() -> None:
    async def test(desk: Desk) -> None:
        desk.ask(RED, [cel("hang"), cel("never")])
        await desk.until(lambda: desk.script.asked)
        desk.ask(RED, [cel("new")])
        desk.script.let_go.set()
        await desk.answers(RED, cel("new"))
        assert desk.script.asked == ["hang", "new"]
        assert desk.woken == {RED: 1}

    with_a_desk(test)


def test_one_that_is_gone_is_forgotten_and_not_woken() -> None:
    async def test(desk: Desk) -> None:
        desk.ask(RED, [cel("hang"), cel("never")])
        await desk.until(lambda: desk.script.asked)
        desk.functions.forget(RED)
        desk.script.let_go.set()
        await desk.answers(BLUE, cel("b"))
        assert desk.functions.results_for(RED) == {}
        assert desk.woken == {BLUE: 1}
        assert "never" not in desk.script.asked

    with_a_desk(test)


# --- fairness -----------------------------------------------------------------------------------------------------------


def test_a_function_that_hangs_keeps_nobody_else_waiting() -> None:
    async def test(desk: Desk) -> None:
        desk.ask(RED, [cel(f"hang{n}") for n in range(50)])
        await desk.until(lambda: desk.script.asked)
        for number in range(20):
            assert await desk.answers(BLUE, cel(f"b{number}")) == [FunctionResult(f"b{number}")]
        assert [text for text in desk.script.asked if text.startswith("hang")] == ["hang0"]
        assert RED not in desk.woken

    with_a_desk(test)


def test_each_object_gets_its_turn_before_any_gets_a_second_one() -> None:
    async def test(desk: Desk) -> None:
        keys = [Key("OrchestrationVariable", "ns", name) for name in "abcd"]
        for key in keys:
            desk.ask(key, [cel(f"{key.name}{number}") for number in range(3)])
        await desk.until(lambda: sum(desk.woken.values()) == 12)
        turns = desk.script.asked
        for number in range(3):
            assert sorted(turns[4 * number : 4 * number + 4]) == [f"{name}{number}" for name in "abcd"]

    with_a_desk(test)


@pytest.mark.parametrize("language", [Language.CEL, Language.CEL_EDGES, Language.PLUGIN])
def test_no_more_run_at_once_than_the_lane_has_room_for(language: Language) -> None:
    async def test(desk: Desk) -> None:
        for name in "abcdefghij":
            asks = [replace(cel(f"hang{name}{number}"), language=language) for number in range(5)]
            desk.ask(Key("OrchestrationVariable", "ns", name), asks)
        await desk.until(lambda: desk.script.total == CONCURRENCY_LIMITS[language].total)
        running = Counter(text[4] for text in desk.script.asked)
        assert max(running.values()) <= CONCURRENCY_LIMITS[language].per_object
        desk.script.let_go.set()
        await desk.until(lambda: sum(desk.woken.values()) == 50)
        assert desk.script.most_at_once == CONCURRENCY_LIMITS[language].total

    with_a_desk(test)


# --- failures -----------------------------------------------------------------------------------------------------------


def test_a_failure_is_an_answer_and_is_asked_again_after_a_growing_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    delays: list[float] = []
    monkeypatch.setattr(shell, "MAX_DELAY_SECONDS", 4.0)

    async def test(desk: Desk) -> None:
        loop = asyncio.get_running_loop()
        later = loop.call_later

        def soon(delay: float, *rest: Any) -> asyncio.TimerHandle:
            if rest[0] == desk.functions._retry:
                delays.append(delay)
                delay = 0.0
            return later(delay, *rest)

        monkeypatch.setattr(loop, "call_later", soon)
        desk.ask(RED, [cel("fail")])
        await desk.until(lambda: len(delays) >= 5)
        assert delays[:5] == [1.0, 2.0, 4.0, 4.0, 4.0]
        assert desk.functions.results_for(RED)[cel("fail").id] == FunctionResult(error="fail failed")
        desk.script.failing = False
        await desk.until(lambda: desk.functions.results_for(RED)[cel("fail").id] == FunctionResult("fail"))
        woken = desk.woken[RED]
        assert woken >= 6
        desk.script.failing = True
        first = len(delays)
        desk.ask(RED, [cel("fail", changed=True)])
        await desk.until(lambda: len(delays) > first)
        assert delays[first] == 1.0

    with_a_desk(test)


def test_one_that_asks_only_what_it_does_not_know_is_woken_to_ask_again(quick: None) -> None:
    async def test(desk: Desk) -> None:
        assert await desk.answers(RED, cel("fail")) == [FunctionResult(error="fail failed")]
        desk.ask(RED, [])  # it knows the answer, such as it is
        await desk.until(lambda: desk.woken[RED] >= 2)
        assert desk.functions.results_for(RED) == {}
        assert desk.script.asked == ["fail"]
        desk.script.failing = False
        assert await desk.answers(RED, cel("fail")) == [FunctionResult("fail")]

    with_a_desk(test)


def test_a_costly_function_is_not_asked_anything_new_before_its_delay_is_over() -> None:
    async def test(desk: Desk) -> None:
        desk.script.costly = True
        failed = FunctionResult(error="fail failed", timed_out=True)
        assert await desk.answers(RED, cel("fail")) == [failed]
        for number in range(5):
            assert await desk.answers(RED, cel("fail", reports=number)) == [failed]
        assert desk.script.asked == ["fail"]
        before = desk.woken[RED]
        await desk.until(lambda: desk.woken[RED] > before)  # it learns what it was answered
        assert await desk.answers(RED, cel("another")) == [FunctionResult("another")]
        await desk.until(lambda: len(desk.script.asked) >= 2)

    with_a_desk(test)


def test_a_cheap_failure_is_no_reason_not_to_try_other_inputs_at_once() -> None:
    async def test(desk: Desk) -> None:
        await desk.answers(RED, cel("fail"))
        desk.script.failing = False
        assert await desk.answers(RED, cel("fail", reports=1)) == [FunctionResult("fail")]

    with_a_desk(test)


def test_a_mistake_of_our_own_is_an_answer_too_and_keeps_no_place(caplog: pytest.LogCaptureFixture) -> None:
    async def test(desk: Desk) -> None:
        for number in range(2 * CONCURRENCY_LIMITS[Language.CEL].total):
            (answer,) = await desk.answers(RED, cel(f"raise{number}"))
            assert answer.error == "KeyError: 'a mistake of our own'"
        assert await desk.answers(RED, cel("a")) == [FunctionResult("a")]

    with_a_desk(test)
    assert "could not be evaluated" in caplog.text


def test_closing_ends_what_hangs_and_nothing_is_asked_any_more() -> None:
    async def test(desk: Desk) -> None:
        desk.ask(RED, [cel("hang"), cel("never")])
        await desk.until(lambda: desk.script.asked)
        await desk.functions.close()
        desk.ask(RED, [cel("late")])
        await asyncio.sleep(0)
        assert desk.functions.results_for(RED) == {}
        assert desk.script.asked == ["hang"]
        assert desk.woken == {}

    with_a_desk(test)


def test_with_real_workers_an_endless_expression_leaves_the_others_alone() -> None:
    slow = "[1,1,1,1,1,1,1,1,1,1].all(x, " * 3 + "!long.matches('(a|x)*b')" + ")" * 3
    endless = cel(slow, long="a" * 1_000_000)

    async def run() -> None:
        woken: Counter[Key] = Counter()
        functions = FunctionScheduler(lambda key: woken.update([key]))
        try:
            async with asyncio.timeout(2 * SECONDS):
                functions.submit(RED, [endless], START)
                number = 0
                while not functions.results_for(RED):
                    question = cel("value * 2", value=number)
                    functions.submit(BLUE, [question], START)
                    while question.id not in functions.results_for(BLUE):  # noqa: ASYNC110 - as a pass would look
                        await asyncio.sleep(0.001)
                    assert functions.results_for(BLUE)[question.id] == FunctionResult(2 * number)
                    number += 1
                assert number >= 3
                assert functions.results_for(RED)[endless.id].timed_out
        finally:
            await functions.close()

    asyncio.run(run())


# --- a plan -------------------------------------------------------------------------------------------------------------

WORLD = """
apiVersion: mabeam.dev/v1alpha1
kind: Agent
metadata: {name: a, namespace: ns}
spec: {module: "a:B"}
---
apiVersion: mabeam.dev/v1alpha1
kind: OrchestrationVariable
metadata: {name: v, namespace: ns}
spec: {type: Parameter, agents: {names: [a]}, value: 1}
"""


@pytest.mark.parametrize("core", [supervision, coordination], ids=lambda module: module.__name__)
def test_a_plan_answers_what_is_asked_and_decides_again(core: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The core asks in two steps; in the second it asks what follows from the first answer, and then for ever."""
    real, rounds = core.decide, []

    def decide(snapshot: Any, now: datetime) -> Any:
        known = [answer.value for answer in snapshot.function_results.values()]
        rounds.append(known)
        return replace(real(snapshot, now), function_calls=(cel("value + 1", value=max(known, default=0)),))

    monkeypatch.setattr(core, "decide", decide)
    plan(read_world([("world.yaml", WORLD)]), datetime(2026, 1, 1, tzinfo=UTC))
    assert rounds == [list(range(1, count + 1)) for count in range(MAX_FUNCTION_ROUNDS + 1)]
    assert json.dumps(rounds[-1]) == "[1, 2, 3, 4]"
    assert planning.MAX_FUNCTION_ROUNDS == 4


# --- names that nobody resolves ----------------------------------------------------------------------------------------------


def test_webhooks_at_names_that_nobody_resolves_keep_no_other_function_and_no_other_namespace_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    let_go, looked_up = threading.Event(), list[str]()

    def resolve(host: str, *_: Any) -> list[Any]:
        looked_up.append(host)
        if host.endswith(".dead"):
            let_go.wait(SECONDS)
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    woken: Counter[Key] = Counter()

    def hook(name: str) -> FunctionCall:
        return FunctionCall(Language.WEBHOOK, f"https://{name}/", {"for": name}, timeout_seconds=0.05)

    async def main() -> None:
        functions = FunctionScheduler(lambda key: woken.update([key]), evaluator=Scripted())
        limit = CONCURRENCY_LIMITS[Language.WEBHOOK]
        try:
            for number in range(20):
                functions.submit(Key("V", "evil", f"v{number}"), [hook(f"h{number}.dead")], START)
            good, other = Key("V", "good", "cel"), Key("V", "good", "hook")
            async with asyncio.timeout(SECONDS / 2):
                while sum(woken.values()) < (limit.per_namespace or 0):  # noqa: ASYNC110 - threads move it
                    await asyncio.sleep(0.01)
                functions.submit(good, [cel("1 + 1")], START)
                functions.submit(other, [hook("not.there")], START)
                while not (woken[good] and woken[other]):  # noqa: ASYNC110 - threads move it
                    await asyncio.sleep(0.01)
            dead = [host for host in looked_up if host.endswith(".dead")]
            assert len(dead) == limit.per_namespace  # each holds its place until its thread is back
            let_go.set()
            async with asyncio.timeout(SECONDS / 2):
                while len({host for host in looked_up if host.endswith(".dead")}) < 20:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        finally:
            let_go.set()
            await functions.close()

    asyncio.run(main())
