"""The work queue's promises: once, by one worker, at the earlier of two appointments, ever later after failures."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from mabeam.core.snapshot import Key
from mabeam.shell.reconcile.queue import MAX_BACKOFF_SECONDS, WorkQueue

A, B = Key("Agent", "team", "a"), Key("Agent", "team", "b")


def running(scenario: Callable[[WorkQueue], Awaitable[None]]) -> None:
    """Run the scenario on a queue whose timer ticks."""

    async def main() -> None:
        queue = WorkQueue()
        timer = asyncio.create_task(queue.run_timers())
        try:
            async with asyncio.timeout(10):
                await scenario(queue)
        finally:
            queue.close()
            await timer

    asyncio.run(main())


async def nothing_to_do(queue: WorkQueue, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await queue.get()
    except TimeoutError:
        return True
    return False


def test_a_key_waits_once_however_often_it_is_added() -> None:
    async def scenario(queue: WorkQueue) -> None:
        for _ in range(3):
            queue.add(A)
        queue.add(B)
        assert queue.depth() == 2
        assert [await queue.get(), await queue.get()] == [A, B]

    running(scenario)


def test_a_key_is_never_given_to_two_workers_and_comes_back_when_it_was_touched_meanwhile() -> None:
    async def scenario(queue: WorkQueue) -> None:
        queue.add(A)
        assert await queue.get() == A
        queue.add(A)
        queue.add(A)
        assert await nothing_to_do(queue, 0.05)
        queue.done(A)
        assert await queue.get() == A
        queue.done(A)
        assert await nothing_to_do(queue, 0.05)

    running(scenario)


def test_many_workers_never_hold_the_same_key_at_once() -> None:
    async def scenario(queue: WorkQueue) -> None:
        held: set[Key] = set()
        passes: dict[Key, int] = {A: 0, B: 0}

        async def worker() -> None:
            while (key := await queue.get()) is not None:
                assert key not in held
                held.add(key)
                await asyncio.sleep(0)
                passes[key] += 1
                held.discard(key)
                queue.done(key)

        workers = [asyncio.create_task(worker()) for _ in range(8)]
        for _ in range(50):
            queue.add(A)
            queue.add(B)
            await asyncio.sleep(0)
        while queue.depth() or held:  # noqa: ASYNC110 - the workers need turns, not time
            await asyncio.sleep(0)
        queue.close()
        await asyncio.gather(*workers)
        assert min(passes.values()) > 1

    running(scenario)


def test_a_delayed_key_comes_when_it_is_due_and_not_before() -> None:
    async def scenario(queue: WorkQueue) -> None:
        clock = asyncio.get_running_loop().time
        asked = clock()
        queue.add_after(A, 0.1)
        assert (queue.depth(), queue.delayed()) == (0, 1)
        assert await queue.get() == A
        assert clock() - asked >= 0.1
        assert queue.delayed() == 0

    running(scenario)


def test_the_earlier_of_two_appointments_wins_whichever_was_made_first() -> None:
    async def scenario(queue: WorkQueue) -> None:
        clock = asyncio.get_running_loop().time
        asked = clock()
        queue.add_after(A, 5)
        queue.add_after(A, 0.05)
        queue.add_after(A, 5)
        queue.add_after(B, 0.1)
        queue.add_after(B, 5)
        assert [await queue.get(), await queue.get()] == [A, B]
        assert clock() - asked < 4
        queue.done(A)
        queue.done(B)
        assert await nothing_to_do(queue, 0.1)

    running(scenario)


def test_a_key_that_is_in_line_needs_no_appointment_and_an_add_keeps_it() -> None:
    async def scenario(queue: WorkQueue) -> None:
        queue.add(A)
        queue.add_after(A, 0.05)
        assert await queue.get() == A
        queue.done(A)
        queue.add_after(A, 0.05)
        queue.add(A)
        assert await queue.get() == A
        queue.done(A)
        assert await nothing_to_do(queue, 0.15)

    running(scenario)


def test_an_appointment_that_falls_due_during_the_work_is_kept_after_it() -> None:
    async def scenario(queue: WorkQueue) -> None:
        queue.add(A)
        await queue.get()
        queue.add_after(A, 0.01)
        assert await nothing_to_do(queue, 0.1)
        queue.done(A)
        assert await queue.get() == A

    running(scenario)


def test_failures_are_retried_ever_later_up_to_a_minute_and_a_success_starts_anew() -> None:
    async def scenario(queue: WorkQueue) -> None:
        delays = [queue.retry(A) for _ in range(40)]
        assert delays[:5] == [0.1, 0.2, 0.4, 0.8, 1.6]
        assert delays == sorted(delays)
        assert delays[-1] == MAX_BACKOFF_SECONDS
        assert queue.retry(B) == 0.1
        queue.forget(A)
        assert queue.retry(A) == 0.1
        assert queue.retry(B, at_least=7) == 7
        assert queue.retry(B, at_least=86_400) == MAX_BACKOFF_SECONDS

    running(scenario)


def test_a_closed_queue_hands_out_nothing_more_and_wakes_whoever_waits() -> None:
    async def scenario(queue: WorkQueue) -> None:
        waiting = asyncio.create_task(queue.get())
        await asyncio.sleep(0)
        queue.close()
        assert await waiting is None
        queue.add(A)
        assert await queue.get() is None

    running(scenario)


def test_the_age_of_the_longest_waiting_key_is_known() -> None:
    async def scenario(queue: WorkQueue) -> None:
        assert queue.oldest_seconds() == 0
        queue.add(A)
        await asyncio.sleep(0.03)
        queue.add(B)
        assert 0.03 <= queue.oldest_seconds() < 5
        await queue.get()
        await queue.get()
        assert queue.oldest_seconds() == 0

    running(scenario)


@pytest.mark.parametrize("ticks", range(6))
def test_the_timer_ends_when_it_is_told_to_even_if_it_was_just_woken(ticks: int) -> None:
    async def main() -> None:
        queue = WorkQueue()
        timer = asyncio.create_task(queue.run_timers())
        queue.add_after(B, 90)
        await asyncio.sleep(0.01)
        queue.add_after(A, 60)
        for _ in range(ticks):
            await asyncio.sleep(0)
        timer.cancel()
        done, _ = await asyncio.wait([timer], timeout=1)
        timer.cancel()
        assert done == {timer}

    asyncio.run(main())
