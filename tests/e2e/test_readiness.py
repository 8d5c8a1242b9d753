"""Readiness of modules on real kubelets: the SDK says when; what cannot start is never ready; a failing change stops early."""

import pytest

from e2e.agents import agent, reached, readiness, running, status
from support.kube import JsonDict, Kube, until

CODE = """
import os, time

class Slow:
    def __init__(self, agent):
        self.agent = agent
        while not os.path.exists("/tmp/loaded"):
            time.sleep(0.1)

    def run(self):
        print("key", os.environ["KEY"], flush=True)
        self.agent.stopping.wait()

class Quick:
    def __init__(self, agent):
        self.agent = agent

    def run(self):
        self.agent.stopping.wait()
"""
ONCE = {"maxFailures": 1, "failureWindowSeconds": 600, "backoff": {"initialSeconds": 0, "maxSeconds": 0}}


def of_module(name: str, module: str, **spec: object) -> JsonDict:
    """An agent whose class comes from a ConfigMap, and a variable of whose process from a Secret."""
    body = agent(name, module=module, **spec)
    del body["spec"]["template"]
    body["spec"] |= {
        "env": [
            {"name": "PYTHONPATH", "value": "/app"},
            {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "key", "key": "token"}}},
        ],
        "volumes": [{"name": "app", "configMap": {"name": "lab"}}],
        "volumeMounts": [{"name": "app", "mountPath": "/app", "readOnly": True}],
    }
    return body


@pytest.fixture(scope="module")
def lab(kube: Kube) -> Kube:
    code: JsonDict = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "lab"}, "data": {"lab.py": CODE}}
    key: JsonDict = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "key"},
        "stringData": {"token": "s3cret"},
    }
    kube.apply(code, key)
    return kube


def test_a_module_is_ready_once_its_init_has_returned_and_has_what_was_given_to_it(lab: Kube) -> None:
    lab.apply(of_module("slow", "lab:Slow"))
    until(
        "it runs",
        lambda: "running" in str((lab.find("pod", "slow-0-1") or {}).get("status", {}).get("containerStatuses")),
    )
    reached(lab, "slow", "says what it waits for", lambda s: "not ready yet" in readiness(s).get("message", ""))
    assert readiness(status(lab, "slow"))["status"] == "False"
    lab.run("exec", "slow-0-1", "--", "python3", "-c", "open('/tmp/loaded', 'w')")
    running(lab, "slow")
    until("it has its key", lambda: "key s3cret" in lab.run("logs", "slow-0-1"))


def test_a_missing_module_is_never_ready_and_a_change_to_it_stops_at_the_first_replica(lab: Kube) -> None:
    lab.apply(of_module("fleet", "lab:Quick", replicas=3, faultTolerance=ONCE))
    reached(lab, "fleet", "three are ready", lambda s: s.get("readyReplicas") == 3)
    lab.apply(of_module("fleet", "nowhere.lab:Lab", replicas=3, faultTolerance=ONCE))
    halted = reached(lab, "fleet", "the change stops", lambda s: readiness(s).get("reason") == "RolloutHalted")
    assert halted["readyReplicas"] == 2
    assert [record["incarnation"] for record in halted["pods"][1:]] == [1, 1]
    lab.apply(of_module("fleet", "lab:Quick", replicas=3, faultTolerance=ONCE))
    reached(lab, "fleet", "three are ready again", lambda s: s.get("readyReplicas") == 3)


def test_a_misspelt_field_of_a_template_is_refused_in_the_apiservers_words(lab: Kube) -> None:
    container: JsonDict = {"name": "agent", "image": "x:1", "readinesProbe": {"tcpSocket": {"port": 1}}}
    body = agent("misspelt", template={"spec": {"containers": [container]}})
    lab.apply(body)
    refused = reached(lab, "misspelt", "is refused", lambda s: readiness(s).get("reason") == "PodRefused")
    assert 'unknown field "spec.containers[0].readinesProbe"' in readiness(refused)["message"]


def test_plain_kubectl_drain_moves_a_module(lab: Kube) -> None:
    lab.apply(of_module("mover", "lab:Quick"))
    running(lab, "mover")
    node = lab.get("pod", "mover-0-1")["spec"]["nodeName"]
    try:
        lab.run("drain", node, "--pod-selector=mabeam.dev/agent=mover", "--ignore-daemonsets", "--timeout=60s")
        moved = reached(
            lab, "mover", "runs elsewhere", lambda s: s["pods"][0]["incarnation"] == 2 and s.get("readyReplicas") == 1
        )
    finally:
        lab.run("uncordon", node)
    assert moved["pods"][0]["node"] != node
    assert (moved.get("restarts", 0), moved["disruptions"]) == (0, 1)
