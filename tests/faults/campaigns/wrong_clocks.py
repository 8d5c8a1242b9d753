"""R7: the operator's wall clock is an hour ahead or behind, is stepped by an hour, or shakes; nobody else's is.

Decisions are the reference's: the same end, the same counts. And what a status says of times is true by the cluster's clock.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from faults import invariants, reference_workload
from faults.arena import Arena, Replica
from faults.background_work import beside
from faults.environment import RESYNC_SECONDS
from faults.invariants import Undisturbed
from faults.plan import Plan, chosen
from faults.reference_workload import rests, runs
from faults.replicas import two_replicas
from faults.tree_workload import BOTH
from faults.wall_clock import WallClock
from support.operator_process import LEASE

ID = "R7"
TITLE = "the operator's clock an hour ahead and behind, stepped by an hour, shaking by five seconds"
ALONE = False
WORKLOADS: Final = (BOTH,)

HOUR: Final = 3600.0
SHAKEN_SECONDS: Final = 5.0
# The Date of an answer has whole seconds; what is derived from it may be so much off.
TOLERANCE_SECONDS: Final = 2.0
BACKOFF_SECONDS: Final = 4.0
# Whole seconds again, and a pass.
LATE_SECONDS: Final = 3.0
WINDOW_SECONDS: Final = 600
SHORT_LEASE_SECONDS: Final = 6

Run = Callable[[Arena], Awaitable[None]]
Course = Callable[[WallClock], Awaitable[None]]


def plans_for(undisturbed: Undisturbed, seed: int, sample: int | None) -> Sequence[Plan]:
    """Clocks that are wrong throughout, that are stepped within the workload, and within what depends on time most."""
    chance = random.Random(seed)
    steps = chance.sample(range(1, len(undisturbed.workload.steps) - 1), 2)
    wrong = [
        Plan("ahead", _throughout(undisturbed, HOUR)),
        Plan("behind", _throughout(undisturbed, -HOUR)),
        *(Plan(f"shaken:{number}", _shaken(undisturbed, seed * 1000 + number)) for number in range(2)),
        *(Plan(f"{name}:{step}", _stepped(undisturbed, step, by)) for name, by in STEPPED.items() for step in steps),
        Plan("leaders-disagree", _leaders_disagree(undisturbed, steps[0])),
    ]
    timed = [
        Plan(f"{name}-{way}", run(by)) for name, run in TIMED.items() for way, by in (("on", HOUR), ("back", -HOUR))
    ]
    return chosen([*wrong, *timed], seed, sample)


async def _start(arena: Arena, clock: WallClock) -> Replica:
    return await arena.start(environment=clock.environment(), resync_seconds=RESYNC_SECONDS)


# --- the whole workload -----------------------------------------------------------------------------------------------------


def _throughout(undisturbed: Undisturbed, seconds: float) -> Run:
    async def run(arena: Arena) -> None:
        await _start(arena, await WallClock.wrong_by(seconds, arena.folder))
        arena.proxy.fired += 1
        await reference_workload.drive(arena, undisturbed.workload.steps)
        await _judge(arena, undisturbed)

    return run


def _shaken(undisturbed: Undisturbed, seed: int) -> Run:
    async def run(arena: Arena) -> None:
        clock = await WallClock.wrong_by(0.0, arena.folder)
        await _start(arena, clock)
        async with beside(clock.shake(SHAKEN_SECONDS, seed)):
            arena.proxy.fired += 1
            await reference_workload.drive(arena, undisturbed.workload.steps)
            await _judge(arena, undisturbed)

    return run


def _stepped(undisturbed: Undisturbed, step: int, course: Sequence[float]) -> Run:
    """Stepped in the middle of a step of the workload, and again in each of the following ones."""

    async def run(arena: Arena) -> None:
        clock = await WallClock.wrong_by(0.0, arena.folder)
        await _start(arena, clock)
        await reference_workload.drive(arena, undisturbed.workload.steps[:step])
        async with beside(reference_workload.drive(arena, undisturbed.workload.steps[step:])) as work:
            for seconds in course:
                await asyncio.sleep(random.Random(step).uniform(0.2, 1.5))
                clock.step(seconds)
                arena.proxy.fired += 1
            await work
        await _judge(arena, undisturbed)

    return run


STEPPED: Final[dict[str, Sequence[float]]] = {
    "stepped-on": (HOUR,),
    "stepped-back": (-HOUR,),
    "to-and-fro": (HOUR, -HOUR, 0.0),
}


def _leaders_disagree(undisturbed: Undisturbed, step: int) -> Run:
    """One replica's clock is an hour ahead, the other's an hour behind, and they lead one after the other."""

    async def run(arena: Arena) -> None:
        clocks = {
            name: await WallClock.wrong_by(by, arena.folder, f"clock-{name}")
            for name, by in (("one", HOUR), ("two", -HOUR))
        }
        environments = {name: clock.environment() for name, clock in clocks.items()}
        async with two_replicas(arena, SHORT_LEASE_SECONDS, environments) as pair:
            arena.proxy.fired += 1
            await reference_workload.drive(arena, undisturbed.workload.steps[:step])
            async with beside(reference_workload.drive(arena, undisturbed.workload.steps[step:])) as work:
                for _ in range(2):
                    old = await pair.leader()
                    await pair.replicas[old].stay_down()
                    await pair.takes_over(pair.other(old), 3.0 * SHORT_LEASE_SECONDS)
                    pair.replicas[old].come_back()
                await work
            await invariants.check(arena, undisturbed)
            _times_are_true(arena)

    return run


async def _judge(arena: Arena, undisturbed: Undisturbed) -> None:
    await invariants.check(arena, undisturbed)
    _times_are_true(arena)
    await _led_throughout(arena)


async def _led_throughout(arena: Arena) -> None:
    """The Lease was never in danger: the one process renewed it from beginning to end."""
    lease = await arena.api.get("leases", LEASE)
    if lease["spec"].get("leaseTransitions") or arena.operator.exits:
        invariants.fail(arena, f"the Lease was lost: {lease['spec']}; the operator ended {arena.operator.exits}")


def _times_are_true(arena: Arena) -> None:
    """Every time in a status lies between the plan's beginning and now."""
    now = time.time()
    began = now - (time.monotonic() - arena.began)
    for kind in ("agents", "orchestrationvariables", "supervisors"):
        for name, body in arena.observer.objects[kind].items():
            for time_ in times_in(body.get("status")):
                if not began - TOLERANCE_SECONDS <= time_.timestamp() <= now + TOLERANCE_SECONDS:
                    invariants.fail(arena, f"{kind}/{name} tells of {time_}, {time_.timestamp() - now:.0f} s from now")


