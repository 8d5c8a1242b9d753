"""Asking Prometheus: once for all pods of an agent, at the operator's address only, and never at the price of other agents."""

import asyncio
import gzip
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from mabeam.api.agent import Agent
from mabeam.core.snapshot import PodFacts
from mabeam.shell.reports.prometheus import MAX_BYTES, NOT_ALLOWED, NOT_SET, TOO_LARGE, Prometheus
from mabeam.shell.reports.reader import ReportReader
from mabeam.shell.reports.targets import Target, target_of
from support.builders import a_pod, an_agent, waiting

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
PODS = (a_pod("a-0-1"), a_pod("a-1-1"))
SOURCE = {"source": "Prometheus"}


def said(*series: dict[str, str], value: str = "1") -> dict[str, Any]:
    found = [{"metric": labels, "value": [1.5, labels.pop("_", value)]} for labels in map(dict, series)]
    return {"status": "success", "data": {"resultType": "vector", "result": found}}


def applied(pod: str, generation: int) -> dict[str, str]:
    return {"__name__": "mabeam_applied_generation", "namespace": "team", "pod": pod, "_": str(generation)}


BOTH = said(applied("a-0-1", 3), applied("a-1-1", 4))


@dataclass
class Asked:
    """One query as it came in."""

    at: float
    path: str
    form: dict[str, str]
    headers: dict[str, str]


@dataclass
class Desk:
    """Reports with a Prometheus, what they told, and what Prometheus was asked."""

    agent: Agent
    reports: ReportReader
    url: str
    heard: list[tuple[str, bool, bool]] = field(default_factory=list)
    outcomes: list[str] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)

    def follow(self, *pods: PodFacts, awaiting: int = 0, period: float = 60) -> None:
        self.reports.follow(self.agent, [self.target(pod, period) for pod in pods], awaiting=awaiting)

    def target(self, pod: PodFacts, period: float = 60) -> Target:
        found = target_of(self.agent, pod)
        assert found is not None
        return replace(found, period=period)

    async def outcome(self, count: int = 1, seconds: float = 10) -> list[str]:
        async with asyncio.timeout(seconds):
            while len(self.outcomes) < count:  # noqa: ASYNC110 - a metric rings no bell
                await asyncio.sleep(0.01)
        return self.outcomes

    def problems(self) -> dict[str, tuple[str, ...]]:
        return {name: report.problems for name, report in self.reports.of_pods(PODS).items()}


@asynccontextmanager
async def a_desk(handler: Handler, *, query: str | None = None, **words: Any) -> AsyncIterator[Desk]:
    async def answer(request: web.Request) -> web.StreamResponse:
        form = {key: str(value) for key, value in (await request.post()).items()}
        now = asyncio.get_running_loop().time()
        desk.asked.append(Asked(now, request.path, form, dict(request.headers)))
        return await handler(request)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    reports = ReportReader(
        None,
        False,
        lambda _, name, ack, changed: desk.heard.append((name, ack, changed)),
        lambda outcome: desk.outcomes.append(outcome),
        prometheus=Prometheus(**({"url": url} | words)),
    )
    desk = Desk(an_agent(reports=SOURCE | ({"query": query} if query else {})), reports, url)
    reading = asyncio.create_task(reports.run())
    try:
        yield desk
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        await runner.cleanup()


def giving(answer: object, status: int = 200) -> Handler:
    async def handler(_: web.Request) -> web.StreamResponse:
        return web.json_response(answer, status=status)

    return handler


# --- whom ------------------------------------------------------------------------------------------------------------


def test_a_pod_that_prometheus_speaks_for_needs_no_address_of_its_own() -> None:
    agent = an_agent(reports=SOURCE | {"periodSeconds": 15})
    for facts in ({"ip": None}, {"ip": "127.0.0.1"}, {"ip": "10.0.0.1", "host_network": True}):
        target = target_of(agent, a_pod(**facts))
        assert target is not None
        assert (target.source, target.query, target.period) == ("Prometheus", None, 15)


