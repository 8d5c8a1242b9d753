"""The operator as a process against a real apiserver: leading, stopping, restoring, refusing, and keeping still.

No node takes part: the pods fit nowhere, and where something has to become of one, the test writes its status.
"""

import json
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest

from e2e.agents import watched
from support.kube import JsonDict, Kube, condition, until
from support.kube import namespace as a_namespace
from support.operator_process import OperatorProcess, holder, lease, operator

NOWHERE = {"nodeSelector": {"test.mabeam.dev/node": "none"}}
# Short enough to wait for, long enough for a busy machine to renew in time.
LEASE_SECONDS = "9"
CHILD_LABELS = {
    "app.kubernetes.io/name",
    "app.kubernetes.io/component",
    "app.kubernetes.io/part-of",
    "app.kubernetes.io/managed-by",
    "mabeam.dev/agent",
    "mabeam.dev/ordinal",
    "mabeam.dev/incarnation",
}


def agent(name: str, *, metadata: JsonDict | None = None, pod: JsonDict | None = None, **spec: Any) -> JsonDict:
    pod = {"containers": [{"name": "agent", "image": "nothing:1"}], **NOWHERE} if pod is None else pod
    return {
        "apiVersion": "mabeam.dev/v1alpha1",
        "kind": "Agent",
        "metadata": {"name": name, **(metadata or {})},
        "spec": {"template": {"spec": pod}, **spec},
    }


def variable(name: str, agents: list[str], **spec: Any) -> JsonDict:
    return {
        "apiVersion": "mabeam.dev/v1alpha1",
        "kind": "OrchestrationVariable",
        "metadata": {"name": name},
        "spec": {"agents": {"names": agents}, **spec},
    }


def pods_of(kube: Kube, name: str) -> list[str]:
    return sorted(pod["metadata"]["name"] for pod in kube.list("pod", f"mabeam.dev/agent={name}"))


def awaited(kube: Kube, kind: str, name: str, what: str, look: Callable[[JsonDict], Any]) -> JsonDict:
    last: list[JsonDict] = []

    def check() -> bool:
        last[:] = [kube.get(kind, name)]
        return bool(look(last[0].get("status") or {}))

    try:
        until(f"{kind} {name}: {what}", check, 60)
    except AssertionError as late:
        raise AssertionError(f"{late}: {json.dumps(last[0].get('status'))}") from None
    return last[0]


def says(type_: str, status: str, reason: str = "") -> Callable[[JsonDict], bool]:
    def look(seen: JsonDict) -> bool:
        found = condition({"status": seen}, type_)
        return found.get("status") == status and reason in ("", found.get("reason"))

    return look


def created(told: list[tuple[str, JsonDict]]) -> list[str]:
    """The names of the pods the watch told of, each as often as a pod of that name came into being."""
    return sorted(name for name, _ in {(pod["metadata"]["name"], pod["metadata"]["uid"]) for _, pod in told})


def namespace(name: str) -> AbstractContextManager[Kube]:
    """A namespace whose name no earlier run, whose own may still be going, has used."""
    return a_namespace(f"shell-{name}-{secrets.token_hex(3)}")


@pytest.fixture(scope="session")
def alone(crds: None) -> None:
    """No other operator may look after these namespaces."""
    others = json.loads(
        Kube("default").run(
            "get",
            "deployments",
            "-A",
            "-o",
            "json",
            "-l",
            "app.kubernetes.io/part-of=mabeam,app.kubernetes.io/component=operator",
        )
    )["items"]
    assert others == [], "an operator is installed on this cluster; uninstall it first"


@pytest.fixture(scope="module")
def running(alone: None) -> Iterator[OperatorProcess]:
    """An operator that leads in a namespace of its own."""
    with namespace("one") as kube, operator(kube) as process:
        until("it leads", process.leads)
        yield process


@pytest.fixture(scope="module")
def team(running: OperatorProcess) -> Kube:
    """The namespace of that operator, with an agent that a variable tells something."""
    kube = running.kube
    foreign = {"argocd.argoproj.io/instance": "shop", "app": "mine"}
    kube.apply(
        agent("told", metadata={"labels": foreign, "annotations": {"note": "mine"}}),
        variable("temperature", ["told"], value=0.5),
    )
    until("its pod", lambda: pods_of(kube, "told") == ["told-0-1"])
    until("its ConfigMap", lambda: kube.find("configmap", "told-mabeam"))
    return kube


