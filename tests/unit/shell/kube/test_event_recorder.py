"""Events are a courtesy: a repeated one becomes a series, a refused one is dropped, a flood loses its oldest."""

import asyncio
from collections.abc import Awaitable, Callable

from mabeam.api.base import JsonDict
from mabeam.api.names import Reason
from mabeam.core.decision import Event
from mabeam.shell.kube.errors import ApiError
from mabeam.shell.kube.event_recorder import YIELD_POLL_SECONDS, EventRecorder, Regarding
from mabeam.shell.kube.server_time import ServerClock

AGENT = Regarding("Agent", "team", "a", "uid-of-a")


class Apiserver:
    """Remembers what was posted; fails once with the trouble that was set."""

    def __init__(self) -> None:
        self.clock = ServerClock()
        self.posted: list[tuple[str, str]] = []
        self.trouble: Exception | None = None

    async def create(self, kind: str, namespace: str, body: JsonDict) -> JsonDict:
        trouble, self.trouble = self.trouble, None
        if trouble is not None:
            raise trouble
        self.posted.append(("create", body["note"]))
        return body

    async def patch(self, kind: str, namespace: str, name: str, body: JsonDict) -> JsonDict:
        self.posted.append(("patch", str(body["series"]["count"])))
        return body


def posting(scenario: Callable[[EventRecorder, Apiserver], Awaitable[None]]) -> Apiserver:
    api = Apiserver()

    async def main() -> None:
        recorder = EventRecorder(api, "me")  # type: ignore[arg-type]
        task = asyncio.create_task(recorder.run())
        try:
            async with asyncio.timeout(10):
                await scenario(recorder, api)
        finally:
            task.cancel()

    asyncio.run(main())
    return api


def told(*notes: str) -> tuple[Event, ...]:
    return tuple(Event(Reason.AGENT_STARTED, note) for note in notes)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110  (it happens in another task)
        await asyncio.sleep(0.005)


def test_the_same_words_again_become_a_series() -> None:
    async def scenario(recorder: EventRecorder, api: Apiserver) -> None:
        recorder.record(AGENT, told("again", "again", "again"))
        await until(lambda: len(api.posted) == 3)

    assert posting(scenario).posted == [("create", "again"), ("patch", "2"), ("patch", "3")]


def test_events_give_way_to_keys_that_wait_for_a_worker() -> None:
    waiting = ["a key"]

    async def scenario(recorder: EventRecorder, api: Apiserver) -> None:
        recorder.is_busy = lambda: bool(waiting)
        recorder.record(AGENT, told("later"))
        await asyncio.sleep(3 * YIELD_POLL_SECONDS)
        assert api.posted == []
        waiting.clear()
        await until(lambda: bool(api.posted))

    assert posting(scenario).posted == [("create", "later")]


def test_an_event_gives_way_for_a_bounded_time() -> None:
    async def scenario(recorder: EventRecorder, api: Apiserver) -> None:
        recorder.is_busy, recorder.max_yield_seconds = lambda: True, 3 * YIELD_POLL_SECONDS
        recorder.record(AGENT, told("late"))
        await until(lambda: bool(api.posted))

    assert posting(scenario).posted == [("create", "late")]


def test_an_event_that_is_refused_is_dropped_and_the_next_one_posted() -> None:
    async def scenario(recorder: EventRecorder, api: Apiserver) -> None:
        api.trouble = ApiError(500, "No", "no")
        recorder.record(AGENT, told("lost", "kept"))
        await until(lambda: bool(api.posted))

    assert posting(scenario).posted == [("create", "kept")]


def test_a_note_is_cut_where_the_apiserver_counts_bytes() -> None:
    async def scenario(recorder: EventRecorder, api: Apiserver) -> None:
        recorder.record(AGENT, told("ä" * 1000))
        await until(lambda: bool(api.posted))

    assert posting(scenario).posted == [("create", "ä" * 512)]


def test_a_flood_loses_its_oldest() -> None:
    async def scenario(recorder: EventRecorder, api: Apiserver) -> None:
        recorder._queue = asyncio.Queue(2)
        recorder.record(AGENT, told("one", "two", "three"))
        assert recorder.dropped == 1
        assert [entry[1].note for entry in recorder._queue._queue] == ["two", "three"]  # type: ignore[attr-defined]

    posting(scenario)
