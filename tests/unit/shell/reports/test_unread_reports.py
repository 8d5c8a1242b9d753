"""Reports that cannot be read: whom that ends (nobody), who is told, who speaks instead, and how often they are asked again."""

import asyncio
import errno
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey, RequestInfo
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from mabeam.api.agent import Agent
from mabeam.core.passes.agent import decide
from mabeam.core.snapshot import AgentSnapshot, PodFacts
from mabeam.shell.kube.errors import ApiError
from mabeam.shell.kube.server_time import ServerClock
from mabeam.shell.reports.reader import ReportReader
from mabeam.shell.reports.schedule import LaneQueue, PollSchedule
from mabeam.shell.reports.silence import describe_failure
from mabeam.shell.reports.targets import Target, never_read_of, target_of
from support.builders import START, a_pod, an_agent, stamp

Answer = bytes | Exception


class ScriptedReader(ReportReader):
    """A reader whose pods answer what a test says, without a network."""

    answers: Callable[[Target], Answer]

    async def _fetch(self, target: Target) -> bytes:
        answer = self.answers(target)
        if isinstance(answer, Exception):
            raise answer
        return answer


@dataclass
class Desk:
    """A reader in virtual time, and whom it woke."""

    answers: Callable[[Target], Answer]
    seconds: float = 0.0
    woken: list[tuple[str, bool, bool]] = field(default_factory=list)
    reader: ScriptedReader = field(init=False)
    targets: list[Target] = field(default_factory=list)

    def __post_init__(self) -> None:
        clock = ServerClock(wall=lambda: START.timestamp() + self.seconds, monotonic=lambda: self.seconds)
        self.reader = ScriptedReader(None, False, lambda _, *woken: self.woken.append(woken), clock=clock)
        self.reader.answers = lambda target: self.answers(target)

    def follow(self, agent: Agent, *pods: PodFacts) -> None:
        targets = [target for pod in pods if (target := target_of(agent, pod)) is not None]
        self.targets += targets
        self.reader.follow(agent, targets, awaiting=0)

    async def read_all(self, *, for_seconds: float, every: float = 5) -> None:
        for _ in range(round(for_seconds / every)):
            self.seconds += every
            for target in self.targets:
                await self.reader._read_one(target.pod_uid)

    def snapshot(self, agent: Agent, *pods: PodFacts) -> AgentSnapshot:
        return AgentSnapshot(
            agent,
            pods,
            nodes=frozenset({"node1"}),
            reports=self.reader.of_pods(pods),
            progress=self.reader.progress_of(pods),
            unreadable=self.reader.unreadable(pods),
        )

    def causes(self, agent: Agent, *pods: PodFacts) -> list[str]:
        """What the agent's next pass counts as failures."""
        decision = decide(self.snapshot(agent, *pods), self.reader.clock.now())
        return [str(failure.cause) for failure in decision.status.failures]


def play(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())


def a_worker(name: str = "w", **spec: Any) -> Agent:
    record = {"ordinal": 0, "name": f"{name}-0-1", "incarnation": 1, "state": "Running", "node": "node1"}
    status = {"observedGeneration": 1, "state": "Running", "pods": [record | {"startTime": stamp(0)}]}
    return an_agent(name, faultTolerance={"progressTimeoutSeconds": 120}, status=status, **spec)


def progress(count: float, more: str = "") -> bytes:
    return f"# TYPE mabeam_progress counter\nmabeam_progress_total {count}\n{more}# EOF\n".encode()


NO_ROUTE = aiohttp.ClientConnectionError("no route to host")


# --- hangs are judged on reports that were read ---------------------------------------------------------------------------