# --- one leads ----------------------------------------------------------------------------------------------------------


def test_a_frozen_leader_is_replaced_and_writes_nothing_when_it_wakes(alone: None) -> None:
    with (
        namespace("frozen") as kube,
        operator(kube, "first", lease_seconds=LEASE_SECONDS) as first,
        operator(kube, "second", lease_seconds=LEASE_SECONDS) as second,
        watched(kube, "pod") as pods,
    ):
        until("one of them leads", lambda: holder(kube))
        leading, standing_by = (first, second) if first.leads() else (second, first)
        early = [f"early-{number}" for number in range(4)]
        kube.apply(*(agent(name) for name in early))
        until("the early pods", lambda: created(pods()) == [f"{name}-0-1" for name in early])
        assert not standing_by.leads()
        leading.send(signal.SIGSTOP)
        stopped = time.monotonic()
        late = [f"late-{number}" for number in range(4)]
        kube.apply(*(agent(name) for name in late))
        until("the other leads", standing_by.leads)
        # Not before the Lease was seen to lie still for its whole duration, of which the first third may have passed.
        assert time.monotonic() - stopped >= float(LEASE_SECONDS) * 2 / 3 - 1
        everybody = {f"{name}-0-1" for name in [*early, *late]}
        try:
            until("the late pods", lambda: everybody <= set(created(pods())))
        except AssertionError as late_pods:
            raise AssertionError(f"{late_pods}; {created(pods())}; {standing_by.words()}") from None
        leading.send(signal.SIGCONT)
        assert leading.ended() == 1
        kube.apply(agent("last"))
        until("the last pod", lambda: pods_of(kube, "last"))
        assert created(pods()) == sorted(f"{name}-0-1" for name in [*early, "last", *late])
        assert lease(kube)["spec"]["leaseTransitions"] == 1


def test_a_leader_killed_between_its_writes_is_continued_and_nothing_is_made_twice(alone: None) -> None:
    names = [f"agent-{number:02}" for number in range(30)]
    with (
        namespace("killed") as kube,
        watched(kube, "pod") as pods,
        operator(kube, "second", lease_seconds=LEASE_SECONDS) as second,
    ):
        second.send(signal.SIGSTOP)
        until("the second's Lease is not in the way", lambda: holder(kube) in (None, "second"))
        with operator(kube, "first", lease_seconds=LEASE_SECONDS) as first:
            until("the first leads", first.leads)
            second.send(signal.SIGCONT)
            kube.apply(*(agent(name) for name in names))
            until("some pods, not all", lambda: len(created(pods())) > 3)
            first.send(signal.SIGKILL)
            first.ended()
        with operator(kube, "third", lease_seconds=LEASE_SECONDS):
            until("all pods", lambda: len(created(pods())) >= len(names), 90)
            for name in names:
                seen = awaited(kube, "mba", name, "seen", lambda s: s.get("pods"))
                assert [record["incarnation"] for record in seen["status"]["pods"]] == [1]
                assert not seen["status"].get("failures")
        assert created(pods()) == [f"{name}-0-1" for name in names]


def test_sigterm_ends_it_with_0_within_12_seconds_and_gives_the_lease_away(alone: None) -> None:
    with namespace("term") as kube, operator(kube, "leader") as leader, operator(kube, "standby") as standby:
        until("somebody leads", lambda: holder(kube))
        leader, standby = (leader, standby) if leader.leads() else (standby, leader)
        kube.apply(*(agent(f"agent-{number}") for number in range(20)))
        asked = time.monotonic()
        leader.send(signal.SIGTERM)
        assert leader.ended() == 0, leader.words()
        assert time.monotonic() - asked < 12
        # Nobody had to wait for 15 seconds of silence.
        until("the other took it over", standby.leads, 10)
        assert lease(kube)["spec"]["leaseTransitions"] >= 1
        until("nothing was lost", lambda: len(kube.list("pod")) == 20)
        asked = time.monotonic()
        standby.send(signal.SIGTERM)
        assert standby.ended() == 0, standby.words()
        assert time.monotonic() - asked < 12
        assert holder(kube) == ""


