"""How long the pure core takes to decide on a variable, by type and number of agents: `make decisions`.

The first decision (with its record and its directives) and a pass over an unchanged world, each the least CPU of several tries:
what else the machine does only ever adds to it. Bars: 100 ms at 1000 agents for every type but Mesh and predicates; growth of n
log n.
"""

import argparse
import math
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from benchmarks.machine import describe, reference_task_ms
from mabeam.api.agent import Agent
from mabeam.api.base import JsonDict
from mabeam.api.variable import OrchestrationVariable
from mabeam.core.passes import variable as coordination
from mabeam.core.reports.report import Report
from mabeam.core.snapshot import VariableSnapshot
from support import compact_json

RESULTS: Final = Path(__file__).parent / "results" / "decisions.json"
NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)
SIZES: Final = (10, 100, 1000, 10_000)
BAR_SECONDS: Final = 0.1
BAR_AT: Final = 1000
# Of n log n, and half as much again for caches that a larger population no longer fits into.
SLACK: Final = 1.5
UNIT: Final = {"minimum": 0, "maximum": 1}

SPECS: Final[Mapping[str, JsonDict]] = {
    "Parameter, mean": {"domain": UNIT, "negotiation": {}},
    "Parameter, auction": {"domain": UNIT, "negotiation": {"strategy": "Auction", "payment": "SecondPrice"}},
    "Parameter, with a vote": {"domain": UNIT, "value": 0.9, "negotiation": {}, "consensus": {}},
    "AgentSelection": {"type": "AgentSelection", "constraints": {"maxConcurrent": 10}},
    "ResourceAllocation": {
        "type": "ResourceAllocation",
        "budget": [{"resource": "memory", "amount": "4Ti"}, {"resource": "tokens-per-minute", "amount": "10M"}],
    },
    "CommunicationTopology, Ring": {"type": "CommunicationTopology", "topology": {"pattern": "Ring"}},
    "CommunicationTopology, Star": {"type": "CommunicationTopology", "topology": {"pattern": "Star"}},
    "CommunicationTopology, Custom": {
        "type": "CommunicationTopology",
        "topology": {"pattern": "Custom", "edges": [{"from": f"a{i:05}", "to": f"a{i + 1:05}"} for i in range(9)]},
    },
    "CoordinationPattern": {"type": "CoordinationPattern", "topology": {"pattern": "Ring"}},
    "PerformanceThreshold": {
        "type": "PerformanceThreshold",
        "threshold": {"below": 0.5, "forSeconds": 0, "onBreach": {"action": "Migrate"}},
    },
    "AdaptationRate": {"type": "AdaptationRate", "rate": {"schedule": {"type": "Cosine", "start": 1, "end": 0}}},
}


def a_world(spec: JsonDict, size: int) -> VariableSnapshot:
    """A variable of that spec and its agents, all of them running, reporting, with a preference and bounds."""
    agents = tuple(_agent(number) for number in range(size))
    body = {
        "metadata": {"name": "v", "namespace": "bench", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"agents": {"selector": {"matchLabels": {"team": "bench"}}}, **spec},
    }
    reports = {agent.metadata.name: Report(performance={"": i * 37 % 100 / 100}) for i, agent in enumerate(agents)}
    return VariableSnapshot(OrchestrationVariable.model_validate(body), agents, reports)


def _agent(number: int) -> Agent:
    bounds = [{"resource": "memory", "min": "64Mi", "max": "2Gi", "weight": 1 + number % 3}]
    return Agent.model_validate(
        {
            "metadata": {
                "name": f"a{number:05}",
                "namespace": "bench",
                "uid": str(number),
                "labels": {"team": "bench"},
            },
            "spec": {
                "module": "team.work:Worker",
                "resources": {"requests": {"memory": "64Mi"}, "bounds": bounds},
                "preferences": [{"variable": "v", "value": number % 10 / 10, "bid": number % 7, "vote": "Yes"}],
            },
            "status": {"observedGeneration": 1, "state": "Running", "readyReplicas": 1},
        }
    )


def least(times: int, work: Callable[[], Any]) -> float:
    """The least CPU seconds of so many tries."""
    found = []
    for _ in range(times):
        began = time.process_time()
        work()
        found.append(time.process_time() - began)
    return min(found)


def measure(spec: JsonDict, size: int) -> JsonDict:
    """The seconds of the first decision and of a pass that finds nothing changed."""
    snapshot = a_world(spec, size)
    times = 7 if size <= BAR_AT else 3
    status = coordination.decide(snapshot, NOW).status
    decided = replace(snapshot, variable=snapshot.variable.model_copy(update={"status": status}))
    return {
        "first": least(times, lambda: coordination.decide(snapshot, NOW)),
        "again": least(times, lambda: coordination.decide(decided, NOW)),
    }


def judge(types: Mapping[str, Mapping[int, JsonDict]]) -> list[str]:
    """What breaks a bar."""
    wrong = []
    for name, sizes in types.items():
        if BAR_AT in sizes and sizes[BAR_AT]["first"] > BAR_SECONDS:
            wrong.append(f"{name}: {sizes[BAR_AT]['first'] * 1000:.0f} ms at {BAR_AT} agents; the bar is 100 ms")
        for small, large in zip(sorted(sizes), sorted(sizes)[1:], strict=False):
            if small < 100:
                continue  # below, what a pass costs whatever it decides on is most of it
            allowed = SLACK * (large * math.log(large)) / (small * math.log(small))
            grown = sizes[large]["first"] / sizes[small]["first"]
            if grown > allowed:
                wrong.append(f"{name}: {grown:.0f} times as long from {small} to {large}; allowed: {allowed:.0f}")
    return wrong


def main() -> int:
    """The exit code: 1 when a bar is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--keep", action="store_true", help="Write the figures to benchmarks/results/decisions.json.")
    arguments = parser.parse_args()
    types: dict[str, dict[int, JsonDict]] = {}
    print("milliseconds of CPU, first decision / nothing changed")
    print(f"{'':32}" + "".join(f"{size:>18,}" for size in arguments.sizes))
    for name, spec in SPECS.items():
        types[name] = {size: measure(spec, size) for size in arguments.sizes}
        cells = (f"{cell['first'] * 1000:.1f} / {cell['again'] * 1000:.1f}" for cell in types[name].values())
        print(f"{name:32}" + "".join(f"{cell:>18}" for cell in cells), flush=True)
    wrong = judge(types)
    if arguments.keep:
        RESULTS.write_text(
            compact_json.dumps(
                {"machine": describe(""), "reference_task_ms": reference_task_ms(), "types": types, "broken": wrong}
            )
        )
    print("\n".join(wrong) or "every bar holds")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
