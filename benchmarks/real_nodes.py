"""Measures latencies, writes and memory on the tests' cluster, and prints a table: `make bench-nodes` (README.md beside this).

All times are read from one clock: the agents' processes, the operator and this observer run on the same machine.
"""

import argparse
import json
import os
import platform
import random
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.endings import migrations, restarts
from benchmarks.observers import AuditLog, Observer, apart, operator_metric, patch
from benchmarks.table import Figure, Results, table
from e2e import agents as team
from e2e.release import NAMESPACE, install, uninstall
from support import compact_json
from support.kube import JsonDict, Kube, namespace, required, until

PATIENCE = 600


# --- the measurements -----------------------------------------------------------------------------------------------------


def directives(results: Results, rounds: int) -> None:
    """A changed preference → the new value in the agents' processes, and → the variable says that all have it."""
    names = [f"agent-{number}" for number in range(4)]
    with namespace(f"bench-directives-{os.getpid()}") as kube:
        kube.apply(
            *(team.speaker(name, preferences=[{"variable": "temperature", "value": 1.0}]) for name in names),
            team.variable("temperature", names, negotiation={"aggregation": "Median"}, domain={"minimum": 0}),
        )
        for name in names:
            team.running(kube, name)
        # One decides for all: the others' static preferences weigh nothing from here on.
        for name in names[1:]:
            patch("agents", kube, name, {"preferences": []})
        values = [round(2 + number / 100, 2) for number in range(rounds)]
        asked: dict[float, float] = {}
        with Observer("orchestrationvariables", kube) as variables:
            until("one negotiates for all", lambda: _value(kube) == 1.0 and _converged(kube), PATIENCE)
            for value in values:
                asked[value] = patch(
                    "agents", kube, names[0], {"preferences": [{"variable": "temperature", "value": value}]}
                )
                until(f"{value} is everywhere", lambda: _converged_at(variables, value) is not None, PATIENCE)  # noqa: B023
                time.sleep(random.uniform(0, 1))  # so that no period of anything falls in step with the rounds
            converged = {value: _converged_at(variables, value) for value in values}
        applied: dict[float, list[float]] = {value: [] for value in values}
        for name in names:
            for text in kube.run("logs", f"{name}-0-1").splitlines():
                words = text.split()
                if words[0] == "applied" and float(words[2]) in applied:
                    applied[float(words[2])].append(float(words[3]))
    assert all(len(times) == len(names) for times in applied.values()), "every agent applied every value once"
    each = [when - asked[value] for value, times in applied.items() for when in times]
    every = [max(times) - asked[value] for value, times in applied.items()]
    acknowledged = [when - asked[value] for value, when in converged.items() if when is not None]
    results.add_times(
        "preference changed → an agent's process has the new value", each, "of 4 agents; they look every 20 ms"
    )
    results.add_times("preference changed → all 4 agents' processes have it", every)
    results.add_times("preference changed → the variable says that all 4 acknowledged", acknowledged, "seen by a watch")


def _value(kube: Kube) -> object:
    return (kube.get("mov", "temperature").get("status") or {}).get("value")


def _ready_reason(found: JsonDict) -> str:
    conditions = (found.get("status") or {}).get("conditions") or []
    return next((c["reason"] for c in conditions if c["type"] == "Ready"), "")


def _converged(kube: Kube) -> bool:
    return _ready_reason(kube.get("mov", "temperature")) == "Converged"


def _converged_at(variables: Observer, value: float) -> float | None:
    return variables.first(
        lambda _, found: found.get("status", {}).get("value") == value and _ready_reason(found) == "Converged"
    )


