"""P6: a variable that selects all agents changes; how long until each one's ConfigMap holds it and its pod is annotated.

The population grows from size to size, so that each is measured with nothing else around; P9 uses the same. The agents are
born while the variable is there: all have been told something, and have their ConfigMap, before the first round.
"""

import time

from benchmarks.arena import directives
from benchmarks.arena.arena import Arena, log
from benchmarks.arena.arms import DIRECTED
from benchmarks.arena.audit import Request, busiest, tally
from benchmarks.cases.case import Case, JsonDict, Plan, Samples, sized
from benchmarks.cases.p01_scale import writes_apart
from benchmarks.measurements import Bar, Measurement

SMALL, LARGE = 1000, 10_000
_STATUS = "orchestrationvariables/status"
# Two writes a second apart, with the jitter of a busy machine, are not two within a second.
SECOND = 0.95


async def run(arena: Arena, plan: Plan, part: str) -> JsonDict:
    """The rounds of one size."""
    size = int(part)
    await arena.running_operator()
    await directives.ensure_variable(arena.api)
    await arena.populate({DIRECTED.name: size})
    rounds = []
    for number in range(plan.rounds(size)):
        rounds.append(await change(arena, size))
        log(f"P6 {size:,} round {number + 1}: {rounds[-1]}")
    return {"size": size, "rounds": rounds}


async def change(arena: Arena, size: int) -> JsonDict:
    """One change; its writes are counted until everything has come to rest."""
    await arena.rest()
    value = await directives.current(arena.api) + 1
    cpu, mark = arena.cpu()["operator"], arena.audit.mark()
    async with directives.DirectiveTimeline(arena.api, value) as timeline:
        begun = time.monotonic()
        await directives.change(arena.api, value)
        delivered = await timeline.until_delivered(size, 60 + size / 10) - begun
        await arena.rest(seconds=4)  # an agent that does not answer is reminded after two seconds
    requests = arena.audit.requests("operator", mark)
    return {
        "seconds": delivered,
        "writes": tally(requests, apart=("leases",)),
        "writes_until_annotated": until_annotated(requests),
        "status_writes_a_second": busiest(
            (one.answered for one in requests if one.writes and one.resource == _STATUS), SECOND
        ),
        "cpu": arena.cpu()["operator"] - cpu,
    }


# The resources of an agent's own writes, each with what its name adds to the agent's.
_OF_AGENT = {
    "agents/status": lambda name: name,
    "configmaps": lambda name: name.removesuffix("-mabeam"),
    "pods": lambda name: name.rsplit("-", 2)[0],
}


def until_annotated(requests: list[Request]) -> int:
    """The writes about each agent up to the first one of its pod, all agents together."""
    annotated: set[str] = set()
    count = 0
    for one in sorted(
        (one for one in requests if one.writes and one.resource in _OF_AGENT), key=lambda one: one.answered
    ):
        agent = _OF_AGENT[one.resource](one.name)
        if agent in annotated:
            continue
        count += 1
        if one.resource == "pods":
            annotated.add(agent)
    return count


def of_agents(writes: dict[str, int]) -> int:
    """The writes about the agents: without Events, and without the variable's own."""
    return sum(count for name, count in writes_apart(writes).items() if "orchestrationvariables" not in name)


def measurements(samples: Samples) -> list[Measurement]:
    """The times for each size, the writes per agent, the variable's own writes, and the growth from 1000 to 10,000."""
    found = []
    for part in sorted(samples, key=sized):
        size, rounds = samples[part]["size"], samples[part]["rounds"]
        what = f"a variable changes → all {size:,} agents have it"
        found.append(Measurement("P6", what, "s", tuple(one["seconds"] for one in rounds)))
        until = tuple(one["writes_until_annotated"] / size for one in rounds)
        found.append(
            Measurement(
                "P6", f"writes per changed agent until annotated, of {size:,}", "writes", until, Bar(3, stretch=2)
            )
        )
        per = tuple(of_agents(one["writes"]) / size for one in rounds)
        note = ", ".join(f"{name} {count / size:.2f}" for name, count in rounds[-1]["writes"].items())
        found.append(
            Measurement(
                "P6", f"… and after it, with the reminder of a silent agent, of {size:,}", "writes", per, None, note
            )
        )
        most = (max(one["status_writes_a_second"] for one in rounds),)
        name = f"status writes of the variable within a second, {size:,} agents"
        found.append(Measurement("P6", name, "writes", most, Bar(1)))
    growth = _growth(samples)
    return [*found, *growth]


def _growth(samples: Samples) -> list[Measurement]:
    if str(SMALL) not in samples or str(LARGE) not in samples:
        return []
    small = Measurement("", "", "s", tuple(one["seconds"] for one in samples[str(SMALL)]["rounds"])).median
    times = tuple(one["seconds"] / small for one in samples[str(LARGE)]["rounds"])
    return [Measurement("P6", f"T({LARGE:,}) ÷ T({SMALL:,})", "×", times, Bar(15))]


CASE = Case(
    "P6",
    "a variable changes → every agent has it",
    measurements,
    lambda plan: [str(size) for size in plan.pick((10, 100, SMALL, LARGE), (10, 300))],
    run,
    estimate=lambda plan, part: int(part) * 0.02 + plan.rounds(int(part)) * (7 + int(part) * 0.012),
    left_out="100, 1000 and 10,000 agents (300 instead), and so the growth from the one to the other",
    place=lambda part: (6, sized(part)),
)
