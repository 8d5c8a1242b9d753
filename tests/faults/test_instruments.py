"""The campaign's own instruments: a observer that cannot see, or a proxy that passes everything, would pass every plan."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from faults import invariants, reference_workload
from faults.apiserver import Api
from faults.observer import Observer
from faults.proxy import (
    Proxy,
    Request,
    Rule,
    Script,
    WatchRule,
    after,
    before,
    cut_in_half,
    fail,
    lose_answer,
    nth,
    place,
    refuse,
    replay,
    share,
    stall,
    swallow,
)
from faults.tree_workload import disobeyed, side_by_side
from support.async_api import JsonDict, lines_of

AGENT = "/apis/mabeam.dev/v1alpha1/namespaces/ns/agents/a/status"
PODS = "/api/v1/namespaces/ns/pods"


def event(type_: str, name: str, uid: str = "1", **body: Any) -> JsonDict:
    return {"type": type_, "object": {"metadata": {"name": name, "uid": uid}, **body}}


# --- a small apiserver ------------------------------------------------------------------------------------------------


class Upstream:
    """Remembers what it was asked, and has a watch of three events."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.open = asyncio.Event()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(f"{request.method} {request.path}")
        if request.query.get("watch") != "true":
            return web.json_response({"kind": "Pod", "limit": request.query.get("limit")})
        out = web.StreamResponse()
        await out.prepare(request)
        for number in "123":
            line = json.dumps(event("ADDED", f"pod-{number}")).encode() + b"\n"
            for half in (line[:20], line[20:]):  # lines need not come in one piece
                await out.write(half)
                await asyncio.sleep(0.01)
        await self.open.wait()
        return out


@asynccontextmanager
async def proxied(script: Script):  # type: ignore[no-untyped-def]
    """A proxy with a script, the apiserver behind it, and a session for its client."""
    upstream = Upstream()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", upstream.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    try:
        async with aiohttp.ClientSession() as session, Proxy(f"http://{host}:{port}", session, script) as proxy:
            yield proxy, upstream, session
            upstream.open.set()
    finally:
        await runner.cleanup()


def script_of(fault: Any) -> Script:
    return Script(writes=(Rule(nth(1), fault),))


async def patched(session: aiohttp.ClientSession, proxy: Proxy, path: str = AGENT) -> int:
    """The status of a write's answer, 0 when the connection was cut."""
    try:
        async with session.patch(proxy.server + path, json={}) as answer:
            return answer.status
    except aiohttp.ClientError:
        return 0


def test_writes_are_numbered_and_leases_and_events_are_not() -> None:
    async def main() -> None:
        async with proxied(Script()) as (proxy, _, session):
            await patched(session, proxy, "/apis/coordination.k8s.io/v1/namespaces/ns/leases/mabeam")
            await patched(session, proxy, "/apis/events.k8s.io/v1/namespaces/ns/events/e")
            await patched(session, proxy)
            async with session.get(proxy.server + PODS) as answer:
                assert answer.status == 200
            await patched(session, proxy, f"{PODS}/a-0-1")
            assert [str(record.request) for record in proxy.writes] == [
                "1: PATCH agents/a/status",
                "2: PATCH pods/a-0-1",
            ]
            assert (proxy.count, proxy.courtesies, proxy.reads) == (2, 2, 1)

    asyncio.run(main())


@pytest.mark.parametrize(("fault", "reaches"), [(before, False), (after, True)], ids=["before", "after"])
def test_a_call_before_a_write_keeps_it_from_the_apiserver_and_one_after_it_does_not(
    fault: Callable[[Callable[[], Awaitable[object]]], Any], reaches: bool
) -> None:
    async def main() -> None:
        called: list[int] = []

        async def call() -> None:
            called.append(len(upstream.asked))

        async with proxied(script_of(fault(call))) as (proxy, upstream, session):
            assert await patched(session, proxy) == 0
            assert called == [int(reaches)]
            assert len(upstream.asked) == int(reaches)
            assert await patched(session, proxy) == 200
            assert proxy.fired == 1
            assert [record.status for record in proxy.writes] == [200 if reaches else None, 200]

    asyncio.run(main())


def test_a_lost_answer_is_a_write_that_happened() -> None:
    async def main() -> None:
        async with proxied(script_of(lose_answer)) as (proxy, upstream, session):
            assert await patched(session, proxy) == 0
            assert upstream.asked == [f"PATCH {AGENT}"]

    asyncio.run(main())


def test_a_refused_creation_with_409_is_one_of_a_name_that_is_taken() -> None:
    async def main() -> None:
        async with proxied(Script(writes=(Rule(lambda _: True, refuse(409)),))) as (proxy, upstream, session):
            async with session.post(proxy.server + PODS, json={}) as answer:
                assert (await answer.json())["reason"] == "AlreadyExists"
            async with session.patch(proxy.server + AGENT, json={}) as answer:
                assert (await answer.json())["reason"] == "Conflict"
            assert upstream.asked == []

    asyncio.run(main())


