"""/v1 over loopback: what is answered, in pages, and how a request that has no answer is told what has one."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import aiohttp
import pytest

from mabeam.api.rest import Capacity
from mabeam.api.rest_openapi import PATHS, document
from mabeam.core.decision import Event, Reason
from mabeam.core.reports.report import Report, remember
from mabeam.shell.http import rest
from mabeam.shell.http.rest import RestApi
from mabeam.shell.http.server import serve
from mabeam.shell.kube.client import Client
from mabeam.shell.kube.event_recorder import EventRecorder, Regarding
from mabeam.shell.kube.server_time import ServerClock
from mabeam.shell.reports.reader import ReportReader
from mabeam.shell.telemetry.load import LoadMeter
from mabeam.shell.telemetry.metrics import Telemetry
from mabeam.shell.telemetry.usage import Amounts, UsageReader
from mabeam.state.cache import Cache, OwnedPod
from support.builders import a_pod
from support.overview import critic_body, planner_body, temperature_body


class NoCluster:
    clock = ServerClock()


@dataclass
class Asked:
    """A served API, and how it is asked."""

    api: RestApi
    port: int
    session: aiohttp.ClientSession
    synced: list[bool] = field(default_factory=lambda: [True])

    async def get(self, path: str, method: str = "GET") -> tuple[int, Any]:
        async with self.session.request(method, f"http://127.0.0.1:{self.port}{path}") as answer:
            assert answer.headers["Cache-Control"] == "no-store"
            kind = "json" if answer.status < 400 else "problem+json"
            assert answer.content_type == f"application/{kind}"
            return answer.status, json.loads(await answer.text() or "null")

    def learn(self, kind: str, body: dict[str, Any]) -> None:
        known = self.api.cache.versions[kind]
        self.api.cache.upsert(kind, {**body, "metadata": {**body["metadata"], "resourceVersion": str(len(known) + 1)}})


@asynccontextmanager
async def served() -> AsyncIterator[Asked]:
    """An operator's /v1 with two agents and a variable."""
    cluster = cast(Client, NoCluster())
    reports = ReportReader(None, False, lambda *_: None)
    usage = UsageReader(cluster, (None,), dict)
    api = RestApi(
        Cache(), reports, usage, LoadMeter(lambda: Capacity(nodes=1, cpu=0.5, memory=0.5)), EventRecorder(cluster, "me"),
        Telemetry(), ServerClock(), "me",
    )  # fmt: skip
    synced = [True]
    runner = await serve(0, list, list, bytes, api.routes(lambda: synced[0]))
    try:
        port = next(int(address[1]) for address in runner.addresses if len(address) == 2)
        async with aiohttp.ClientSession() as session:
            asked = Asked(api, port, session, synced)
            asked.learn("Agent", planner_body())
            asked.learn("Agent", critic_body())
            asked.learn("OrchestrationVariable", temperature_body())
            yield asked
    finally:
        await runner.cleanup()


def asking(scenario: Callable[[Asked], Awaitable[None]]) -> None:
    async def main() -> None:
        async with served() as asked, asyncio.timeout(30):
            await scenario(asked)

    asyncio.run(main())


def test_the_system_its_agents_and_its_variables_are_told() -> None:
    async def scenario(asked: Asked) -> None:
        status, system = await asked.get("/v1/status")
        assert (status, system["agents"]["total"], system["variables"]["total"]) == (200, 2, 1)
        assert system["operator"]["leader"] is False
        assert system["utilisation"]["load"] == {"value": 0.5, "source": "metrics.k8s.io"}
        _, agents = await asked.get("/v1/agents")
        assert [item["name"] for item in agents["items"]] == ["critic", "planner"]
        assert await asked.get("/v1/agents/team/planner") == (200, agents["items"][1])
        _, variables = await asked.get("/v1/variables")
        assert variables == {"leader": False, "remaining": 0, "items": [variables["items"][0]]}
        assert await asked.get("/v1/variables/team/temperature") == (200, variables["items"][0])
        assert await asked.get("/v1/openapi.json") == (200, document())

    asking(scenario)


