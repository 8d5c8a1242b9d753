"""P7: the operator's resident memory: with nothing to look after, per 1000 agents, and while agents come and go.

The churn keeps the number of agents and changes who they are: every few seconds a tenth of them is deleted and as many with
names never used before are created, and some pods fail. What a name, a pod or a failure leaves behind shows as a slope.
"""

import asyncio
import itertools
import time

from benchmarks.arena.api import Call
from benchmarks.arena.arena import Arena, log
from benchmarks.arena.arms import ARMS, names
from benchmarks.cases.case import Case, JsonDict, Plan, Samples, sized
from benchmarks.measurements import Bar, Measurement, slope

AGENTS = ARMS["agents"]
REST = 60
SAMPLE_EVERY = 1.0
CYCLE = 10.0
SHARE = 10
FAILURES = 20
# The allocator needs a while until its arenas have the shape that the churn gives them.
WARM_UP = 1 / 3


async def run(arena: Arena, plan: Plan, part: str) -> JsonDict:
    """Base, after the growth, and the course under churn."""
    size, seconds = int(part), 60 if plan.quick else 1800
    await arena.running_operator()
    await arena.populate({})
    await arena.fresh_operator()
    await asyncio.sleep(10 if plan.quick else 30)
    base = arena.operator.usage().rss
    log(f"P7: {base / 1e6:.1f} MB with no agents")
    await arena.populate({AGENTS.name: size})
    await asyncio.sleep(10 if plan.quick else REST)
    grown = arena.operator.usage().rss
    log(f"P7: {grown / 1e6:.1f} MB with {size:,} agents")
    course = await churn(arena, size, seconds)
    arena.population.pop(AGENTS.name)  # their names are others now
    return {"agents": size, "base": base, "grown": grown, "course": course, "seconds": seconds}


async def churn(arena: Arena, size: int, seconds: float) -> list[tuple[float, int]]:
    """The resident bytes over time, in seconds, while agents come and go."""
    living = names(size)
    fresh = itertools.count(size)
    course: list[tuple[float, int]] = []
    begun = time.monotonic()

    async def sample() -> None:
        while True:
            course.append((round(time.monotonic() - begun, 2), arena.operator.usage().rss))
            await asyncio.sleep(SAMPLE_EVERY)

    sampler = asyncio.create_task(sample())
    try:
        for cycle in itertools.count(1):
            await turn_over(arena, living, size // SHARE, fresh)
            if cycle % 10 == 0:
                log(f"P7: {time.monotonic() - begun:.0f} of {seconds:.0f} s, {course[-1][1] / 1e6:.1f} MB")
            left = begun + cycle * CYCLE - time.monotonic()
            if time.monotonic() - begun >= seconds:
                return course
            await asyncio.sleep(max(0.0, left))
    finally:
        sampler.cancel()
    raise AssertionError("unreachable")


async def turn_over(arena: Arena, living: list[str], count: int, fresh: "itertools.count[int]") -> None:
    """The oldest go, new ones come, and a few pods of those between fail."""
    going, living[:] = living[:count], living[count:]
    coming = names(count, next(fresh))
    for _ in range(count - 1):
        next(fresh)
    await arena.api.send_all(Call("DELETE", AGENTS.named(name)) for name in going)
    await arena.post(AGENTS, coming)
    pods = await arena.pods_of(AGENTS)
    failing = [pods[name] for name in living[:FAILURES] if name in pods]
    await arena.api.send_all(arena.fail(AGENTS, pod) for pod in failing)
    living += coming


def settled(course: list[tuple[float, int]]) -> list[tuple[float, int]]:
    """The course after its warm-up."""
    return [(at, rss) for at, rss in course if at >= WARM_UP * course[-1][0]]


def measurements(samples: Samples) -> list[Measurement]:
    """Base, growth and slope with their bars; the slope as what it adds up to over the churn."""
    found = []
    for part in sorted(samples, key=sized):
        these = samples[part]
        size, seconds = these["agents"], these["seconds"]
        base, grown = these["base"] / 1e6, these["grown"] / 1e6
        found.append(Measurement("P7", "RSS with no agents", "MB", (base,), Bar(80)))
        per = (grown - base) * 1000 / size
        found.append(Measurement("P7", f"RSS growth per 1000 agents, with {size:,}", "MB", (per,), Bar(25)))
        later = settled([(at, rss / 1e6) for at, rss in these["course"]])
        added = slope(later) * seconds
        note = f"from {later[0][1]:.1f} to {later[-1][1]:.1f} MB, the first third apart"
        bar = Bar(1, -1, "0 ± 1 MB")
        found.append(Measurement("P7", f"RSS slope over {seconds / 60:g} min of churn", "MB", (added,), bar, note))
    return found


CASE = Case(
    "P7",
    "the operator's memory",
    measurements,
    lambda plan: [str(size) for size in plan.pick((1000,), (300,))],
    run,
    estimate=lambda plan, part: 15 + int(part) * 0.03 + (80 if plan.quick else 1900),
    left_out="29 of the 30 minutes of churn, 700 of the 1000 agents",
    place=lambda part: (9, sized(part)),
)
