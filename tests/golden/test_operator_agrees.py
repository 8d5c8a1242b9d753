"""`mabeam plan` and `mabeam simulate` make the operator's decisions: over every golden world, to the byte.

The operator's side is its own: a Cache filled body by body as watch events fill it, the shell's ReportReader, Refusals and
FunctionScheduler, the Observer, and the core's passes.
"""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from mabeam.api.agent import Agent
from mabeam.core.decision import AnyDecision
from mabeam.core.passes import agent, supervisor, variable
from mabeam.core.reports.report import remember
from mabeam.core.snapshot import Key, Snapshot
from mabeam.offline.plan import plan
from mabeam.offline.world import World, note_missing_nodes, parse_now, read_world
from mabeam.shell.functions.scheduler import FunctionScheduler
from mabeam.shell.reconcile.refused_pods import Refusals
from mabeam.shell.reports.reader import ReportReader
from mabeam.simulation.run import START, Simulation
from mabeam.simulation.scenario import Scenario
from mabeam.state.cache import AGENT, SUPERVISOR, VARIABLE, Cache
from mabeam.state.observe import Observer

HERE = Path(__file__).parent
CASES = sorted(path.parent.name for path in HERE.glob("*/world.yaml"))
PASSES: dict[str, Any] = {AGENT: agent.decide, SUPERVISOR: supervisor.decide, VARIABLE: variable.decide}
ROUNDS = 4


class StandingClock:
    """The clock of the report reader: the time of the pass, as often as it is read."""

    def __init__(self, now: datetime) -> None:
        self.time = now

    def now(self) -> datetime:
        return self.time


def world_of(case: str) -> tuple[World, datetime]:
    text = (HERE / case / "world.yaml").read_text()
    return read_world([(case, text)]), parse_now((HERE / case / "now.txt").read_text().strip()).astimezone(UTC)


def watched(world: World) -> Cache:
    """The cache after the watch events of the world's objects, and of the nodes that its pods are or were on."""
    cache = Cache()
    for version, (kind, body) in enumerate(world.complete_bodies(), start=1):
        cache.upsert(kind, {**body, "metadata": {**body["metadata"], "resourceVersion": str(version)}})
    if not cache.nodes:  # a world without nodes does not say that there are none
        named = {owned.pod.node for owned in cache.pods.values()}
        named |= {record.node for parsed in cache.agents.values() for record in parsed.agent.status.pods}
        for name in named - {None}:
            cache.upsert("Node", {"metadata": {"name": name, "uid": name}})
    note_missing_nodes(cache)  # as the operator does when the apiserver answers a GET with 404
    return cache


def reader_of(world: World, cache: Cache, now: datetime) -> ReportReader:
    """The reader after it has read the world's reports."""
    reader = ReportReader(None, False, lambda *_: None)
    reader.clock = StandingClock(now)  # type: ignore[assignment]
    for name, report in world.reports.items():
        reporter: Agent = cache.agents[name].agent
        reader._remembered[reporter.metadata.uid] = {0: remember(None, report, now, 5)}
        reader._latest |= dict.fromkeys((pod.uid for pod in cache.pods_owned_by(reporter)), report)
    return reader


class Operator:
    """The operator's passes over a world."""

    def __init__(self, world: World, now: datetime) -> None:
        self.now, self.cache = now, watched(world)
        self.answered = asyncio.Event()
        self.functions = FunctionScheduler(lambda key: self.answered.set())
        self.observer = Observer(self.cache, reader_of(world, self.cache, now), Refusals(), functions=self.functions)

    async def decide(self, key: Key) -> AnyDecision:
        """The decision once the functions that it calls have answered."""
        for _ in range(ROUNDS):
            snapshot: Snapshot | None = self.observer.snapshot(key, 0.0)
            decision: AnyDecision = PASSES[key.kind](snapshot, self.now)
            known = self.functions.results_for(key)
            self.functions.submit(key, decision.function_calls, self.now)
            if all(call.id in known for call in decision.function_calls):
                return decision
            await self._answers(key, decision)
        return decision

    async def _answers(self, key: Key, decision: AnyDecision) -> None:
        while not all(call.id in self.functions.results_for(key) for call in decision.function_calls):
            await self.answered.wait()
            self.answered.clear()


