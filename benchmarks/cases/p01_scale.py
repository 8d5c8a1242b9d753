"""P1: N Agents until all their pods run, against N one-pod Jobs and N one-replica ReplicaSets with the same pod.

And against a floor: a client that makes the writes of an Agent and decides nothing (benchmarks/arena/floor.py).

P2 (writes) and P8 (CPU) are read off the same runs: each goes on until everything is deleted again.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.arena.arena import Arena, log
from benchmarks.arena.arms import ARMS, BEFORE, FLOOR, Arm, names
from benchmarks.arena.audit import tally
from benchmarks.arena.pod_timeline import PodTimeline
from benchmarks.cases.case import Case, JsonDict, Plan, Samples, sized
from benchmarks.measurements import Bar, Measurement, ratios

STOCK = "stock jobs"
COMPARED = {arm.name: arm for arm in (*ARMS.values(), BEFORE, FLOOR)}
# Whose objects an arm makes, as the table calls them.
ONE = {name: arm.one for name, arm in ARMS.items()} | {BEFORE.name: "Agent before", FLOOR.name: "Agent of the floor"}
# What the agents' time divided by an arm's may be at the most.
BARS = {"jobs": Bar(1.0, stretch=0.7), "replicasets": Bar(2.0), FLOOR.name: Bar(1.2), BEFORE.name: None}
STOCK_MOST = {True: 100, False: 1000}  # by whether the run is quick: twenty requests a second take their time


@dataclass(frozen=True)
class Trial:
    """One arm, once: seconds from the first create, CPU seconds, writes by verb and resource, bytes."""

    arm: str
    size: int
    running: float  # the last pod runs
    posted: float  # the last pod was created
    created: float  # the last object was created
    deleting: float  # from the request to delete all to the last pod's end
    cpu: dict[str, float]
    cpu_until_running: float
    writes: dict[str, int]
    rss_before: int
    rss_after: int


# --- measuring --------------------------------------------------------------------------------------------------------


async def run(arena: Arena, plan: Plan, part: str) -> JsonDict:
    """The samples of one size, the arms in turns."""
    size = int(part)
    await arena.running_operator()
    await arena.populate({})
    chosen = [arm for arm in arena.arms(floor=plan.has_floor(size)) if plan.has(arm.name)]
    for arm in sorted(chosen, key=lambda arm: arm.controller == "operator"):
        await warm(arena, arm)
    trials = []
    for number in range(plan.rounds(size)):
        first = number % len(chosen)
        for arm in chosen[first:] + chosen[:first]:
            if await arena.use(arm.controller):
                await warm(arena, arm if arm.process == arm.controller else ARMS["agents"])
            trials.append(await trial(arena, arm, size))
            log(f"P1 {size:,} round {number + 1}: {describe(trials[-1])}")
    if size <= STOCK_MOST[plan.quick] and plan.has("jobs") and plan.has(STOCK):
        trials.append(await stock(arena, size))
        log(f"P1 {size:,}: {describe(trials[-1])}")
    return {"trials": [asdict(one) for one in trials]}


async def warm(arena: Arena, arm: Arm) -> None:
    """Connections, caches and code paths of the arm are warm, as they are in every other arm."""
    await arena.use(arm.controller)
    await trial(arena, arm, 5, quiet=0.5)


async def trial(arena: Arena, arm: Arm, size: int, quiet: float = 2.0) -> Trial:
    """Create, wait until all run, let everything come to rest, delete, wait until all is gone and at rest again."""
    controller = arena.controllers[arm.controller]
    clients = {arm.client, controller.client}
    await arena.audit.until_idle(*clients, seconds=quiet)
    patience = 120 + size / 10
    before, rss_before, mark = arena.cpu(), controller.usage().rss, arena.audit.mark()
    async with PodTimeline(arena.api, arm.pods) as timeline:
        begun = time.monotonic()
        await arena.post(arm, names(size))
        created = time.monotonic() - begun
        await timeline.until(f"{size} pods of {arm.name} run", lambda: len(timeline.running) >= size, patience)
        at_running = arena.cpu()
        await arena.audit.until_idle(*clients, seconds=quiet, deadline=patience)
        rss_after = controller.usage().rss
        deleted = time.monotonic()
        await arena.clear(arm)
        await timeline.until("all pods are gone", lambda: timeline.gone.keys() >= timeline.seen.keys(), patience)
        await arena.audit.until_idle(*clients, seconds=quiet, deadline=patience)
    after = arena.cpu()
    return Trial(
        arm=arm.name,
        size=size,
        running=max(timeline.running.values()) - begun,
        posted=max(timeline.seen.values()) - begun,
        created=created,
        deleting=max(timeline.gone.values()) - deleted,
        cpu={name: round(after[name] - before[name], 3) for name in after},
        cpu_until_running=round(at_running[arm.process] - before[arm.process], 3),
        writes=tally(arena.audit.requests(arm.client, mark), apart=("leases",)),
        rss_before=rss_before,
        rss_after=rss_after,
    )


async def stock(arena: Arena, size: int) -> Trial:
    """Jobs once more, with the controller manager's limits as they are out of the box (20 requests a second, bursts of 30)."""
    arm = ARMS["jobs"]
    arena.throttle("scheduler")
    try:
        await arena.post(arm, names(1, first=size))
        await arena.until_running(arm, 1)  # it has read the cluster and is at work
        async with PodTimeline(arena.api, arm.pods) as timeline:
            begun = time.monotonic()
            await arena.post(arm, names(size))
            created = time.monotonic() - begun
            await timeline.until(f"{size} stock pods run", lambda: len(timeline.running) >= size, 120 + size)
    finally:
        arena.throttle("all")
    await arena.clear(arm)
    return Trial(
        STOCK,
        size,
        max(timeline.running.values()) - begun,
        max(timeline.seen.values()) - begun,
        created,
        0,
        {},
        0,
        {},
        0,
        0,
    )