def test_a_standby_that_is_stopped_ends_with_0_and_leaves_the_lease_alone(running: OperatorProcess) -> None:
    with operator(running.kube, "standby") as standby:
        asked = time.monotonic()
        standby.send(signal.SIGTERM)
        assert standby.ended() == 0, standby.words()
        assert time.monotonic() - asked < 12
    assert running.leads()


def test_the_probes_and_metrics_answer(running: OperatorProcess) -> None:
    assert running.ask("/healthz") == (200, "ok")
    assert running.ask("/readyz") == (200, "ok")
    until("it says that it leads", lambda: "\nmabeam_leader 1.0\n" in running.ask("/metrics")[1])


def test_the_system_is_told_and_the_leader_enters_the_service(running: OperatorProcess, team: Kube) -> None:
    def told(path: str) -> JsonDict:
        status, text = running.ask(path)
        assert status == 200, text
        document: JsonDict = json.loads(text)
        return document

    system = told("/v1/status")
    assert system["operator"] | {"leader": True} == system["operator"]
    assert system["agents"]["total"] == len(told("/v1/agents")["items"]) > 0
    assert told("/v1/agents/" + f"{team.namespace}/told")["name"] == "told"
    entry = until("the entry", lambda: team.find("configmap", "mabeam-service"))
    assert entry["data"]["holder"] == system["operator"]["identity"]
    assert json.loads(entry["data"]["dependencies"])["kubernetes"].startswith("v1.")


# --- what others write ----------------------------------------------------------------------------------------------------


def test_a_status_that_somebody_overwrote_is_restored_and_no_pod_is_touched(team: Kube) -> None:
    before = team.get("mba", "told")["status"]
    uid = team.get("pod", "told-0-1")["metadata"]["uid"]
    rubbish = {"status": {"state": "Stopped", "pods": [], "conditions": [], "restarts": None, "selector": "all=mine"}}
    team.run("patch", "mba", "told", "--subresource=status", "--type=merge", "-p", json.dumps(rubbish))

    def restored(status: JsonDict) -> bool:
        same = ("state", "pods", "selector", "specHash", "effective")
        return all(status.get(key) == before.get(key) for key in same) and bool(status.get("conditions"))

    awaited(team, "mba", "told", "restored", restored)
    assert team.get("pod", "told-0-1")["metadata"]["uid"] == uid
    assert pods_of(team, "told") == ["told-0-1"]


def test_a_status_of_nonsense_is_restored(team: Kube) -> None:
    team.run(
        "patch",
        "mba",
        "told",
        "--subresource=status",
        "--type=merge",
        "-p",
        '{"status": {"pods": null, "conditions": null}}',
    )
    awaited(team, "mba", "told", "restored", lambda s: s.get("pods") and says("Accepted", "True")(s))
    assert pods_of(team, "told") == ["told-0-1"]


def test_a_config_map_that_somebody_deleted_or_changed_is_restored(team: Kube) -> None:
    def told() -> JsonDict:
        found = team.find("configmap", "told-mabeam")
        document: JsonDict = json.loads(found["data"]["directives.json"]) if found else {}
        return document

    before = told()
    assert before["parameters"] == {"temperature": 0.5}
    team.run("delete", "configmap", "told-mabeam")
    until("there is one again", told)
    assert told()["parameters"] == {"temperature": 0.5}
    forged = json.dumps({**before, "parameters": {"temperature": 99}})
    team.run(
        "patch", "configmap", "told-mabeam", "--type=merge", "-p", json.dumps({"data": {"directives.json": forged}})
    )
    until("it says again what was decided", lambda: told().get("parameters") == {"temperature": 0.5})
    assert told()["generation"] >= before["generation"]


def test_a_pod_that_somebody_deleted_before_it_ran_is_made_again(team: Kube) -> None:
    team.apply(agent("plain"))
    until("its pod", lambda: pods_of(team, "plain") == ["plain-0-1"])
    team.run("delete", "pod", "plain-0-1")
    until("its pod again", lambda: pods_of(team, "plain"))


