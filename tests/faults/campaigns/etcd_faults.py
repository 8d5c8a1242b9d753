"""R6: etcd stands still, or is out of space, so that writes fail and reads work; afterwards everything is done, once.

The plans disturb everybody on the cluster. A sample is for a cluster that is shared, and so has only the gentle ones,
and the short ones of these: there the plan's own proxy plays an apiserver that gives up on etcd. Writes are carried out, and
answered with 504 after a while.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from faults import invariants, reference_workload
from faults.arena import Arena, Replica
from faults.background_work import beside
from faults.control_plane import ETCD, ControlPlane
from faults.environment import RESYNC_SECONDS
from faults.invariants import Undisturbed
from faults.kubelets import correct_pods
from faults.plan import Plan, chosen
from faults.proxy import done_but_unknown
from faults.retrying_client import RetryingApi
from faults.tree_workload import BOTH

ID = "R6"
TITLE = "etcd standing still for 10 and 40 s, and out of space"
ALONE = True
WORKLOADS: Final = (BOTH,)

# How long the apiserver of the gentle plans waits for its etcd.
GIVES_UP_SECONDS: Final = 4.0
GRACE_SECONDS: Final = 60.0
# A request is waited for this long, so that a short standstill is merely slow and no trouble yet.
TIMEOUT_SECONDS: Final = 15.0
# A process that lost its Lease ends and is started again: so long nobody may answer its probe.
RESTART_SECONDS: Final = 8.0
LOOK_SECONDS: Final = 0.5
TROUBLE_METRICS: Final = ('outcome="error"', 'code="5')

Trouble = Callable[[Arena], AbstractAsyncContextManager[None]]


def plans_for(undisturbed: Undisturbed, seed: int, sample: int | None) -> Sequence[Plan]:
    """Real troubles of etcd, each at two steps of the workload; of a sample only what happens in the plan's own proxy."""
    steps = random.Random(seed).sample(range(1, len(undisturbed.workload.steps) - 1), 2)
    short, long = (
        [Plan(f"unknown-{seconds}:{step}", _disturbed(undisturbed, _unknown, step, float(seconds))) for step in steps]
        for seconds in (10, 40)
    )
    if sample is not None:
        return chosen(short, seed, sample)
    real = [
        Plan(f"{name}-{seconds}:{step}", _disturbed(undisturbed, trouble, step, float(seconds)))
        for name, trouble, seconds in (("still", _still, 10), ("still", _still, 40), ("full", _full, 30))
        for step in steps
    ]
    return [*real, *short, *long]


def _disturbed(
    undisturbed: Undisturbed, trouble: Trouble, step: int, seconds: float
) -> Callable[[Arena], Awaitable[None]]:
    async def run(arena: Arena) -> None:
        arena.api = RetryingApi.instead_of(arena.api)
        operator = await arena.start(resync_seconds=RESYNC_SECONDS)
        steps = undisturbed.workload.steps
        await reference_workload.drive(arena, steps[:step])
        async with beside(correct_pods(arena)):
            async with beside(reference_workload.drive(arena, steps[step:])) as work:
                await asyncio.sleep(random.Random(step).uniform(0.0, 0.3))
                seen = Probes(operator)
                arena.observer.excuse(seconds + GRACE_SECONDS)
                async with trouble(arena):
                    arena.proxy.fired += 1
                    await seen.look_for(seconds)
                await work
            await invariants.check(arena, undisturbed)
        _lived(arena, seen, seconds)

    return run


# --- the troubles ---------------------------------------------------------------------------------------------------------


def _still(arena: Arena) -> AbstractAsyncContextManager[None]:
    """etcd is stopped. What it had in its hands it carries out when it goes on, whoever has given up on that meanwhile."""
    return ControlPlane.of(arena).frozen(ETCD)


@asynccontextmanager
async def _full(arena: Arena) -> AsyncIterator[None]:
    """etcd says that it has no space: writes fail, reads work, until somebody makes room and takes the alarm back."""
    plane = ControlPlane.of(arena)
    alarm = {"memberID": 0, "alarm": "NOSPACE"}
    member = (await plane.etcd("/v3/maintenance/status", {}))["header"]["member_id"]
    await plane.etcd("/v3/maintenance/alarm", alarm | {"memberID": member, "action": "ACTIVATE"})
    try:
        yield
    finally:
        await plane.etcd("/v3/maintenance/defragment", {})
        await plane.etcd("/v3/maintenance/alarm", alarm | {"memberID": member, "action": "DEACTIVATE"})


@asynccontextmanager
async def _unknown(arena: Arena) -> AsyncIterator[None]:
    arena.proxy.outage = done_but_unknown(GIVES_UP_SECONDS)
    arena.proxy.cut_watches()
    try:
        yield
    finally:
        arena.proxy.outage = None


# --- what is to be seen of them ---------------------------------------------------------------------------------------------


@dataclass
class Probes:
    """What the operator's own HTTP said while the trouble lasted."""

    operator: Replica
    sick: list[str] = field(default_factory=list)
    away_seconds: float = 0.0
    printed: set[str] = field(default_factory=set)
    _answers: bool = True

    async def look_for(self, seconds: float) -> None:
        """Look at it for so long."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            began = time.monotonic()
            await self._look()
            await asyncio.sleep(LOOK_SECONDS)
            if not self._answers:
                self.away_seconds += time.monotonic() - began

    async def _look(self) -> None:
        code, text = await self.operator.ask("/healthz")
        self._answers = code != 0
        if code not in (0, 200):
            self.sick.append(text)
        ready, _ = await self.operator.ask("/readyz")
        if ready == 503:
            self.printed.add("/readyz")
        _, metrics = await self.operator.ask("/metrics")
        if any(_counted(metrics, word) for word in TROUBLE_METRICS):
            self.printed.add("/metrics")


def _counted(metrics: str, word: str) -> bool:
    lines = (line for line in metrics.splitlines() if "_count{" in line and word in line)
    return any(float(line.rsplit(" ", 1)[1]) > 0 for line in lines)


def _lived(arena: Arena, seen: Probes, seconds: float) -> None:
    """It answered its probe, ended no more than once (for its Lease), and said by its own HTTP that something is wrong."""
    arena.note("seconds without an answer to the probe", seen.away_seconds)
    if seen.sick:
        invariants.fail(arena, f"/healthz said no: {seen.sick[:3]}")
    if seen.away_seconds > RESTART_SECONDS:
        invariants.fail(arena, f"nobody answered the probe for {seen.away_seconds:.1f} s")
    if len(arena.operator.exits) > 1 or arena.operator.liveness_kills:
        invariants.fail(
            arena, f"it ended {arena.operator.exits}, and was replaced {arena.operator.liveness_kills} times"
        )
    arena.note("printed by /readyz", float("/readyz" in seen.printed))
    arena.note("printed by /metrics", float("/metrics" in seen.printed))
    if not seen.printed and seconds > TIMEOUT_SECONDS:
        invariants.fail(arena, "neither /readyz nor /metrics printed of any trouble")