def describe(one: Trial) -> str:
    """A trial in a line, for those who watch."""
    words = (
        f"{one.arm} run after {one.running:.2f} s (last created {one.posted:.2f} s), gone after {one.deleting:.2f} s"
    )
    if not one.cpu:
        return words
    per = sum(writes_apart(one.writes).values()) / one.size
    words += f"; {per:.2f} writes each; CPU " + ", ".join(f"{name} {used:.2f}" for name, used in one.cpu.items())
    if one.arm == "agents":
        words += f" (operator until running {one.cpu_until_running:.2f})"
        words += f"; RSS {one.rss_before / 1e6:.1f} → {one.rss_after / 1e6:.1f} MB; {one.writes}"
    return words


# --- figures ----------------------------------------------------------------------------------------------------------


def writes_apart(writes: dict[str, int]) -> dict[str, int]:
    """The writes without the Events."""
    return {name: count for name, count in writes.items() if not name.split()[1].startswith("events")}


def _trials(samples: JsonDict, arm: str) -> list[dict[str, Any]]:
    return [one for one in samples["trials"] if one["arm"] == arm]


def _each(samples: JsonDict, arm: str, what: str) -> list[float]:
    return [one[what] for one in _trials(samples, arm)]


def measurements(samples: Samples) -> list[Measurement]:
    """P1's figures: the ratios with their bars, after the times themselves."""
    found = []
    for part in sorted(samples, key=sized):
        size, these = int(part), samples[part]
        times = {arm: _each(these, arm, "running") for arm in (*COMPARED, STOCK)}
        for arm, seconds in times.items():
            if seconds:
                posted = sorted(_each(these, arm, "posted"))[len(seconds) // 2]
                note = f"last pod created after {posted:.2f} s"
                found.append(Measurement("P1", f"{size:,} {arm} → all pods run", "s", tuple(seconds), note=note))
        ours = times["agents"]
        for arm, bar in BARS.items():
            if ours and times[arm]:
                name = f"{size:,} agents ÷ {arm}, time until all run"
                found.append(Measurement("P1", name, "×", ratios(ours, times[arm]), bar))
        if ours and times[STOCK]:
            against = tuple(seconds / times[STOCK][0] for seconds in ours)
            found.append(Measurement("P1", f"{size:,} agents ÷ Jobs at stock limits", "×", against, Bar(0.3)))
    return found


def write_measurements(samples: Samples) -> list[Measurement]:
    """P2's figures: writes per object over its whole life, Events apart."""
    found = []
    for part in sorted(samples, key=sized):
        size, these = int(part), samples[part]
        per = {arm: [sum(writes_apart(w).values()) / size for w in _each_writes(these, arm)] for arm in COMPARED}
        if per["agents"]:
            note = ", ".join(f"{name} {count / size:.2f}" for name, count in _each_writes(these, "agents")[-1].items())
            bar = Bar(3, stretch=2)
            found.append(Measurement("P2", f"writes per Agent, of {size:,}", "writes", tuple(per["agents"]), bar, note))
        for arm in [arm for arm in COMPARED if arm != "agents"]:
            if per[arm]:
                note = ", ".join(f"{name} {count / size:.2f}" for name, count in _each_writes(these, arm)[-1].items())
                found.append(
                    Measurement(
                        "P2",
                        f"writes per {ONE[arm]}, of {size:,}",
                        "writes",
                        tuple(per[arm]),
                        None,
                        note,
                    )
                )
        if per["agents"] and per["jobs"]:
            against = ratios(per["agents"], per["jobs"])
            found.append(Measurement("P2", f"writes per Agent ÷ per Job, of {size:,}", "×", against, Bar(0.6)))
    return found


def _each_writes(samples: JsonDict, arm: str) -> Sequence[dict[str, int]]:
    return [one["writes"] for one in _trials(samples, arm)]


def cpu_measurements(samples: Samples) -> list[Measurement]:
    """P8's figures: CPU seconds per 1000 objects created and deleted; the bar is for the populations around 1000."""
    found = []
    for part in sorted(samples, key=sized):
        size, these = int(part), samples[part]
        for name, arm in COMPARED.items():
            used = tuple(1000 * one["cpu"][arm.process] / size for one in _trials(these, name))
            if used:
                bar = Bar(6, stretch=4) if name == "agents" and size >= 400 else None
                measure = f"{arm.process}: CPU per 1000 {name} created and deleted, {size:,} at a time"
                found.append(Measurement("P8", measure, "s", used, bar))
        used_by = {name: [one["cpu"] for one in _trials(these, name)] for name in COMPARED}
        for other in (name for name in COMPARED if name != "agents" and used_by[name] and used_by["agents"]):
            server = ratios(*([cpu["kube-apiserver"] for cpu in used_by[name]] for name in ("agents", other)))
            found.append(Measurement("P8", f"kube-apiserver: CPU, agents ÷ {other}, {size:,} at a time", "×", server))
        if used_by["agents"] and used_by[BEFORE.name]:
            own = ratios(*([cpu[COMPARED[name].process] for cpu in used_by[name]] for name in ("agents", BEFORE.name)))
            found.append(Measurement("P8", f"operator: CPU, agents ÷ {BEFORE.name}, {size:,} at a time", "×", own))
    return found


def parts(plan: Plan) -> list[str]:
    """The sizes."""
    return [str(size) for size in plan.pick((100, 1000, 5000), (100, 400))]


def _estimate(plan: Plan, part: str) -> float:
    size = int(part)
    arms = [*ARMS, *([BEFORE.name] if plan.before else []), *([FLOOR.name] if plan.has_floor(size) else [])]
    chosen = sum(plan.has(arm) for arm in arms)
    stock_arm = 10 + size * 0.12 if size <= STOCK_MOST[plan.quick] else 0
    return plan.rounds(size) * chosen * (7 + size * 0.026) + stock_arm


CASE = Case(
    "P1",
    "N Agents → all pods Running",
    measurements,
    parts,
    run,
    estimate=_estimate,
    left_out="N = 1000 and 5000 (N = 400 instead); Jobs at stock limits only for N = 100",
    place=lambda part: (0, sized(part)),
)
WRITES = Case("P2", "operator writes per Agent", write_measurements, source="P1")
CPU = Case("P8", "operator CPU per 1000 create + delete", cpu_measurements, source="P1")
