"""P9: the operator is killed and started again; how long until it has caught up, and what it writes when nothing changed.

It has caught up once it leads, has passed over every agent, and its queue is empty, by its own metrics. As a container's
does, its identity survives the restart, so that it need not wait for its own Lease to expire.
"""

from benchmarks.arena import directives
from benchmarks.arena.arena import Arena, log
from benchmarks.arena.arms import DIRECTED
from benchmarks.arena.audit import tally
from benchmarks.arena.operator_process import Metrics, total
from benchmarks.cases.case import Case, JsonDict, Plan, Samples, sized
from benchmarks.measurements import Bar, Measurement

SMALL, LARGE = 1000, 10_000


async def run(arena: Arena, plan: Plan, part: str) -> JsonDict:
    """The rounds of one size."""
    size = int(part)
    await arena.running_operator()
    await directives.ensure_variable(arena.api)
    await arena.populate({DIRECTED.name: size})
    rounds = []
    for number in range(plan.rounds(size)):
        rounds.append(await restart(arena, size))
        log(f"P9 {size:,} round {number + 1}: {rounds[-1]}")
    return {"size": size, "rounds": rounds}


async def restart(arena: Arena, size: int) -> JsonDict:
    """One kill and start, with the writes from the kill until everything is at rest."""
    await arena.rest(seconds=3)
    mark = arena.audit.mark()
    arena.operator.kill()
    arena.operator.start()
    patience = 60 + size / 25
    leads = await arena.operator.until("the operator leads", lambda seen: total(seen, "mabeam_leader") == 1, patience)
    done = await arena.operator.until("it has caught up", lambda seen: caught_up(seen, size), patience)
    cpu = arena.operator.usage().cpu
    await arena.rest(seconds=5)
    writes = tally(arena.audit.requests("operator", mark), apart=("leases",))
    begun = arena.operator.started
    return {"seconds": done - begun, "leads": leads - begun, "cpu": cpu, "writes": writes}


def caught_up(seen: Metrics, agents: int) -> bool:
    """Whether every agent was passed over and nothing waits."""
    passes = total(seen, "mabeam_reconcile_duration_seconds_count", 'kind="Agent"')
    return passes >= agents and total(seen, "mabeam_workqueue_depth") == 0


def measurements(samples: Samples) -> list[Measurement]:
    """The times, the writes, and the growth from 1000 to 10,000."""
    found = []
    for part in sorted(samples, key=sized):
        size, rounds = samples[part]["size"], samples[part]["rounds"]
        note = f"it leads after {rounds[-1]['leads']:.1f} s; CPU {rounds[-1]['cpu']:.1f} s"
        seconds = tuple(one["seconds"] for one in rounds)
        found.append(Measurement("P9", f"SIGKILL with {size:,} agents → caught up", "s", seconds, note=note))
        writes = sum(sum(one["writes"].values()) for one in rounds)
        listed = {name: count for one in rounds for name, count in one["writes"].items()}
        words = ", ".join(f"{name} {count}" for name, count in listed.items())
        found.append(
            Measurement("P9", f"writes after it, {size:,} agents, Lease apart", "writes", (writes,), Bar(0), words)
        )
    if str(SMALL) in samples and str(LARGE) in samples:
        small = Measurement("", "", "s", tuple(one["seconds"] for one in samples[str(SMALL)]["rounds"])).median
        times = tuple(one["seconds"] / small for one in samples[str(LARGE)]["rounds"])
        found.append(Measurement("P9", f"T({LARGE:,}) ÷ T({SMALL:,})", "×", times, Bar(12)))
    return found


CASE = Case(
    "P9",
    "killed and started again → caught up",
    measurements,
    lambda plan: [str(size) for size in plan.pick((SMALL, 5000, LARGE), (300,))],
    run,
    estimate=lambda plan, part: int(part) * 0.015 + plan.rounds(int(part)) * (12 + int(part) * 0.003),
    left_out="1000, 5000 and 10,000 agents (300 instead), and so the growth",
    place=lambda part: (6, sized(part)),
)
