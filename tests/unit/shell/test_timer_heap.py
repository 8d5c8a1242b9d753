"""Keys come when they are due, each once, however often their time was moved."""

import asyncio
from collections.abc import Awaitable, Callable

from mabeam.shell.timer_heap import SLACK, TimerHeap


def in_a_loop(scenario: Callable[[TimerHeap[str], float], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(5):
            await scenario(TimerHeap(), asyncio.get_running_loop().time())

    asyncio.run(main())


def test_keys_come_in_the_order_of_their_times() -> None:
    async def scenario(timers: TimerHeap[str], now: float) -> None:
        for key, at in (("b", now - 1), ("c", now + 60), ("a", now - 2)):
            timers.schedule(key, at)
        assert (timers.pop_due(), timers.pop_due(), timers.pop_due(), len(timers)) == ("a", "b", None, 1)

    in_a_loop(scenario)


def test_an_earlier_time_stays_and_a_later_one_gives_way() -> None:
    async def scenario(timers: TimerHeap[str], now: float) -> None:
        timers.schedule("moved", now + 60)
        timers.schedule("moved", now - 1)
        timers.schedule("moved", now + 60)
        assert (timers.pop_due(), timers.pop_due(), len(timers)) == ("moved", None, 0)

    in_a_loop(scenario)


def test_a_cancelled_key_does_not_come() -> None:
    async def scenario(timers: TimerHeap[str], now: float) -> None:
        timers.schedule("a", now - 1)
        timers.cancel("a")
        timers.cancel("never there")
        assert (timers.pop_due(), len(timers)) == (None, 0)

    in_a_loop(scenario)


def test_a_wait_ends_when_a_key_is_due_or_another_one_is_scheduled_or_it_is_woken() -> None:
    async def scenario(timers: TimerHeap[str], now: float) -> None:
        timers.schedule("a", now + 0.05)
        await timers.wait()
        assert timers.pop_due() == "a"
        waiting = asyncio.create_task(timers.wait())
        await asyncio.sleep(0)
        timers.schedule("b", now + 60)
        await waiting
        waiting = asyncio.create_task(timers.wait())
        await asyncio.sleep(0)
        timers.wake()
        await waiting

    in_a_loop(scenario)


def test_a_key_whose_time_is_moved_again_and_again_costs_no_memory() -> None:
    async def scenario(timers: TimerHeap[str], now: float) -> None:
        for number in range(10_000):
            timers.schedule(f"key-{number % 10}", now + 20_000 - number)
        assert (len(timers), len(timers._heap) <= 2 * 10 + SLACK) == (10, True)

    in_a_loop(scenario)
