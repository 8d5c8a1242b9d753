"""kopf itself, on a session of ours, against a small apiserver on loopback: every change is told, and nothing ends it."""

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Self

import kopf
import orjson
import pytest
from aiohttp import web
from kubernetes.aio.client.configuration import Configuration

from mabeam.api.base import JsonDict
from mabeam.shell.kube import kopf_session, kopf_watch, reflector
from mabeam.shell.kube.client import Client
from mabeam.shell.kube.connection import Connection
from mabeam.shell.kube.kopf_session import KopfSession, envelope, open_envelope
from mabeam.shell.kube.relist import Relister
from mabeam.state.cache import Cache
from support.builders import agent_body
from support.hostile_json import nested_object

AGENTS = "/apis/mabeam.dev/v1alpha1/agents"
VERBS = ["get", "list", "watch", "patch"]
OURS = [(kind, plural, True) for kind, plural in kopf_watch.KOPF_KINDS.items()]
# What kopf looks for before it watches anything.
RESOURCES = {
    "/api/v1": [("Namespace", "namespaces", False), ("Event", "events", True)],
    "/apis/apiextensions.k8s.io/v1": [("CustomResourceDefinition", "customresourcedefinitions", False)],
    "/apis/mabeam.dev/v1alpha1": OURS,
}
Line = JsonDict | bytes


def an_agent(name: str, version: int, uid: str = "") -> JsonDict:
    body = agent_body(name)
    body["metadata"] |= {"resourceVersion": str(version), "uid": uid or f"uid-of-{name}"}
    return body


def event(type_: str, name: str, version: int) -> JsonDict:
    return {"type": type_, "object": an_agent(name, version)}


def deep(type_: str, name: str = "deep", version: int = 7, depth: int = 1100) -> bytes:
    return b'{"type":"%s","object":%s}' % (type_.encode(), nested_object(name, depth, "Agent", version))


def error(code: int) -> JsonDict:
    return {"type": "ERROR", "object": {"kind": "Status", "code": code, "reason": "Why", "message": "words"}}