def test_working_agents_outlive_any_time_without_a_route_from_the_operator() -> None:
    async def main() -> None:
        reachable = True
        desk = Desk(lambda _: progress(desk.seconds) if reachable else NO_ROUTE)
        agents = {number: a_worker(f"w{number}") for number in range(20)}
        pods = {number: a_pod(f"w{number}-0-1", ip="10.0.0.7") for number in agents}
        for number, agent in agents.items():
            desk.follow(agent, pods[number])
        await desk.read_all(for_seconds=10)
        reachable = False
        await desk.read_all(for_seconds=3600)
        assert [desk.causes(agents[n], pods[n]) for n in agents] == [[]] * 20
        reachable = True
        await desk.read_all(for_seconds=5)
        assert [desk.causes(agents[n], pods[n]) for n in agents] == [[]] * 20

    play(main)


def test_time_in_which_nothing_was_read_is_no_time_without_progress() -> None:
    async def main() -> None:
        reachable = True
        desk = Desk(lambda _: progress(7) if reachable else NO_ROUTE)
        agent, pod = a_worker(), a_pod("w-0-1", ip="10.0.0.7")
        desk.follow(agent, pod)
        await desk.read_all(for_seconds=60)  # stands still for 55 s
        reachable = False
        await desk.read_all(for_seconds=600)
        reachable = True
        await desk.read_all(for_seconds=55)
        assert desk.causes(agent, pod) == []
        await desk.read_all(for_seconds=10)
        assert desk.causes(agent, pod) == ["Hang"]

    play(main)


def test_a_process_that_is_read_and_does_not_move_hangs_and_its_agent_is_woken() -> None:
    async def main() -> None:
        desk = Desk(lambda _: progress(7))
        agent, pod = a_worker(), a_pod("w-0-1", ip="10.0.0.7")
        desk.follow(agent, pod)
        await desk.read_all(for_seconds=120)  # the first read is at 5 s
        assert desk.causes(agent, pod) == []
        desk.woken.clear()
        await desk.read_all(for_seconds=5)
        assert desk.woken == [("w", True, False)]
        assert desk.causes(agent, pod) == ["Hang"]

    play(main)


def test_a_wait_that_was_announced_before_the_outage_still_counts() -> None:
    async def main() -> None:
        until = START.timestamp() + 1000
        desk = Desk(lambda _: progress(7, f"mabeam_waiting_until_seconds {until}\n"))
        agent, pod = a_worker(), a_pod("w-0-1", ip="10.0.0.7")
        desk.follow(agent, pod)
        await desk.read_all(for_seconds=1115)
        assert desk.causes(agent, pod) == []
        await desk.read_all(for_seconds=10)
        assert desk.causes(agent, pod) == ["Hang"]

    play(main)


# --- an unreadable report is told -----------------------------------------------------------------------------------------


def _condition(desk: Desk, agent: Agent, *pods: PodFacts) -> tuple[str, str, str] | None:
    decision = decide(desk.snapshot(agent, *pods), desk.reader.clock.now())
    found = [c for c in decision.status.conditions if c.type == "ReportsValid"]
    return (str(found[0].status), found[0].reason, found[0].message) if found else None


def test_an_unreadable_report_is_told_with_address_and_error_until_it_is_read_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        answer: Answer = ApiError(404, "Report", "HTTP 404")
        desk = Desk(lambda _: answer)
        agent, pod = a_worker(), a_pod("w-0-1", ip="10.0.0.7")
        desk.follow(agent, pod)
        await desk.read_all(for_seconds=15)
        assert _condition(desk, agent, pod) is None
        with caplog.at_level(logging.WARNING):
            await desk.read_all(for_seconds=10)
        assert desk.woken[-1] == ("w", True, False)
        words = "w-0-1 cannot be read: http://10.0.0.7:9464/metrics: HTTP 404"
        assert _condition(desk, agent, pod) == ("False", "Unreachable", words)
        assert "http://10.0.0.7:9464/metrics: HTTP 404" in caplog.text
        decision = decide(desk.snapshot(agent, pod), desk.reader.clock.now())
        assert [(str(e.reason), e.type, e.note) for e in decision.events] == [("Unreachable", "Warning", words)]
        told = agent.model_copy(update={"status": decision.status})
        woken = len(desk.woken)
        await desk.read_all(for_seconds=600)
        assert len(desk.woken) == woken  # told once
        answer = progress(1)
        await desk.read_all(for_seconds=5)
        assert desk.woken[-1] == ("w", True, False)
        assert _condition(desk, told, pod) == ("True", "ReportsOk", "")

    play(main)


