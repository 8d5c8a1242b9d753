"""P4: one pod of a thousand fails; how long until its replacement is created, for an Agent, a ReplicaSet and a Job.

Failures of Agents and ReplicaSets come one by one, so both moments are in the apiserver's audit log, by its own clock: the
answer to the patch that made the pod Failed, and the answer to its controller's next create. The Jobs' failures overlap, for
each is answered by a timer of ten seconds: they are read off a watch, which is a few milliseconds less exact.
"""

import asyncio
import random
from collections.abc import Sequence

from benchmarks.arena.arena import Arena, log
from benchmarks.arena.arms import ARMS, BEFORE, Arm
from benchmarks.arena.audit import Request
from benchmarks.arena.pod_timeline import PodTimeline
from benchmarks.cases.case import Case, JsonDict, Plan, Samples, sized
from benchmarks.measurements import Bar, Measurement, quantile

DEADLINE = 60.0
JOB_GAP = 0.25
_IN_TURNS = ("agents", BEFORE.name, "replicasets")
BLOCKS = 4  # in which the operators take turns, when there are two


async def run(arena: Arena, plan: Plan, part: str) -> JsonDict:
    """The latencies of each arm, in seconds."""
    size, count = int(part), 30 if plan.quick else 100
    chosen = [arm for arm in arena.arms() if plan.has(arm.name)]
    turns = [arm for arm in chosen if arm.name in _IN_TURNS]
    if BEFORE in chosen:
        count = min(count, size // 2 - BLOCKS)
    await arena.running_operator()
    await arena.populate({arm.population: size for arm in chosen})
    await arena.rest(*(arm.client for arm in chosen))
    chance = random.Random(4)
    pods = await draw(arena, chosen, count, chance)
    latencies: dict[str, list[float]] = {arm.name: [] for arm in chosen}
    timelines = {arm.name: PodTimeline(arena.api, arm.pods) for arm in chosen}
    async with asyncio.TaskGroup() as group:
        for timeline in timelines.values():
            group.create_task(timeline.__aenter__())

    async def fail_next(arm: Arm) -> float:
        owner, pod = pods[arm.name].pop()
        return await fail_one(arena, arm, timelines[arm.name], owner, pod)

    try:
        for length in blocks(count, BLOCKS if BEFORE in chosen else 1):
            for controller in dict.fromkeys(arm.controller for arm in turns):
                these = [arm for arm in turns if arm.controller == controller]
                if await arena.use(controller):
                    await arena.rest(*(arm.client for arm in these))
                    for arm in these:
                        if arm.process == controller:
                            await fail_next(arm)  # unmeasured: a process that runs for long has done it before
                for _ in range(length):
                    for arm in these:
                        latencies[arm.name].append(await fail_next(arm))
                        # So that no failure falls in step with a period of anything.
                        await asyncio.sleep(chance.uniform(0.01, 0.1))
            last = ", ".join(f"{name} {1000 * times[-1]:.0f} ms" for name, times in latencies.items() if times)
            log(f"P4: {len(latencies[turns[0].name])} of {count}, last {last}")
        if "jobs" in latencies:
            log(f"P4: {count} Jobs' pods fail, one every {JOB_GAP} s")
            latencies["jobs"] = await fail_spread(arena, ARMS["jobs"], timelines["jobs"], pods["jobs"])
    finally:
        for timeline in timelines.values():
            await timeline.__aexit__()
    for arm in chosen:
        if arm.one != "Agent":
            # The native controllers leave the failed pods lying about; the next cases begin without.
            await arena.api.clear(arm.pods, fieldSelector="status.phase=Failed")
    return {"size": size, "latencies": latencies}


def blocks(count: int, number: int) -> list[int]:
    """`count` failures in so many blocks of about the same length: the operators take turns block by block."""
    return [len(range(first, count, number)) for first in range(number) if first < count]


async def draw(
    arena: Arena, arms: Sequence[Arm], count: int, chance: random.Random
) -> dict[str, list[tuple[str, str]]]:
    """Owners and pods by arm, `count` for each and one more for each block; no pod is drawn for two arms."""
    found: dict[str, list[tuple[str, str]]] = {}
    for population in dict.fromkeys(arm.population for arm in arms):
        sharing = [arm for arm in arms if arm.population == population]
        wanted = count + (BLOCKS if len(sharing) > 1 else 0)
        drawn = chance.sample(sorted((await arena.pods_of(sharing[0])).items()), len(sharing) * wanted)
        found |= {arm.name: drawn[number :: len(sharing)] for number, arm in enumerate(sharing)}
    return found


async def fail_one(arena: Arena, arm: Arm, timeline: PodTimeline, owner: str, pod: str) -> float:
    """Seconds from the pod's failure to its replacement, by the apiserver's clock."""
    mark = arena.audit.mark()
    await arena.api.send(arena.fail(arm, pod))
    await timeline.until(f"{pod} is replaced", lambda: timeline.replaced(owner, pod) is not None, DEADLINE)

    def latency() -> float | None:
        return between(arena.audit.requests("benchmark", mark), arena.audit.requests(arm.client, mark))

    # A watch may be ahead of the audit log, into which a request goes when its answer has left.
    await timeline.until(f"the audit log tells that {pod} is replaced", lambda: latency() is not None, DEADLINE)
    seconds = latency()
    assert seconds is not None
    return seconds


def between(ours: Sequence[Request], theirs: Sequence[Request]) -> float | None:
    """Seconds from the answer to our patch of a status until that to their first create of a pod, None until both are there."""
    failed = (one.answered for one in ours if (one.verb, one.resource) == ("patch", "pods/status"))
    created = (one.answered for one in theirs if (one.verb, one.resource, one.code) == ("create", "pods", 201))
    begin, end = next(failed, None), next(created, None)
    return None if begin is None or end is None else end - begin


async def fail_spread(arena: Arena, arm: Arm, timeline: PodTimeline, which: list[tuple[str, str]]) -> list[float]:
    """The same for many pods, one after the other in short intervals, awaited together."""
    for _, pod in which:
        await arena.api.send(arena.fail(arm, pod))
        await asyncio.sleep(JOB_GAP)
    await timeline.until(
        "the Jobs' pods are replaced", lambda: all(timeline.replaced(o, p) is not None for o, p in which), DEADLINE
    )
    replaced = {pod: timeline.replaced(owner, pod) for owner, pod in which}
    return [when - timeline.failed[pod] for pod, when in replaced.items() if when is not None]


def measurements(samples: Samples) -> list[Measurement]:
    """Median and 99th percentile of each arm, and the ratios of both with their bars."""
    found = []
    bars = {"replicasets": Bar(2.0), "jobs": Bar(0.1), BEFORE.name: None}
    for part in sorted(samples, key=sized):
        size, latencies = samples[part]["size"], samples[part]["latencies"]
        for share, word in ((0.5, "p50"), (0.99, "p99")):
            at = {arm: quantile(times, share) for arm, times in latencies.items() if times}
            for arm, seconds in at.items():
                name = f"1 pod of {size:,} {arm} fails → replacement created, {word}"
                found.append(Measurement("P4", name, "ms", (1000 * seconds,), note=f"n = {len(latencies[arm])}"))
            for arm, bar in bars.items():
                if "agents" in at and arm in at:
                    found.append(Measurement("P4", f"agents ÷ {arm}, {word}", "×", (at["agents"] / at[arm],), bar))
    return found


CASE = Case(
    "P4",
    "a failed pod → its replacement",
    measurements,
    lambda plan: [str(size) for size in plan.pick((1000,), (300,))],
    run,
    estimate=lambda plan, part: 15 + int(part) * 0.06 + (25 if plan.quick else 80),
    left_out="70 of the 100 samples (its p99 is their maximum), 700 of the 1000 objects",
    place=lambda part: (4, sized(part)),
)
