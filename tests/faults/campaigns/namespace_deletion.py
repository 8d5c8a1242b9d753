"""R10: a namespace is deleted while five hundred agents in it are half made, the operator up, down, or started again.

The measure is a namespace of as many one-replica ReplicaSets, half made and deleted in the same moment: what else the
machine and the namespace controller do then, happens to both.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

from faults import invariants, reference_workload
from faults.apiserver import Api
from faults.arena import Arena
from faults.plan import Plan, chosen
from faults.proxy import Answer, Forward, Request, Rule, Script
from support.async_api import JsonDict, Refused

ID = "R10"
TITLE = "a namespace deleted while 500 agents are half made, the operator up and down"
ALONE = True

OBJECTS: Final = 500
AT_ONCE: Final = 32
TOLERATED: Final = 25
TIMEOUT_SECONDS: Final = 240.0
# How much longer than the ReplicaSets' namespace an Agents' one may take.
BAR: Final = 1.5
# What the operator had under way when it first heard that the namespace is being terminated.
UNDER_WAY_SECONDS: Final = 0.25
# Within it the operator has forgotten the namespace, and serves others as ever; two resyncs and a little.
AFTERWARDS_SECONDS: Final = 75.0

ONLY: Final = "{victim}"
BOTH: Final = "{victim},{other}"

Fault = Callable[[Arena], Awaitable[None]]


@dataclass(frozen=True)
class Variant:
    """What the operator watches (`{victim}` and `{other}` are the namespaces), and what happens to it around the deletion."""

    watches: str
    before: Fault
    while_going: Fault
    after: Fault

    @property
    def alone(self) -> bool:
        """Whether the operator watches nothing but the namespace that goes."""
        return self.watches == ONLY


async def _nothing(_: Arena) -> None:
    return


async def _goes_down(arena: Arena) -> None:
    await arena.operator.stay_down()


async def _comes_back(arena: Arena) -> None:
    arena.operator.come_back()


async def _starts_again(arena: Arena) -> None:
    await arena.operator.kill()


VARIANTS: Final = {
    "operator-up": Variant(BOTH, _nothing, _nothing, _nothing),
    "cluster-wide": Variant("", _nothing, _nothing, _nothing),
    "operator-down": Variant(BOTH, _goes_down, _nothing, _comes_back),
    "back-while-it-goes": Variant(BOTH, _goes_down, _comes_back, _nothing),
    "killed-while-it-goes": Variant(BOTH, _nothing, _starts_again, _nothing),
    "nothing-else-watched": Variant(ONLY, _nothing, _nothing, _nothing),
}


def plans(seed: int, sample: int | None) -> Sequence[Plan]:
    """One for each way in which the operator may live through it."""
    return chosen([Plan(name, _losing(variant)) for name, variant in VARIANTS.items()], seed, sample)


def _losing(variant: Variant) -> Callable[[Arena], Awaitable[None]]:
    async def run(arena: Arena) -> None:
        async with _namespace(arena, "sets") as sets, _namespace(arena, "victim") as victim:
            creates = Creates(victim.namespace, OBJECTS // 2)
            arena.play(Script(writes=(Rule(creates.are_meant, creates.note),)))
            watches = variant.watches.format(victim=victim.namespace, other=arena.namespace)
            operator = await arena.start(watch_namespaces=watches)
            if not variant.alone:
                await _serves(arena, "before")
            async with asyncio.TaskGroup() as making:
                making.create_task(_half_made(victim, "agents", reference_workload.agent))
                making.create_task(_half_made(sets, "replicasets", _replica_set))
            await variant.before(arena)
            async with asyncio.TaskGroup() as going:
                expected = going.create_task(_deleted(sets))
                took = going.create_task(_deleted(victim, lambda: _while_it_goes(arena, variant, creates)))
            await variant.after(arena)
            _judge(arena, creates, took.result(), expected.result())
            await _forgotten(arena, victim.namespace, variant)
            if variant.alone:
                await _served_again(arena, victim)
            else:
                await _serves(arena, "after")
                _unharmed(arena, "before")
        if operator.exits or operator.liveness_kills:
            problem = f"the operator ended by itself: {operator.exits}, by its probe {operator.liveness_kills} times"
            invariants.fail(arena, problem)
        invariants.clean(arena)

    return run


def _judge(arena: Arena, creates: "Creates", took: float, expected: float) -> None:
    arena.note("seconds until 500 half made ReplicaSets were gone", expected)
    arena.note("seconds until 500 half made Agents were gone", took)
    arena.note("ratio of the two", took / expected)
    arena.note("creates the apiserver refused", creates.refused)
    late = creates.late()
    if late:
        invariants.fail(arena, f"{len(late)} creates after the apiserver had said no: {late[:5]}")
    if took > BAR * expected:
        invariants.fail(arena, f"the namespace took {took:.1f} s, one of ReplicaSets {expected:.1f} s")


async def _while_it_goes(arena: Arena, variant: Variant, creates: "Creates") -> None:
    creates.going.set()
    if variant.while_going is not _nothing:
        await variant.while_going(arena)
        creates.begin_anew()


@dataclass
class Creates:
    """What the operator tried to create in a namespace, and since when it was told that nothing is taken any more.

    So many are let through; the others wait until the namespace is going.
    """

    namespace: str
    most: int
    going: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[tuple[float, str]] = field(default_factory=list)
    refused_at: float | None = None
    refused: int = 0
    workload: int = 1

    def are_meant(self, request: Request) -> bool:
        """Whether the request creates something there."""
        return request.verb == "POST" and f"/namespaces/{self.namespace}/" in request.path

    def begin_anew(self) -> None:
        """Another process of the operator: it has to be told anew, and answers to the one before it do not count."""
        self.workload, self.refused_at = self.workload + 1, None

    async def note(self, request: Request, forward: Forward) -> Answer:
        """Pass it on, and remember when it was asked for and whether it was refused."""
        self.asked.append((time.monotonic(), request.kind))
        workload = self.workload
        if len(self.asked) > self.most:
            await self.going.wait()
        answer = await forward()
        if answer.status == 403 and b"because it is being terminated" in answer.body:
            self.refused += 1
            if workload == self.workload:
                self.refused_at = self.refused_at or time.monotonic()
        return answer

    def late(self) -> list[tuple[float, str]]:
        """The creates that were asked for after a refusal was known: how many seconds after, and of what kind."""
        if self.refused_at is None:
            return []
        since = self.refused_at
        return [(at - since, kind) for at, kind in self.asked if at > since + UNDER_WAY_SECONDS]


# --- namespaces ---------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _namespace(arena: Arena, name: str) -> AsyncIterator[Api]:
    """A namespace beside the arena's own, and the way into it; it is gone in the end, or at least going."""
    api = Api(arena.api.server, arena.api.session, f"{arena.namespace}-{name}")
    await _created(api)
    try:
        yield api
    finally:
        with suppress(Refused, OSError):
            await api.call("DELETE", f"/api/v1/namespaces/{api.namespace}")