def test_a_share_of_the_requests_is_the_same_for_the_same_seed_and_about_as_large_as_asked_for() -> None:
    def requests() -> list[Request]:
        return [Request(n, "PATCH", "pods", f"p-{n % 50}", "", 0.0, "", {}) for n in range(2000)]

    def picked(seed: int) -> list[bool]:
        when = share(0.2, seed)
        return [when(request) for request in requests()]

    assert picked(1) == picked(1) != picked(2)
    assert 0.16 < sum(picked(1)) / 2000 < 0.24


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (AGENT, ("agents", "a", "status")),
        (PODS, ("pods", "", "")),
        (f"{PODS}/a-0-1:9464/proxy/metrics", ("pods", "a-0-1:9464", "proxy/metrics")),
        ("/api/v1/namespaces/ns", ("namespaces", "ns", "")),
        ("/api/v1/nodes", ("nodes", "", "")),
        ("/apis/mabeam.dev/v1alpha1", ("", "", "")),
        ("/version", ("", "", "")),
    ],
)
def test_a_path_says_which_object_is_meant(path: str, expected: tuple[str, str, str]) -> None:
    assert place(path) == expected


async def received(session: aiohttp.ClientSession, proxy: Proxy, seconds: float = 1.0) -> tuple[list[str], str]:
    """The names a watch told of, and how it ended: `open`, `end`, `cut`, or the code of an ERROR."""
    names: list[str] = []
    try:
        async with asyncio.timeout(seconds), session.get(f"{proxy.server}{PODS}?watch=true") as answer:
            async for line in lines_of(answer.content):
                document = json.loads(line)
                if document["type"] == "ERROR":
                    return names, str(document["object"]["code"])
                names.append(document["object"]["metadata"]["name"])
    except TimeoutError:
        return names, "open"
    except aiohttp.ClientError:
        return names, "cut"
    return names, "end"


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (swallow, (["pod-1", "pod-3"], "open")),
        (stall, (["pod-1"], "open")),
        (fail(410), (["pod-1"], "410")),
        (cut_in_half, (["pod-1"], "cut")),
        (replay, (["pod-1", "pod-2", "pod-1", "pod-3"], "open")),
    ],
    ids=["swallow", "stall", "fail", "cut", "replay"],
)
def test_a_watch_is_misused_as_the_script_says(fault: Any, expected: tuple[list[str], str]) -> None:
    async def main() -> None:
        script = Script(events=(WatchRule(lambda seen: seen.number == 2, fault),))
        async with proxied(script) as (proxy, _, session):
            assert await received(session, proxy) == expected
            assert proxy.fired == 1

    asyncio.run(main())


def test_lists_are_paged_when_the_script_says_so() -> None:
    async def main() -> None:
        async with proxied(Script(page=1)) as (proxy, _, session):
            answer = await session.get(f"{proxy.server}{PODS}?limit=500")
            assert (await answer.json())["limit"] == "1"

    asyncio.run(main())


# --- the observer and the judge ----------------------------------------------------------------------------------------------


def seen(*events: tuple[str, JsonDict], trusting: bool = False, order: Sequence[str] = ()) -> list[str]:
    """What the observer objects to in a run of events."""

    async def main() -> list[str]:
        async with aiohttp.ClientSession() as session:
            observer = Observer(Api("http://127.0.0.1:1", session, "ns"), trusting=trusting, order=order)
            for kind, told in events:
                observer._take(kind, told["type"], told["object"])
            return observer.violations

    return asyncio.run(main())


def pod(name: str, phase: str = "Running", type_: str = "ADDED") -> tuple[str, JsonDict]:
    return "pods", event(type_, name, uid=f"uid-of-{name}", status={"phase": phase})


def agent(**status: Any) -> tuple[str, JsonDict]:
    return "agents", event("MODIFIED", "a", status=status)


def supervisor(token: int = 1, **status: Any) -> tuple[str, JsonDict]:
    record = {"kind": "Agent", "name": "a", "token": token} | status.pop("record", {})
    return "supervisors", event("MODIFIED", "s", status={"children": [record], **status})


def failures(*pods: str) -> list[JsonDict]:
    return [{"pod": name, "cause": "Crash"} for name in pods]


def test_a_successor_after_the_end_of_its_predecessor_is_as_it_should_be() -> None:
    assert seen(pod("a-0-1"), pod("a-0-1", "Failed"), pod("a-0-2"), pod("a-1-1"), pod("b-0-1")) == []
    assert seen(pod("a-0-1"), pod("a-0-1", type_="DELETED"), pod("a-0-2")) == []


def test_two_live_pods_of_one_ordinal_are_seen_even_for_a_moment() -> None:
    problems = seen(pod("a-0-1"), pod("a-0-2", "Pending"), pod("a-0-1", type_="DELETED"))
    assert problems == ["two live pods of a, ordinal 0: a-0-1, a-0-2"]


