"""Measures latencies, writes and memory on the tests' cluster, and prints a table: `make figures` (README.md beside this).

All times are read from one clock: the agents' processes, the operator and this observer run on the same machine.
"""

import argparse
import json
import math
import os
import platform
import random
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import kubernetes

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))  # the tests' way to the cluster is the benchmarks' too

from e2e import agents as team  # noqa: E402
from e2e.release import NAMESPACE, install, operator_pods, uninstall  # noqa: E402
from support.kube import JsonDict, Kube, namespace, required, until  # noqa: E402

API = "mabeam.dev", "v1alpha1"
WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})
PATIENCE = 600

CRASHES = """
import time
time.sleep(1.5)
print("ends", time.time(), flush=True)
raise SystemExit(1)
"""


@dataclass(frozen=True)
class Figure:
    """One line of the table; `bar` is the most `p50` (or the only number) may be."""

    name: str
    unit: str
    p50: float
    p95: float | None = None
    samples: int = 1
    bar: float | None = None
    note: str = ""

    @property
    def holds(self) -> bool:
        """Whether the bar is kept; a figure without one always does."""
        return self.bar is None or self.p50 <= self.bar


@dataclass
class Results:
    """The figures and where they were measured."""

    figures: list[Figure] = field(default_factory=list)
    machine: dict[str, Any] = field(default_factory=dict)

    def add(self, figure: Figure) -> None:
        """Keep a figure, and say it at once."""
        self.figures.append(figure)
        print(f"  {figure.name}: {line(figure)}", flush=True)

    def add_times(self, name: str, seconds: Sequence[float], note: str = "") -> None:
        """A latency: its median and 95th percentile in milliseconds."""
        ordered = sorted(1000 * value for value in seconds)
        p95 = ordered[math.ceil(0.95 * len(ordered)) - 1]
        self.add(Figure(name, "ms", round(statistics.median(ordered), 1), round(p95, 1), len(ordered), note=note))


def line(figure: Figure) -> str:
    """A figure's numbers in words."""
    p95 = f", p95 {figure.p95:g}" if figure.p95 is not None else ""
    bar = f" (bar {figure.bar:g}: {'kept' if figure.holds else 'BROKEN'})" if figure.bar is not None else ""
    return f"{figure.p50:g} {figure.unit}{p95}{bar}, n={figure.samples}"


# --- the cluster ------------------------------------------------------------------------------------------------------


class Observer:
    """Watches a kind in a namespace from a thread, and notes when it heard of each change."""

    def __init__(self, path: str, kube: Kube) -> None:
        self.told: list[tuple[float, str, JsonDict]] = []
        self._api = kubernetes.client.CustomObjectsApi(kubernetes.config.new_client_from_config())
        self._core = kubernetes.client.CoreV1Api(self._api.api_client)
        self._path, self._kube = path, kube
        self._watch = kubernetes.watch.Watch()
        self._stopped = False
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def _listen(self) -> None:
        space = self._kube.namespace
        if self._path == "pods":
            stream = self._watch.stream(self._core.list_namespaced_pod, space)
        else:
            stream = self._watch.stream(self._api.list_namespaced_custom_object, *API, space, self._path)
        try:
            for event in stream:
                self.told.append((time.time(), event["type"], event["raw_object"]))
        except Exception:  # a stream nobody listens to any more may end as it likes
            if not self._stopped:
                raise

    def first(self, look: Callable[[str, JsonDict], bool]) -> float | None:
        """When the first change was heard of that `look` recognises."""
        return next((when for when, event, found in list(self.told) if look(event, found)), None)

    def __enter__(self) -> "Observer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped = True
        self._watch.stop()


