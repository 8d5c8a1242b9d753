"""The confused deputy, on a real apiserver: what an author of Agents gets without the policy, and what it refuses.

A policy is the cluster's. Each binding here speaks of one namespace alone, by the chart's own `watch.namespaces`.
"""

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import pytest
import yaml

from support.kube import JsonDict, Kube, Refused, namespace, until
from support.operator_process import operator
from support.rendered import CHART, helm

# May write Agents; and create pods; and use one service account.
AUTHOR: Final = "author.mabeam.test"
POD_MAKER: Final = "pod-maker.mabeam.test"
BUILDER: Final = "builder.mabeam.test"
ACCOUNT: Final = "builds"
NOWHERE: Final = {"nodeSelector": {"test.mabeam.dev/node": "none"}}
RIGHTS: Final = {
    "authors": (
        (AUTHOR, POD_MAKER, BUILDER),
        [
            {"apiGroups": ["mabeam.dev"], "resources": ["agents"], "verbs": ["create", "get", "patch", "update"]},
            {"apiGroups": ["mabeam.dev"], "resources": ["agents/scale", "agents/status"], "verbs": ["get", "patch"]},
        ],
    ),
    "pod-makers": ((POD_MAKER, BUILDER), [{"apiGroups": [""], "resources": ["pods"], "verbs": ["create"]}]),
    "builders": (
        (BUILDER,),
        [{"apiGroups": [""], "resources": ["serviceaccounts"], "resourceNames": [ACCOUNT], "verbs": ["use"]}],
    ),
}
# Each makes another pod of an agent that is given by `module`; fields without which the pod stays are in UNSHAPING.
SHAPING: Final[dict[str, JsonDict]] = {
    "module": {"module": "annealers.optimizer:Optimizer"},
    "image": {"image": "registry.example.org/mine:1"},
    "role": {"role": "Monitor"},
    "a custom role": {"role": "Custom", "customRole": "Critic"},
    "template": {
        "module": None,
        "image": None,
        "template": {"spec": {"containers": [{"name": "agent", "image": "nothing:1"}]}},
    },
    "resources": {"resources": {"limits": {"memory": "1Gi"}}},
    "communication": {"communication": {"interfaces": [{"name": "http", "port": 80}]}},
    "reports": {"reports": {"port": 9000}},
    "shutdown": {"shutdown": {"policy": "Brutal"}},
}
UNSHAPING: Final[dict[str, JsonDict]] = {
    "a label": {"metadata": {"labels": {"team": "alpha"}}},
    "a release": {"metadata": {"annotations": {"mabeam.dev/release": "1"}}},
    "replicas": {"spec": {"replicas": 2}},
    "its stop": {"spec": {"desiredState": "Stopped"}},
    "its budget": {"spec": {"faultTolerance": {"maxFailures": 9}}},
    "a preference": {"spec": {"preferences": [{"variable": "temperature", "value": 0.5}]}},
}


def agent(name: str, **spec: Any) -> JsonDict:
    given = spec or {"module": "annealers.executor:Executor"}
    return {"apiVersion": "mabeam.dev/v1alpha1", "kind": "Agent", "metadata": {"name": name}, "spec": given}


def pod_as(account: Any, field: str = "serviceAccountName") -> JsonDict:
    return {"template": {"spec": {"containers": [{"name": "agent", "image": "nothing:1"}], field: account, **NOWHERE}}}