class Apiserver:
    """Knows our three kinds. The n-th WATCH of Agents gets the n-th script; without one it stays open and silent."""

    def __init__(self, *scripts: Sequence[Line] | int) -> None:
        self.scripts = list(scripts)
        self.items: list[bytes] = []
        self.lists = 0
        self.versions: list[str] = []
        self.list_answers: list[int] = []
        self.written: list[str] = []

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get("/apis/mabeam.dev/v1alpha1/{plural}", self._collection)
        app.router.add_get("/{path:.*}", self._discovery)
        app.router.add_route("*", "/{path:.*}", self._write)
        self.runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", 0).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.runner.cleanup()

    @property
    def connection(self) -> Connection:
        server = f"http://127.0.0.1:{self.runner.addresses[0][1]}"
        return Connection(server, ssl.create_default_context(), Configuration(), False, "loopback")

    async def _discovery(self, request: web.Request) -> web.Response:
        if request.path == "/apis":
            paths = [path.split("/")[2:] for path in RESOURCES if path.startswith("/apis/")]
            versions = {group: {"groupVersion": f"{group}/{version}", "version": version} for group, version in paths}
            groups = [{"name": group, "versions": [one], "preferredVersion": one} for group, one in versions.items()]
            return web.json_response({"groups": groups})
        resources = [
            {"name": plural, "kind": kind, "singularName": kind.lower(), "namespaced": namespaced, "verbs": VERBS}
            for kind, plural, namespaced in RESOURCES.get(request.path, ())
        ]
        return web.json_response({"versions": ["v1"], "resources": resources})

    async def _write(self, request: web.Request) -> web.Response:
        self.written.append(f"{request.method} {request.path}")
        return web.json_response({})

    async def _collection(self, request: web.Request) -> web.StreamResponse:
        agents = request.match_info["plural"] == "agents"
        if "watch" not in request.query:
            return await self._list(agents)
        script = self.scripts.pop(0) if agents and self.scripts else None
        if agents:
            self.versions.append(request.query["resourceVersion"])
        if isinstance(script, int):
            return web.json_response({"reason": "No", "message": "no"}, status=script)
        response = web.StreamResponse()
        await response.prepare(request)
        for line in script or ():
            await response.write((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n")
        if script is None:
            await asyncio.sleep(30)
        return response

    async def _list(self, agents: bool) -> web.Response:
        if agents:
            self.lists += 1
            if self.list_answers:
                return web.json_response({"reason": "No", "message": "no"}, status=self.list_answers.pop(0))
        items = b",".join(self.items if agents else [])
        return web.Response(
            body=b'{"items":[%s],"metadata":{"resourceVersion":"%d"}}' % (items, 1000 * self.lists),
            content_type="application/json",
        )


class Listener:
    """kopf with the operator's handlers, and what they were told."""

    def __init__(self, server: Apiserver) -> None:
        self.server = server
        self.cache = Cache()
        self.told: list[tuple[str | None, str]] = []
        self.bodies: list[JsonDict] = []
        self.unreadable: list[str] = []
        self.session: KopfSession | None = None

    def _on_event(self, kind: str, type_: str | None, body: JsonDict) -> None:
        self.told.append((type_, body["metadata"]["name"]))
        self.bodies.append(body)
        if type_ != "DELETED":
            self.cache.upsert(kind, body)

    def run(
        self, until: Callable[[], bool], during: Callable[["Listener"], Awaitable[None]] | None = None
    ) -> "Listener":
        async def main() -> None:
            async with self.server, Client(self.server.connection) as client:
                client.unreadable.count = self.unreadable.append
                relister = Relister(client, self.cache, lambda change: None)
                await relister.relist_all()
                registry, settings = kopf.OperatorRegistry(), kopf.OperatorSettings()

                def open_session() -> KopfSession:
                    self.session = KopfSession(client, relister, kopf_watch.KOPF_KINDS)
                    return self.session

                kopf_watch.register(registry, client.connection, open_session, self._on_event)
                kopf_watch.configure(settings)
                settings.watching.reconnect_backoff = 0.01
                settings.queueing.exit_timeout = 0.1
                ours = asyncio.all_tasks()
                tasks = await kopf.spawn_tasks(registry=registry, settings=settings, standalone=True, clusterwide=True)
                running = asyncio.create_task(kopf.run_tasks(tasks, ignored=ours))
                try:
                    async with asyncio.timeout(20):
                        if during is not None:
                            await during(self)
                        while not until():
                            assert not running.done(), "kopf ended"
                            await asyncio.sleep(0.01)
                finally:
                    running.cancel()
                    with suppress(asyncio.CancelledError):
                        await running

        asyncio.run(main())
        return self


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reflector, "FIRST_BACKOFF_SECONDS", 0.001)
    monkeypatch.setattr(reflector, "MAX_BACKOFF_SECONDS", 0.01)
    monkeypatch.setattr(reflector, "DENIED_BACKOFF_SECONDS", 0.01)


def test_an_envelope_holds_the_object_and_shows_what_it_is_called() -> None:
    added = event("ADDED", "a", 6)
    line = json.loads(envelope("Agent", added, orjson.dumps(added)))
    assert line["type"] == "ADDED"
    assert line["object"]["metadata"] == {"namespace": "team", "name": "a", "uid": "Agent", "resourceVersion": "6"}
    assert set(line["object"]) == {"kind", "metadata", "line"}
    assert open_envelope(line["object"]) == an_agent("a", 6)


def test_every_change_is_told_whole_and_a_stream_that_ends_is_resumed_where_it_ended() -> None:
    server = Apiserver([event("ADDED", "a", 6), event("MODIFIED", "a", 7)], [event("DELETED", "a", 9)])
    seen = Listener(server).run(lambda: len(server.versions) == 3)
    assert seen.told == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]
    assert seen.bodies[1] == an_agent("a", 7)
    assert (server.versions, server.lists) == (["1000", "7", "9"], 1)
    assert server.written == []


def test_events_of_a_kind_are_told_in_the_order_in_which_they_came() -> None:
    changes = [(type_, f"a{number}") for number in range(50) for type_ in ("ADDED", "DELETED")]
    server = Apiserver([event(type_, name, 6 + number) for number, (type_, name) in enumerate(changes)])
    seen = Listener(server)
    seen.run(lambda: len(seen.told) == len(changes))
    assert seen.told == changes


def test_a_handler_that_fails_costs_no_other_event() -> None:
    class Failing(Listener):
        def _on_event(self, kind: str, type_: str | None, body: JsonDict) -> None:
            if body["metadata"]["name"] == "bad":
                raise RuntimeError("a mistake of our own")
            super()._on_event(kind, type_, body)

    seen = Failing(Apiserver([event("ADDED", name, 6 + number) for number, name in enumerate(["a", "bad", "b"])]))
    seen.run(lambda: len(seen.told) == 2)
    assert seen.told == [("ADDED", "a"), ("ADDED", "b")]


def test_what_the_first_list_brought_is_not_listed_again_and_its_echo_tells_nothing() -> None:
    server = Apiserver([event("MODIFIED", "a", 6), event("ADDED", "b", 7)])
    server.items = [orjson.dumps(an_agent("a", 6))]
    seen = Listener(server).run(lambda: len(server.versions) == 2)
    assert seen.told == [("ADDED", "b")]
    assert server.lists == 1


