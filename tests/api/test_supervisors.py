"""A tree on a real apiserver: the operator tells, the agents obey; what becomes of their pods the test writes itself."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from api.test_shell_operator import NOWHERE, alone, awaited, namespace, pods_of, says  # noqa: F401 - a fixture
from support.kube import JsonDict, Kube, until
from support.operator_process import OperatorProcess, operator


def child(name: str, supervisor: str = "root", **spec: Any) -> JsonDict:
    pod = {"containers": [{"name": "agent", "image": "nothing:1"}], **NOWHERE}
    tolerance = {"maxFailures": 0, "escalationPolicy": "Escalate", "backoff": {"initialSeconds": 0, "maxSeconds": 0}}
    return {
        "apiVersion": "mabeam.dev/v1alpha1",
        "kind": "Agent",
        "metadata": {"name": name},
        "spec": {"supervisor": supervisor, "faultTolerance": tolerance, "template": {"spec": pod}, **spec},
    }


def a_supervisor(name: str, *children: str, **spec: Any) -> JsonDict:
    references = [
        {"kind": "Supervisor" if one.startswith("/") else "Agent", "name": one.removeprefix("/")} for one in children
    ]
    return {
        "apiVersion": "mabeam.dev/v1alpha1",
        "kind": "Supervisor",
        "metadata": {"name": name},
        "spec": {"children": references, **spec},
    }


@pytest.fixture(scope="module")
def running(alone: None) -> Iterator[OperatorProcess]:  # noqa: F811 - the fixture
    """An operator that leads in a namespace of its own."""
    with namespace("tree") as kube, operator(kube) as process:
        until("it leads", process.leads)
        yield process


def runs(kube: Kube, pod: str) -> None:
    """The kubelet says that the pod runs and is ready."""
    until(f"pod {pod}", lambda: kube.find("pod", pod))
    state = {"name": "agent", "ready": True, "restartCount": 0, "image": "nothing:1", "imageID": "", "started": True}
    status = {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [state | {"state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}],
    }
    kube.run("patch", "pod", pod, "--subresource=status", "--type=merge", "-p", json.dumps({"status": status}))


def fails(kube: Kube, pod: str) -> None:
    """The kubelet says that the pod's process crashed."""
    state = {"name": "agent", "ready": False, "restartCount": 0, "image": "nothing:1", "imageID": ""}
    ended = {
        "exitCode": 3,
        "reason": "Error",
        "startedAt": "2026-01-01T00:00:00Z",
        "finishedAt": "2026-01-01T00:00:01Z",
    }
    status = {
        "phase": "Failed",
        "conditions": [{"type": "Ready", "status": "False"}],
        "containerStatuses": [state | {"state": {"terminated": ended}}],
    }
    kube.run("patch", "pod", pod, "--subresource=status", "--type=merge", "-p", json.dumps({"status": status}))


def test_a_group_is_restarted_in_order_when_one_of_it_gives_up(running: OperatorProcess) -> None:
    kube = running.kube
    kube.apply(child("b"), child("a"), a_supervisor("root", "a", "b", strategy="OneForAll", maxRestarts=1))
    runs(kube, "a-0-1")
    runs(kube, "b-0-1")
    awaited(kube, "msup", "root", "ready", says("Ready", "True", "Running"))
    fails(kube, "a-0-1")
    runs(kube, "a-0-2")
    runs(kube, "b-0-2")
    seen = awaited(kube, "msup", "root", "ready again", lambda s: s["totalRestarts"] == 1 and says("Ready", "True")(s))
    assert [(one["child"], one["group"]) for one in seen["status"]["restarts"]] == [("a", ["a", "b"])]
    assert [(one["name"], one["intent"], one["token"]) for one in seen["status"]["children"]] == [
        ("a", "Start", 2),
        ("b", "Start", 2),
    ]
    fails(kube, "b-0-2")
    awaited(kube, "msup", "root", "parked", says("Stalled", "True", "RestartBudgetExhausted"))
    until("nothing runs", lambda: pods_of(kube, "a") == [] or kube.get("mba", "a")["status"]["state"] == "Stopped")


def test_an_agent_waits_for_a_supervisor_that_is_not_there(running: OperatorProcess) -> None:
    kube = running.kube
    kube.apply(child("early", "late"))
    awaited(kube, "mba", "early", "held", says("Ready", "False", "Held"))
    assert pods_of(kube, "early") == []
    kube.apply(a_supervisor("late", "early"))
    until("its pod", lambda: pods_of(kube, "early") == ["early-0-1"])


def test_a_nested_supervisor_starts_in_its_turn(running: OperatorProcess) -> None:
    kube = running.kube
    kube.apply(
        a_supervisor("top", "first", "/inner"),
        a_supervisor("inner", "deep"),
        child("first", "top"),
        child("deep", "inner"),
    )
    until("the first pod", lambda: pods_of(kube, "first") == ["first-0-1"])
    awaited(kube, "msup", "inner", "held", says("Ready", "False", "Held"))
    assert pods_of(kube, "deep") == []
    runs(kube, "first-0-1")
    runs(kube, "deep-0-1")
    awaited(kube, "msup", "top", "ready", says("Ready", "True"))
