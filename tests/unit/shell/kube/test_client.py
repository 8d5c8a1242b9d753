"""The one client of the apiserver, over loopback: how it asks, waits, refuses to write without the Lease, and reads refusals."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from aiohttp import web
from kubernetes.aio.client.configuration import Configuration

from mabeam.shell.kube.client import BUSY_TRIES, Client, next_limit
from mabeam.shell.kube.connection import Connection
from mabeam.shell.kube.errors import ApiError, NotLeading, UnreadableAnswer
from support.hostile_json import nested, nested_object

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def port_of(runner: web.AppRunner) -> int:
    # Told to choose, IPv4 and IPv6 choose each for themselves.
    return next(int(address[1]) for address in runner.addresses if len(address) == 2)


# --- what is asked --------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def a_cluster(handler: Handler, max_in_flight: int = 64) -> AsyncIterator[Client]:
    """A Cluster whose apiserver is the handler."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        server = f"http://127.0.0.1:{port_of(runner)}"
        connection = Connection(server, ssl.create_default_context(), Configuration(), False, "a test")
        async with Client(connection, max_in_flight) as cluster:
            yield cluster
    finally:
        await runner.cleanup()


def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The naps that are taken from now on, none of which takes time."""
    taken: list[float] = []
    sleep = asyncio.sleep

    async def nap(seconds: float) -> None:
        if seconds:
            taken.append(seconds)
        await sleep(0)

    monkeypatch.setattr("mabeam.shell.kube.client.asyncio.sleep", nap)
    return taken


def busy(times: int, **headers: str) -> tuple[Handler, list[str]]:
    asked: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        asked.append(request.method)
        if len(asked) <= times:
            return web.json_response({"reason": "TooManyRequests", "message": "slow down"}, status=429, headers=headers)
        return web.json_response({"kind": "Pod"})

    return handler, asked


def test_a_busy_server_is_asked_again_when_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = naps(monkeypatch)
    handler, asked = busy(2, **{"Retry-After": "2"})

    async def main() -> None:
        async with a_cluster(handler) as cluster:
            assert await cluster.create("Pod", "team", {}) == {"kind": "Pod"}

    asyncio.run(main())
    assert asked == ["POST"] * 3
    assert taken == [2, 2]


@pytest.mark.parametrize("word", ["soon", "-1", "1.5", None])
def test_a_busy_server_that_says_no_time_is_given_a_second(word: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = naps(monkeypatch)
    handler, _ = busy(1, **({"Retry-After": word} if word else {}))

    async def main() -> None:
        async with a_cluster(handler) as cluster:
            await cluster.create("Pod", "team", {})

    asyncio.run(main())
    assert taken == [1]


def test_a_server_that_stays_busy_is_left_in_peace_for_the_queue_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    naps(monkeypatch)
    handler, asked = busy(100, **{"Retry-After": "2"})

    async def main() -> None:
        async with a_cluster(handler) as cluster:
            with pytest.raises(ApiError) as error:
                await cluster.create("Pod", "team", {})
            assert (error.value.status, error.value.retry_after) == (429, 2)

    asyncio.run(main())
    assert len(asked) == BUSY_TRIES


def test_a_server_that_asks_for_a_long_pause_holds_no_worker_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = naps(monkeypatch)
    handler, asked = busy(100, **{"Retry-After": "30"})

    async def main() -> None:
        async with a_cluster(handler) as cluster:
            with pytest.raises(ApiError) as error:
                await cluster.create("Pod", "team", {})
            assert error.value.retry_after == 30

    asyncio.run(main())
    assert (asked, taken) == (["POST"], [])


def test_the_lease_that_is_lost_while_a_busy_server_is_waited_for_stops_the_write(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    naps(monkeypatch)
    handler, asked = busy(100)

    async def main() -> None:
        async with a_cluster(handler) as cluster:
            cluster.may_write = lambda: not asked
            with pytest.raises(NotLeading):
                await cluster.create("Pod", "team", {})

    asyncio.run(main())
    assert len(asked) == 1


def test_a_create_asks_the_apiserver_to_refuse_unknown_fields() -> None:
    asked: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        asked.append(request.query_string)
        return web.json_response({"kind": "Pod"})

    async def main() -> None:
        async with a_cluster(handler) as cluster:
            await cluster.create("Pod", "team", {})

    asyncio.run(main())
    assert asked == ["fieldManager=mabeam&fieldValidation=Strict"]


def test_every_answer_tells_the_time() -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.json_response({}, headers={"Date": "Fri, 15 Jan 2027 08:00:00 GMT"})

    async def main() -> None:
        async with a_cluster(answer) as cluster:
            await cluster.get("Pod", "team", "a")
            assert 0 <= (cluster.clock.now() - datetime(2027, 1, 15, 8, tzinfo=UTC)).total_seconds() < 5

    asyncio.run(main())


def test_a_gateway_that_fails_does_not_tell_the_time() -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.json_response({}, status=502, headers={"Date": "Fri, 15 Jan 2027 08:00:00 GMT"})

    async def main() -> None:
        async with a_cluster(answer) as cluster:
            before = cluster.clock.now()
            with pytest.raises(ApiError):
                await cluster.get("Pod", "team", "a")
            assert abs((cluster.clock.now() - before).total_seconds()) < 5

    asyncio.run(main())


def test_a_known_refusal_is_not_prolonged_by_those_who_come_too_late() -> None:
    async def answer(request: web.Request) -> web.Response:
        words = "cannot create because it is being terminated"
        return web.json_response({"reason": "Forbidden", "message": words}, status=403)

    async def main() -> None:
        async with a_cluster(answer) as cluster:
            until = []
            for _ in range(2):
                with pytest.raises(ApiError):
                    await cluster.create("Pod", "team", {})
                until.append(cluster._terminating["team"][0])
            assert until[0] == until[1]

    asyncio.run(main())


def test_a_write_that_loses_the_lease_on_its_way_to_the_socket_never_gets_there() -> None:
    handler, asked = busy(0)

    async def main() -> None:
        async with a_cluster(handler) as cluster:
            looks = iter((True, False))
            cluster.may_write = lambda: next(looks)
            with pytest.raises(NotLeading):
                await cluster.create("Pod", "team", {})
            assert next(looks, None) is None
            cluster.may_write = lambda: True
            await cluster.create("Pod", "team", {})

    asyncio.run(main())
    assert asked == ["POST"]


def test_without_the_lease_nothing_is_written_but_the_lease_and_everything_can_be_read() -> None:
    handler, asked = busy(0)

    async def main() -> None:
        async with a_cluster(handler) as cluster:
            cluster.may_write = lambda: False
            for write in (
                cluster.create("Pod", "team", {}),
                cluster.patch("Pod", "team", "a", {}),
                cluster.patch_status("Agent", "team", "a", {}),
                cluster.delete("Pod", "team", "a", None, None),
                cluster.create("Event", "team", {}),
            ):
                with pytest.raises(NotLeading):
                    await write
            assert asked == []
            await cluster.get("Pod", "team", "a")
            await cluster.unguarded().patch("Lease", "team", "mabeam", {})

    asyncio.run(main())
    assert asked == ["GET", "PATCH"]


@pytest.mark.parametrize("limit", [1, 5])
def test_no_more_requests_fly_at_once_than_are_allowed(limit: int) -> None:
    flying, most = 0, 0

    async def handler(_: web.Request) -> web.Response:
        nonlocal flying, most
        flying += 1
        most = max(most, flying)
        await asyncio.sleep(0.01)
        flying -= 1
        return web.json_response({})

    async def main() -> None:
        async with a_cluster(handler, limit) as cluster:
            await asyncio.gather(*(cluster.create("Pod", "team", {}) for _ in range(20)))

    asyncio.run(main())
    assert most == limit


def test_a_busy_server_is_waited_for_outside_of_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    naps(monkeypatch)
    handler, _ = busy(1)

    async def main() -> None:
        async with a_cluster(handler, 1) as cluster, asyncio.timeout(5):
            await asyncio.gather(cluster.create("Pod", "team", {}), cluster.create("Pod", "team", {}))

    asyncio.run(main())


def test_a_request_says_who_writes_and_how() -> None:
    seen: list[tuple[str, str, dict[str, str], str, object]] = []

    async def handler(request: web.Request) -> web.Response:
        body = json.loads(await request.text() or "null")
        content = request.headers.get("Content-Type", "")
        seen.append((request.method, request.path, dict(request.query), content, body))
        assert request.headers["User-Agent"].startswith("mabeam/")
        return web.json_response({})

    async def main() -> None:
        async with a_cluster(handler) as cluster:
            await cluster.patch_status("Agent", "team", "a", {"status": {}})
            await cluster.delete("Pod", "team", "a-0-1", "uid", 1)

    asyncio.run(main())
    path = "/apis/mabeam.dev/v1alpha1/namespaces/team/agents/a/status"
    manager = {"fieldManager": "mabeam"}
    assert seen[0] == ("PATCH", path, manager, "application/merge-patch+json", {"status": {}})
    assert seen[1][:2] == ("DELETE", "/api/v1/namespaces/team/pods/a-0-1")
    options = seen[1][4]
    assert isinstance(options, dict)
    assert (options["preconditions"], options["gracePeriodSeconds"]) == ({"uid": "uid"}, 1)


def test_a_list_is_read_page_by_page() -> None:
    asked: list[dict[str, str]] = []

    async def handler(request: web.Request) -> web.Response:
        asked.append(dict(request.query))
        page = int(request.query.get("continue", "0"))
        going_on = {"continue": str(page + 1)} if page < 2 else {}
        return web.json_response({"items": [{"page": page}], "metadata": going_on})

    async def main() -> list[object]:
        async with a_cluster(handler) as cluster:
            return [page.items async for page in cluster.list_pages("Pod")]

    assert asyncio.run(main()) == [[{"page": 0}], [{"page": 1}], [{"page": 2}]]
    assert [query.get("continue") for query in asked] == [None, "1", "2"]
    assert {query["labelSelector"] for query in asked} == {"app.kubernetes.io/managed-by=mabeam"}
    assert [query["limit"] for query in asked] == ["20", *["100"] * (len(asked) - 1)]


def test_an_object_that_cannot_be_read_is_reported_and_costs_the_page_nothing_else() -> None:
    met: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        page = request.query.get("continue", "0")
        items = b",".join([b'{"page":%s}' % page.encode(), *([nested_object("deep")] if page == "0" else [])])
        more = b"1" if page == "0" else b""
        return web.Response(body=b'{"items":[%s],"metadata":{"continue":"%s"}}' % (items, more))

    async def main() -> list[object]:
        async with a_cluster(handler) as cluster:
            cluster.unreadable.count = met.append
            return [page.items async for page in cluster.list_pages("OrchestrationVariable")]

    assert asyncio.run(main()) == [[{"page": 0}], [{"page": 1}]]
    assert met == ["OrchestrationVariable"]


@pytest.mark.parametrize("body", [b'"words"', b"no json", b'{"items":[{"spec":' + nested() + b"}]}"])
def test_an_answer_that_is_no_list_is_an_error_of_the_request(body: bytes) -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(body=body)

    async def main() -> None:
        async with a_cluster(handler) as cluster:
            with pytest.raises(UnreadableAnswer):
                [page async for page in cluster.list_pages("Pod")]

    asyncio.run(main())


def test_an_answer_that_cannot_be_parsed_is_an_error_of_the_request() -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(body=nested_object("deep"))

    async def main() -> None:
        async with a_cluster(handler) as cluster:
            with pytest.raises(UnreadableAnswer, match=r"GET .*agents/deep: .*depth"):
                await cluster.get("Agent", "evil", "deep")

    asyncio.run(main())


def asked_to_delete(status: int, there: str | None) -> object:
    """What a deletion is told that was refused, `there` being the uid of who has the name then."""

    async def handler(request: web.Request) -> web.Response:
        if request.method == "DELETE" or there is None:
            return web.json_response({"reason": "x"}, status=status if request.method == "DELETE" else 404)
        return web.json_response({"metadata": {"uid": there}})

    async def main() -> object:
        async with a_cluster(handler) as cluster:
            return await cluster.delete("Pod", "team", "a-0-1", "uid", None)

    return asyncio.run(main())


@pytest.mark.parametrize(("status", "there"), [(404, None), (409, None), (409, "another")])
def test_what_is_gone_or_another_one_by_now_counts_as_deleted(status: int, there: str | None) -> None:
    assert asked_to_delete(status, there) is None


def test_a_deletion_that_met_another_write_is_not_taken_for_done() -> None:
    with pytest.raises(ApiError) as error:
        asked_to_delete(409, "uid")
    assert error.value.status == 409


@pytest.mark.parametrize("body", ["<html>a proxy</html>", "[]", ""])
def test_an_error_that_is_not_the_apiservers_is_told_all_the_same(body: str) -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(status=502, text=body)

    async def main() -> None:
        async with a_cluster(handler) as cluster:
            with pytest.raises(ApiError) as error:
                await cluster.create("Pod", "team", {})
            assert error.value.status == 502

    asyncio.run(main())


def test_a_report_through_the_apiserver_is_read_to_its_end_and_not_beyond_the_limit() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(4):
            await response.write(b"0123456789")
            await asyncio.sleep(0.02)
        return response

    async def main() -> None:
        async with a_cluster(handler) as cluster:
            assert await cluster.read_report("team", "a-0-1", 9464, "/metrics", 100) == b"0123456789" * 4
            assert len(await cluster.read_report("team", "a-0-1", 9464, "/metrics", 25)) == 26

    asyncio.run(main())


GOING = (
    "pods is forbidden: unable to create new content in namespace team because it is being terminated",
    "Forbidden",
)


def test_a_namespace_that_is_being_terminated_is_told_nothing_more_until_something_new_is_in_it() -> None:
    asked: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        asked.append(f"{request.method} {request.path}")
        message, reason = GOING
        return web.json_response({"reason": reason, "message": message}, status=403)

    async def refused(cluster: Client, kind: str, namespace: str) -> bool:
        with pytest.raises(ApiError) as told:
            await cluster.create(kind, namespace, {})
        return told.value.namespace_terminating

    async def main() -> None:
        async with a_cluster(handler) as cluster:
            for kind in ("Pod", "ConfigMap", "Event"):
                assert await refused(cluster, kind, "team")
            assert asked == ["POST /api/v1/namespaces/team/pods"]
            assert await refused(cluster, "Pod", "another")
            assert await refused(cluster.unguarded(), "Lease", "team")
            assert len(asked) == 3
            cluster.accepts_again("team")
            assert await refused(cluster, "Pod", "team")
            assert len(asked) == 4

    asyncio.run(main())


def test_a_namespace_that_was_being_terminated_is_asked_again_after_a_while() -> None:
    asked: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        asked.append(request.path)
        if len(asked) > 1:
            return web.json_response({"kind": "Pod"})
        message, reason = GOING
        return web.json_response({"reason": reason, "message": message}, status=403)

    async def main() -> None:
        async with a_cluster(handler) as cluster:
            cluster.terminating_seconds = 0.0
            with pytest.raises(ApiError):
                await cluster.create("Pod", "team", {})
            assert await cluster.create("Pod", "team", {}) == {"kind": "Pod"}

    asyncio.run(main())


@pytest.mark.parametrize(
    ("count", "size", "limit"),
    [(20, 60_000, 100), (20, 28_000_000, 2), (2, 2_800_000, 2), (1, 9_000_000, 1), (0, 0, 100), (20, 2_000_000, 41)],
)
def test_a_page_is_as_long_as_the_objects_of_the_one_before_allow(count: int, size: int, limit: int) -> None:
    assert next_limit(count, size) == limit
