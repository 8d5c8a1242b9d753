"""The informer against a small apiserver on loopback: nothing told twice is lost, nothing lost is believed in."""

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable, Sequence

import pytest
from aiohttp import web
from kubernetes.aio.client.configuration import Configuration

from mabeam.api.base import JsonDict
from mabeam.shell.kube import reflector as watching
from mabeam.shell.kube.client import Client
from mabeam.shell.kube.connection import Connection
from mabeam.shell.kube.errors import ApiError
from mabeam.shell.kube.reflector import RELIST_AFTER_FAILURES, Reflector
from support.hostile_json import nested_object

Line = JsonDict | str | bytes


def event(kind: str, name: str, version: int) -> JsonDict:
    return {"type": kind, "object": {"metadata": {"name": name, "resourceVersion": str(version)}}}


def bookmark(version: int) -> JsonDict:
    return event("BOOKMARK", "", version)


def error(code: int) -> JsonDict:
    return {"type": "ERROR", "object": {"kind": "Status", "code": code, "reason": "Why", "message": "words"}}


async def come(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110  (it happens on the other side of a socket)
        await asyncio.sleep(0.01)


class Apiserver:
    """Answers the n-th WATCH with the n-th script; when there is none left it stays silent until the test is over."""

    def __init__(self, *scripts: Sequence[Line] | int) -> None:
        self.scripts = list(scripts)
        self.asked: list[dict[str, str]] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(dict(request.query))
        script = self.scripts.pop(0) if self.scripts else [b""]
        if isinstance(script, int):
            return web.json_response({"reason": "No", "message": "no"}, status=script)
        response = web.StreamResponse()
        await response.prepare(request)
        for line in script:
            if isinstance(line, bytes):
                await response.write(line)
            else:
                await response.write((line if isinstance(line, str) else json.dumps(line) + "\n").encode())
        if script == [b""]:
            await asyncio.sleep(30)
        return response


class Listener:
    """A watch, what it was told, and how often it listed anew."""

    def __init__(self, server: Apiserver) -> None:
        self.server = server
        self.told: list[tuple[str, str]] = []
        self.lists = 0
        self.unreadable: list[str] = []
        self.list_troubles: list[Exception] = []

    def hear(self, kind: str, change: str, body: JsonDict) -> None:
        self.told.append((change, body["metadata"]["name"]))

    async def relist(self) -> str:
        self.lists += 1
        if self.list_troubles:
            raise self.list_troubles.pop()
        return str(1000 * self.lists)

    def run(
        self,
        until: Callable[[], bool],
        during: Callable[[Reflector], Awaitable[None]] | None = None,
        version: str = "5",
    ) -> Reflector:
        """Follow from a version until `until` holds."""

        async def main() -> Reflector:
            app = web.Application()
            app.router.add_get("/api/v1/pods", self.server.handle)
            runner = web.AppRunner(app, shutdown_timeout=0.1)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            port = runner.addresses[0][1]
            connection = Connection(
                f"http://127.0.0.1:{port}", ssl.create_default_context(), Configuration(), False, "loopback"
            )
            async with Client(connection) as cluster:
                cluster.unreadable.count = self.unreadable.append
                watch = Reflector(cluster, "Pod", None, self.hear, self.relist)
                following = asyncio.create_task(watch.run(version))
                try:
                    async with asyncio.timeout(10):
                        if during is not None:
                            await during(watch)
                        await come(until)
                finally:
                    following.cancel()
                    await asyncio.gather(following, return_exceptions=True)
            await runner.cleanup()
            return watch

        return asyncio.run(main())

    @property
    def versions(self) -> list[str]:
        return [query["resourceVersion"] for query in self.server.asked]


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "FIRST_BACKOFF_SECONDS", 0.001)
    monkeypatch.setattr(watching, "MAX_BACKOFF_SECONDS", 0.01)
    monkeypatch.setattr(watching, "DENIED_BACKOFF_SECONDS", 0.01)


def test_every_change_is_told_and_a_stream_that_ends_is_resumed_where_it_ended() -> None:
    server = Apiserver([event("ADDED", "a", 6), event("MODIFIED", "a", 7)], [event("DELETED", "a", 9)])
    listener = Listener(server)
    listener.run(lambda: len(server.asked) == 3)
    assert listener.told == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]
    assert (listener.versions, listener.lists) == (["5", "7", "9"], 0)
    assert server.asked[0]["labelSelector"] == "app.kubernetes.io/managed-by=mabeam"
    assert server.asked[0]["allowWatchBookmarks"] == "true"