def give_rights(kube: Kube) -> None:
    objects: list[JsonDict] = [{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT}}]
    group = "rbac.authorization.k8s.io"
    for name, (people, rules) in RIGHTS.items():
        subjects = [{"kind": "User", "name": person, "apiGroup": group} for person in people]
        objects += [
            {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": {"name": name}, "rules": rules},
            {
                "apiVersion": f"{group}/v1",
                "kind": "RoleBinding",
                "metadata": {"name": name},
                "roleRef": {"apiGroup": group, "kind": "Role", "name": name},
                "subjects": subjects,
            },
        ]
    kube.apply(*objects)
    for person in (AUTHOR, POD_MAKER, BUILDER):
        until(f"{person} may write agents", partial(asked, kube, person, "create", "agents.mabeam.dev"))
    until("who may create pods", partial(asked, kube, POD_MAKER, "create", "pods"))
    until("who may use the account", partial(asked, kube, BUILDER, "use", f"serviceaccounts/{ACCOUNT}"))
    assert not asked(kube, AUTHOR, "create", "pods")


def asked(kube: Kube, person: str, verb: str, resource: str) -> bool:
    return kube.run("auth", "can-i", verb, resource, "--as", person, check=False).strip() == "yes"


def create(kube: Kube, person: str, document: JsonDict) -> None:
    """Ask for the object as that person, without making it; raises Refused."""
    kube.run("create", "--dry-run=server", "--as", person, "-f", "-", stdin=json.dumps(document))


def change(kube: Kube, person: str, name: str, patch: JsonDict, *words: str) -> None:
    """Ask for a change as that person, without making it; raises Refused."""
    kube.run("patch", "mba", name, "--type=merge", "--dry-run=server", "--as", person, "-p", json.dumps(patch), *words)


def is_refused(kube: Kube) -> bool:
    try:
        create(kube, AUTHOR, agent("probe"))
    except Refused:
        return True
    return False


@contextmanager
def in_force(kube: Kube, name: str) -> Iterator[None]:
    """The chart's policy, bound to that namespace alone, from when the apiserver minds it."""
    values = {
        "fullnameOverride": name,
        "admissionPolicy": {"enabled": True},
        "watch": {"namespaces": [kube.namespace]},
    }
    answer = helm("template", "x", str(CHART), "--show-only", "templates/admissionpolicy.yaml", values=values)
    assert answer.returncode == 0, answer.stderr
    policy, binding = yaml.safe_load_all(answer.stdout)
    try:
        kube.apply(policy, binding)
        until("the policy is in force", lambda: is_refused(kube))
        yield
    finally:
        for document in (binding, policy):
            kube.run("delete", document["kind"], document["metadata"]["name"], check=False)


@pytest.fixture(scope="module")
def guarded(crds: None) -> Iterator[tuple[Kube, str]]:
    """A namespace in which the policy speaks, the policy's name, and an Agent `theirs` that was there before."""
    token = secrets.token_hex(3)
    with namespace(f"guarded-{token}") as kube:
        give_rights(kube)
        kube.apply(agent("theirs"))
        with in_force(kube, f"guard-{token}"):
            yield kube, f"guard-{token}-agent-authors"


@pytest.fixture(scope="module")
def here(guarded: tuple[Kube, str]) -> Kube:
    return guarded[0]


@pytest.fixture(scope="module")
def elsewhere(guarded: tuple[Kube, str]) -> Iterator[Kube]:
    """A namespace of the same cluster, with the same people, of which the policy does not speak."""
    with namespace(f"unguarded-{secrets.token_hex(3)}") as kube:
        give_rights(kube)
        yield kube


# --- without it ---------------------------------------------------------------------------------------------------------


def test_without_the_policy_an_author_of_agents_controls_pods_and_their_service_account(elsewhere: Kube) -> None:
    with operator(elsewhere):
        document = agent("deputy", **pod_as(ACCOUNT))
        elsewhere.run("create", "--as", AUTHOR, "-f", "-", stdin=json.dumps(document))
        until("its pod", lambda: elsewhere.find("pod", "deputy-0-1"))
    assert elsewhere.get("pod", "deputy-0-1")["spec"]["serviceAccountName"] == ACCOUNT


@pytest.mark.parametrize("person", [AUTHOR, POD_MAKER, BUILDER])
def test_where_the_policy_does_not_speak_everything_is_as_before(elsewhere: Kube, person: str) -> None:
    create(elsewhere, person, agent("a"))
    create(elsewhere, person, agent("b", **pod_as(ACCOUNT)))


# --- with it ------------------------------------------------------------------------------------------------------------


def test_the_apiserver_finds_nothing_to_warn_of_in_the_policy(guarded: tuple[Kube, str]) -> None:
    kube, name = guarded

    def checked() -> JsonDict:
        status: JsonDict = kube.get("validatingadmissionpolicy", name).get("status") or {}
        return status if "typeChecking" in status else {}

    assert until("the types are checked", checked)["typeChecking"] == {}


def test_who_may_not_create_pods_may_not_create_agents_and_is_told_what_to_ask_for(here: Kube) -> None:
    with pytest.raises(Refused) as refused:
        create(here, AUTHOR, agent("a"))
    words = str(refused.value)
    assert "Forbidden" in words
    assert f"{AUTHOR} may not create pods in the namespace {here.namespace}" in words
    assert "Ask for the verb create on pods there" in words


def test_who_may_create_pods_may_create_agents(here: Kube) -> None:
    create(here, POD_MAKER, agent("a"))


@pytest.mark.parametrize("field", ["serviceAccountName", "serviceAccount"])
def test_a_service_account_that_its_author_may_not_use_is_refused_by_name(here: Kube, field: str) -> None:
    with pytest.raises(Refused) as refused:
        create(here, POD_MAKER, agent("a", **pod_as(ACCOUNT, field)))
    assert f"would run as the service account {ACCOUNT}, which {POD_MAKER} may not use" in str(refused.value)
    wanted = f"ask for the verb use on it, among the serviceaccounts of the namespace {here.namespace}"
    assert wanted in str(refused.value)


@pytest.mark.parametrize("field", ["serviceAccountName", "serviceAccount"])
def test_a_service_account_that_its_author_may_use_is_admitted_and_no_other(here: Kube, field: str) -> None:
    create(here, BUILDER, agent("a", **pod_as(ACCOUNT, field)))
    with pytest.raises(Refused, match="would run as the service account other"):
        create(here, BUILDER, agent("a", **pod_as("other", field)))


def test_a_second_name_does_not_hide_behind_the_first(here: Kube) -> None:
    template = pod_as(ACCOUNT)["template"]
    template["spec"]["serviceAccount"] = "other"
    with pytest.raises(Refused, match=f"would run as the service account {ACCOUNT} or other"):
        create(here, BUILDER, agent("a", template=template))


@pytest.mark.parametrize("account", [None, "", "default"])
def test_the_account_that_a_pod_has_anyway_needs_no_further_right(here: Kube, account: str | None) -> None:
    create(here, POD_MAKER, agent("a", **pod_as(account)))


@pytest.mark.parametrize("account", [5, ["builds"], {"name": "builds"}], ids=str)
def test_a_name_that_is_no_text_is_refused_not_passed_over(here: Kube, account: Any) -> None:
    with pytest.raises(Refused, match="denied request"):
        create(here, BUILDER, agent("a", **pod_as(account)))


@pytest.mark.parametrize("field", SHAPING)
def test_a_change_that_makes_another_pod_needs_the_same_right(here: Kube, field: str) -> None:
    change(here, POD_MAKER, "theirs", {"spec": SHAPING[field]})
    with pytest.raises(Refused, match="may not create pods"):
        change(here, AUTHOR, "theirs", {"spec": SHAPING[field]})


@pytest.mark.parametrize("field", UNSHAPING)
def test_a_change_that_makes_no_other_pod_is_free(here: Kube, field: str) -> None:
    change(here, AUTHOR, "theirs", UNSHAPING[field])


def test_an_autoscaler_and_the_writer_of_a_status_need_no_right_to_pods(here: Kube) -> None:
    here.run("scale", "mba/theirs", "--replicas=3", "--as", AUTHOR)
    assert here.get("mba", "theirs")["spec"]["replicas"] == 3
    change(here, AUTHOR, "theirs", {"status": {"state": "Stopped"}}, "--subresource=status")


def test_apply_on_the_server_is_judged_like_every_other_write(here: Kube) -> None:
    words = ("apply", "--server-side", "--dry-run=server", "-f", "-")
    with pytest.raises(Refused, match="may not create pods"):
        here.run(*words, "--as", AUTHOR, stdin=json.dumps(agent("a")))
    here.run(*words, "--as", POD_MAKER, stdin=json.dumps(agent("a")))
