"""Running an agent whose `run` is async: `on_directives` and `terminate` run in its event loop; stopping cancels `run`."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

from mabeam.agent.agent import Agent
from mabeam.agent.directives import Directives, Refused
from mabeam.agent.error_text import error_text
from mabeam.agent.signals import SIGNALS


@contextlib.contextmanager
def worker_calls(agent: Agent, worker: Any) -> Iterator[tuple[Callable[[], None], Callable[[str], None] | None]]:
    """Two functions that call the worker's `run` and `terminate` (None: it has none) in one event loop, closed after the block.

    SIGTERM cancels the task of `run`, as asyncio does on Ctrl-C; other tasks of the worker keep running until `terminate`
    has returned.
    """
    with asyncio.Runner(loop_factory=lambda: _stopping_loop(agent)) as runner:
        has_terminate = getattr(worker, "terminate", None) is not None
        yield (
            lambda: runner.run(_run(agent, worker)),
            (lambda reason: runner.run(_terminate(worker, reason))) if has_terminate else None,
        )


def _stopping_loop(agent: Agent) -> asyncio.AbstractEventLoop:
    """A new loop of the policy in use, whose `add_signal_handler` for SIGTERM or SIGINT keeps the agent stopping too.

    asyncio replaces the handler and the wakeup descriptor, so the SDK would not see that signal any more.
    """
    loop = asyncio.new_event_loop()
    add_signal_handler = loop.add_signal_handler

    def add(number: int, callback: Callable[..., object], *arguments: Any) -> None:
        def call_and_stop() -> None:
            try:
                callback(*arguments)
            finally:
                agent.stop()

        if number in SIGNALS:
            add_signal_handler(number, call_and_stop)
        else:
            add_signal_handler(number, callback, *arguments)

    loop.add_signal_handler = add  # type: ignore[assignment, method-assign]
    return loop


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
        # A closed loop has nothing left to cancel.
        with contextlib.suppress(RuntimeError):
            task.get_loop().call_soon_threadsafe(task.cancel)

    return cancel


def _in_loop(handler: Callable[[Directives], Any], loop: asyncio.AbstractEventLoop) -> Callable[[Directives], None]:
    """A function for other threads that runs the handler in `loop` and waits for it, so that agents need no locks."""

    async def call(directives: Directives) -> None:
        try:
            result = handler(directives)
            if inspect.isawaitable(result):
                await result
        except SystemExit as error:
            # Raised in a task it would end the loop, and the agent with it; a handler that fails refuses.
            raise Refused(f"on_directives raised {error_text(error)}") from error

    @functools.wraps(handler)
    def call_from_thread(directives: Directives) -> None:
        call_once = call(directives)
        try:
            asyncio.run_coroutine_threadsafe(call_once, loop).result()
        except concurrent.futures.CancelledError:
            raise Refused("on_directives was cancelled: the agent is finishing") from None
        except RuntimeError:
            if not loop.is_closed():
                raise
            call_once.close()
            raise Refused("the agent has finished") from None

    return call_from_thread
