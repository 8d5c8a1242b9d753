"""R9: ten thousand events in a rush, a tenth of the operator's requests failing, and real failures hidden among them."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from faults import invariants, reference_workload
from faults.arena import Arena
from faults.observer import TERMINAL, Observer
from faults.plan import Plan, chosen
from faults.proxy import Rule, Script, refuse, share
from support.async_api import JsonDict

ID = "R9"
TITLE = "10,000 status flaps in a rush, a tenth of the requests failing, failures among them"
ALONE = True

AGENTS: Final = 20
REPLICAS: Final = 10
EVENTS: Final = 10_000
WARM_UP: Final = 2_000
# Asked for in ten seconds; what the machine reached is a figure of the result.
PER_SECOND: Final = 1000
FAILURES: Final = 100
ERRORS: Final = 0.1
TIMEOUT_SECONDS: Final = 240.0
# Memory: five per cent, and what a process of CPython breathes.
GROWTH: Final = 1.05
NOISE_BYTES: Final = 8 << 20


def plans(seed: int, sample: int | None) -> Sequence[Plan]:
    """Two storms."""
    every = [Plan(f"storm:{number}", _storming(seed * 1000 + number)) for number in range(2)]
    return chosen(every, seed, sample)


@dataclass
class Storm:
    """The kubelets' side: it flaps pods between ready and not, and lets some of them end, each at most once."""

    arena: Arena
    chance: random.Random
    failed: Counter[str] = field(default_factory=Counter)
    ended: set[str] = field(default_factory=set)
    sent: int = 0
    ready: dict[str, bool] = field(default_factory=dict)

    async def blow(self, events: int, failures: int) -> float:
        """Send so many events as fast as asked for or as the machine can; the seconds it took."""
        to_fail = set(self.chance.sample(range(events), failures))
        began = time.monotonic()
        room = asyncio.Semaphore(48)
        async with asyncio.TaskGroup() as sending:
            for number in range(events):
                pod = self._choose()
                await room.acquire()
                work = self._end(pod) if number in to_fail else self._flap(pod)
                sending.create_task(work).add_done_callback(lambda _: room.release())
                ahead = number / PER_SECOND - (time.monotonic() - began)
                if ahead > 0.01:
                    await asyncio.sleep(ahead)
        return time.monotonic() - began

    async def calm(self) -> None:
        """Every pod is ready again, as the apiserver has it: two changes of one pod may have overtaken each other."""
        pods, _ = await self.arena.api.list("pods")
        for pod in pods:
            name = pod["metadata"]["name"]
            if _runs(pod) and name not in self.ended and not _is_ready(pod):
                self.ready[name] = False
                await self._flap(name)

    def _choose(self) -> str:
        pods = self.arena.observer.objects["pods"]
        alive = [name for name, pod in pods.items() if _runs(pod) and name not in self.ended]
        return alive[self.chance.randrange(len(alive))]

    async def _flap(self, name: str) -> None:
        ready = not self.ready.get(name, True)
        self.ready[name] = ready
        moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        conditions = [
            {"type": kind, "status": value, "lastTransitionTime": moment}
            for kind, value in (("PodScheduled", "True"), ("Initialized", "True"), ("Ready", str(ready)))
        ]
        await self._patch(name, {"conditions": conditions})

    async def _end(self, name: str) -> None:
        if name in self.ended:
            return await self._flap(self._choose())
        self.ended.add(name)
        self.failed[name.rsplit("-", 2)[0]] += 1
        moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        ended = {"exitCode": 1, "reason": "Error", "startedAt": moment, "finishedAt": moment}
        container = {"name": "agent", "image": "nothing:1", "imageID": "", "restartCount": 0, "ready": False}
        status = {"phase": "Failed", "containerStatuses": [container | {"state": {"terminated": ended}}]}
        return await self._patch(name, status)

    async def _patch(self, name: str, status: JsonDict) -> None:
        await self.arena.api.patch("pods", name, {"status": status}, "status")
        self.sent += 1


def _runs(pod: JsonDict) -> bool:
    status = pod.get("status") or {}
    return status.get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]