def times_in(value: Any) -> list[datetime]:
    """Every time within a document."""
    if isinstance(value, dict):
        return [time for inner in value.values() for time in times_in(inner)]
    if isinstance(value, list):
        return [time for inner in value for time in times_in(inner)]
    if isinstance(value, str) and invariants._TIME.fullmatch(value):
        return [datetime.fromisoformat(value).astimezone(UTC)]
    return []


# --- what depends on time most ----------------------------------------------------------------------------------------------


def _backoff(seconds: float) -> Run:
    """Stepped while a restart is being waited for: it comes no earlier than promised, and hardly later."""

    async def run(arena: Arena) -> None:
        clock = await WallClock.wrong_by(0.0, arena.folder)
        await _start(arena, clock)
        tolerant = reference_workload.tolerance(5, initial=BACKOFF_SECONDS)
        await reference_workload.create(arena, reference_workload.agent("steady", faultTolerance=tolerant))
        await reference_workload.ends(arena, "steady-0-1", 1)
        await reference_workload.ends(arena, "steady-0-2", 1)
        failed = time.monotonic()
        await arena.observer.until("the restart is promised", _promised)
        clock.step(seconds)
        arena.proxy.fired += 1
        await _look_again(arena, "steady")
        await arena.observer.until("the successor", lambda seen: "steady-0-3" in seen.objects["pods"])
        waited = time.monotonic() - failed
        arena.note("seconds waited for a backoff of 4 s", waited)
        # What is told of the failure has whole seconds, so up to one of them was over before it came.
        if not BACKOFF_SECONDS - 0.1 <= waited <= BACKOFF_SECONDS + LATE_SECONDS:
            invariants.fail(arena, f"a backoff of {BACKOFF_SECONDS:.0f} s took {waited:.1f} s")
        _times_are_true(arena)
        invariants.clean(arena)

    return run


