"""Reading reports from pods that may be hostile: where nobody looks, how much is read, how long is waited, how often is asked."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import pytest
from aiohttp import web

from mabeam.api.agent import Agent
from mabeam.shell.reports.reader import ReportReader
from mabeam.shell.reports.targets import Target, never_read, target_of
from support.builders import a_pod, an_agent, waiting

REPORT = 'mabeam_applied_generation 3\nmabeam_preference{variable="temperature"} 0.4\n# EOF\n'
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


# --- where nobody looks ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ip", ["10.244.0.7", "192.168.1.4", "fd00::7", "100.64.0.9"])
def test_a_running_pod_is_read_at_its_own_address(ip: str) -> None:
    target = target_of(an_agent(reports={"port": 9000, "path": "/m", "periodSeconds": 7}), a_pod(ip=ip))
    assert target is not None
    assert (target.ip, target.port, target.path, target.period) == (ip, 9000, "/m", 7)


def test_the_default_place_is_the_contracts() -> None:
    target = target_of(an_agent(), a_pod(ip="10.0.0.1"))
    assert target is not None
    assert (target.port, target.path, target.period) == (9464, "/metrics", 5)


@pytest.mark.parametrize(
    "ip",
    [
        "127.0.0.1",
        "127.8.8.8",
        "::1",
        "::ffff:127.0.0.1",
        "169.254.169.254",
        "fd00:ec2::254",
        "::ffff:169.254.169.254",
        "fe80::1",
        "0.0.0.0",
        "::",
        "224.0.0.1",
        "metadata.internal",
        "10.0.0.1@evil",
        "",
        None,
    ],
)
def test_the_nodes_own_services_and_names_are_never_asked(ip: str | None) -> None:
    assert target_of(an_agent(), a_pod(ip=ip)) is None


def test_a_pod_on_the_hosts_network_is_never_asked() -> None:
    assert target_of(an_agent(), a_pod(ip="10.0.0.1", host_network=True)) is None


@pytest.mark.parametrize(
    ("facts", "why"),
    [({"ip": "10.0.0.1", "host_network": True}, "network of its node"), ({"ip": "169.254.169.254"}, "169.254.169.254")],
)
def test_it_is_said_why_a_pod_is_never_asked(facts: dict[str, Any], why: str) -> None:
    said = never_read(an_agent(), a_pod(**facts))
    assert said is not None
    assert why in str(said)


def test_a_pod_that_will_be_asked_is_not_passed_over() -> None:
    assert never_read(an_agent(), a_pod(ip="10.0.0.1")) is None
    assert never_read(an_agent(), a_pod(ip=None)) is None
    assert never_read(an_agent(reports={"source": "Prometheus"}), a_pod(ip="10.0.0.1", host_network=True)) is None


def test_a_pod_that_does_not_run_is_not_asked() -> None:
    assert target_of(an_agent(), a_pod(ip="10.0.0.1", main=waiting("ContainerCreating"))) is None
    assert target_of(an_agent(), a_pod(ip="10.0.0.1", deleting=True)) is None


# --- a pod that answers ------------------------------------------------------------------------------------------------------


@dataclass
class Desk:
    """Reports, what they told, and the moments at which the pod was asked."""

    agent: Agent
    target: Target
    reports: ReportReader = field(init=False)
    heard: list[tuple[str, bool, bool]] = field(default_factory=list)
    outcomes: list[str] = field(default_factory=list)
    asked: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.reports = ReportReader(
            None, False, lambda _, name, ack, changed: self.heard.append((name, ack, changed)), self.outcomes.append
        )

    def follow(self, awaiting: int = 0) -> None:
        self.reports.follow(self.agent, [self.target], awaiting=awaiting)

    async def outcome(self, count: int = 1, seconds: float = 10) -> list[str]:
        async with asyncio.timeout(seconds):
            while len(self.outcomes) < count:  # noqa: ASYNC110 - a metric rings no bell
                await asyncio.sleep(0.01)
        return self.outcomes


@asynccontextmanager
async def a_desk(handler: Handler, period: float = 60) -> AsyncIterator[Desk]:
    agent = an_agent()
    usual = target_of(agent, a_pod(ip="10.0.0.1"))
    assert usual is not None

    async def answer(request: web.Request) -> web.StreamResponse:
        desk.asked.append(asyncio.get_running_loop().time())
        return await handler(request)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    # Straight to loopback: `target_of` would never give such a target.
    desk = Desk(agent, replace(usual, ip="127.0.0.1", port=int(runner.addresses[0][1]), period=period))
    reading = asyncio.create_task(desk.reports.run())
    try:
        yield desk
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        await runner.cleanup()


async def plain(_: web.Request) -> web.StreamResponse:
    return web.Response(text=REPORT)


def test_what_a_pod_says_is_known_by_its_name_and_by_its_agents() -> None:
    async def main() -> None:
        async with a_desk(plain) as desk:
            desk.follow()
            assert await desk.outcome() == ["ok"]
            report = desk.reports.of_pods([a_pod(ip="10.0.0.1")])["a-0-1"]
            assert (report.applied_generation, dict(report.numbers)) == (3, {"temperature": 0.4})
            assert dict(desk.reports.of_agents([desk.agent])["a"].numbers) == {"temperature": 0.4}
            assert desk.heard == [("a", True, True)]

    asyncio.run(main())


def test_only_news_are_told() -> None:
    words = [REPORT, REPORT, REPORT.replace("0.4", "0.5"), REPORT.replace("0.4", "0.5").replace(" 3", " 4")]
    said: list[str] = []

    async def handler(_: web.Request) -> web.StreamResponse:
        said.append(words[min(len(said), 3)])
        return web.Response(text=said[-1])

    async def main() -> None:
        async with a_desk(handler, period=0.2) as desk:
            desk.follow()
            await desk.outcome(6)
            assert desk.heard == [("a", True, True), ("a", False, True), ("a", True, False)]

    asyncio.run(main())


def test_what_is_followed_no_more_is_forgotten_and_not_asked_again() -> None:
    async def main() -> None:
        async with a_desk(plain, period=0.02) as desk:
            desk.follow()
            await desk.outcome(2)
            desk.reports.follow(desk.agent, [], awaiting=0)
            await asyncio.sleep(0.1)
            count = len(desk.asked)
            await asyncio.sleep(0.1)
            assert len(desk.asked) == count
            assert desk.reports.of_pods([a_pod()]) == {}
            desk.reports.forget(desk.agent.metadata.uid)
            assert desk.reports.of_agents([desk.agent]) == {}

    asyncio.run(main())


# --- a pod that does not behave -------------------------------------------------------------------------------------


def test_a_redirect_is_not_followed() -> None:
    paths: list[str] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        paths.append(request.path)
        raise web.HTTPFound("/secret")

    async def main() -> None:
        async with a_desk(handler) as desk:
            desk.follow()
            assert await desk.outcome() == ["unreachable"]
            assert desk.reports.of_pods([a_pod()]) == {}

    asyncio.run(main())
    assert paths == ["/metrics"]


@pytest.mark.parametrize("status", [204, 404, 500])
def test_an_answer_that_is_no_report_is_none(status: int) -> None:
    async def handler(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status)

    async def main() -> None:
        async with a_desk(handler) as desk:
            desk.follow()
            assert await desk.outcome() == ["unreachable"]
            assert desk.heard == []

    asyncio.run(main())


async def endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(REPORT.encode())
    while True:
        await response.write(b"# and so on\n" * 1000)


def test_a_report_without_end_is_read_no_further_than_64_kib_and_dropped_whole() -> None:
    async def main() -> None:
        async with a_desk(endless) as desk:
            desk.follow()
            assert await desk.outcome() == ["bad"]
            report = desk.reports.of_pods([a_pod()])["a-0-1"]
            assert report.problems == ("report larger than 64 KiB",)
            assert (report.applied_generation, dict(report.numbers)) == (None, {})

    asyncio.run(main())


@pytest.mark.parametrize(("surplus", "outcome"), [(0, "ok"), (1, "bad")])
def test_the_limit_is_64_kib_to_the_byte(surplus: int, outcome: str) -> None:
    async def handler(_: web.Request) -> web.StreamResponse:
        filler = "#" + "x" * (65_536 - len(REPORT) - 2 + surplus) + "\n"
        return web.Response(text=filler + REPORT)

    async def main() -> None:
        async with a_desk(handler) as desk:
            desk.follow()
            assert await desk.outcome() == [outcome]

    asyncio.run(main())


def test_a_compressed_report_is_not_unpacked() -> None:
    bomb = gzip.compress(REPORT.encode() + b"#" * 50_000_000)

    async def handler(_: web.Request) -> web.StreamResponse:
        return web.Response(body=bomb, headers={"Content-Encoding": "gzip"})

    async def main() -> None:
        async with a_desk(handler) as desk:
            desk.follow()
            assert await desk.outcome() == ["bad"]
            assert desk.reports.of_pods([a_pod()])["a-0-1"].applied_generation is None

    asyncio.run(main())


async def asleep(_: web.Request) -> web.StreamResponse:
    await asyncio.sleep(60)
    raise AssertionError("nobody waits that long")


async def dripping(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b"#")
        await asyncio.sleep(0.1)


@pytest.mark.parametrize("handler", [asleep, dripping], ids=["silent", "dripping"])
def test_a_slow_pod_is_given_one_second(handler: Handler) -> None:
    async def main() -> None:
        async with a_desk(handler) as desk:
            started = asyncio.get_running_loop().time()
            desk.follow()
            assert await desk.outcome() == ["unreachable"]
            assert 1 <= asyncio.get_running_loop().time() - started < 5

    asyncio.run(main())


def test_a_slow_pod_keeps_nobody_else_waiting() -> None:
    async def main() -> None:
        async with a_desk(asleep) as slow, a_desk(plain) as quick:
            both = [replace(slow.target, pod_uid=f"slow-{number}") for number in range(8)] + [quick.target]
            slow.reports.follow(slow.agent, both, awaiting=0)
            assert await slow.outcome(1, seconds=0.9) == ["ok"]

    asyncio.run(main())


# --- how often ------------------------------------------------------------------------------------------------------


def test_an_awaited_acknowledgement_is_asked_for_in_a_hurry_that_calms_down() -> None:
    async def main() -> None:
        async with a_desk(plain) as desk:
            desk.follow(awaiting=1)
            await desk.outcome(5)
            gaps = [later - earlier for earlier, later in pairwise(desk.asked)]
            # At once, then after 0.1 s, then each pause 1.6 times the one before.
            assert gaps[1] >= 0.1
            assert gaps[2] >= 0.16
            assert gaps[3] >= 0.25
            assert sum(gaps) < 10  # the plain period is a minute
            desk.follow(awaiting=0)

    asyncio.run(main())


def test_a_pod_in_no_hurry_is_asked_once_a_period() -> None:
    async def main() -> None:
        async with a_desk(plain) as desk:
            for _ in range(5):
                desk.follow()
            await asyncio.sleep(0.5)
            assert len(desk.asked) == 1

    asyncio.run(main())


def test_a_hurry_that_begins_between_two_rounds_does_not_wait_for_the_next() -> None:
    async def main() -> None:
        async with a_desk(plain) as desk:
            desk.follow()
            await desk.outcome(1)
            desk.follow(awaiting=1)
            assert await desk.outcome(2) == ["ok", "ok"]

    asyncio.run(main())


def test_a_newer_generation_is_awaited_with_a_new_hurry() -> None:
    async def main() -> None:
        async with a_desk(plain) as desk:
            desk.follow(awaiting=1)
            await desk.outcome(6)
            desk.follow(awaiting=2)
            await desk.outcome(8)
            gaps = [later - earlier for earlier, later in pairwise(desk.asked)]
            assert gaps[6] < gaps[4]

    asyncio.run(main())


# --- the end -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ticks", range(6))
def test_reading_ends_when_it_is_told_to_even_if_it_was_just_woken(ticks: int) -> None:
    async def main() -> None:
        reports = ReportReader(None, False, lambda *_: None)
        reading = asyncio.create_task(reports.run())
        for timetable in (reports._pods, reports._queries):
            timetable.schedule("somebody, much later", 60)
        await asyncio.sleep(0.01)
        for timetable in (reports._pods, reports._queries):
            timetable._timers.wake()
        for _ in range(ticks):
            await asyncio.sleep(0)
        reading.cancel()
        done, _ = await asyncio.wait([reading], timeout=1)
        reading.cancel()
        assert done == {reading}

    asyncio.run(main())
