"""P5: the pods of a thousand Agents fail at once; how long until all are replaced, against as many ReplicaSets."""

import time

from benchmarks.arena.arena import Arena, log
from benchmarks.arena.arms import BEFORE, Arm
from benchmarks.arena.audit import most_at_once, tally
from benchmarks.arena.pod_timeline import PodTimeline
from benchmarks.cases.case import Case, JsonDict, Plan, Samples, sized
from benchmarks.measurements import Bar, Measurement, ratios

ARMS_HERE = ("agents", "replicasets")
PARALLEL = 64
TOO_MANY_REQUESTS = 429


async def run(arena: Arena, plan: Plan, part: str) -> JsonDict:
    """The rounds of both arms, in turns."""
    size = int(part)
    chosen = [arm for arm in arena.arms(ARMS_HERE) if plan.has(arm.name)]
    await arena.running_operator()
    await arena.populate({arm.population: size for arm in chosen})
    rounds = []
    for number in range(plan.rounds()):
        for arm in chosen if number % 2 == 0 else reversed(chosen):
            await arena.use(arm.controller)
            rounds.append(await fail_all(arena, arm, size))
            log(f"P5 round {number + 1}: {rounds[-1]}")
    return {"size": size, "rounds": rounds}


async def fail_all(arena: Arena, arm: Arm, size: int) -> JsonDict:
    """Every pod of the arm fails, as fast as the apiserver takes it; seconds from the first patch to the last new pod."""
    await arena.rest(arm.client)
    pods = await arena.pods_of(arm)
    if len(pods) != size:
        raise RuntimeError(f"{len(pods)} of {size} pods of {arm.name} run before they are to fail")
    calls = [arena.fail(arm, pod) for pod in pods.values()]
    mark = arena.audit.mark()
    async with PodTimeline(arena.api, arm.pods) as timeline:
        begun = time.monotonic()
        await arena.api.send_all(calls, PARALLEL)
        patched = time.monotonic() - begun
        old = set(pods.values())
        await timeline.until(
            f"{size} pods of {arm.name} are replaced",
            lambda: len(timeline.seen.keys() - old) >= size and len(_replacements(timeline, pods)) == size,
            120 + size / 10,
        )
        replaced = max(_replacements(timeline, pods)) - begun
        await arena.rest(arm.client)
    requests = arena.audit.requests(arm.client, mark)
    await arena.until_running(arm, size)
    if arm.one != "Agent":
        await arena.api.clear(arm.pods, fieldSelector="status.phase=Failed")
    return {
        "arm": arm.name,
        "replaced": replaced,
        "patched": patched,
        "refused": sum(one.code == TOO_MANY_REQUESTS for one in requests),
        "in_flight": most_at_once(requests),
        "writes": tally(requests, apart=("leases",)),
    }


def _replacements(timeline: PodTimeline, pods: dict[str, str]) -> list[float]:
    found = (timeline.replaced(owner, pod) for owner, pod in pods.items())
    return [when for when in found if when is not None]


def measurements(samples: Samples) -> list[Measurement]:
    """The times and their ratio; the refusals and the most requests at once, which are the operator's manners."""
    found = []
    for part in sorted(samples, key=sized):
        size, rounds = samples[part]["size"], samples[part]["rounds"]
        of = {arm: [one for one in rounds if one["arm"] == arm] for arm in (*ARMS_HERE, BEFORE.name)}
        for arm, these in of.items():
            if these:
                seconds = tuple(one["replaced"] for one in these)
                note = f"the last pod had failed after {these[-1]['patched']:.2f} s"
                found.append(
                    Measurement("P5", f"all pods of {size:,} {arm} fail → all replaced", "s", seconds, note=note)
                )
        for arm, bar in (("replicasets", Bar(2.0, stretch=1.3)), (BEFORE.name, None)):
            if of["agents"] and of[arm]:
                ours, theirs = ([one["replaced"] for one in of[name]] for name in ("agents", arm))
                found.append(Measurement("P5", f"agents ÷ {arm}", "×", ratios(ours, theirs), bar))
        if of["agents"]:
            refused = (sum(one["refused"] for one in of["agents"]),)
            most = (max(one["in_flight"] for one in of["agents"]),)
            found.append(Measurement("P5", "answers 429 to the operator", "answers", refused, Bar(0)))
            found.append(Measurement("P5", "most requests of the operator at once", "requests", most, Bar(64)))
            per = tuple(sum(one["writes"].values()) / size for one in of["agents"])
            found.append(Measurement("P5", "writes per failed Agent, Events included", "writes", per))
    return found


CASE = Case(
    "P5",
    "all pods fail at once",
    measurements,
    lambda plan: [str(size) for size in plan.pick((1000,), (300,))],
    run,
    estimate=lambda plan, part: plan.rounds() * 2 * (6 + int(part) * 0.02),
    left_out="700 of the 1000 objects",
    place=lambda part: (5, sized(part)),
)
