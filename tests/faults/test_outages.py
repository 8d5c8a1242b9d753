"""The instruments of outages, replicas and clocks: each must be able to say no, or its campaign would pass everything."""

import asyncio
import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import web

from faults.apiserver import Api
from faults.campaigns import leader_failover
from faults.campaigns.etcd_faults import TROUBLE_METRICS, _counted
from faults.campaigns.wrong_clocks import times_in
from faults.kubelets import called_lost
from faults.observer import NotInTime, Observer
from faults.proxy import Proxy, Script, cut, done_but_unknown
from faults.replicas import Pair
from faults.retrying_client import RetryingApi
from faults.test_instruments import AGENT, PODS, patched, proxied, received
from faults.wall_clock import WallClock
from support.async_api import JsonDict, Refused

LEASE = "/apis/coordination.k8s.io/v1/namespaces/ns/leases/mabeam"


# --- the proxy that plays an apiserver that is away ----------------------------------------------------------------------


def test_an_outage_meets_leases_and_new_watches_too_and_ends_when_it_is_taken_away() -> None:
    async def main() -> None:
        async with proxied(Script()) as (proxy, upstream, session):
            proxy.outage = cut
            assert await patched(session, proxy) == 0
            assert await patched(session, proxy, LEASE) == 0
            assert await received(session, proxy) == ([], "cut")
            assert upstream.asked == []
            proxy.outage = None
            assert await patched(session, proxy, LEASE) == 200
            assert [str(record.request) for record in proxy.writes] == ["1: PATCH agents/a/status"]

    asyncio.run(main())


def test_open_watches_can_be_cut() -> None:
    async def main() -> None:
        async with proxied(Script()) as (proxy, _, session):
            asyncio.get_running_loop().call_later(0.3, proxy.cut_watches)
            assert await received(session, proxy, 5) == (["pod-1", "pod-2", "pod-3"], "cut")
            assert await received(session, proxy, 0.5) == (["pod-1", "pod-2", "pod-3"], "open")

    asyncio.run(main())


def test_what_is_done_but_unknown_is_done() -> None:
    async def main() -> None:
        async with proxied(Script()) as (proxy, upstream, session):
            proxy.outage = done_but_unknown(0.1)
            assert await patched(session, proxy) == 504
            async with session.get(proxy.server + PODS) as answer:
                assert answer.status == 504
            assert upstream.asked == [f"PATCH {AGENT}"]

    asyncio.run(main())


# --- the user who tries again -----------------------------------------------------------------------------------------------


def answered(*codes: int) -> tuple[list[str], Any]:
    """The calls made so far, and an apiserver that answers them with these codes, 0 for a connection that is cut."""
    calls: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        calls.append(request.method)
        code = codes[min(len(calls), len(codes)) - 1]
        if code == 0:
            assert request.transport is not None
            request.transport.abort()
        return web.json_response({"message": "no"}, status=code or 500)

    return calls, answer


def outcome_of(verb: str, *codes: int) -> tuple[int, JsonDict | int]:
    """How often a retrying user asked, and the answer, or the code of the refusal."""
    calls, answer = answered(*codes)

    async def main() -> JsonDict | int:
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        try:
            async with aiohttp.ClientSession() as session:
                return await RetryingApi(f"http://{host}:{port}", session, "ns").call(verb, PODS)
        except Refused as refused:
            return refused.status
        finally:
            await runner.cleanup()

    answer_or_code = asyncio.run(main())
    return len(calls), answer_or_code


@pytest.mark.parametrize(
    ("verb", "codes", "expected"),
    [
        ("PATCH", (200,), (1, {"message": "no"})),
        ("PATCH", (503, 0, 504, 200), (4, {"message": "no"})),
        ("POST", (409,), (1, 409)),
        ("POST", (0, 409), (2, {})),
        ("DELETE", (504, 404), (2, {})),
        ("PATCH", (0, 404), (2, 404)),
        ("PATCH", (422,), (1, 422)),
    ],
)
def test_a_retrying_user_asks_again_and_takes_its_own_traces_for_success(
    verb: str, codes: tuple[int, ...], expected: tuple[int, JsonDict | int]
) -> None:
    assert outcome_of(verb, *codes) == expected


# --- the observer after a gap --------------------------------------------------------------------------------------------


def listed_pod(name: str, phase: str) -> JsonDict:
    return {"metadata": {"name": name, "uid": f"uid-of-{name}"}, "status": {"phase": phase}}


def relisted(before: list[JsonDict], after: list[JsonDict]) -> list[str]:
    """What the observer objects to when it lists anew after a gap."""

    async def main() -> list[str]:
        async with aiohttp.ClientSession() as session:
            observer = Observer(Api("http://127.0.0.1:1", session, "ns"))
            for items in (before, after):
                observer._replace("pods", items)
            return observer.violations

    return asyncio.run(main())