def lifecycle(results: Results, log: AuditLog, count: int) -> None:
    """The operator's writes per Agent from its creation over Running to its deletion; Events and the Lease apart."""
    names = [f"agent-{number}" for number in range(count)]
    with namespace(f"bench-lifecycle-{os.getpid()}") as kube, log.writes() as writes:
        kube.apply(*(team.agent(name) for name in names))
        for name in names:
            team.running(kube, name)
        kube.run("delete", "mba", "--all", "--timeout=120s", timeout=150)
        until("their pods are gone", lambda: not kube.list("pod"), PATIENCE)
    counted = apart(writes, "leases", "events")
    note = ", ".join(f"{name} {number}" for name, number in sorted(counted.items()))
    each = round(sum(counted.values()) / count, 2)
    results.add(Figure("writes per Agent, create → Running → delete", "writes", each, samples=count, bar=3, note=note))
    events = round((sum(writes.values()) - sum(apart(writes, "events").values())) / count, 2)
    results.add(Figure("Events per Agent, create → Running → delete", "writes", events, samples=count))


def idle(results: Results, log: AuditLog, count: int, seconds: int) -> None:
    """What so many agents cost at which nothing happens."""
    with namespace(f"bench-idle-{os.getpid()}") as kube:
        names = [f"agent-{number:03}" for number in range(count)]
        kube.apply(*(team.agent(name) for name in names))

        def ready() -> int:
            return sum(1 for item in kube.list("mba") if _ready_reason(item) == "Running")

        until(f"{count} agents run", lambda: ready() == count, PATIENCE)
        time.sleep(15)  # the last Events are posted
        cpu = operator_metric("process_cpu_seconds_total")
        with log.writes() as writes:
            time.sleep(seconds)
        cpu = operator_metric("process_cpu_seconds_total") - cpu
        assert ready() == count, "an agent did not stay as it was"
        resident = operator_metric("process_resident_memory_bytes")
    others = apart(writes, "leases")
    note = ", ".join(f"{name} {number}" for name, number in sorted(writes.items()))
    results.add(
        Figure(
            f"writes of {count} idle agents in {seconds} s, Lease apart",
            "writes",
            sum(others.values()),
            bar=0,
            note=note,
        )
    )
    renewals = sum(writes.values()) - sum(others.values())
    results.add(Figure(f"renewals of the Lease in {seconds} s", "writes", renewals))
    results.add(Figure(f"operator's memory with {count} idle agents", "MB", round(resident / 1e6, 1), note="resident"))
    results.add(Figure(f"operator's CPU with {count} idle agents", "% of a core", round(100 * cpu / seconds, 2)))


def machine() -> dict[str, Any]:
    """Where and when this was measured: a busy machine makes slower figures."""
    return {
        "measured_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "cpus": os.cpu_count(),
        "load_average": [round(value, 2) for value in os.getloadavg()],
        "kernel": platform.release(),
        "kubernetes": json.loads(Kube("default").run("version", "-o", "json"))["serverVersion"]["gitVersion"],
        "nodes": len(Kube("default").list("node")),
        "image": required("MABEAM_TEST_IMAGE"),
    }


def main() -> int:
    """The exit code: 1 when a bar is broken."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.real_nodes", description=__doc__)
    parser.add_argument("--rounds", type=int, default=40, help="rounds of each latency (default: %(default)s)")
    parser.add_argument("--agents", type=int, default=100, help="idle agents (default: %(default)s)")
    parser.add_argument("--idle-seconds", type=int, default=120, help="how long they idle (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results/real-nodes.json")
    options = parser.parse_args()
    log, results = AuditLog(), Results(machine=machine())
    with namespace(NAMESPACE):
        install()
        try:
            time.sleep(20)  # start-up is over, nothing is there to look after
            resident = operator_metric("process_resident_memory_bytes")
            results.add(Figure("operator's memory with no agents", "MB", round(resident / 1e6, 1), note="resident"))
            lifecycle(results, log, 10)
            directives(results, options.rounds)
            restarts(results, options.rounds)
            migrations(results, options.rounds)
            idle(results, log, options.agents, options.idle_seconds)
        finally:
            uninstall()
    options.output.parent.mkdir(parents=True, exist_ok=True)
    document = {"machine": results.machine, "figures": [asdict(f) | {"holds": f.holds} for f in results.figures]}
    options.output.write_text(compact_json.dumps(document))
    print(f"\n{table(results)}\n\n{options.output}")
    return 0 if all(figure.holds for figure in results.figures) else 1


if __name__ == "__main__":
    sys.exit(main())