@pytest.mark.parametrize("depth", [1000, 1100, 9000])
def test_an_object_that_nests_too_deep_is_passed_over_and_the_stream_goes_on(depth: int) -> None:
    lines = [
        event("ADDED", "a", 6),
        deep("ADDED", depth=depth),
        deep("MODIFIED", depth=depth, version=8),
        event("ADDED", "b", 9),
    ]
    server = Apiserver(lines)
    seen = Listener(server).run(lambda: len(server.versions) == 2)
    assert [name for _, name in seen.told if name != "deep"] == ["a", "b"]
    assert seen.unreadable == (["Agent", "Agent"] if depth > 1024 else [])
    assert server.versions == ["1000", "9"]


def test_the_deletion_of_an_object_that_nests_too_deep_is_told() -> None:
    server = Apiserver([deep("DELETED")])
    seen = Listener(server).run(lambda: bool(server.versions and not server.scripts and len(server.versions) > 1))
    assert (seen.told, seen.unreadable) == ([("DELETED", "deep")], [])


def test_an_object_that_nests_too_deep_does_not_end_a_list_either() -> None:
    server = Apiserver(410)
    server.items = [nested_object("deep", kind="Agent"), orjson.dumps(an_agent("a", 6))]
    seen = Listener(server).run(lambda: len(server.versions) == 2)
    assert {name for _, name in seen.cache.agents} == {"a"}
    assert seen.unreadable == ["Agent", "Agent"]


@pytest.mark.parametrize("script", [410, [event("ADDED", "a", 6), error(410)]])
def test_a_lost_history_leads_to_a_list_and_on_from_there(script: Sequence[Line] | int) -> None:
    server = Apiserver(script)
    server.list_answers = []
    Listener(server).run(lambda: len(server.versions) == 2)
    assert (server.versions[-1], server.lists) == ("2000", 2)


def test_a_list_that_fails_is_tried_again_for_ever() -> None:
    server = Apiserver(410)

    async def during(_: Listener) -> None:
        server.list_answers = [500, 403, 500] * 4

    seen = Listener(server)
    server.list_answers = []
    seen.run(lambda: server.versions[-1:] != [] and len(server.versions) == 2, during)
    assert int(server.versions[-1]) == 1000 * server.lists


@pytest.mark.parametrize(
    "broken",
    [[error(500)], [error(504)], [b'{"type": "ADDED", "obj'], [b'"words"'], [b'{"type": "ADDED"}'], 500, 403, 401, 429],
)
def test_a_broken_stream_is_resumed_where_it_broke(broken: Sequence[Line] | int) -> None:
    head = [event("ADDED", "a", 6)]
    server = Apiserver([*head, *broken] if not isinstance(broken, int) else broken)
    Listener(server).run(lambda: len(server.versions) == 2)
    assert server.versions[-1] == ("1000" if isinstance(broken, int) else "6")
    assert server.lists == 1


def test_a_watch_that_is_refused_again_and_again_never_ends_kopf() -> None:
    server = Apiserver(*[500] * 30)
    Listener(server).run(lambda: len(server.versions) == 31)
    assert server.lists > 1


def test_a_stream_of_nothing_new_is_bookmarked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kopf_session, "BOOKMARK_SECONDS", 0.0)
    server = Apiserver([event("MODIFIED", "a", 5), deep("MODIFIED", version=60)])
    server.items = [orjson.dumps(an_agent("a", 6))]
    seen = Listener(server).run(lambda: len(server.versions) == 2)
    assert (seen.told, server.versions[-1]) == ([], "60")


def test_a_stream_that_says_nothing_can_be_started_anew() -> None:
    server = Apiserver()

    async def during(listener: Listener) -> None:
        while listener.session is None or listener.session._watches[AGENTS].response is None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        listener.session.restart("Agent", None)

    Listener(server).run(lambda: len(server.versions) == 2, during)
    assert (server.versions, server.lists) == (["1000", "1000"], 1)


def test_kopf_keeps_nothing_of_its_own_on_an_object() -> None:
    settings = kopf.OperatorSettings()
    kopf_watch.configure(settings)
    body: Any = kopf.Body({"metadata": {}, "spec": {"x": 1}})
    patch = kopf.Patch()
    diffbase: Any = settings.persistence.diffbase_storage
    progress: Any = settings.persistence.progress_storage
    diffbase.store(body=body, patch=patch, essence=diffbase.build(body=body))
    progress.store(key="x", record={}, body=body, patch=patch)
    progress.purge(key="x", body=body, patch=patch)
    progress.touch(body=body, patch=patch, value="x")
    assert (dict(patch), diffbase.fetch(body=body), progress.fetch(key="x", body=body)) == ({}, None, None)


def test_kopf_kills_no_process_that_is_still_winding_up() -> None:
    settings = kopf.OperatorSettings()
    kopf_watch.configure(settings)
    assert settings.process.ultimate_exiting_timeout is None