def test_an_operator_that_has_just_started_takes_no_unreadable_report_for_read() -> None:
    desk = Desk(lambda _: NO_ROUTE)
    condition = {"type": "ReportsValid", "status": "False", "reason": "Unreachable", "message": "w-0-1 cannot be read"}
    agent, pod = a_worker(), a_pod("w-0-1", ip="10.0.0.7")
    stored = type(agent).model_validate(
        {**agent.to_wire(), "status": {**agent.status.to_wire(), "conditions": [condition]}}
    )
    assert _condition(desk, stored, pod) == ("False", "Unreachable", "w-0-1 cannot be read")


def test_a_pod_that_was_never_ready_need_not_answer() -> None:
    async def main() -> None:
        desk = Desk(lambda _: NO_ROUTE)
        agent, pod = a_worker(), a_pod("w-0-1", ip="10.0.0.7", ready=False)
        records = [agent.status.pods[0].model_copy(update={"state": "Starting"})]
        starting = agent.model_copy(update={"status": agent.status.model_copy(update={"pods": tuple(records)})})
        desk.follow(starting, pod)
        await desk.read_all(for_seconds=60)
        assert _condition(desk, starting, pod) is None

    play(main)


def test_a_pod_on_the_hosts_network_is_told_and_nobody_waits_for_its_first_report() -> None:
    desk = Desk(lambda _: NO_ROUTE)
    agent, pod = a_worker(), a_pod("w-0-1", ip="10.0.0.7", host_network=True)
    desk.reader.pass_over(agent, never_read_of(desk.snapshot(agent, pod), has_directives=False))
    assert desk.woken == [("w", True, True)]
    desk.reader.pass_over(agent, never_read_of(desk.snapshot(agent, pod), has_directives=False))
    assert len(desk.woken) == 1
    words = "w-0-1 cannot be read: it uses the network of its node, from which no report is read"
    assert _condition(desk, agent, pod) == ("False", "Unreachable", words)
    assert "w" in desk.reader.of_agents([agent])
    desk.reader.pass_over(agent, ())
    assert desk.reader.unreadable([pod]) == {}


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        (ApiError(404, "Report", "Not Found"), "HTTP 404"),
        (TimeoutError(), "no answer within 1 s"),
        (
            aiohttp.ClientConnectorError(
                ConnectionKey("10.0.0.7", 1, False, None, None, None, None), OSError(errno.ECONNREFUSED, "x")
            ),
            "connection refused",
        ),
        (
            aiohttp.ClientResponseError(
                RequestInfo(URL("http://x"), "GET", CIMultiDictProxy(CIMultiDict())), (), message="hi"
            ),
            "the answer is no HTTP",
        ),
        (NO_ROUTE, "ClientConnectionError"),
        (aiohttp.ServerDisconnectedError(), "the connection was closed before an answer"),
    ],
)
def test_a_failed_read_is_a_phrase(problem: Exception, words: str) -> None:
    assert describe_failure(problem, 1.0) == words


# --- who speaks for an agent ----------------------------------------------------------------------------------------------


def test_the_lowest_ordinal_that_still_says_something_speaks_for_the_agent() -> None:
    async def main() -> None:
        silent: set[int] = set()
        text = b'mabeam_preference{variable="temperature"} 0.%d\nmabeam_performance 0.9\n'
        desk = Desk(lambda target: NO_ROUTE if target.ordinal in silent else text % (target.ordinal + 1))
        agent = an_agent("a", replicas=3)
        desk.follow(agent, *(a_pod(f"a-{ordinal}-1", ip="10.0.0.7") for ordinal in range(3)))
        await desk.read_all(for_seconds=5)

        def said() -> tuple[dict[str, float], dict[str, float]]:
            report = desk.reader.of_agents([agent])["a"]
            return dict(report.numbers), dict(report.performance)

        assert said() == ({"temperature": 0.1}, {"": 0.9})
        silent.add(0)
        await desk.read_all(for_seconds=15)
        assert said() == ({"temperature": 0.1}, {"": 0.9})  # remembered for three periods
        await desk.read_all(for_seconds=15)
        assert said() == ({"temperature": 0.2}, {"": 0.9})
        silent.clear()
        await desk.read_all(for_seconds=5)
        assert said() == ({"temperature": 0.1}, {"": 0.9})

    play(main)