def test_the_leader_tells_what_it_heard_measured_and_counted() -> None:
    async def scenario(asked: Asked) -> None:
        api = asked.api
        api.telemetry.lead()
        api.telemetry.directive_counts.update(acknowledged=3, expired=1)
        api.telemetry.observe_recovery(4.0)
        api.reports._remembered["uid-of-planner"] = {
            0: remember(None, Report(performance={"": 0.9}, bids={"gpu": 3.0}), api.clock.now(), 5)
        }
        owned = OwnedPod(a_pod("planner-0-2"), "uid-of-planner", "planner")
        api.cache.put("Pod", ("team", "planner-0-2"), owned)
        api.usage.pods = {("team", "planner-0-2"): Amounts(0.25, 1024.0)}
        api.usage._measured_at = asyncio.get_running_loop().time()
        api.recorder.record(Regarding("Agent", "team", "planner", "u"), (Event(Reason.AGENT_STARTED, "runs"),))
        _, agent = await asked.get("/v1/agents/team/planner")
        assert agent["performance"] == {"performance": 0.9}
        assert agent["preferences"] == {"gpu": {"bid": 3}}
        assert agent["usage"] == {"cpu": 0.25, "memory": 1024, "pods": 1, "source": "metrics.k8s.io"}
        _, system = await asked.get("/v1/status")
        assert system["operator"]["leader"] is True
        assert system["communication"]["efficiency"] == 0.75
        assert system["recovery"]["lastSeconds"] == 4
        assert [event["reason"] for event in system["recentEvents"]] == ["AgentStarted"]
        assert system["utilisation"]["agents"]["cpu"] == 0.25

    asking(scenario)


def test_pages_hold_everything_once_even_when_the_last_item_of_one_is_gone() -> None:
    async def scenario(asked: Asked) -> None:
        for number in range(5):
            asked.learn("Agent", critic_body(f"worker{number}"))
        seen, query = [], "?limit=2"
        while True:
            _, page = await asked.get(f"/v1/agents{query}")
            seen += [item["name"] for item in page["items"]]
            assert page["remaining"] == 7 - len(seen)
            if "continue" not in page:
                break
            asked.api.cache.remove("Agent", ("team", page["items"][-1]["name"]))
            query = f"?limit=2&continue={page['continue']}"
        assert seen == ["critic", "planner", *(f"worker{number}" for number in range(5))]

    asking(scenario)


def test_a_namespace_bounds_every_list() -> None:
    async def scenario(asked: Asked) -> None:
        for path in ("/v1/agents", "/v1/variables"):
            assert (await asked.get(f"{path}?namespace=elsewhere"))[1]["items"] == []
            assert (await asked.get(f"{path}?namespace=team"))[1]["items"]
        assert (await asked.get("/v1/status?namespace=elsewhere"))[1]["agents"]["total"] == 0
        assert (await asked.get("/v1/status?namespace=team"))[1]["agents"]["total"] == 2

    asking(scenario)


@pytest.mark.parametrize(
    ("path", "status", "detail", "allowed"),
    [
        ("/v1/agents?limit=0", 400, "limit must be a whole number from 1 to 500, not '0'", None),
        ("/v1/agents?limit=501", 400, "limit must be a whole number from 1 to 500, not '501'", None),
        ("/v1/variables?limit=%C2%B2", 400, "limit must be a whole number from 1 to 500, not '²'", None),
        ("/v1/agents?continue=x", 400, "continue must be the `continue` of the page before, not 'x'", None),
        ("/v1/agents?limit=1&limit=2", 400, "limit is given twice", None),
        ("/v1/agents?name=a", 400, "there is no parameter 'name'", ["namespace", "limit", "continue"]),
        ("/v1/status?limit=1", 400, "there is no parameter 'limit'", ["namespace"]),
        ("/v1/agents/team/planner?x=1", 400, "there is no parameter 'x'", None),
        ("/v1/agents/team/nobody", 404, "there is no Agent team/nobody", ["/v1/agents"]),
        ("/v1/variables/team/x", 404, "there is no OrchestrationVariable team/x", ["/v1/variables"]),
        ("/v1/agents/team", 404, "there is nothing at /v1/agents/team", list(PATHS)),
        ("/v1", 404, "there is nothing at /v1", list(PATHS)),
    ],
)
def test_a_request_without_an_answer_is_told_why_and_what_has_one(
    path: str, status: int, detail: str, allowed: list[str] | None
) -> None:
    async def scenario(asked: Asked) -> None:
        code, problem = await asked.get(path)
        assert (code, problem["status"], problem["detail"]) == (status, status, detail)
        assert problem["allowed"] == (allowed or [])

    asking(scenario)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_nothing_can_be_written(method: str) -> None:
    async def scenario(asked: Asked) -> None:
        for path in ("/v1/status", "/v1/agents/team/planner", "/v1/else"):
            status, problem = await asked.get(path, method)
            assert (status, problem["allowed"]) == (405, ["GET", "HEAD"])

    asking(scenario)