async def _created(api: Api) -> None:
    meta = {"name": api.namespace, "labels": {"faults.mabeam.dev": "plan"}}
    await api.call("POST", "/api/v1/namespaces", {"metadata": meta})

    async def has_account() -> bool:
        return await api.find("serviceaccounts", "default") is not None

    await _until(f"{api.namespace} has a service account", has_account)


async def _half_made(api: Api, plural: str, body: Callable[[str], JsonDict]) -> None:
    """Create the objects, and come back when half of them have their pods."""
    room = asyncio.Semaphore(AT_ONCE)

    async def create(name: str) -> None:
        async with room:
            await api.create(plural, body(name))

    async def half() -> bool:
        return await _count(api, "pods") >= OBJECTS // 2

    async with asyncio.TaskGroup() as creating:
        for number in range(OBJECTS):
            creating.create_task(create(f"worker-{number:03}"))
    await _until(f"half of the {plural} have their pods", half)


def _replica_set(name: str) -> JsonDict:
    labels = {"worker": name}
    pod = reference_workload.agent(name)["spec"]["template"] | {"metadata": {"labels": labels}}
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": pod}
    return {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": name}, "spec": spec}


async def _deleted(api: Api, meanwhile: Callable[[], Awaitable[None]] | None = None) -> float:
    """Delete the namespace; the seconds until it was gone. `meanwhile` happens while it is going."""
    pods = await _count(api, "pods")
    if abs(pods - OBJECTS // 2) > TOLERATED:
        raise AssertionError(f"{pods} pods of {OBJECTS} is not half of them")
    began = time.monotonic()
    await api.call("DELETE", f"/api/v1/namespaces/{api.namespace}")
    if meanwhile is not None:
        await meanwhile()

    async def gone() -> bool:
        try:
            await api.call("GET", f"/api/v1/namespaces/{api.namespace}")
        except Refused as refused:
            return refused.status == 404
        return False

    await _until(f"{api.namespace} is gone", gone)
    return time.monotonic() - began


async def _count(api: Api, plural: str) -> int:
    """How many there are of a kind, without reading them all."""
    found = await api.call("GET", api.path(plural), parameters={"limit": "1"})
    return len(found["items"]) + int(found["metadata"].get("remainingItemCount") or 0)


async def _until(what: str, look: Callable[[], Awaitable[bool]], seconds: float = TIMEOUT_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not await look():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        await asyncio.sleep(0.1)


# --- afterwards ---------------------------------------------------------------------------------------------------------


async def _serves(arena: Arena, name: str) -> None:
    """An agent of another namespace gets its pod."""
    began = time.monotonic()
    await reference_workload.create(arena, reference_workload.agent(name))
    await arena.observer.until(f"{name} runs", reference_workload.runs(name, f"{name}-0-1"), AFTERWARDS_SECONDS)
    arena.note(f"seconds to serve an agent elsewhere, {name}", time.monotonic() - began)


def _unharmed(arena: Arena, name: str) -> None:
    if not reference_workload.runs(name, f"{name}-0-1")(arena.observer) or arena.observer.created[f"{name}-0-1"] != 1:
        invariants.fail(arena, f"{name}, an agent elsewhere, did not run on")


async def _forgotten(arena: Arena, namespace: str, variant: Variant) -> None:
    """No object of the namespace is known to the operator any more, and no key waits."""
    others = 0 if variant.alone else 1
    expected = {"Agent": others, "Pod": others, "ConfigMap": 0, "OrchestrationVariable": 0}

    async def forgotten() -> bool:
        return await _memory(arena) == (expected, 0)

    try:
        await _until(f"{namespace} is forgotten", forgotten, AFTERWARDS_SECONDS)
    except AssertionError as late:
        invariants.fail(arena, f"{late}; known and waiting: {await _memory(arena)}, expected {expected}")


async def _memory(arena: Arena) -> tuple[dict[str, int], int] | None:
    """What the operator knows by kind, and how many keys wait; None while it does not answer."""
    status, text = await arena.operator.ask("/metrics")
    if status != 200:
        return None
    figures = dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("mabeam_"))
    kinds = ("Agent", "Pod", "ConfigMap", "OrchestrationVariable")
    known = {kind: int(float(figures[f'mabeam_known_objects{{kind="{kind}"}}'])) for kind in kinds}
    waiting = float(figures["mabeam_workqueue_depth"]) + float(figures["mabeam_workqueue_delayed"])
    return known, int(waiting)


async def _served_again(arena: Arena, api: Api) -> None:
    """A namespace of the same name is served as the first one was: its agents, and its variables."""
    await _created(api)
    began = time.monotonic()
    await api.create("agents", reference_workload.agent("again", preferences=reference_workload.prefers(0.3)))
    domain = {"type": "Number", "minimum": 0, "maximum": 1, "step": 0.1}
    spec: dict[str, Any] = {"domain": domain, "negotiation": {"strategy": "WeightedConsensus"}}
    await api.create("orchestrationvariables", reference_workload.variable("temperature", ["again"], **spec))

    async def served() -> bool:
        agent = (await api.get("agents", "again")).get("status") or {}
        variable = (await api.get("orchestrationvariables", "temperature")).get("status") or {}
        return agent.get("state") == "Running" and variable.get("value") == 0.3

    await _until("the namespace that came again is served", served, AFTERWARDS_SECONDS)
    arena.note("seconds to serve the namespace that came again", time.monotonic() - began)
