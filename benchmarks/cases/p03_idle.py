"""P3: what a thousand agents cost at which nothing happens: renewals of the Lease, and no other write."""

import asyncio

from benchmarks.arena.arena import Arena, log
from benchmarks.arena.audit import tally
from benchmarks.cases.case import Case, JsonDict, Plan, Samples, sized
from benchmarks.measurements import Bar, Measurement

_LEASES = "leases"


async def run(arena: Arena, plan: Plan, part: str) -> JsonDict:
    """The operator's writes and CPU while nothing happens."""
    size, seconds = int(part), 30 if plan.quick else 300
    await arena.running_operator()
    await arena.populate({"agents": size})
    await arena.rest(seconds=5)
    cpu, mark = arena.cpu()["operator"], arena.audit.mark()
    for passed in range(0, seconds, 30):
        log(f"P3: {size:,} agents idle, {seconds - passed} s to go")
        await asyncio.sleep(min(30, seconds - passed))
    end = arena.audit.mark()
    return {
        "agents": size,
        "seconds": seconds,
        "writes": tally(arena.audit.requests("operator", mark, end)),
        "cpu": arena.cpu()["operator"] - cpu,
        "rss": arena.operator.usage().rss,
    }


def measurements(samples: Samples) -> list[Measurement]:
    """The writes but the Lease's, which have the bar; the Lease's; and the CPU."""
    found = []
    for part in sorted(samples, key=sized):
        these = samples[part]
        what = f"{these['agents']:,} idle agents, {these['seconds']} s"
        leases = sum(count for name, count in these["writes"].items() if name.split()[1] == _LEASES)
        others = {name: count for name, count in these["writes"].items() if name.split()[1] != _LEASES}
        note = ", ".join(f"{name} {count}" for name, count in others.items())
        found.append(Measurement("P3", f"{what}: writes, Lease apart", "writes", (sum(others.values()),), Bar(0), note))
        found.append(Measurement("P3", f"{what}: renewals of the Lease", "writes", (leases,)))
        busy = 100 * these["cpu"] / these["seconds"]
        found.append(Measurement("P3", f"{what}: operator's CPU", "% of a core", (busy,)))
    return found


CASE = Case(
    "P3",
    "writes of idle agents",
    measurements,
    lambda plan: [str(size) for size in plan.pick((1000,), (300,))],
    run,
    estimate=lambda plan, part: 12 + int(part) * 0.025 + (30 if plan.quick else 300),
    left_out="all but 30 s of the five minutes, 700 of the 1000 agents",
    place=lambda part: (2, sized(part)),
)
