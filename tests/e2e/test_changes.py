"""What a user changes while agents run: the spec, the number of replicas; one ordinal at a time, and nobody is blamed."""

import pytest

from e2e.agents import (
    PATIENCE,
    STAY,
    agent,
    container,
    failures,
    fewest_serving,
    is_ready,
    reached,
    running,
    template,
    watched,
)
from support.kube import JsonDict, Kube


def twins(word: str) -> JsonDict:
    return agent("twins", template=template(container(STAY, env={"WORD": word})), replicas=2)


@pytest.fixture(scope="module")
def twins_up(kube: Kube) -> Kube:
    kube.apply(twins("old"), agent("crowd"))
    reached(kube, "twins", "two ready", lambda s: s.get("readyReplicas") == 2)
    return kube


def test_a_changed_spec_replaces_one_ordinal_at_a_time_and_counts_nothing(twins_up: Kube) -> None:
    with watched(twins_up, "pod", "mabeam.dev/agent=twins") as pods:
        twins_up.apply(twins("new"))
        seen = reached(
            twins_up,
            "twins",
            "both replaced and ready",
            lambda s: [r["incarnation"] for r in s["pods"]] == [2, 2] and s.get("readyReplicas") == 2 and is_ready(s),
        )
        told = pods()
    assert (failures(seen), seen["restarts"]) == ([], 0)
    for name in ("twins-0-2", "twins-1-2"):
        containers = twins_up.get("pod", name)["spec"]["containers"]
        assert {"name": "WORD", "value": "new"} in containers[0]["env"]
    assert fewest_serving(told, of=2) == 1
    assert {pod["metadata"]["name"] for _, pod in told} == {"twins-0-1", "twins-1-1", "twins-0-2", "twins-1-2"}


def test_kubectl_scale_adds_and_takes_away_without_blame(twins_up: Kube) -> None:
    running(twins_up, "crowd", incarnation=1)
    twins_up.run("scale", "mba/crowd", "--replicas=3")
    seen = reached(twins_up, "crowd", "three ready", lambda s: s.get("readyReplicas") == 3 and is_ready(s))
    assert [record["incarnation"] for record in seen["pods"]] == [1, 1, 1]
    twins_up.run("scale", "mba/crowd", "--replicas=1")
    seen = reached(
        twins_up, "crowd", "one left", lambda s: [r["ordinal"] for r in s["pods"]] == [0] and is_ready(s), PATIENCE
    )
    assert (seen["pods"][0]["incarnation"], seen["restarts"], failures(seen)) == (1, 0, [])
    left = [pod["metadata"]["name"] for pod in twins_up.list("pod", "mabeam.dev/agent=crowd")]
    assert left == ["crowd-0-1"]


def test_an_autoscaler_scales_an_agent(twins_up: Kube) -> None:
    twins_up.apply(agent("elastic"))
    running(twins_up, "elastic", incarnation=1)
    target = {"apiVersion": "mabeam.dev/v1alpha1", "kind": "Agent", "name": "elastic"}
    twins_up.apply(
        {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "elastic"},
            "spec": {"scaleTargetRef": target, "minReplicas": 3, "maxReplicas": 5},
        }
    )
    seen = reached(twins_up, "elastic", "as many as the autoscaler asks for", lambda s: s.get("readyReplicas") == 3)
    assert ([record["incarnation"] for record in seen["pods"]], failures(seen)) == ([1, 1, 1], [])
    scaler = twins_up.get("hpa", "elastic")
    assert (scaler["status"]["currentReplicas"], scaler["status"]["desiredReplicas"]) != (0, 0)
