"""P10: how long a new agent waits for its pod while 10,000 events in 10 s hit others, and how late the event loop runs.

The events are patches of the pods of a thousand agents, made by a process of its own. The same is asked of ReplicaSets, for
the apiserver and the cores are busy for them too.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from benchmarks.arena.api import create
from benchmarks.arena.arena import Arena, log
from benchmarks.arena.arms import ARMS, Arm
from benchmarks.arena.cluster import PROBE_NAMESPACE, ROOT
from benchmarks.arena.operator_process import Metrics
from benchmarks.arena.pod_timeline import PodTimeline
from benchmarks.cases.case import Case, JsonDict, Plan, Samples, sized
from benchmarks.measurements import Bar, Measurement, quantile

EVENTS, SECONDS = 10_000, 10
PROBES_A_SECOND = 10
DEADLINE = 60.0
LOAD_DEADLINE = 240.0  # on slow cores the events take longer than their ten seconds; the table says how long
ARMS_HERE = ("agents", "replicasets")
_LAG = "mabeam_event_loop_lag_seconds"


async def run(arena: Arena, plan: Plan, part: str) -> JsonDict:
    """The latencies of the probes of each round: idle and under load, of each arm; and the loop's lags under load."""
    size = int(part)
    await arena.running_operator()
    await arena.populate({"agents": size})
    rounds: list[JsonDict] = []
    for number in range(plan.rounds()):
        for name in (arm for arm in ARMS_HERE[: 1 if plan.quick else 2] if plan.has(arm)):
            arm = replace(ARMS[name], suffix=PROBE_NAMESPACE.removeprefix("bench-"))
            await arena.rest(arm.client)
            idle = await probe(arena, arm)
            await arena.rest(arm.client)
            async with load(arena, size) as events:
                before = await arena.operator.metrics()
                lags = asyncio.create_task(watch_lag(arena, SECONDS))
                busy = await probe(arena, arm)
                lag = lag_samples(before, await arena.operator.metrics()) or await lags
                await lags
            rounds.append({"arm": name, "idle": idle, "busy": busy, "lag": lag, "events": events})
            p99 = [1000 * quantile(times, 0.99) for times in (idle, busy)]
            log(
                f"P10 round {number + 1}, {name}: p99 idle {p99[0]:.0f} ms, under load {p99[1]:.0f} ms; "
                f"lag p99 {1000 * quantile(lag, 0.99):.0f} ms; {events}"
            )
    return {"size": size, "rounds": rounds}


async def probe(arena: Arena, arm: Arm) -> list[float]:
    """Seconds from the request to create a probe to the sight of its pod, ten a second for ten seconds."""
    asked: dict[str, float] = {}
    async with PodTimeline(arena.api, arm.pods) as timeline, asyncio.TaskGroup() as group:
        begun = time.monotonic()
        for number in range(PROBES_A_SECOND * SECONDS):
            await asyncio.sleep(max(0.0, begun + number / PROBES_A_SECOND - time.monotonic()))
            name = f"probe-{number:03}"
            asked[name] = time.monotonic()
            group.create_task(arena.api.send(create(arm.path, arm.body(name))))
        await timeline.until("every probe has its pod", lambda: timeline.of_owner.keys() >= asked.keys(), DEADLINE)
        found = [timeline.seen[timeline.of_owner[name][0]] - when for name, when in asked.items()]
    await arena.clear(arm)
    arena.population.pop(arm.name, None)
    return found


async def watch_lag(arena: Arena, seconds: float) -> list[float]:
    """The operator's gauge of its event loop's lag, as often as it is set."""
    found, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        seen = (await arena.operator.metrics()).get(_LAG, {})
        found += list(seen.values())
        await asyncio.sleep(0.5)
    return found


def lag_samples(before: Metrics, after: Metrics) -> list[float]:
    """The lags between two looks at a histogram, each as the upper bound of its bucket; none when there is no histogram."""
    found: list[float] = []
    below = 0.0
    old = before.get(f"{_LAG}_bucket", {})
    buckets = {_bound(labels): count - old.get(labels, 0) for labels, count in after.get(f"{_LAG}_bucket", {}).items()}
    for bound in sorted(buckets):
        found += [bound] * round(buckets[bound] - below)
        below = buckets[bound]
    return found


def _bound(labels: str) -> float:
    return float(labels.partition('le="')[2].partition('"')[0])


@asynccontextmanager
async def load(arena: Arena, size: int) -> AsyncIterator[JsonDict]:
    """The events come from here on; what is known of them is in the dictionary at the end."""
    told: JsonDict = {}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.arena.load", str(arena.cluster.kubeconfig), ARMS["agents"].pods),
        *(str(EVENTS / SECONDS), str(SECONDS)),
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("the load has no pipes")
        await _line(process.stdout, "is ready", DEADLINE)
        process.stdin.write(b"\n")
        yield told
        told |= json.loads(await _line(process.stdout, "has made its events", LOAD_DEADLINE))
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _line(stream: asyncio.StreamReader, what: str, deadline: float) -> bytes:
    try:
        async with asyncio.timeout(deadline):
            return await stream.readline()
    except TimeoutError:
        raise TimeoutError(f"not within {deadline:.0f} s: the load {what}") from None


def measurements(samples: Samples) -> list[Measurement]:
    """The probes' 99th percentiles, their ratio, and the loop's lag, with the bars."""
    found = []
    for part in sorted(samples, key=sized):
        for arm in ARMS_HERE:
            rounds = [one for one in samples[part]["rounds"] if one["arm"] == arm]
            if not rounds:
                continue
            at = {when: tuple(1000 * quantile(one[when], 0.99) for one in rounds) for when in ("idle", "busy")}
            took = max(one["events"]["seconds"] for one in rounds)
            note = f"{rounds[0]['events']['sent']:,} events in {took:.1f} s at the longest"
            found.append(Measurement("P10", f"a new {ARMS[arm].one} → its pod, p99, idle", "ms", at["idle"]))
            found.append(
                Measurement("P10", f"a new {ARMS[arm].one} → its pod, p99, under load", "ms", at["busy"], note=note)
            )
            times = tuple(busy / idle for busy, idle in zip(at["busy"], at["idle"], strict=True))
            bar = Bar(3) if arm == "agents" else None
            found.append(Measurement("P10", f"the same, under load ÷ idle, {arm}", "×", times, bar))
            if arm == "agents":
                lag = tuple(1000 * quantile(one["lag"], 0.99) for one in rounds)
                found.append(Measurement("P10", "event loop's lag under load, p99", "ms", lag, Bar(100)))
    return found


CASE = Case(
    "P10",
    "a new agent's wait among 10,000 events",
    measurements,
    lambda plan: [str(size) for size in plan.pick((1000,), (300,))],
    run,
    estimate=lambda plan, part: int(part) * 0.02 + plan.rounds() * (35 if plan.quick else 70),
    left_out="the ReplicaSets, 700 of the 1000 agents that the events are about",
    place=lambda part: (3, sized(part)),
)
