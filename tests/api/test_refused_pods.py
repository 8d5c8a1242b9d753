"""What a real apiserver says of pods that it does not take: a full quota, a LimitRange, a webhook that is down; and orphans."""

import json
from collections.abc import Iterator

import pytest

from api.test_shell_operator import agent, alone, awaited, namespace, pods_of, says  # noqa: F401 - a fixture
from support.kube import JsonDict, Kube, condition, until
from support.operator_process import OperatorProcess, operator

# The operator asks again after half a minute at the latest.
ASKED_AGAIN_SECONDS = 45


@pytest.fixture(scope="module")
def running(alone: None) -> Iterator[OperatorProcess]:  # noqa: F811 - the fixture
    """An operator that leads in a namespace of its own."""
    with namespace("refused") as kube, operator(kube) as process:
        until("it leads", process.leads)
        yield process


@pytest.fixture
def team(running: OperatorProcess) -> Iterator[Kube]:
    """The namespace of that operator, without quotas, limits and agents after each test."""
    kube = running.kube
    yield kube
    kube.run("delete", "resourcequota,limitrange,mba", "--all", "--ignore-not-found")
    until("no pod", lambda: kube.list("pod") == [])


def quota(**hard: str) -> JsonDict:
    return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}, "spec": {"hard": hard}}


def quota_is_known(kube: Kube) -> None:
    until("the quota's status", lambda: (kube.get("resourcequota", "q").get("status") or {}).get("hard"))


def fails(kube: Kube, pod: str) -> None:
    """The kubelet says that the pod's process crashed."""
    ended = {
        "exitCode": 3,
        "reason": "Error",
        "startedAt": "2026-01-01T00:00:00Z",
        "finishedAt": "2026-01-01T00:00:00Z",
    }
    container = {"name": "agent", "image": "nothing:1", "imageID": "", "ready": False, "restartCount": 0}
    status = {"phase": "Failed", "containerStatuses": [container | {"state": {"terminated": ended}}]}
    kube.run("patch", "pod", pod, "--subresource=status", "--type=merge", "-p", json.dumps({"status": status}))


def test_an_ended_pod_gives_way_when_it_is_what_fills_the_quota(team: Kube) -> None:
    team.apply(quota(**{"count/pods": "1"}))
    quota_is_known(team)
    team.apply(agent("worker"))
    until("its pod", lambda: pods_of(team, "worker") == ["worker-0-1"])
    fails(team, "worker-0-1")
    until("the next pod alone", lambda: pods_of(team, "worker") == ["worker-0-2"], ASKED_AGAIN_SECONDS)


def test_a_full_quota_is_told_by_condition_and_event_and_a_raised_one_is_noticed(team: Kube) -> None:
    team.apply(quota(pods="0"))
    quota_is_known(team)
    team.apply(agent("waits"))
    seen = awaited(team, "mba", "waits", "refused", says("Ready", "False", "PodRefused"))
    assert "exceeded quota: q" in condition(seen, "Ready")["message"]

    def told() -> bool:
        events = (e for e in team.list("events.events.k8s.io") if e["regarding"]["name"] == "waits")
        return any(e["reason"] == "PodRefused" and "exceeded quota: q" in e["note"] for e in events)

    until("its Event", told)
    team.apply(quota(pods="1"))
    until("its pod", lambda: pods_of(team, "waits") == ["waits-0-1"], ASKED_AGAIN_SECONDS)
    awaited(team, "mba", "waits", "accepted", says("Accepted", "True"))


def test_a_refusal_is_taken_back_when_the_agent_is_stopped(team: Kube) -> None:
    team.apply(quota(pods="0"))
    quota_is_known(team)
    team.apply(agent("stops"))
    awaited(team, "mba", "stops", "refused", says("Stalled", "True", "PodRefused"))
    team.run("patch", "mba", "stops", "--type=merge", "-p", '{"spec": {"desiredState": "Stopped"}}')
    awaited(team, "mba", "stops", "not stalled", says("Stalled", "False"))


def test_a_webhook_that_is_down_is_told_and_the_pod_runs_once_it_is_gone(team: Kube) -> None:
    hook = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": team.namespace},
        "webhooks": [
            {
                "name": "inject.example.com",
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
                "failurePolicy": "Fail",
                "timeoutSeconds": 2,
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": team.namespace}},
                "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
                "clientConfig": {"url": "https://127.0.0.1:1/mutate"},
            }
        ],
    }
    team.apply(hook)
    try:
        # A webhook applies some moments after its configuration is stored: dry runs tell when.
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "probe"}}
        probe = json.dumps(pod | {"spec": {"containers": [{"name": "c", "image": "nothing:1"}]}})
        until(
            "the webhook applies",
            lambda: not team.run("create", "--dry-run=server", "-o", "name", "-f", "-", stdin=probe, check=False),
        )
        team.apply(agent("injected"))
        seen = awaited(team, "mba", "injected", "told", says("Ready", "False", "PodRefused"))
        assert "failed calling webhook" in condition(seen, "Ready")["message"]
        assert condition(seen, "Stalled")["status"] == "False"
    finally:
        team.run("delete", "mutatingwebhookconfiguration", team.namespace)
    until("its pod", lambda: pods_of(team, "injected") == ["injected-0-1"], ASKED_AGAIN_SECONDS)


def test_an_orphaned_pod_is_taken_over_by_the_agent_that_is_applied_again(team: Kube) -> None:
    team.apply(agent("orphaned"))
    until("its pod", lambda: pods_of(team, "orphaned") == ["orphaned-0-1"])
    pod = team.get("pod", "orphaned-0-1")["metadata"]["uid"]
    team.run("delete", "mba", "orphaned", "--cascade=orphan")
    until("an orphan", lambda: not team.get("pod", "orphaned-0-1")["metadata"].get("ownerReferences"))
    team.apply(agent("orphaned"))
    uid = team.get("mba", "orphaned")["metadata"]["uid"]

    def adopted() -> bool:
        meta = team.get("pod", "orphaned-0-1")["metadata"]
        return (meta["uid"], [owner["uid"] for owner in meta.get("ownerReferences", ())]) == (pod, [uid])

    until("it is adopted", adopted)
    assert pods_of(team, "orphaned") == ["orphaned-0-1"]
