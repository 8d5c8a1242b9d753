"""What passes came to reaches the metrics and the spans: once each, and nothing of a pass that changed nothing."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import pytest

from mabeam.api.agent import Agent
from mabeam.api.names import API_VERSION
from mabeam.api.variable import OrchestrationVariable
from mabeam.api.variable_status import OrchestrationVariableStatus
from mabeam.core.conventions.metadata import pod_labels
from mabeam.core.decision import Event
from mabeam.core.snapshot import Key
from mabeam.shell.functions.scheduler import FunctionScheduler
from mabeam.shell.kube.client import Client
from mabeam.shell.kube.errors import ApiError, NotLeading
from mabeam.shell.kube.event_recorder import EventRecorder
from mabeam.shell.kube.server_time import ServerClock
from mabeam.shell.reconcile.applier import Applier
from mabeam.shell.reconcile.queue import WorkQueue
from mabeam.shell.reconcile.reconciler import Reconciler
from mabeam.shell.reconcile.refused_pods import Refusals
from mabeam.shell.reports.reader import ReportReader
from mabeam.shell.telemetry.metrics import Telemetry
from mabeam.state.cache import AGENT, VARIABLE, Cache
from mabeam.state.observe import Observer
from support.builders import agent_body
from support.overview import temperature_body

AGENT_KEY, VARIABLE_KEY = Key(AGENT, "team", "planner"), Key(VARIABLE, "team", "temperature")


class Apiserver:
    """Stores statuses and takes everything else; or refuses the next write."""

    def __init__(self) -> None:
        self.clock = ServerClock()
        self.bodies: dict[tuple[str, str], dict[str, Any]] = {}
        self.trouble: Exception | None = None
        self.nodes: list[str] = []
        self.adopted: list[str] = []
        self.no_pods: ApiError | None = None  # the answer to the creation of a pod
        self.versions = 10

    def _stored(self, body: dict[str, Any]) -> dict[str, Any]:
        self.versions += 1
        return {**body, "metadata": {**body["metadata"], "resourceVersion": str(self.versions)}}

    async def patch_status(self, kind: str, namespace: str, name: str, body: dict[str, Any]) -> dict[str, Any]:
        if self.trouble is not None:
            raise self.trouble
        old = self.bodies[kind, name]
        status = {key: value for key, value in {**old.get("status", {}), **body["status"]}.items() if value is not None}
        self.bodies[kind, name] = self._stored({**old, "status": status})
        return self.bodies[kind, name]

    async def get(self, kind: str, namespace: str, name: str) -> dict[str, Any] | None:
        if kind == "Node":
            return {"metadata": {"name": name, "uid": name, "resourceVersion": "1"}} if name in self.nodes else None
        return self.bodies.get((kind, name))

    async def adopt(self, kind: str, namespace: str, name: str, body: dict[str, Any]) -> dict[str, Any]:
        self.adopted.append(name)
        old = self.bodies[kind, name]
        return self._stored({**old, "metadata": {**old["metadata"], **body["metadata"]}})

    async def create(self, kind: str, namespace: str, body: dict[str, Any]) -> dict[str, Any]:
        if kind == "Pod" and self.no_pods is not None:
            raise self.no_pods
        return self._stored({**body, "metadata": {**body["metadata"], "uid": "new"}})

    async def patch(self, kind: str, namespace: str, name: str, body: dict[str, Any]) -> dict[str, Any]:
        return self._stored({**body, "metadata": {**body["metadata"], "name": name, "namespace": namespace}})


class Traces:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def begin(self) -> "Traces":
        return self

    def close(self) -> None: ...

    def variable_decided(
        self, variable: OrchestrationVariable, after: OrchestrationVariableStatus, outcome: str
    ) -> None:
        self.told.append(f"{variable.metadata.name} {outcome} {after.round}")

    def agent_events(self, agent: Agent, events: Sequence[Event]) -> None:
        self.told += [f"{agent.metadata.name} {event.reason}" for event in events]


class World:
    def __init__(self) -> None:
        self.api, self.telemetry, self.cache, self.traces = Apiserver(), Telemetry(), Cache(), Traces()
        cluster = cast(Client, self.api)
        reports, refusals = ReportReader(None, False, lambda *_: None), Refusals()
        self.reconciler = Reconciler(
            cluster,
            self.cache,
            WorkQueue(),
            Observer(self.cache, reports, refusals),
            Applier(cluster, self.cache, EventRecorder(cluster, "me"), lambda *_: None),
            reports,
            refusals,
            self.telemetry,
            FunctionScheduler(lambda key: None),
            tracing=self.traces,
        )

    def knows(self, kind: str, body: dict[str, Any]) -> None:
        body = self.api._stored(body)
        self.api.bodies[kind, body["metadata"]["name"]] = body
        self.cache.upsert(kind, body)

    def figure(self, name: str, **labels: str) -> float:
        return self.telemetry.registry.get_sample_value(name, labels) or 0.0

    def passes(self, outcome: str, kind: str = "Parameter") -> float:
        return self.figure("mabeam_coordination_duration_seconds_count", type=kind, outcome=outcome)


def in_a_world(scenario: Callable[[World], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(10):
            await scenario(World())

    asyncio.run(main())


def fixed(value: float = 0.4) -> dict[str, Any]:
    body = temperature_body()
    spec = {"agents": {"names": ["planner"]}, "domain": {"minimum": 0, "maximum": 1}, "value": value}
    return {**body, "spec": spec, "status": {"observedGeneration": -1}}


def test_a_pass_over_a_variable_is_timed_by_what_it_came_to() -> None:
    async def scenario(world: World) -> None:
        world.knows("Agent", agent_body("planner"))
        world.knows("OrchestrationVariable", fixed())
        await world.reconciler._variable(VARIABLE_KEY)
        assert (world.passes("decided"), world.traces.told) == (1, ["temperature decided 1"])
        await world.reconciler._variable(VARIABLE_KEY)
        assert (world.passes("unchanged"), world.traces.told) == (1, ["temperature decided 1"])

    in_a_world(scenario)


def test_a_pass_that_breaks_off_failed_and_one_that_may_not_write_did_not() -> None:
    async def scenario(world: World) -> None:
        world.knows("Agent", agent_body("planner"))
        world.knows("OrchestrationVariable", fixed())
        for trouble in (ApiError(500, "No", "no"), NotLeading("lost")):
            world.api.trouble = trouble
            with pytest.raises(type(trouble)):
                await world.reconciler._variable(VARIABLE_KEY)
        assert (world.passes("failed"), world.passes("unchanged")) == (1, 1)
        assert world.traces.told == []

    in_a_world(scenario)


def test_a_variable_that_cannot_be_read_is_of_no_type() -> None:
    async def scenario(world: World) -> None:
        world.knows("OrchestrationVariable", {**fixed(), "spec": {"type": "Unheard", "agents": {"names": ["a"]}}})
        await world.reconciler._variable(VARIABLE_KEY)
        assert world.passes("failed", "Invalid") == 1
        await world.reconciler._variable(Key(VARIABLE, "team", "gone"))

    in_a_world(scenario)


def test_an_agents_directives_are_counted_when_they_are_issued_and_its_life_is_told() -> None:
    async def scenario(world: World) -> None:
        world.knows("Agent", agent_body("planner"))
        world.knows("OrchestrationVariable", fixed())
        await world.reconciler._variable(VARIABLE_KEY)
        world.traces.told.clear()
        for _ in range(3):
            await world.reconciler._agent(AGENT_KEY)
        assert world.figure("mabeam_directives_total", action="AdjustParameters", outcome="issued") == 1
        assert world.telemetry.directive_counts == {"issued": 1}
        assert world.traces.told == ["planner AgentRegistered"]

    in_a_world(scenario)


# --- pods that are refused ------------------------------------------------------------------------------------------------


QUOTA = ApiError(403, "Forbidden", 'pods "planner-0-1" is forbidden: exceeded quota: q, requested: pods=1')
DEAD_WEBHOOK = ApiError(500, "InternalError", 'failed calling webhook "x": connection refused')


def ready_condition(world: World) -> tuple[str, str] | None:
    status = world.api.bodies["Agent", "planner"].get("status", {})
    return next(((c["reason"], c["message"]) for c in status.get("conditions", ()) if c["type"] == "Ready"), None)


@pytest.mark.parametrize(("trouble", "passes"), [(QUOTA, 3), (DEAD_WEBHOOK, 4)])
def test_a_new_agent_whose_pod_is_refused_says_so_in_its_status(trouble: ApiError, passes: int) -> None:
    async def scenario(world: World) -> None:
        world.api.no_pods = trouble
        world.knows("Agent", agent_body("planner"))
        for _ in range(passes):
            await world.reconciler._agent(AGENT_KEY)
        condition = ready_condition(world)
        assert condition is not None
        assert (condition[0], trouble.message in condition[1]) == ("PodRefused", True)

    in_a_world(scenario)


def test_a_refusal_is_forgotten_when_the_apiserver_takes_the_pod() -> None:
    async def scenario(world: World) -> None:
        world.api.no_pods = QUOTA
        world.knows("Agent", agent_body("planner"))
        for _ in range(3):
            await world.reconciler._agent(AGENT_KEY)
        assert world.reconciler.refusals.retry_soon("team") != {}
        world.api.no_pods = None
        refused = world.reconciler.refusals.refused
        refused["uid-of-planner"] = replace(refused["uid-of-planner"], retry_at=0.0)
        await world.reconciler._agent(AGENT_KEY)
        assert refused == {}

    in_a_world(scenario)


# --- nodes that no watch has reported, and pods without an owner ----------------------------------------------------------


def ending_pod(node: str) -> dict[str, Any]:
    """The first pod of the agent, which is being deleted on that node."""
    owner = {"apiVersion": API_VERSION, "kind": "Agent", "name": "planner", "uid": "uid-of-planner", "controller": True}
    times = {"deletionTimestamp": "2026-01-01T00:00:30Z", "deletionGracePeriodSeconds": 30}
    meta = {"name": "planner-0-1", "namespace": "team", "uid": "p1", "ownerReferences": [owner]}
    return {
        "kind": "Pod",
        "metadata": meta | times | {"labels": pod_labels("planner", 0, 1)},
        "spec": {"nodeName": node, "containers": [{"name": "agent"}]},
        "status": {"phase": "Running"},
    }


def superseded() -> dict[str, Any]:
    """The agent, whose second pod waits for the end of the first."""
    pod = {"ordinal": 0, "name": "planner-0-2", "incarnation": 2, "state": "Starting"}
    return agent_body("planner", status={"observedGeneration": 1, "state": "Starting", "pods": [pod]})


@pytest.mark.parametrize(("nodes", "creates"), [(["new"], False), ([], True)])
def test_a_node_that_no_watch_has_reported_is_asked_for_before_it_counts_as_gone(
    nodes: list[str], creates: bool
) -> None:
    async def scenario(world: World) -> None:
        world.api.nodes = nodes
        world.knows("Agent", superseded())
        world.knows("Pod", ending_pod("new"))
        await world.reconciler._agent(AGENT_KEY)
        assert (("team", "planner-0-2") in world.cache.pods) is creates

    in_a_world(scenario)


@pytest.mark.parametrize("agent_is_deleted", [False, True])
def test_an_orphan_is_adopted_unless_its_agent_is_being_deleted_behind_the_cache(agent_is_deleted: bool) -> None:
    async def scenario(world: World) -> None:
        orphan = ending_pod("node1")
        orphan["metadata"] = {k: v for k, v in orphan["metadata"].items() if not k.startswith("deletion")}
        orphan["metadata"]["ownerReferences"] = []
        world.knows("Agent", agent_body("planner"))
        world.knows("Pod", orphan)
        if agent_is_deleted:
            body = world.api.bodies["Agent", "planner"]
            gone = {**body["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}
            world.api.bodies["Agent", "planner"] = {**body, "metadata": gone}
        await world.reconciler._agent(AGENT_KEY)
        assert world.api.adopted == ([] if agent_is_deleted else ["planner-0-1"])
        assert world.cache.pods["team", "planner-0-1"].owner == ("" if agent_is_deleted else "uid-of-planner")

    in_a_world(scenario)
