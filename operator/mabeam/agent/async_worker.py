"""The life of an agent whose `run` is async: its handler and its `terminate` run in the event loop, and stopping cancels it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

from mabeam.agent.agent import Agent
from mabeam.agent.directives import Directives, Refused


@contextlib.contextmanager
def worker_calls(agent: Agent, worker: Any) -> Iterator[tuple[Callable[[], None], Callable[[str], None] | None]]:
    """Two calls that let the worker run and terminate, both in one event loop, which ends with the block.

    On SIGTERM the task of `run` is cancelled, as asyncio does on Ctrl-C; tasks of its own live on until it terminated.
    """
    with asyncio.Runner() as runner:
        ends = getattr(worker, "terminate", None) is not None
        yield (
            lambda: runner.run(_run(agent, worker)),
            (lambda reason: runner.run(_terminate(worker, reason))) if ends else None,
        )


async def _run(agent: Agent, worker: Any) -> None:
    handler = getattr(worker, "on_directives", None)
    if handler is not None:
        # From another thread, because registering calls the handler, and the handler needs this loop.
        await asyncio.to_thread(agent.on_directives, _in_loop(handler, asyncio.get_running_loop()))
    task = asyncio.current_task()
    if agent.stopping.is_set() or task is None:
        return
    agent.on_stop(_canceller(task))
    try:
        await worker.run()
    except asyncio.CancelledError:
        if not agent.stopping.is_set():
            raise


async def _terminate(worker: Any, reason: str) -> None:
    result = worker.terminate(reason)
    if inspect.isawaitable(result):
        await result


def _canceller(task: asyncio.Future[Any]) -> Callable[[], None]:
    def cancel() -> None:
        # A loop that is closed already has nothing left to cancel.
        with contextlib.suppress(RuntimeError):
            task.get_loop().call_soon_threadsafe(task.cancel)

    return cancel


def _in_loop(handler: Callable[[Directives], Any], loop: asyncio.AbstractEventLoop) -> Callable[[Directives], None]:
    """The same handler, to be called from another thread, which waits for its end: no locks in the agent's code."""

    async def call(directives: Directives) -> None:
        result = handler(directives)
        if inspect.isawaitable(result):
            await result

    def hand_over(directives: Directives) -> None:
        call_once = call(directives)
        try:
            asyncio.run_coroutine_threadsafe(call_once, loop).result()
        except concurrent.futures.CancelledError:
            raise Refused("the agent is finishing") from None
        except RuntimeError:
            if not loop.is_closed():
                raise
            call_once.close()
            raise Refused("the agent has finished") from None

    return hand_over