def test_what_happened_in_a_gap_is_no_violation_in_whatever_order_a_list_has_it() -> None:
    ended = [listed_pod("a-0-10", "Running"), listed_pod("a-0-9", "Failed")]
    assert relisted([listed_pod("a-0-9", "Running")], ended) == []
    assert relisted([listed_pod("a-0-9", "Running")], ended[:1]) == []


def test_two_live_pods_are_seen_after_a_gap_too() -> None:
    both = [listed_pod("a-0-10", "Running"), listed_pod("a-0-9", "Running")]
    assert relisted(both[1:], both) == ["two live pods of a, ordinal 0: a-0-10, a-0-9"]


@pytest.mark.parametrize(
    ("phase", "ready", "containers", "dying", "lost"),
    [
        ("Running", "False", "True", False, True),
        ("Running", "True", "True", False, False),
        ("Running", "False", "False", False, False),
        ("Failed", "False", "True", False, False),
        ("Running", "False", "True", True, False),
    ],
)
def test_only_a_running_pod_whose_containers_are_ready_is_called_ready_again(
    phase: str, ready: str, containers: str, dying: bool, lost: bool
) -> None:
    pod = listed_pod("a-0-1", phase)
    pod["status"]["conditions"] = [
        {"type": "Ready", "status": ready},
        {"type": "ContainersReady", "status": containers},
    ]
    pod["metadata"] |= {"deletionTimestamp": "2026-01-01T00:00:00Z"} if dying else {}
    assert called_lost(pod) is lost


def test_who_waits_is_given_the_time_of_an_outage_and_no_more() -> None:
    async def main() -> float:
        async with aiohttp.ClientSession() as session:
            observer = Observer(Api("http://127.0.0.1:1", session, "ns"))
            asyncio.get_running_loop().call_later(0.05, observer.excuse, 0.4)
            began = time.monotonic()
            with pytest.raises(NotInTime):
                await observer.until("what never comes", lambda _: False, 0.1)
            waited = time.monotonic() - began
            observer.excuse(0.4)
            with pytest.raises(NotInTime):
                await observer.until("what never comes", lambda _: False, 0.1)
            with pytest.raises(NotInTime):
                await observer.until("what never comes", lambda _: False, 0.1)
            assert 0.6 <= time.monotonic() - began - waited < 2
            return waited

    assert 0.5 <= asyncio.run(main()) < 2


# --- replicas, probes and clocks ------------------------------------------------------------------------------------------


def test_a_replica_that_writes_when_it_should_be_silent_is_seen() -> None:
    async def main() -> None:
        async with proxied(Script()) as (proxy, _, session):
            record = SimpleNamespace(proxy=proxy, words=lambda: "--- log")
            pair = Pair(cast(Any, record), 6, {}, cast(dict[str, Proxy], {"one": proxy}))
            await leader_failover._silent(pair, "one", pair.written("one"), 0.2)
            before = pair.written("one")
            await patched(session, proxy, LEASE)
            await leader_failover._silent(pair, "one", before, 0.2)
            await patched(session, proxy)
            with pytest.raises(AssertionError, match="one wrote 1 times without the Lease"):
                await leader_failover._silent(pair, "one", before, 0.2)

    asyncio.run(main())


def test_trouble_is_told_by_what_was_counted_and_not_by_a_metrics_name() -> None:
    calm = 'mabeam_reconcile_duration_seconds_count{kind="Agent",outcome="ok"} 9.0'
    none = 'mabeam_reconcile_duration_seconds_count{kind="Agent",outcome="error"} 0.0'
    failed = none.replace("0.0", "3.0")
    refused = 'mabeam_api_request_duration_seconds_count{code="500",kind="Pod",verb="POST"} 1.0'
    told_by = [[_counted(text, word) for word in TROUBLE_METRICS] for text in (f"{calm}\n{none}", failed, refused)]
    assert told_by == [[False, False], [True, False], [False, True]]


def test_every_time_in_a_status_is_found() -> None:
    status = {
        "a": [{"time": "2026-01-01T00:00:00Z"}],
        "b": {"c": "2026-01-01T00:00:01.5Z"},
        "message": "at noon",
        "n": 3,
    }
    assert [json.dumps(time.isoformat()) for time in times_in(status)] == [
        '"2026-01-01T00:00:00+00:00"',
        '"2026-01-01T00:00:01.500000+00:00"',
    ]


def test_a_clock_that_cannot_be_set_is_not_taken_for_one_that_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = asyncio.run(WallClock.wrong_by(5.0, tmp_path))
    assert clock.file.read_text() == "+5.000\n"
    monkeypatch.setattr(WallClock, "environment", lambda _: {})
    with pytest.raises(AssertionError, match=r"should be ahead by 7200\.0 s is ahead by -?0\.\d s"):
        asyncio.run(WallClock.wrong_by(5.0, tmp_path))