def test_an_ordinal_that_only_counts_its_progress_does_not_silence_those_that_offer() -> None:
    async def main() -> None:
        offers = progress(1, 'mabeam_preference{variable="temperature"} 0.4\n')
        desk = Desk(lambda target: offers if target.ordinal else progress(0))
        agent = an_agent("a", replicas=2)
        desk.follow(agent, a_pod("a-0-1", ip="10.0.0.7"), a_pod("a-1-1", ip="10.0.0.8"))
        await desk.read_all(for_seconds=5)
        assert dict(desk.reader.of_agents([agent])["a"].numbers) == {"temperature": 0.4}

    play(main)


# --- how often ------------------------------------------------------------------------------------------------------------


def test_lanes_take_turns() -> None:
    queue = LaneQueue()
    for key, lane in (("a1", "a"), ("a2", "a"), ("a3", "a"), ("b1", "b"), ("a1", "a")):
        queue.push(key, lane)
    queue.drop("a2")
    assert [queue.pop() for _ in range(4)] == ["a1", "b1", "a3", None]


def test_pods_that_never_answer_delay_nobody_elses_reading() -> None:
    async def main() -> None:
        seen: list[float] = []
        loop = asyncio.get_running_loop()
        schedule = PollSchedule(4, 0.1, slow_seconds=0.01, slow_concurrency=100)

        async def read(key: str) -> None:
            if key != "good":
                await asyncio.sleep(1.0)
                return
            seen.append(loop.time())
            schedule.reschedule(key, 0.1)

        for number in range(80):
            schedule.schedule(f"bad-{number}", lane="bad")
        schedule.schedule("good", lane="good")
        began = loop.time()
        reading = asyncio.create_task(schedule.run(read))
        async with asyncio.timeout(10):
            while len(seen) < 5:  # noqa: ASYNC110 - a list rings no bell
                await asyncio.sleep(0.01)
        reading.cancel()
        # 80 reads of a second each by four at a time would take 20 s.
        assert seen[-1] - began < 5

    play(main)


def test_a_pod_that_does_not_answer_is_asked_less_and_less_often() -> None:
    async def main() -> None:
        desk = Desk(lambda _: NO_ROUTE)
        agent, pod = a_worker(), a_pod("w-0-1", ip="10.0.0.7")
        desk.follow(agent, pod)
        delays: list[float] = []
        desk.reader._pods.reschedule = lambda _, delay: delays.append(delay)  # type: ignore[method-assign]
        await desk.read_all(for_seconds=30)
        desk.answers = lambda _: progress(1)
        await desk.read_all(for_seconds=5)
        assert delays == [5, 10, 20, 30, 30, 30, 5]

    play(main)


def test_a_pod_with_a_long_period_is_asked_again_soon_when_it_did_not_answer() -> None:
    async def main() -> None:
        desk = Desk(lambda _: NO_ROUTE)
        agent = a_worker(reports={"periodSeconds": 3600})
        desk.follow(agent, a_pod("w-0-1", ip="10.0.0.7"))
        delays: list[float] = []
        desk.reader._pods.reschedule = lambda _, delay: delays.append(delay)  # type: ignore[method-assign]
        await desk.read_all(for_seconds=30, every=10)
        assert delays == [30, 60, 120]
        assert desk.targets == [replace(desk.targets[0], period=3600)]

    play(main)