def test_a_pod_that_ended_is_read_from_the_status_the_kubelet_would_write(team: Kube) -> None:
    team.apply(agent("ended", restartStrategy="Temporary"))
    until("its pod", lambda: pods_of(team, "ended") == ["ended-0-1"])
    terminated = {
        "exitCode": 4,
        "reason": "Error",
        "finishedAt": "2026-01-01T00:00:00Z",
        "startedAt": "2026-01-01T00:00:00Z",
    }
    container = {"name": "agent", "image": "nothing:1", "imageID": "", "ready": False, "restartCount": 0}
    status = {"phase": "Failed", "containerStatuses": [container | {"state": {"terminated": terminated}}]}
    team.run("patch", "pod", "ended-0-1", "--subresource=status", "--type=merge", "-p", json.dumps({"status": status}))
    seen = awaited(team, "mba", "ended", "Failed", lambda s: s.get("state") == "Failed")
    assert [(f["cause"], f["exitCode"]) for f in seen["status"]["failures"]] == [("Crash", 4)]


# --- what cannot be ---------------------------------------------------------------------------------------------------------


def test_a_template_the_apiserver_refuses_is_told_in_its_words_and_a_fixed_one_runs(team: Kube) -> None:
    team.apply(agent("unsound", pod={"containers": [{"name": "agent"}], **NOWHERE}))
    seen = awaited(team, "mba", "unsound", "refused", says("Accepted", "False", "PodRefused"))
    assert "spec.containers[0].image: Required value" in condition(seen, "Accepted")["message"]
    assert condition(seen, "Stalled")["status"] == "True"
    assert pods_of(team, "unsound") == []
    team.apply(agent("unsound"))
    awaited(team, "mba", "unsound", "accepted", says("Accepted", "True"))
    until("its pod", lambda: pods_of(team, "unsound"))
    awaited(team, "mba", "unsound", "not stalled", says("Stalled", "False"))


def test_a_pod_that_was_refused_for_want_of_a_service_account_runs_once_there_is_one(team: Kube) -> None:
    pod = {"serviceAccountName": "later", "containers": [{"name": "agent", "image": "nothing:1"}], **NOWHERE}
    team.apply(agent("early", pod=pod))
    awaited(team, "mba", "early", "refused", says("Accepted", "False", "PodRefused"))
    # Nothing of the Agent changes: the operator has to ask again by itself.
    team.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "later"}})
    # It does so after 15 s; the tenth sweep, which looks at everything again, comes later than this deadline.
    until("early-0-1", lambda: pods_of(team, "early") == ["early-0-1"], 35)
    awaited(team, "mba", "early", "accepted", says("Accepted", "True"))


def test_a_stored_spec_that_no_rule_of_the_crd_could_refuse_is_refused_in_its_status(team: Kube) -> None:
    team.apply(variable("undecided", ["told"]))
    seen = awaited(team, "mov", "undecided", "refused", says("Accepted", "False", "InvalidSpec"))
    assert "set `value`, `negotiation`, `function` or `rate`" in condition(seen, "Accepted")["message"]
    assert condition(seen, "Stalled")["status"] == "True"
    # To CEL a field of any type is not there at all.
    team.apply(variable("undecided", ["told"], type="AgentSelection", value=1))
    told = "`value` goes with the type Parameter or AdaptationRate or Custom"
    awaited(
        team, "mov", "undecided", "refused", lambda s: told in condition({"status": s}, "Accepted").get("message", "")
    )
    team.apply(variable("undecided", ["told"], value=1))
    awaited(team, "mov", "undecided", "accepted", says("Accepted", "True"))
    team.run("delete", "mov", "undecided")


def test_a_value_outside_its_domain_is_never_told_to_anybody(team: Kube) -> None:
    team.apply(variable("wild", ["told"], value=7, domain={"minimum": 0, "maximum": 1}))
    seen = awaited(team, "mov", "wild", "judged", lambda s: condition({"status": s}, "Ready"))
    assert condition(seen, "Ready")["status"] == "False"
    assert condition(seen, "Ready")["reason"] in ("InvalidSpec", "InvalidConfiguration")
    assert condition(seen, "Stalled")["status"] == "True"
    told = json.loads(team.get("configmap", "told-mabeam")["data"]["directives.json"])
    assert "wild" not in told["parameters"]
    team.run("delete", "mov", "wild")


