"""A ResourceAllocation on real kernels: cgroups change under a process that runs on, and go back when a node has no more."""

import json

import pytest

from e2e.agents import decided, execute, failures, is_free, listener, obeyed, reached, reads, running, variable
from support.kube import JsonDict, Kube, until

MI = 1024 * 1024
# cgroup v2, else v1.
LOOK = """
import json
def first(*paths):
    for path in paths:
        try:
            with open("/sys/fs/cgroup/" + path) as file:
                return file.read().split()[0]
        except OSError:
            continue
print(json.dumps({
    "memory": int(first("memory.max", "memory/memory.limit_in_bytes")),
    "quota": int(first("cpu.max", "cpu/cpu.cfs_quota_us")),
    "weight": int(first("cpu.weight", "cpu/cpu.shares")),
}))
"""


def cgroup(kube: Kube, pod: str) -> JsonDict:
    found: JsonDict = json.loads(execute(kube, pod, LOOK))
    return found


def identity(pod: JsonDict) -> tuple[str, str, int, str]:
    """What is another when the pod, or its container, was made anew."""
    (status,) = pod["status"]["containerStatuses"]
    return pod["metadata"]["uid"], status["containerID"], status["restartCount"], pod["status"]["qosClass"]


def amounts(kube: Kube, pod: str) -> JsonDict:
    return dict(kube.get("pod", pod)["spec"]["containers"][0]["resources"])


def weighed(name: str, weight: float) -> JsonDict:
    own = {
        "requests": {"cpu": "50m", "memory": "64Mi"},
        "limits": {"cpu": "500m", "memory": "128Mi"},
        "bounds": [{"resource": "memory", "min": "32Mi", "weight": weight}],
        "cpuWeight": weight,
    }
    return listener(name, resources=own)


def shared(memory: str) -> JsonDict:
    amounts_ = {"memory": memory, "cpu": "300m", "tokens-per-minute": "900"}
    budget = [{"resource": resource, "amount": amount} for resource, amount in amounts_.items()]
    return variable("shares", ["heavy", "light"], type="ResourceAllocation", budget=budget)


@pytest.fixture(scope="module")
def pair(kube: Kube) -> Kube:
    kube.apply(weighed("heavy", 2), weighed("light", 1))
    for name in ("heavy", "light"):
        running(kube, name)
    return kube


def test_shares_change_the_cgroups_of_running_processes_in_proportion(pair: Kube) -> None:
    before, was = pair.get("pod", "heavy-0-1"), cgroup(pair, "heavy-0-1")
    assert (was["memory"], was["quota"]) == (128 * MI, 50_000)
    pair.apply(shared("192Mi"))
    seen = obeyed(pair, "shares")
    assert seen["value"]["heavy"] == {"cpu": "200m", "memory": "128Mi", "tokens-per-minute": "450"}
    assert seen["value"]["light"] == {"cpu": "100m", "memory": "64Mi", "tokens-per-minute": "450"}
    now = cgroup(pair, "heavy-0-1")
    assert (now["memory"], now["quota"]) == (256 * MI, 200_000)
    assert now["weight"] > was["weight"]
    assert identity(pair.get("pod", "heavy-0-1")) == identity(before)
    assert reads(pair, "heavy-0-1")["resources"] == seen["value"]["heavy"]
    assert pair.get("mba", "heavy")["status"]["effective"]["resources"]["requests"] == {
        "cpu": "200m",
        "memory": "128Mi",
    }


def test_what_the_node_does_not_have_is_refused_and_the_last_good_amounts_come_back(pair: Kube) -> None:
    before = pair.get("pod", "heavy-0-1")
    pair.apply(shared("9Ti"))
    seen = decided(pair, "shares", "refused", lambda s: s.get("directives", {}).get("refused") == 2)
    assert all(item["reason"] == "ResourceExhausted" for item in seen["directives"]["items"])
    good = {"requests": {"cpu": "200m", "memory": "128Mi"}, "limits": {"cpu": "2", "memory": "256Mi"}}
    until("the pod has its last good amounts", lambda: amounts(pair, "heavy-0-1") == good)
    now = cgroup(pair, "heavy-0-1")
    assert (now["memory"], now["quota"]) == (256 * MI, 200_000)
    assert identity(pair.get("pod", "heavy-0-1")) == identity(before)


def test_without_the_variable_the_pods_have_again_what_their_spec_says(pair: Kube) -> None:
    before = pair.get("pod", "heavy-0-1")
    pair.run("delete", "mov", "shares")
    for name in ("heavy", "light"):
        seen = reached(pair, name, "nobody tells it anything", is_free)
        assert (seen["restarts"], failures(seen)) == (0, [])
    until("the kernel has it too", lambda: cgroup(pair, "heavy-0-1")["memory"] == 128 * MI)
    until("the processor too", lambda: cgroup(pair, "heavy-0-1")["quota"] == 50_000)
    assert identity(pair.get("pod", "heavy-0-1")) == identity(before)
    until("the file tells of no amounts any more", lambda: reads(pair, "heavy-0-1")["resources"] == {})