class AuditLog:
    """What the operator asked of the apiserver, from the embedded cluster's audit log."""

    def __init__(self) -> None:
        self.path = Path(required("KUBECONFIG")).parent / "logs/audit.log"
        if not self.path.exists():
            raise SystemExit(f"no audit log at {self.path}: the writes can be counted on the embedded cluster only")

    @contextmanager
    def writes(self) -> Iterator[Counter[str]]:
        """The operator's writes while the block runs, counted when it ends: `verb resource/subresource` → number."""
        found: Counter[str] = Counter()
        start = self.path.stat().st_size
        yield found
        with self.path.open() as file:
            file.seek(start)
            for text in file:
                entry = json.loads(text)
                ours = str(entry.get("userAgent", "")).startswith("mabeam/")
                if ours and entry["stage"] == "ResponseComplete" and entry["verb"] in WRITES:
                    place = entry["objectRef"]
                    name = "/".join(part for part in (place["resource"], place.get("subresource")) if part)
                    found[f"{entry['verb']} {name}"] += 1


def apart(writes: Mapping[str, int], *resources: str) -> dict[str, int]:
    """The writes without those to these resources."""
    return {name: count for name, count in writes.items() if name.split()[1].split("/")[0] not in resources}


def operator_metric(name: str) -> float:
    """A number from the operator's own /metrics."""
    (pod,) = operator_pods()
    path = f"/api/v1/namespaces/{NAMESPACE}/pods/{pod}:8080/proxy/metrics"
    text = Kube(NAMESPACE).run("get", "--raw", path)
    return next(float(found.split()[1]) for found in text.splitlines() if found.startswith(f"{name} "))


def patch(plural: str, kube: Kube, name: str, spec: JsonDict) -> float:
    """Merge into an object's spec over a connection that is open already; returns the time right before."""
    started = time.time()
    _api().patch_namespaced_custom_object(*API, kube.namespace, plural, name, {"spec": spec})
    return started


_KEPT: dict[str, Any] = {}


def _api() -> Any:
    if "api" not in _KEPT:
        _KEPT["api"] = kubernetes.client.CustomObjectsApi(kubernetes.config.new_client_from_config())
        _KEPT["api"].api_client.set_default_header("Content-Type", "application/merge-patch+json")
    return _KEPT["api"]


# --- the measurements -----------------------------------------------------------------------------------------------------


def directives(results: Results, rounds: int) -> None:
    """A changed preference → the new value in the agents' processes, and → the variable says that all have it."""
    names = [f"agent-{number}" for number in range(4)]
    with namespace(f"figures-directives-{os.getpid()}") as kube:
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
                until(f"{value} is everywhere", lambda: _heard(variables, value) is not None, PATIENCE)  # noqa: B023
                time.sleep(random.uniform(0, 1))  # so that no period of anything falls in step with the rounds
            said = {value: _heard(variables, value) for value in values}
        applied: dict[float, list[float]] = {value: [] for value in values}
        for name in names:
            for text in kube.run("logs", f"{name}-0-1").splitlines():
                words = text.split()
                if words[0] == "applied" and float(words[2]) in applied:
                    applied[float(words[2])].append(float(words[3]))
    assert all(len(times) == len(names) for times in applied.values()), "every agent applied every value once"
    each = [when - asked[value] for value, times in applied.items() for when in times]
    every = [max(times) - asked[value] for value, times in applied.items()]
    told = [when - asked[value] for value, when in said.items() if when is not None]
    results.add_times(
        "preference changed → an agent's process has the new value", each, "of 4 agents; they look every 20 ms"
    )
    results.add_times("preference changed → all 4 agents' processes have it", every)
    results.add_times("preference changed → the variable says that all 4 acknowledged", told, "seen by a watch")


def _value(kube: Kube) -> object:
    return (kube.get("mov", "temperature").get("status") or {}).get("value")


def _ready_reason(found: JsonDict) -> str:
    conditions = (found.get("status") or {}).get("conditions") or []
    return next((c["reason"] for c in conditions if c["type"] == "Ready"), "")


def _converged(kube: Kube) -> bool:
    return _ready_reason(kube.get("mov", "temperature")) == "Converged"


def _heard(variables: Observer, value: float) -> float | None:
    return variables.first(
        lambda _, found: found.get("status", {}).get("value") == value and _ready_reason(found) == "Converged"
    )