# --- living with others -------------------------------------------------------------------------------------------------------


def test_the_operator_owns_no_spec_no_label_and_no_finalizer_of_what_users_made(team: Kube) -> None:
    for kind in ("mba", "mov"):
        for item in team.list(kind):
            found = json.loads(team.run("get", kind, item["metadata"]["name"], "-o", "json", "--show-managed-fields"))[
                "metadata"
            ]
            ours = [entry for entry in found["managedFields"] if entry["manager"] == "mabeam"]
            assert ours, "the status was written under the operator's own name"
            assert {entry.get("subresource") for entry in ours} == {"status"}
            assert {key for entry in ours for key in entry["fieldsV1"]} == {"f:status"}
            assert "finalizers" not in found
            assert "ownerReferences" not in found


def test_children_carry_the_operators_labels_and_none_of_their_owners(team: Kube) -> None:
    pod = team.get("pod", "told-0-1")["metadata"]
    assert set(pod["labels"]) == CHILD_LABELS
    config_map = team.get("configmap", "told-mabeam")["metadata"]
    assert set(config_map["labels"]) == CHILD_LABELS - {"mabeam.dev/ordinal", "mabeam.dev/incarnation"}
    for child in (pod, config_map):
        (owner,) = child["ownerReferences"]
        assert (owner["kind"], owner["name"], owner["controller"]) == ("Agent", "told", True)
        assert "blockOwnerDeletion" not in owner
        assert "finalizers" not in child
        assert "note" not in child.get("annotations", {})


def everything(kube: Kube) -> dict[str, str]:
    """The version of every object in the namespace that the operator could write, but the Lease."""
    kinds = "mba,mov,pod,configmap,events.events.k8s.io"
    found = json.loads(kube.run("get", kinds, "-o", "json"))["items"]
    return {
        f"{item['kind']}/{item['metadata']['name']}": item["metadata"]["resourceVersion"]
        for item in found
        if item["kind"] != "Event" or item.get("reportingController") == "mabeam.dev/operator"
    }


def undecided(kube: Kube) -> list[JsonDict]:
    """The directives that are applied or expire yet: that of a pod without a running container does after its timeout."""
    items = [
        item for one in kube.list("mov") for item in (one.get("status") or {}).get("directives", {}).get("items", ())
    ]
    return [item for item in items if item.get("state") in ("Issued", "Delivered")]


def test_where_nothing_happens_nothing_is_written_but_the_lease(running: OperatorProcess, team: Kube) -> None:
    def settled() -> bool:
        before = everything(team)
        time.sleep(3)
        return everything(team) == before and not undecided(team)

    until("the team is at rest", settled, 120)
    before, renewed = everything(team), lease(team)["metadata"]["resourceVersion"]
    assert len(before) > 5
    time.sleep(20)  # what is measured here is that nothing happens in that time; it spans four sweeps
    assert everything(team) == before
    assert lease(team)["metadata"]["resourceVersion"] != renewed
    assert running.leads()


@pytest.mark.parametrize("up", [True, False], ids=["with the operator up", "with the operator down"])
def test_a_namespace_with_agents_can_be_deleted(alone: None, up: bool) -> None:
    with namespace(f"doomed-{'up' if up else 'down'}") as kube:
        with operator(kube) as process:
            until("it leads", process.leads)
            kube.apply(*(agent(f"doomed-{number}") for number in range(10)), variable("v", ["doomed-0"], value=1))
            until("their pods", lambda: len(kube.list("pod")) == 10)
            if up:
                Kube("default").run("delete", "namespace", kube.namespace, "--timeout=60s", timeout=90)
                assert process.process.poll() is None, process.words()
        if not up:
            Kube("default").run("delete", "namespace", kube.namespace, "--timeout=60s", timeout=90)
        assert Kube("default").find("namespace", kube.namespace) is None
