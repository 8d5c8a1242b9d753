"""P6 by type: a variable of each type changes; how long until every agent's directives of it are delivered, in how many writes.

One size, the population of P6. Told is told by the variable's own status (all issued are delivered), which is gathered for up
to a second, so the least is about one. A PerformanceThreshold is left out: what it tells follows from reports, and fake pods
make none.
"""

import asyncio
import time
from collections.abc import Mapping
from typing import Final

from benchmarks.arena.api import create, patch
from benchmarks.arena.arena import Arena, log
from benchmarks.arena.arms import DIRECTED
from benchmarks.arena.audit import tally
from benchmarks.cases.case import Case, Plan, Samples
from benchmarks.cases.p06_change import of_agents
from benchmarks.measurements import Measurement
from support.async_api import JsonDict

SIZE, QUICK_SIZE = 1000, 300
NAME: Final = "typed"
_VARIABLES: Final = f"/apis/mabeam.dev/v1alpha1/namespaces/{DIRECTED.namespace}/orchestrationvariables"


def _tokens(amount: str) -> JsonDict:
    return {"budget": [{"resource": "tokens-per-minute", "amount": amount}]}


# Each type with the two specs that the rounds change between: either tells every agent something else.
CHANGES: Final[Mapping[str, tuple[JsonDict, JsonDict]]] = {
    "Parameter": ({"value": 1}, {"value": 2}),
    "AdaptationRate": ({"rate": {"schedule": {"start": 0.5}}}, {"rate": {"schedule": {"start": 0.6}}}),
    "AgentSelection": ({"constraints": {"maxConcurrent": 10}}, {"constraints": {"maxConcurrent": 10_000}}),
    "ResourceAllocation": (_tokens("10M"), _tokens("20M")),
    "CommunicationTopology": ({"topology": {"pattern": "Ring"}}, {"topology": {"pattern": "Star"}}),
    "CoordinationPattern": ({"topology": {"pattern": "Ring"}}, {"topology": {"pattern": "Star"}}),
    "Custom": ({"function": {"cel": "agents.size()"}}, {"function": {"cel": "agents.size() + 1"}}),
}


async def run(arena: Arena, plan: Plan, part: str) -> JsonDict:
    """The rounds of one type."""
    size = plan.pick((SIZE,), (QUICK_SIZE,))[0]
    await arena.running_operator()
    await arena.populate({DIRECTED.name: size})
    before, after = CHANGES[part]
    agents = {"selector": {"matchLabels": {"team": "bench"}}}
    body = {
        "apiVersion": "mabeam.dev/v1alpha1",
        "kind": "OrchestrationVariable",
        "metadata": {"name": NAME},
        "spec": {"type": part, "agents": agents, **before},
    }
    await arena.api.send(create(_VARIABLES, body))
    await until_delivered(arena, 1, size)
    rounds = []
    for number in range(plan.rounds(size)):
        rounds.append(await change(arena, (after, before)[number % 2], size))
        log(f"P6T {part} round {number + 1}: {rounds[-1]}")
    await arena.api.clear(_VARIABLES)
    await arena.rest(seconds=4)
    return {"size": size, "rounds": rounds}


async def change(arena: Arena, spec: JsonDict, size: int) -> JsonDict:
    """One change; its writes are counted until everything has come to rest."""
    await arena.rest()
    known = int((await _status(arena)).get("round", 0))
    cpu, mark = arena.cpu()["operator"], arena.audit.mark()
    begun = time.monotonic()
    await arena.api.send(patch(f"{_VARIABLES}/{NAME}", {"spec": spec}))
    delivered = await until_delivered(arena, known + 1, size) - begun
    await arena.rest(seconds=4)
    requests = arena.audit.requests("operator", mark)
    return {
        "seconds": delivered,
        "writes": tally(requests, apart=("leases",)),
        "cpu": arena.cpu()["operator"] - cpu,
    }


async def until_delivered(arena: Arena, number: int, size: int) -> float:
    """When all that the variable issued in that round, or a later one, was delivered; raises TimeoutError."""
    deadline = time.monotonic() + 60 + size / 10
    while True:
        status = await _status(arena)
        counts = status.get("directives") or {}
        issued = counts.get("issued", 0)
        if status.get("round", 0) >= number and issued >= size and counts.get("delivered") == issued:
            return time.monotonic()
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"round {number} of {NAME} was not delivered in time: {status.get('conditions')}, {counts}"
            )
        await asyncio.sleep(0.1)


async def _status(arena: Arena) -> JsonDict:
    found: JsonDict = (await arena.api.get(f"{_VARIABLES}/{NAME}")).get("status") or {}
    return found


def measurements(samples: Samples) -> list[Measurement]:
    """For each type the time, how that compares with a Parameter's, and the writes per agent."""
    found = []
    plain = samples.get("Parameter")
    usual = Measurement("", "", "s", tuple(one["seconds"] for one in plain["rounds"])).median if plain else None
    for part in [part for part in CHANGES if part in samples]:
        size, rounds = samples[part]["size"], samples[part]["rounds"]
        seconds = tuple(one["seconds"] for one in rounds)
        found.append(
            Measurement("P6T", f"a variable of type {part} changes → all {size:,} agents have it", "s", seconds)
        )
        if usual and part != "Parameter":
            times = tuple(one / usual for one in seconds)
            found.append(Measurement("P6T", "… ÷ a Parameter", "×", times))
        per = tuple(of_agents(one["writes"]) / size for one in rounds)
        note = ", ".join(f"{name} {count / size:.2f}" for name, count in rounds[-1]["writes"].items())
        found.append(Measurement("P6T", "… writes per agent", "writes", per, None, note))
    return found


CASE = Case(
    "P6T",
    "a variable of each type changes → every agent has it",
    measurements,
    lambda plan: list(CHANGES),
    run,
    estimate=lambda plan, part: 20 + plan.rounds(SIZE) * 20,
    left_out="1000 agents (300 instead)",
    place=lambda part: (6, SIZE),
)