def _is_ready(pod: JsonDict) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _storming(seed: int) -> Callable[[Arena], Awaitable[None]]:
    async def run(arena: Arena) -> None:
        operator = await arena.start()
        names = [f"agent-{number:02}" for number in range(AGENTS)]
        for name in names:
            body = reference_workload.agent(name, replicas=REPLICAS, faultTolerance=reference_workload.tolerance(100))
            await reference_workload.create(arena, body)
        await _all_run(arena, names)
        storm = Storm(arena, random.Random(seed))
        await storm.blow(WARM_UP, FAILURES // 5)
        await storm.calm()
        await _counted(arena, names, storm)
        memory = await operator.metric("process_resident_memory_bytes")
        writes = arena.proxy.count
        errors = share(ERRORS, seed)
        arena.play(Script(writes=(Rule(errors, refuse(500)),), reads=(Rule(errors, refuse(503)),)))
        seconds = await storm.blow(EVENTS, FAILURES)
        arena.play(Script())
        began = time.monotonic()
        await storm.calm()
        await _counted(arena, names, storm)
        arena.note("events per second reached", EVENTS / seconds)
        arena.note("seconds until all was counted", time.monotonic() - began)
        arena.note("writes of the operator per event", (arena.proxy.count - writes) / EVENTS)
        await _at_rest(arena, memory)

    return run


async def _all_run(arena: Arena, names: Sequence[str]) -> None:
    def look(seen: Observer) -> bool:
        return all(seen.agent(name).get("readyReplicas") == REPLICAS for name in names)

    await arena.observer.until(f"{len(names) * REPLICAS} pods run and are ready", look, TIMEOUT_SECONDS)


async def _counted(arena: Arena, names: Sequence[str], storm: Storm) -> None:
    """Every failure is in its agent's counter and ledger, once; every pod that ended has its one successor."""

    def look(seen: Observer) -> bool:
        return all(seen.agent(name).get("restarts", 0) == storm.failed[name] for name in names)

    try:
        await arena.observer.until("all failures are counted", look, TIMEOUT_SECONDS)
        await _all_run(arena, names)
    except AssertionError as late:
        counted = {name: arena.observer.agent(name).get("restarts", 0) for name in names}
        wrong = {name: (counted[name], storm.failed[name]) for name in names if counted[name] != storm.failed[name]}
        invariants.fail(arena, f"{late}; counted and true: {wrong}")
    if not await invariants.rest(arena, invariants.QUIET_SECONDS, time.monotonic() + invariants.SETTLE_SECONDS):
        invariants.fail(arena, "no rest after the storm")
    for name in names:
        ledger = {failure["pod"] for failure in arena.observer.agent(name).get("failures") or ()}
        ended = {pod for pod in storm.ended if pod.rsplit("-", 2)[0] == name}
        if ledger != ended:
            invariants.fail(arena, f"the ledger of {name} has {sorted(ledger ^ ended)} too much or too little")
    invariants.clean(arena)
    alive = [name for name, pod in arena.observer.objects["pods"].items() if pod["status"]["phase"] not in TERMINAL]
    if len(alive) != AGENTS * REPLICAS:
        invariants.fail(arena, f"{len(alive)} live pods")


async def _at_rest(arena: Arena, memory: float) -> None:
    operator = arena.operator
    depth = await operator.metric("mabeam_workqueue_depth")
    after = await operator.metric("process_resident_memory_bytes")
    arena.note("MiB of memory before", memory / 2**20)
    arena.note("MiB of memory after", after / 2**20)
    if depth:
        invariants.fail(arena, f"{depth:.0f} keys still wait")
    if operator.exits:
        invariants.fail(arena, f"the operator ended by itself: {operator.exits}")
    if after > memory * GROWTH + NOISE_BYTES:
        invariants.fail(arena, f"memory grew from {memory / 2**20:.1f} to {after / 2**20:.1f} MiB")
    if arena.proxy.statuses.get(429):
        invariants.fail(arena, f"the apiserver answered 429 {arena.proxy.statuses[429]} times")