def test_nothing_is_told_before_everything_was_listed() -> None:
    async def scenario(asked: Asked) -> None:
        asked.synced[0] = False
        assert (await asked.get("/v1/agents"))[0] == 503
        assert (await asked.get("/v1/openapi.json"))[0] == 200

    asking(scenario)


def test_an_object_that_cannot_be_read_is_told_as_such() -> None:
    async def scenario(asked: Asked) -> None:
        asked.learn("Agent", {**critic_body("bad"), "spec": {"replicas": -1}})
        asked.learn(
            "OrchestrationVariable", {**temperature_body(), "metadata": {"name": "v", "namespace": "team"}, "spec": {}}
        )
        assert (await asked.get("/v1/agents/team/bad"))[1]["invalid"] is True
        assert (await asked.get("/v1/variables/team/v"))[1]["invalid"] is True
        assert (await asked.get("/v1/status"))[1]["agents"]["invalid"] == 1

    asking(scenario)


def test_the_whole_is_reckoned_once_a_second_whoever_asks() -> None:
    async def scenario(asked: Asked) -> None:
        answers = await asyncio.gather(*(asked.get("/v1/status") for _ in range(20)))
        first = answers[0][1]
        assert all(answer == (200, first) for answer in answers)
        asked.learn("Agent", critic_body("late"))
        assert (await asked.get("/v1/status"))[1] == first
        asked.api._status_cache.clear()
        assert (await asked.get("/v1/status"))[1]["agents"]["total"] == 3

    asking(scenario)


def test_a_page_is_never_larger_than_its_bound_whatever_agents_report() -> None:
    async def scenario(asked: Asked) -> None:
        report = Report(performance={f"{'m' * 250}{number}": 1.0 for number in range(500)})
        for number in range(600):
            asked.learn("Agent", {**critic_body(f"w{number}"), "metadata": {**critic_body(f"w{number}")["metadata"]}})
            asked.api.reports._remembered[f"uid-of-w{number}"] = {0: remember(None, report, asked.api.clock.now(), 5)}
        _, page = await asked.get("/v1/agents?limit=500")
        assert len(page["items"]) == 500
        assert all(len(item["performance"]) <= 64 for item in page["items"])
        _, system = await asked.get("/v1/status")
        assert len(system["performance"]["individual"]) <= 100

    asking(scenario)


def test_more_requests_at_once_than_are_served_are_refused_with_the_time_to_ask_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rest, "REFUSAL_SECONDS", 0.01)

    async def scenario(asked: Asked) -> None:
        await asked.api._one_at_a_time.acquire()  # as if a long answer were being made
        waiting = [asyncio.create_task(asked.get("/v1/agents")) for _ in range(rest.MAX_REQUESTS)]
        while not asked.api._requests.locked():  # noqa: ASYNC110 - they come by a socket
            await asyncio.sleep(0.01)
        async with asked.session.get(f"http://127.0.0.1:{asked.port}/v1/agents") as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        asked.api._one_at_a_time.release()
        assert {status for status, _ in await asyncio.gather(*waiting)} == {200}

    asking(scenario)


def test_a_page_of_records_is_made_beside_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: set[str] = set()
    plain = rest.agent_info

    def info(seen: Any) -> Any:
        threads.add(threading.current_thread().name)
        return plain(seen)

    monkeypatch.setattr(rest, "agent_info", info)

    async def scenario(asked: Asked) -> None:
        assert (await asked.get("/v1/agents"))[0] == 200

    asking(scenario)
    assert threads
    assert threading.main_thread().name not in threads
