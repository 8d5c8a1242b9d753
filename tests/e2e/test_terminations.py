"""Ends that a real kubelet decides: its own words for storage, deadlines, admission, and the drain that deletes."""

from typing import Any

import pytest

from e2e.agents import STAY, agent, container, failures, reached, running, template
from support.kube import JsonDict, Kube, namespace

# One restart, and then a wait that no test outlasts: the ledger keeps the one entry that the tests read.
ONCE: JsonDict = {"maxFailures": 5, "failureWindowSeconds": 600, "backoff": {"initialSeconds": 0, "maxSeconds": 0}}
FILL_ONCE = """
import os, time
if os.environ["MABEAM_INCARNATION"] == "1":
    open("/tmp/big", "wb").write(b"x" * (8 << 20))
while True:
    time.sleep(60)
"""
SMALL_DISK = [{"name": "tmp", "emptyDir": {"sizeLimit": "1Mi"}}]
HOST_PORT = [{"containerPort": 9999, "hostPort": 19999}]


def the_agents() -> list[JsonDict]:
    home: dict[str, Any] = {"nodeName": "node-1"}
    return [
        agent("filled", template=template(container(FILL_ONCE), volumes=SMALL_DISK), faultTolerance=ONCE),
        agent("overdue", template=template(container(STAY), activeDeadlineSeconds=8), restart="Transient"),
        agent("too-large", template=template(container(STAY, resources={"requests": {"cpu": "900"}}), **home)),
        agent("leaving", STAY),
    ]


@pytest.fixture(scope="module")
def started(kube: Kube) -> Kube:
    kube.apply(*the_agents())
    return kube


def first_failure(kube: Kube, name: str) -> JsonDict:
    seen = reached(kube, name, "a failure in the ledger", lambda status: status.get("failures"))
    found: JsonDict = seen["failures"][0]
    return found


def test_a_pod_that_no_node_has_room_for_is_rejected_and_its_agent_is_not_to_blame(started: Kube) -> None:
    found = first_failure(started, "too-large")
    assert (found["cause"], found["reason"], found["counted"]) == ("Evicted", "OutOfcpu", False)
    assert found["message"].startswith("Pod was rejected")
    assert "startTime" not in found


def test_a_pod_whose_host_port_is_taken_is_rejected_by_the_kubelet(started: Kube) -> None:
    # The Pod Security Standard `restricted` of the other namespaces allows no host port.
    with namespace(f"{started.namespace}-ports") as kube:
        kube.apply(agent("first", template=template(container(STAY, ports=HOST_PORT), nodeName="node-1")))
        running(kube, "first", incarnation=1)
        kube.apply(agent("second", template=template(container(STAY, ports=HOST_PORT), nodeName="node-1")))
        found = first_failure(kube, "second")
    assert (found["cause"], found["reason"], found["counted"]) == ("Evicted", "NodePorts", False)


def test_an_agent_that_ran_into_its_own_deadline_has_not_completed(started: Kube) -> None:
    found = first_failure(started, "overdue")
    assert (found["cause"], found["reason"], found["counted"]) == ("DeadlineExceeded", "DeadlineExceeded", True)


def test_an_agent_that_filled_its_own_volume_did_it_itself(started: Kube) -> None:
    found = first_failure(started, "filled")
    assert (found["cause"], found["reason"], found["counted"]) == ("StorageExceeded", "Evicted", True)
    assert found["message"] == 'Usage of EmptyDir volume "tmp" exceeds the limit "1Mi".'
    running(started, "filled", incarnation=2)


def test_a_drain_that_deletes_is_a_disruption_as_one_that_evicts(started: Kube) -> None:
    node = running(started, "leaving", incarnation=1)["pods"][0]["node"]
    started.run("cordon", node)
    try:
        started.run("delete", "pod", "leaving-0-1", "--wait=false")
        seen = reached(started, "leaving", "its second pod", lambda status: status["pods"][0]["incarnation"] == 2)
    finally:
        started.run("uncordon", node)
    assert [(cause, counted) for cause, _, counted in failures(seen)] == [("Evicted", False)]
    assert seen["failures"][0]["reason"] == f"{node} is cordoned"