def test_of_a_pod_that_does_not_run_nothing_is_asked() -> None:
    assert target_of(an_agent(reports=SOURCE), a_pod(main=waiting("ContainerCreating"))) is None
    assert target_of(an_agent(reports=SOURCE), a_pod(deleting=True)) is None


# --- a Prometheus that answers ------------------------------------------------------------------------------------------


def test_one_query_tells_of_all_pods_of_an_agent() -> None:
    async def main() -> None:
        async with a_desk(giving(BOTH)) as desk:
            desk.follow(*PODS)
            assert await desk.outcome(2) == ["ok", "ok"]
            found = desk.reports.of_pods(PODS)
            assert {name: report.applied_generation for name, report in found.items()} == {"a-0-1": 3, "a-1-1": 4}
            assert desk.heard == [("a", True, False)] * 2
            (asked,) = desk.asked
            assert asked.path == "/api/v1/query"
            assert 'namespace="team", pod=~"a-0-1|a-1-1"}' in asked.form["query"]
            assert asked.form["timeout"] == "5s"
            assert "Authorization" not in asked.headers
            assert asked.headers["Accept-Encoding"] == "identity"

    asyncio.run(main())


def test_a_prefix_of_the_url_is_kept_and_the_token_is_read_anew_for_every_query(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("one\n")

    async def main() -> None:
        async with a_desk(giving(BOTH), token_file=str(file)) as desk:
            desk.reports.prometheus.url += "/prefix"
            desk.follow(*PODS, period=1)
            await desk.outcome(2)
            file.write_text("two\n")
            await desk.outcome(4)
            assert [asked.path for asked in desk.asked] == ["/prefix/api/v1/query"] * 2
            assert [asked.headers["Authorization"] for asked in desk.asked] == ["Bearer one", "Bearer two"]

    asyncio.run(main())


def test_a_pod_that_comes_later_is_asked_for_with_the_others() -> None:
    async def main() -> None:
        async with a_desk(giving(BOTH)) as desk:
            desk.follow(PODS[0])
            await desk.outcome(1)
            desk.follow(*PODS)
            await desk.outcome(3)
            assert [asked.form["query"].count("|a-1-1") for asked in desk.asked] == [0, 1]

    asyncio.run(main())


def test_what_is_followed_no_more_is_asked_for_no_more() -> None:
    async def main() -> None:
        async with a_desk(giving(BOTH)) as desk:
            desk.follow(*PODS, period=1)
            await desk.outcome(2)
            desk.follow()
            await asyncio.sleep(1.3)
            assert len(desk.asked) == 1
            assert desk.reports.of_pods(PODS) == {}

    asyncio.run(main())


def test_an_agent_that_turns_from_its_pods_to_prometheus_is_read_there_and_nowhere_else() -> None:
    async def main() -> None:
        async with a_desk(giving(BOTH)) as desk:
            port = int(desk.url.rpartition(":")[2])
            own = target_of(an_agent(), a_pod("a-0-1", ip="10.0.0.1"))
            assert own is not None
            pod = replace(own, ip="127.0.0.1", port=port, period=0.05)
            desk.reports.follow(desk.agent, [pod], awaiting=0)
            await desk.outcome(1)
            desk.follow(PODS[0])
            async with asyncio.timeout(10):
                while desk.asked[-1].path == "/metrics":  # noqa: ASYNC110 - the server rings no bell
                    await asyncio.sleep(0.01)
            count = len(desk.asked)
            await asyncio.sleep(0.3)
            assert len(desk.asked) == count
            desk.reports.follow(desk.agent, [pod], awaiting=0)
            await desk.outcome(len(desk.outcomes) + 3)
            assert {asked.path for asked in desk.asked[count:]} == {"/metrics"}

    asyncio.run(main())


def test_a_hurry_asks_no_more_than_once_a_second() -> None:
    async def main() -> None:
        async with a_desk(giving(BOTH)) as desk:
            for generation in (1, 2, 3):
                desk.follow(*PODS, awaiting=generation)
                await asyncio.sleep(0.2)
            await desk.outcome(6)
            assert all(later.at - earlier.at >= 0.99 for earlier, later in pairwise(desk.asked))
            assert desk.asked[2].at - desk.asked[0].at < 10  # the plain period is a minute

    asyncio.run(main())


# --- a Prometheus that knows nothing, and one that is not there -----------------------------------------------------------


def test_a_pod_of_which_prometheus_knows_nothing_has_said_nothing() -> None:
    async def main() -> None:
        async with a_desk(giving(said(applied("a-1-1", 4)))) as desk:
            desk.follow(*PODS)
            assert sorted(await desk.outcome(2)) == ["absent", "ok"]
            assert set(desk.reports.of_pods(PODS)) == {"a-1-1"}

    asyncio.run(main())


@pytest.mark.parametrize(
    "lost",
    [giving({}, 503), giving({"status": "error", "error": "no"}, 401), giving(said())],
    ids=["down", "locked", "empty"],
)
def test_nobody_is_taken_for_hung_because_prometheus_does_not_know(lost: Handler) -> None:
    """Progress that nobody sees is not progress that stands still."""
    progress = said({"__name__": "mabeam_progress_total", "pod": "a-0-1"})

    async def handler(request: web.Request) -> web.StreamResponse:
        return await (giving(progress) if len(desks[0].asked) == 1 else lost)(request)

    desks: list[Desk] = []

    async def main() -> None:
        async with a_desk(handler) as desk:
            desks.append(desk)
            desk.follow(PODS[0], period=0.1)
            await desk.outcome(1)
            assert set(desk.reports.progress_of(PODS)) == {"a-0-1"}
            await desk.outcome(2)
            assert desk.reports.progress_of(PODS) == {}

    asyncio.run(main())


def test_an_outage_is_logged_once_and_tells_nothing_of_the_agent(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        with caplog.at_level(logging.WARNING, "mabeam.prometheus"):
            async with a_desk(giving({}, 503)) as desk:
                desk.follow(*PODS, period=0.1)
                assert await desk.outcome(4) == ["unreachable"] * 4
                assert desk.reports.of_pods(PODS) == {}
                assert desk.heard == []
                (record,) = caplog.records
                assert record.getMessage() == f"no answer from {desk.url}: 503 Prometheus: Service Unavailable"

    asyncio.run(main())


def test_a_token_that_cannot_be_read_is_an_outage() -> None:
    async def main() -> None:
        async with a_desk(giving(BOTH), token_file="/nowhere/token") as desk:
            desk.follow(*PODS)
            assert await desk.outcome(2) == ["unreachable"] * 2
            assert desk.asked == []

    asyncio.run(main())


# --- who may ask what, and where -----------------------------------------------------------------------------------------


def test_without_an_address_nobody_is_asked_and_the_agent_is_told() -> None:
    async def main() -> None:
        async with a_desk(giving(BOTH), url="") as desk:
            desk.follow(*PODS)
            assert await desk.outcome(2) == ["bad", "bad"]
            assert desk.problems() == dict.fromkeys(("a-0-1", "a-1-1"), (NOT_SET,))
            assert desk.heard == [("a", True, False)] * 2
            assert desk.asked == []

    asyncio.run(main())


def test_an_authors_own_query_is_not_asked_unless_the_operator_allows_it() -> None:
    async def main() -> None:
        async with a_desk(giving(BOTH), query="secret_metric") as desk:
            desk.follow(PODS[0])
            assert await desk.outcome() == ["bad"]
            assert desk.problems() == {"a-0-1": (NOT_ALLOWED,)}
            assert desk.asked == []
        async with a_desk(giving(BOTH), query='sum(x{pod=~"$pod"})', any_query=True) as desk:
            desk.follow(PODS[0])
            assert await desk.outcome() == ["ok"]
            assert desk.asked[0].form["query"] == 'sum(x{pod=~"a-0-1"})'

    asyncio.run(main())


def test_a_redirect_of_prometheus_is_not_followed() -> None:
    async def handler(_: web.Request) -> web.StreamResponse:
        raise web.HTTPFound("/secret")

    async def main() -> None:
        async with a_desk(handler) as desk:
            desk.follow(PODS[0])
            assert await desk.outcome() == ["bad"]
            assert desk.problems() == {"a-0-1": ("Prometheus refuses the query: HTTP 302",)}
            assert [asked.path for asked in desk.asked] == ["/api/v1/query"]

    asyncio.run(main())


# --- a Prometheus that does not behave -------------------------------------------------------------------------------


def test_a_query_that_prometheus_refuses_is_told_in_its_words() -> None:
    async def main() -> None:
        refusal = {"status": "error", "errorType": "bad_data", "error": "1:1: parse error: no"}
        async with a_desk(giving(refusal, 400), query="(", any_query=True) as desk:
            desk.follow(PODS[0])
            assert await desk.outcome() == ["bad"]
            assert desk.problems() == {"a-0-1": ("Prometheus refuses the query: 1:1: parse error: no",)}

    asyncio.run(main())


@pytest.mark.parametrize(("surplus", "outcome"), [(0, "ok"), (1, "bad")])
def test_the_limit_is_one_mib_to_the_byte(surplus: int, outcome: str) -> None:
    body = json.dumps(BOTH).encode()

    async def handler(_: web.Request) -> web.StreamResponse:
        return web.Response(body=body + b" " * (MAX_BYTES - len(body) + surplus))

    async def main() -> None:
        async with a_desk(handler) as desk:
            desk.follow(PODS[0])
            assert await desk.outcome() == [outcome]
            assert desk.problems() == {"a-0-1": (TOO_LARGE,) if surplus else ()}

    asyncio.run(main())


async def endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" " * 65_536)


async def bomb(_: web.Request) -> web.StreamResponse:
    packed = gzip.compress(json.dumps(BOTH).encode() + b" " * 50_000_000)
    return web.Response(body=packed, headers={"Content-Encoding": "gzip"})


@pytest.mark.parametrize("handler", [endless, bomb], ids=["endless", "compressed"])
def test_an_answer_without_end_is_read_no_further_and_a_compressed_one_not_unpacked(handler: Handler) -> None:
    async def main() -> None:
        async with a_desk(handler) as desk:
            desk.follow(PODS[0])
            assert await desk.outcome() == ["bad"]
            (report,) = desk.reports.of_pods(PODS).values()
            assert report.applied_generation is None

    asyncio.run(main())


def test_a_slow_prometheus_is_given_five_seconds_and_keeps_no_pod_waiting() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        if request.path == "/metrics":
            return web.Response(text="mabeam_applied_generation 1\n")
        await asyncio.sleep(60)
        raise AssertionError("nobody waits that long")

    async def main() -> None:
        async with a_desk(handler) as desk:
            started = asyncio.get_running_loop().time()
            for number in range(40):
                slow = an_agent(f"slow{number}", reports=SOURCE)
                target = target_of(slow, a_pod(f"slow{number}-0-1"))
                assert target is not None
                desk.reports.follow(slow, [target], awaiting=0)
            quick = target_of(an_agent(), a_pod("a-0-1", ip="10.0.0.1"))
            assert quick is not None
            port = int(desk.url.rpartition(":")[2])
            desk.reports.follow(desk.agent, [replace(quick, ip="127.0.0.1", port=port, period=60)], awaiting=0)
            assert await desk.outcome(1, seconds=2) == ["ok"]
            assert (await desk.outcome(2))[1] == "unreachable"
            assert 5 <= asyncio.get_running_loop().time() - started < 9

    asyncio.run(main())