def test_a_name_that_is_used_twice_is_seen() -> None:
    again = ("pods", event("ADDED", "a-0-1", uid="another", status={"phase": "Running"}))
    assert seen(pod("a-0-1"), pod("a-0-1", type_="DELETED"), again) == ["pod a-0-1 came into being 2 times"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"restarts": 2}, {"restarts": 1}),
        ({"directives": {"generation": 2}}, {"directives": {"generation": 1}}),
        ({"directives": {"generation": 2}}, {}),
        ({"pods": [{"ordinal": 0, "incarnation": 2}]}, {"pods": [{"ordinal": 0, "incarnation": 1}]}),
        ({"failures": failures("a-0-1")}, {"failures": []}),
        ({"failures": failures("a-0-1")}, {"failures": failures("a-0-1", "a-0-1")}),
        ({"supervision": {"token": 2}}, {"supervision": {"token": 1}}),
    ],
    ids=["restarts", "generation", "no directives", "incarnation", "a failure lost", "a failure told twice", "token"],
)
def test_what_only_grows_is_seen_to_shrink(old: JsonDict, new: JsonDict) -> None:
    assert len(seen(agent(**old), agent(**new))) == 1
    assert seen(agent(**old), agent(**new), trusting=True) == []
    assert seen(agent(**old), agent(**old)) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (supervisor(2), supervisor(1)),
        (supervisor(2), supervisor(2, record={"due": 2})),
        (supervisor(totalRestarts=2), supervisor(totalRestarts=1)),
        (supervisor(supervision={"token": 2}), supervisor(supervision={"token": 1})),
    ],
    ids=["a token", "a workload that is over is due", "restarts", "its own token"],
)
def test_a_supervisor_that_goes_back_is_seen(old: tuple[str, JsonDict], new: tuple[str, JsonDict]) -> None:
    assert len(seen(old, new)) == 1
    assert seen(old, old) == seen(supervisor(1), supervisor(2, record={"due": 3})) == []


def test_a_pod_of_a_tree_that_comes_before_its_turn_is_seen() -> None:
    def ready(name: str) -> tuple[str, JsonDict]:
        status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
        return "pods", event("MODIFIED", name, uid=f"uid-of-{name}", status=status)

    assert seen(pod("a-0-1"), ready("a-0-1"), pod("b-0-1"), order=("a", "b")) == []
    assert seen(pod("a-0-1"), pod("b-0-1"), order=("a", "b")) == ["pod b-0-1 came into being while a was not ready"]
    assert seen(pod("b-0-1"), ready("b-0-1"), pod("a-0-1"), order=("a", "b")) == [
        "pod b-0-1 came into being while a was not ready"
    ]
    assert seen(pod("c-0-1"), order=("a", "b")) == []


def test_a_child_that_does_not_act_on_its_supervisors_word_is_seen() -> None:
    def left(told: JsonDict, acts: JsonDict | None) -> list[str]:
        observer = Observer(Api("http://127.0.0.1:1", None, "ns"))  # type: ignore[arg-type]
        record = {"kind": "Agent", "name": "a", "intent": "Start", "token": 2} | told
        observer.objects["supervisors"]["s"] = {"status": {"children": [record]}}
        observer.objects["agents"]["a"] = {"status": {"supervision": acts}}
        return disobeyed(observer)

    acts = {"supervisor": "s", "intent": "Start", "token": 2}
    assert left({}, acts) == []
    for told, does in (({}, None), ({}, acts | {"token": 1}), ({"intent": "Stop"}, acts), ({"due": 3}, acts)):
        assert len(left(told, does)) == 1


def test_lives_side_by_side_take_all_steps_of_both_in_their_order() -> None:
    done: list[str] = []

    def step(name: str) -> Any:
        async def run(_: Any) -> None:
            done.append(name)

        return run

    steps = side_by_side([step(name) for name in "abcde"], [step(name) for name in "12"])
    asyncio.run(reference_workload.drive(None, steps))  # type: ignore[arg-type]
    assert (len(steps), sorted(done)) == (5, [*"12", *"abcde"])
    assert [name for name in done if name.isalpha()] == [*"abcde"]
    assert done.index("1") < done.index("b") < done.index("2")


def test_two_ends_that_differ_in_uids_nodes_and_times_only_are_the_same() -> None:
    def end(uid: str, node: str, time: str, count: int) -> JsonDict:
        return {"agents/a": invariants._scrubbed({"note": f"pod {uid} on {node} since {time}", "restarts": count})}

    one = end("0b2e4f6a-0000-4000-8000-000000000001", "kwok-1", "2026-01-01T00:00:00Z", 1)
    other = end("0b2e4f6a-0000-4000-8000-000000000002", "kwok-2", "2026-01-02T00:00:01.5Z", 1)
    assert invariants.difference(one, other) == ""
    worse = end("0b2e4f6a-0000-4000-8000-000000000002", "kwok-2", "2026-01-02T00:00:01Z", 2)
    assert "+restarts: 2" in invariants.difference(one, worse)
    assert "agents/a" in invariants.difference(one, {})
