"""The operator itself is killed, doubled and uninstalled: nothing twice, nothing lost, nothing in the way.

The last test of this file uninstalls it.
"""

import json

import pytest

from e2e.agents import PATIENCE, STAY, agent, ends, failures, is_ready, reached, running, status, watched
from e2e.release import NAMESPACE, install, leader, operator_pods, uninstall
from support.kube import JsonDict, Kube, namespace, until

pytestmark = pytest.mark.alone

CROWD = [f"worker-{number}" for number in range(8)]


def created(told: list[tuple[str, JsonDict]]) -> list[str]:
    """The names of the pods the watch told of, each as often as a pod of that name came into being."""
    return sorted(name for name, _ in {(pod["metadata"]["name"], pod["metadata"]["uid"]) for _, pod in told})


@pytest.fixture(scope="module")
def crowd(kube: Kube) -> Kube:
    kube.apply(*(agent(name, STAY, faultTolerance={"backoff": {"initialSeconds": 1}}) for name in CROWD))
    for name in CROWD:
        running(kube, name, incarnation=1)
    return kube


def test_the_operator_obeys_the_strictest_pod_security_and_is_ready(operator: Kube) -> None:
    (name,) = operator_pods()
    pod = operator.get("pod", name)
    assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
    assert all(c["ready"] for c in pod["status"]["containerStatuses"])
    assert leader() == name
    text = operator.run("get", "--raw", f"/api/v1/namespaces/{NAMESPACE}/pods/{name}:8080/proxy/metrics")
    assert "\nmabeam_leader 1.0\n" in text


def test_an_operator_killed_in_the_middle_of_restarts_loses_none_and_makes_none_twice(crowd: Kube) -> None:
    before = leader()
    with watched(crowd, "pod") as pods:
        crowd.run("delete", "pod", "--all", "--wait=false")
        until("the first replacement", lambda: any(name.endswith("-2") for name in created(pods())), PATIENCE)
        Kube(NAMESPACE).run("delete", "pod", str(before), "--force", "--grace-period=0")
        until("another one leads", lambda: leader() not in (None, before), PATIENCE)
        for name in CROWD:
            seen = running(crowd, name, incarnation=2)
            assert seen["restarts"] == 1
            assert [(cause, counted) for cause, _, counted in failures(seen)] == [("DeletedByOther", True)]
        assert created(pods()) == sorted(f"{name}-0-{number}" for name in CROWD for number in (1, 2))


def test_of_two_operators_one_leads_and_the_other_takes_over(crowd: Kube) -> None:
    install("replicas=2")
    until("two pods", lambda: len(operator_pods()) == 2, PATIENCE)
    before = leader()
    assert before is not None
    seen = {name: status(crowd, name) for name in CROWD}
    with watched(crowd, "pod") as pods:
        Kube(NAMESPACE).run("delete", "pod", before, "--wait=false")
        crowd.apply(agent("late", ends(3)))
        running(crowd, "late", incarnation=2)
        assert leader() not in (None, before)
        assert [name for name in created(pods()) if not name.startswith("worker-")] == ["late-0-1", "late-0-2"]
    # Neither the upgrade nor the change of leader gave anybody a new pod.
    assert {name: status(crowd, name)["pods"] for name in CROWD} == {name: seen[name]["pods"] for name in CROWD}


def test_a_namespace_goes_as_fast_with_agents_in_it(operator: Kube) -> None:
    with namespace("e2e-doomed") as doomed:
        doomed.apply(*(agent(f"doomed-{number}", ends(1, "always")) for number in range(4)))
        until("half of them were created", lambda: len(doomed.list("pod")) >= 2, PATIENCE)
        Kube("default").run("delete", "namespace", doomed.namespace, "--timeout=60s", timeout=90)
        assert Kube("default").find("namespace", doomed.namespace) is None


def test_uninstalled_the_operator_leaves_the_crds_the_agents_and_nothing_in_the_way(crowd: Kube) -> None:
    uninstall()
    assert operator_pods() == []
    for plural in ("agents", "orchestrationvariables", "supervisors"):
        assert Kube("default").find("crd", f"{plural}.mabeam.dev") is not None
    for kind in ("clusterrole", "clusterrolebinding"):
        names = json.loads(crowd.run("get", kind, "-l", "app.kubernetes.io/instance=mabeam", "-o", "json"))["items"]
        assert names == []
    alive = [pod["metadata"]["name"] for pod in crowd.list("pod") if pod["status"]["phase"] == "Running"]
    assert {name for name in alive if name.startswith("worker-")} >= {f"{name}-0-2" for name in CROWD}
    assert all("finalizers" not in item["metadata"] for item in crowd.list("mba"))
    Kube("default").run("delete", "namespace", crowd.namespace, "--timeout=120s", timeout=150)
    assert Kube("default").find("namespace", crowd.namespace) is None
    # Installed again, it takes the same CRDs up and works.
    install()
    with namespace("e2e-again") as again:
        again.apply(agent("back"))
        assert is_ready(reached(again, "back", "ready", is_ready))
