"""R2: the apiserver is away for a while, or comes back with a cold cache; the workload goes on across the gap.

The plans that kill the real apiserver disturb everybody on the cluster. A sample is for a cluster that is shared, and so has
only the gentle ones, in which the plan's own proxy plays the apiserver that is away; and of these the short ones.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from signal import SIGKILL
from typing import Final

from faults import invariants, reference_workload
from faults.arena import Arena
from faults.background_work import beside
from faults.baseline import replica_set
from faults.control_plane import APISERVER, ControlPlane
from faults.environment import RESYNC_SECONDS
from faults.invariants import Undisturbed
from faults.kubelets import correct_pods
from faults.plan import Plan, chosen
from faults.proxy import Fault, cut, done_but_unknown, refuse
from faults.retrying_client import RetryingApi
from faults.tree_workload import BOTH

ID = "R2"
TITLE = "the apiserver away for 5, 30 and 120 s, frozen, and back with a cold cache"
ALONE = True
WORKLOADS: Final = (BOTH,)

BAR_SECONDS: Final = 10.0
BAR_FACTOR: Final = 1.5
# A leader that cannot renew its Lease ends, once, and its successor waits: more than this is a loop.
EXITS_PER_OUTAGE: Final = 1
FIRST_WRITE_SECONDS: Final = 60.0
# What the workload is given beyond an outage: kube-scheduler has been seen to find its way back only after a minute and a half.
GRACE_SECONDS: Final = 180.0
KILLED: Final = {"5": 2, "30": 1, "120": 1, "0": 2}

Away = Callable[[Arena], Awaitable[float]]


def plans_for(undisturbed: Undisturbed, seed: int, sample: int | None) -> Sequence[Plan]:
    """Real deaths of the apiserver, one after the other; of a sample only what happens in the plan's own proxy."""
    gentle = [
        Plan(f"{name}:{seconds}", _disturbed(undisturbed, _in_proxy(fault, float(seconds)), seed + seconds))
        for name, fault in (("refused", cut), ("unavailable", refuse(503)), ("unknown", done_but_unknown(3)))
        for seconds in (5, 30)
    ]
    if sample is not None:
        return chosen([plan for plan in gentle if plan.name.endswith(":5")], seed, sample)
    killed = [
        Plan(f"killed-{seconds}:{number}", _disturbed(undisturbed, _killed(float(seconds)), seed * 1000 + number))
        for seconds, times in KILLED.items()
        for number in range(times)
    ]
    others = [
        Plan("frozen-30", _disturbed(undisturbed, _frozen(30.0), seed)),
        Plan("killed-30-and-the-operator-too", _disturbed(undisturbed, _killed(30.0, operator_too=True), seed)),
    ]
    return [*killed, *others, *gentle]


def _disturbed(undisturbed: Undisturbed, away: Away, seed: int) -> Callable[[Arena], Awaitable[None]]:
    """The workload up to a seeded step; the apiserver goes while that step is under way, and the rest goes on across it."""

    async def run(arena: Arena) -> None:
        chance, steps = random.Random(seed), undisturbed.workload.steps
        step = chance.randrange(1, len(steps) - 2)
        arena.api = RetryingApi.instead_of(arena.api)
        await arena.start(resync_seconds=RESYNC_SECONDS)
        await reference_workload.drive(arena, steps[:step])
        async with beside(correct_pods(arena)):
            async with beside(reference_workload.drive(arena, steps[step:])) as work:
                # Soon: on idle cores the rest of the workload is over in half a second, and would leave nothing to write.
                await asyncio.sleep(chance.choice((0.0, chance.uniform(0.0, 0.05))))
                bar = await away(arena)
                await work
            await invariants.check(arena, undisturbed)
        _in_time(arena, bar)
        exits = [code for replica in arena.replicas for code in replica.exits]
        if len(exits) > EXITS_PER_OUTAGE:
            invariants.fail(arena, f"the operator ended {len(exits)} times by itself: {exits}")

    return run


# --- how the apiserver is away; each returns when it was there again, and by when the operator should have written ---------


def _killed(seconds: float, *, operator_too: bool = False) -> Away:
    """SIGKILL; after so many seconds it is started again, with nothing in its caches."""

    async def away(arena: Arena) -> float:
        plane = ControlPlane.of(arena)
        async with replica_set(arena) as native:
            arena.observer.excuse(seconds + GRACE_SECONDS)
            await plane.send(APISERVER, SIGKILL)
            arena.proxy.fired += 1
            try:
                await asyncio.sleep(seconds / 2)
                if operator_too:
                    await arena.kill()
                await asyncio.sleep(seconds / 2)
            finally:
                reviving = asyncio.create_task(plane.revive())
            returned = await plane.answering()
            own, theirs = await asyncio.gather(_first_write(arena, returned), native.answers(returned))
            await reviving
        return _noted(arena, own, theirs)

    return away


def _frozen(seconds: float) -> Away:
    """SIGSTOP and SIGCONT: connections stay, and nobody answers on them."""

    async def away(arena: Arena) -> float:
        plane = ControlPlane.of(arena)
        async with replica_set(arena) as native:
            arena.observer.excuse(seconds + GRACE_SECONDS)
            async with plane.frozen(APISERVER):
                arena.proxy.fired += 1
                await asyncio.sleep(seconds)
            returned = await plane.answering()
            own, theirs = await asyncio.gather(_first_write(arena, returned), native.answers(returned))
        return _noted(arena, own, theirs)

    return away


def _in_proxy(fault: Fault, seconds: float) -> Away:
    """Only the operator cannot reach the apiserver; there is no baseline, as nobody else is disturbed."""

    async def away(arena: Arena) -> float:
        arena.proxy.outage = fault
        arena.proxy.cut_watches()
        arena.observer.excuse(seconds)
        await asyncio.sleep(seconds)
        arena.proxy.outage = None
        return _noted(arena, await _first_write(arena, time.monotonic()), 0.0)

    return away


async def _first_write(arena: Arena, since: float) -> float:
    """The seconds from `since` until the operator asked for its first write that was carried out."""
    deadline = since + FIRST_WRITE_SECONDS
    while True:
        for record in arena.proxy.writes:
            if record.request.time >= since and record.status is not None and record.status < 400:
                return record.request.time - since
        if time.monotonic() >= deadline:
            invariants.fail(arena, f"no write in {FIRST_WRITE_SECONDS:.0f} s after the apiserver's return")
        await asyncio.sleep(0.05)


def _noted(arena: Arena, own: float, theirs: float) -> float:
    arena.note("seconds to the first write", own)
    if theirs:
        arena.note("seconds of kube-controller-manager", theirs)
    return max(BAR_SECONDS, BAR_FACTOR * theirs)


def _in_time(arena: Arena, bar: float) -> None:
    own = arena.notes["seconds to the first write"]
    if own > bar:
        invariants.fail(arena, f"the first write came {own:.1f} s after the apiserver's return, later than {bar:.1f} s")