async def decisions_of(world: World, now: datetime) -> dict[Key, AnyDecision]:
    operator = Operator(world, now)
    try:
        return {key: await operator.decide(key) for key in sorted(operator.cache.all_keys())}
    finally:
        await operator.functions.close()


def written(key: Key, before: Any, decision: AnyDecision) -> list[tuple[Any, ...]]:
    """What the applier writes for the decision, in its order."""
    changed = [("patch-status", key.kind, key.namespace, key.name, decision.status_reason, {})]
    effects = [
        [(e.verb, e.kind, e.namespace, e.name, e.reason, e.body) for e in some]
        for some in (decision.effects_before_status, decision.effects)
    ]
    return [*effects[0], *(changed if decision.status != before else []), *effects[1]]


@pytest.mark.parametrize("case", CASES)
def test_a_plan_is_what_the_operator_decides(case: str) -> None:
    world, now = world_of(case)
    planned = json.loads(json.dumps(plan(world, now)))
    decisions = asyncio.run(decisions_of(world, now))
    cache = watched(world)
    statuses: dict[str, Any] = {"agents": {}, "variables": {}, "supervisors": {}}
    plural = {AGENT: "agents", VARIABLE: "variables", SUPERVISOR: "supervisors"}
    writes: list[Any] = []
    events: list[Any] = []
    for kind in (AGENT, SUPERVISOR, VARIABLE):
        for key, decision in sorted((key, found) for key, found in decisions.items() if key.kind == kind):
            statuses[plural[kind]][f"{key.namespace}/{key.name}"] = decision.status.to_wire()
            writes += [list(one) for one in written(key, cache.status_of(key), decision)]
            events += [[str(e.reason), e.type, str(key), e.note] for e in decision.events]
    assert {kind: planned.get(kind, {}) for kind in statuses} == json.loads(json.dumps(statuses))
    assert [list(write.values()) for write in planned["writes"]] == json.loads(json.dumps(writes))
    assert [list(event.values()) for event in planned["events"]] == events


def test_nobody_is_selected_where_no_node_has_what_the_variable_asks_for() -> None:
    world, now = world_of("selection-by-free-memory")
    decision = asyncio.run(decisions_of(world, now))[Key(VARIABLE, "team", "who")]
    assert decision.status.value is None
    assert (
        plan(world, now)["variables"]["team/who"]["lastDecision"]["candidates"][0]["reason"]
        == "has 1Gi memory, not 2Gi"
    )


@pytest.mark.parametrize(("memory", "value"), [("1Gi", None), ("4Gi", {"active": ["a"]})])
def test_a_simulation_selects_nobody_there_either(memory: str, value: Any) -> None:
    text = (HERE / "selection-by-free-memory" / "world.yaml").read_text()
    simulation = Simulation(read_world([("world", text.replace("1Gi", memory))]), Scenario(), 0)
    simulation.run(60)
    assert simulation.cluster.agents["team", "a"].status.state == "Running"
    assert simulation.cluster.cache.variables["team", "who"].variable.status.value == value


@pytest.mark.parametrize("case", CASES)
def test_the_first_decision_of_a_simulation_is_the_operators(case: str) -> None:
    """Over the world as a simulation applies it: without statuses, pods and ConfigMaps."""
    world, _ = world_of(case)
    simulation = Simulation(world, Scenario(), 0)
    applied = Cache()
    for kind, body in world.complete_bodies():
        if kind not in ("Pod", "ConfigMap", "NetworkPolicy"):
            applied.upsert(kind, {**body, "status": body.get("status") if kind == "Node" else {}})
    if not applied.nodes:
        applied.upsert("Node", {"metadata": {"name": "node-1", "uid": "node-1"}})
    operator = Observer(applied, reader_of(world, applied, START), Refusals())
    for key in applied.all_keys():
        if key.kind == AGENT and not world.agents[key.namespace, key.name].metadata.uid:
            continue  # each simulation gives such an agent a uid of its own
        expected: Any = operator.snapshot(key, 0.0)
        found: Any = simulation.operator.observer.snapshot(key, 0.0)
        assert PASSES[key.kind](found, START) == PASSES[key.kind](expected, START), key