def restarts(results: Results, rounds: int) -> None:
    """A process ends → its replacement pod exists; and how much of that is the operator's part."""
    names = ["crasher-0", "crasher-1"]
    backoff = {"initialSeconds": 0, "maxSeconds": 0}
    tolerance = {"maxFailures": 200, "failureWindowSeconds": 1, "backoff": backoff}
    ends: dict[str, float] = {}
    with namespace(f"figures-restarts-{os.getpid()}") as kube:
        with Observer("pods", kube) as pods:
            kube.apply(*(team.agent(name, CRASHES, faultTolerance=tolerance) for name in names))

            def enough() -> bool:
                for name in _ended(pods) - ends.keys():
                    # Kept until the next failure; its last word is when it ended.
                    words = kube.run("logs", name, check=False).split()
                    if words[:1] == ["ends"]:
                        ends[name] = float(words[1])
                return len(_ended(pods)) >= rounds + len(names)

            until("enough restarts", enough, PATIENCE)
        whole, ours = [], []
        for name in _ended(pods):
            seen_ended = pods.first(lambda _, pod: pod["metadata"]["name"] == name and _is_over(pod))  # noqa: B023
            head, _, incarnation = name.rpartition("-")
            following = f"{head}-{int(incarnation) + 1}"
            created = pods.first(lambda event, pod: event == "ADDED" and pod["metadata"]["name"] == following)  # noqa: B023
            if created is not None and seen_ended is not None:
                ours.append(created - seen_ended)
                if name in ends:
                    whole.append(created - ends[name])
    results.add_times(
        "process ends → replacement pod created", whole, "the kubelet's own look at its containers included"
    )
    results.add_times("end of the container seen → replacement pod seen", ours, "the operator's part: two writes")


def _is_over(pod: JsonDict) -> bool:
    return any("terminated" in s.get("state", {}) for s in pod.get("status", {}).get("containerStatuses", []))


def _ended(pods: Observer) -> set[str]:
    return {pod["metadata"]["name"] for _, _, pod in list(pods.told) if _is_over(pod)}


def lifecycle(results: Results, log: AuditLog, count: int) -> None:
    """The operator's writes per Agent from its creation over Running to its deletion; Events and the Lease apart."""
    names = [f"agent-{number}" for number in range(count)]
    with namespace(f"figures-lifecycle-{os.getpid()}") as kube, log.writes() as writes:
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
    with namespace(f"figures-idle-{os.getpid()}") as kube:
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


# --- the table --------------------------------------------------------------------------------------------------------------


def table(results: Results) -> str:
    """The figures as a table in Markdown."""
    rows = ["| figure | p50 | p95 | unit | n | bar | |", "|---|---:|---:|---|---:|---|---|"]
    for figure in results.figures:
        p95 = "" if figure.p95 is None else f"{figure.p95:g}"
        bar = "" if figure.bar is None else f"≤ {figure.bar:g}, {'kept' if figure.holds else '**broken**'}"
        rows.append(
            f"| {figure.name} | {figure.p50:g} | {p95} | {figure.unit} | {figure.samples} | {bar} | {figure.note} |"
        )
    return "\n".join(rows)


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
    parser = argparse.ArgumentParser(prog="python -m benchmarks.figures", description=__doc__)
    parser.add_argument("--rounds", type=int, default=40, help="rounds of each latency (default: %(default)s)")
    parser.add_argument("--agents", type=int, default=100, help="idle agents (default: %(default)s)")
    parser.add_argument("--idle-seconds", type=int, default=120, help="how long they idle (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results/figures.json")
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
            idle(results, log, options.agents, options.idle_seconds)
        finally:
            uninstall()
    options.output.parent.mkdir(parents=True, exist_ok=True)
    document = {"machine": results.machine, "figures": [asdict(f) | {"holds": f.holds} for f in results.figures]}
    options.output.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    print(f"\n{table(results)}\n\n{options.output}")
    return 0 if all(figure.holds for figure in results.figures) else 1


if __name__ == "__main__":
    sys.exit(main())
