"""Ends and what follows them: restarts on the same node, and moves to another one."""

import os
from collections.abc import Callable

from benchmarks.observers import Observer, merge
from benchmarks.table import Figure, Results
from e2e import agents as team
from support.kube import JsonDict, Kube, namespace, until

PATIENCE = 600

AT_ONCE = {"initialSeconds": 0, "maxSeconds": 0}
CRASHES = """
import time
time.sleep(1.5)
print("ends", time.time(), flush=True)
raise SystemExit(1)
"""


def restarts(results: Results, rounds: int) -> None:
    """A process ends → its replacement pod exists; and how much of that is the operator's part."""
    names = ["crasher-0", "crasher-1"]
    tolerance = {"maxFailures": 200, "failureWindowSeconds": 1, "backoff": AT_ONCE}
    ends: dict[str, float] = {}
    with namespace(f"bench-restarts-{os.getpid()}") as kube:
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
    return {pod["metadata"]["name"] for _, _, pod in list(pods.events) if _is_over(pod)}


def migrations(results: Results, rounds: int) -> None:
    """The annotation → the agent is Ready on the other node; how long nothing served in between; and without a break."""
    with namespace(f"bench-migrations-{os.getpid()}") as kube:
        kube.apply(
            team.agent("mover"),
            # Drained over and over, it would be replaced later each time.
            team.agent("drained", faultTolerance={"backoff": AT_ONCE}),
            team.agent("twins", replicas=2, migrationStrategy="MakeBeforeBreak"),
        )
        for name in ("mover", "drained", "twins"):
            team.running(kube, name)
        with Observer("pods", kube) as pods:
            moved = [_move(kube, pods, "mover", number) for number in range(1, rounds + 1)]
            drained = [_drain(kube, pods, number) for number in range(1, rounds // 2 + 1)]
            merge("agents", kube, "twins", {"metadata": {"annotations": {"mabeam.dev/migrate": "1"}}})
            team.reached(kube, "twins", "both moved", team.renewed(2, replicas=2))
            twins = (
                (event, pod) for _, event, pod in list(pods.events) if pod["metadata"]["name"].startswith("twins-")
            )
            fewest = team.fewest_serving(twins, of=2)
    note = "two real nodes; break before make"
    results.add_times("asked to move → ready on the other node", [whole for whole, _ in moved], note)
    results.add_times(
        "… of it without a pod that serves", [gap for _, gap in moved], "old pod asked to go → new one Ready"
    )
    results.add_times("evicted from a cordoned node → ready on the other one", drained, "two real nodes")
    results.add(
        Figure(
            "pods of two that serve at the least while both move", "pods", fewest, note="make before break", samples=2
        )
    )
    if fewest < 2:
        raise SystemExit("MakeBeforeBreak broke before it made")


def _move(kube: Kube, pods: Observer, name: str, number: int) -> tuple[float, float]:
    """Seconds until the new pod is Ready, and those in which none served."""
    asked = merge("agents", kube, name, {"metadata": {"annotations": {"mabeam.dev/migrate": str(number)}}})
    team.reached(kube, name, f"move {number}", team.renewed(number + 1))
    ready, went = _ready_at(pods, f"{name}-0-{number + 1}"), _asked_to_go_at(pods, f"{name}-0-{number}")
    return ready - asked, ready - went


def _drain(kube: Kube, pods: Observer, number: int) -> float:
    old, new = f"drained-0-{number}", f"drained-0-{number + 1}"
    node = kube.get("pod", old)["spec"]["nodeName"]
    kube.run("cordon", node)
    try:
        team.evict(kube, old)
        team.reached(kube, "drained", f"drain {number}", team.renewed(number + 1))
    finally:
        kube.run("uncordon", node)
    assert kube.get("pod", new)["spec"]["nodeName"] != node
    return _ready_at(pods, new) - _asked_to_go_at(pods, old)


def _ready_at(pods: Observer, name: str) -> float:
    return _when(pods, lambda pod: pod["metadata"]["name"] == name and team.serves("", pod), f"{name} is Ready")


def _asked_to_go_at(pods: Observer, name: str) -> float:
    def goes(pod: JsonDict) -> bool:
        return bool(pod["metadata"]["name"] == name and "deletionTimestamp" in pod["metadata"])

    return _when(pods, goes, f"{name} is asked to go")


def _when(pods: Observer, look: Callable[[JsonDict], bool], what: str) -> float:
    return float(until(what, lambda: pods.first(lambda _, pod: look(pod)), 30))