def _promised(seen: Any) -> bool:
    return any(record.get("nextRestartTime") for record in seen.agent("steady").get("pods") or ())


async def _look_again(arena: Arena, name: str) -> None:
    """Make the operator look at an agent: a pass is what could misjudge the time."""
    stamp = str(time.monotonic())
    await arena.api.patch("agents", name, {"metadata": {"labels": {"faults.mabeam.dev/look": stamp}}})


def _window(seconds: float) -> Run:
    """Stepped between two failures of which only one is allowed: the window is not emptied, the agent is parked.

    The second one leaves no time of its own, as its pod is deleted by force: it counts as of when it was noticed.
    """

    async def run(arena: Arena) -> None:
        clock = await WallClock.wrong_by(0.0, arena.folder)
        await _start(arena, clock)
        backoff = {"initialSeconds": 0, "factor": 1, "jitter": 0, "resetAfterSeconds": WINDOW_SECONDS}
        tolerant = {"maxFailures": 1, "failureWindowSeconds": WINDOW_SECONDS, "backoff": backoff}
        await reference_workload.create(arena, reference_workload.agent("steady", faultTolerance=tolerant))
        await reference_workload.ends(arena, "steady-0-1", 1)
        await arena.observer.until("steady runs again", runs("steady", "steady-0-2"))
        clock.step(seconds)
        arena.proxy.fired += 1
        await arena.api.delete("pods", "steady-0-2", gracePeriodSeconds=0)
        await arena.observer.until("steady is parked", rests("steady", "Failed", "RestartBudgetExhausted"))
        _counted(arena, "steady", 2)
        _times_are_true(arena)
        invariants.clean(arena)

    return run


def _parked(seconds: float) -> Run:
    """Stepped while an agent is parked: it stays so, and nothing is written about it."""

    async def run(arena: Arena) -> None:
        clock = await WallClock.wrong_by(0.0, arena.folder)
        await _start(arena, clock)
        await reference_workload.create(
            arena, reference_workload.agent("fragile", faultTolerance=reference_workload.tolerance(0))
        )
        await reference_workload.ends(arena, "fragile-0-1", 7)
        parked = rests("fragile", "Failed", "RestartBudgetExhausted")
        await arena.observer.until("fragile is parked", parked)
        await invariants.rest(arena, invariants.QUIET_SECONDS, time.monotonic() + invariants.SETTLE_SECONDS)
        before = arena.proxy.count
        clock.step(seconds)
        arena.proxy.fired += 1
        await _look_again(arena, "fragile")
        await asyncio.sleep(2 * float(RESYNC_SECONDS))  # two sweeps, in which nothing is to happen
        if arena.proxy.count > before or not parked(arena.observer):
            invariants.fail(arena, f"a parked agent was written {arena.proxy.count - before} times")
        _counted(arena, "fragile", 1)
        invariants.clean(arena)

    return run


def _counted(arena: Arena, name: str, failures: int) -> None:
    ledger = arena.observer.agent(name).get("failures") or ()
    if len(ledger) != failures:
        invariants.fail(arena, f"the ledger of {name} has {len(ledger)} failures, not {failures}")


TIMED: Final[dict[str, Callable[[float], Run]]] = {"backoff": _backoff, "window": _window, "parked": _parked}