def test_a_bookmark_tells_nothing_but_moves_on() -> None:
    server = Apiserver([bookmark(70)])
    listener = Listener(server)
    listener.run(lambda: len(server.asked) == 2)
    assert (listener.told, listener.versions) == ([], ["5", "70"])


@pytest.mark.parametrize("script", [410, [event("ADDED", "a", 6), error(410)]])
def test_a_lost_history_leads_to_a_list_and_on_from_there(script: Sequence[Line] | int) -> None:
    server = Apiserver(script)
    listener = Listener(server)
    listener.run(lambda: len(server.asked) == 2)
    assert (listener.versions[-1], listener.lists) == ("1000", 1)


@pytest.mark.parametrize("trouble", [ApiError(503, "", "busy"), TimeoutError(), ConnectionResetError()])
def test_a_list_that_fails_is_tried_again(trouble: Exception) -> None:
    server = Apiserver(410, 410)
    listener = Listener(server)
    listener.list_troubles = [trouble]
    listener.run(lambda: len(server.asked) == 3)
    assert (listener.versions, listener.lists) == (["5", "5", "2000"], 2)


@pytest.mark.parametrize(
    "broken", [[error(500)], [error(504)], ['{"type": "ADDED", "obj'], ['"words"\n'], ['{"type": "ADDED"}\n'], 500, 429]
)
def test_a_broken_stream_is_resumed_where_it_broke(broken: Sequence[Line] | int) -> None:
    head = [event("ADDED", "a", 6)]
    server = Apiserver([*head, *broken] if not isinstance(broken, int) else broken)
    listener = Listener(server)
    listener.run(lambda: len(server.asked) == 2)
    assert listener.versions[-1] == ("5" if isinstance(broken, int) else "6")
    assert listener.lists == 0


def test_a_stream_that_breaks_at_the_same_place_again_and_again_is_listed_anew() -> None:
    server = Apiserver(*[[error(500)]] * RELIST_AFTER_FAILURES)
    listener = Listener(server)
    listener.run(lambda: len(server.asked) == RELIST_AFTER_FAILURES + 1)
    assert (listener.versions[-1], listener.lists) == ("1000", 1)


def test_a_line_may_come_in_pieces_and_be_longer_than_any_buffer() -> None:
    long = event("ADDED", "a" * 900_000, 6)
    text = json.dumps(long).encode() + b"\n"
    server = Apiserver([text[:10], text[10:500_000], text[500_000:], event("ADDED", "b", 7)])
    listener = Listener(server)
    listener.run(lambda: len(server.asked) == 2)
    assert [len(name) for _, name in listener.told] == [900_000, 1]


def test_an_object_that_cannot_be_read_is_passed_over_and_the_stream_goes_on_after_it() -> None:
    deep = b'{"type":"%s","object":' + nested_object("deep", version=7) + b"}\n"
    server = Apiserver([event("ADDED", "a", 6), deep % b"MODIFIED"], [event("ADDED", "b", 8), deep % b"DELETED"])
    listener = Listener(server)
    listener.run(lambda: len(server.asked) == 3)
    assert listener.told == [("ADDED", "a"), ("ADDED", "b"), ("DELETED", "deep")]
    assert (listener.versions, listener.lists) == (["5", "7", "7"], 0)
    assert listener.unreadable == ["Pod"]


def test_a_stream_that_says_nothing_can_be_started_anew() -> None:
    server = Apiserver()
    listener = Listener(server)

    async def during(watch: Reflector) -> None:
        await come(lambda: bool(server.asked))
        watch.restart()

    listener.run(lambda: len(server.asked) == 2, during)
    assert (listener.versions, listener.lists) == (["5", "5"], 0)


def test_a_server_that_ends_every_stream_at_once_is_not_stormed() -> None:
    server = Apiserver(*([[]] * 20))
    listener = Listener(server)
    watch = listener.run(lambda: listener.lists > 0)
    assert len(server.asked) <= 2 * RELIST_AFTER_FAILURES
    assert watch.failures.count >= RELIST_AFTER_FAILURES


def test_a_kind_that_was_never_listed_is_listed_before_it_is_watched() -> None:
    server = Apiserver()
    listener = Listener(server)
    listener.list_troubles = [ApiError(403, "Forbidden", "no"), ApiError(403, "Forbidden", "no")]
    listener.run(lambda: len(server.asked) == 1, version="")
    assert listener.versions == ["3000"]


def test_a_watch_that_is_denied_for_hours_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    listener = Listener(Apiserver(*[403] * 8))
    listener.list_troubles = [ApiError(403, "Forbidden", "no")] * 4
    listener.run(lambda: len(listener.versions) >= 8)
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert warnings.count("the watch of Pod broke off: 403 No: no") <= 2
    assert len(warnings) < 8
