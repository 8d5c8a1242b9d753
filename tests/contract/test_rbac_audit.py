"""Every right that the chart and the manifests give, in every variant: the least there is, and exactly the code's."""

from collections.abc import Callable
from typing import Any, Final

import pytest

from mabeam.api.names import GROUP
from mabeam.shell.kube.rbac import LEASE_RULES, NODE_RULES, WORKLOAD_RULES
from support.rendered import MANIFESTS, NAMESPACE, Document, chart, kustomized, of_kind

pytestmark = pytest.mark.chart

WATCHED: Final = ["red", "blue"]
ROLES: Final = ("Role", "ClusterRole")
BINDINGS: Final = ("RoleBinding", "ClusterRoleBinding")
FOR_PEOPLE: Final = ("-view", "-edit")
VARIANTS: Final[dict[str, Callable[[], list[Document]]]] = {
    "chart, the whole cluster": chart,
    "chart, some namespaces": lambda: chart({"watch": {"namespaces": WATCHED}}),
    "chart, without roles for people": lambda: chart({"rbac": {"aggregateClusterRoles": False}}),
    "chart, with everything": lambda: chart(
        {
            "replicas": 2,
            "admissionPolicy": {"enabled": True},
            "networkPolicy": {"enabled": True},
            "metrics": {"serviceMonitor": {"enabled": True}},
        }
    ),
    "manifests, the whole cluster": lambda: kustomized(MANIFESTS / "base"),
    "manifests, one namespace": lambda: kustomized(MANIFESTS / "overlays/namespaced"),
}
NAMESPACED: Final = ("chart, some namespaces", "manifests, one namespace")
# By the end of the role's name: what the operator calls with it.
WANTED: Final[dict[str, tuple[Any, ...]]] = {"-nodes": NODE_RULES, "-lease": LEASE_RULES, "": WORKLOAD_RULES}

FORBIDDEN_VERBS: Final = {"escalate", "bind", "impersonate", "approve", "sign", "use"}
FORBIDDEN_RESOURCES: Final = {
    "secrets",
    "serviceaccounts",
    "serviceaccounts/token",
    "pods/exec",
    "pods/attach",
    "pods/portforward",
    "pods/proxy",
    "pods/ephemeralcontainers",
    "nodes/proxy",
    "namespaces",
}
FORBIDDEN_GROUPS: Final = {
    "rbac.authorization.k8s.io",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "certificates.k8s.io",
    "authentication.k8s.io",
}


@pytest.fixture(name="documents", params=VARIANTS)
def every_variant(request: pytest.FixtureRequest) -> list[Document]:
    return VARIANTS[request.param]()


def is_for_people(role: Document) -> bool:
    return str(role["metadata"]["name"]).endswith(FOR_PEOPLE)


def of_the_operator(documents: list[Document]) -> list[Document]:
    return [role for role in of_kind(documents, *ROLES) if not is_for_people(role)]


def wanted(role: Document) -> list[Document]:
    name = role["metadata"]["name"]
    return [rule.to_wire() for rule in next(rules for end, rules in WANTED.items() if name.endswith(end))]


def bound_in(documents: list[Document], binding: Document) -> list[Document]:
    """The rules that a binding gives."""
    (role,) = [
        role
        for role in of_kind(documents, binding["roleRef"]["kind"])
        if role["metadata"]["name"] == binding["roleRef"]["name"]
        and role["metadata"].get("namespace") in (None, binding["metadata"].get("namespace"))
    ]
    rules: list[Document] = role["rules"]
    return rules


def test_no_role_has_a_wildcard_reads_secrets_or_widens_rights(documents: list[Document]) -> None:
    roles = of_kind(documents, *ROLES)
    assert roles
    for rule in (rule for role in roles for rule in role["rules"]):
        assert "*" not in "".join([*rule["apiGroups"], *rule["resources"], *rule["verbs"]])
        assert "nonResourceURLs" not in rule
        assert not FORBIDDEN_GROUPS & set(rule["apiGroups"])
        assert not FORBIDDEN_RESOURCES & set(rule["resources"])
        assert not FORBIDDEN_VERBS & set(rule["verbs"])


def test_the_operators_rules_are_exactly_those_beside_its_calls(documents: list[Document]) -> None:
    roles = of_the_operator(documents)
    assert {next(end for end in WANTED if role["metadata"]["name"].endswith(end)) for role in roles} == set(WANTED)
    for role in roles:
        assert role["rules"] == wanted(role)
        assert "aggregationRule" not in role
        assert not any(label.startswith("rbac.authorization.k8s.io/") for label in role["metadata"]["labels"])


def test_the_operator_writes_no_spec_that_a_user_writes(documents: list[Document]) -> None:
    for rule in (rule for role in of_the_operator(documents) for rule in role["rules"]):
        if GROUP in rule["apiGroups"] and not all(name.endswith("/status") for name in rule["resources"]):
            assert set(rule["verbs"]) <= {"get", "list", "watch"}


def test_the_roles_for_people_are_about_the_projects_kinds_alone_and_are_bound_to_nobody(
    documents: list[Document],
) -> None:
    people = {role["metadata"]["name"] for role in of_kind(documents, *ROLES) if is_for_people(role)}
    for role in of_kind(documents, *ROLES):
        if role["metadata"]["name"] in people:
            assert {group for rule in role["rules"] for group in rule["apiGroups"]} == {GROUP}
    assert not people & {binding["roleRef"]["name"] for binding in of_kind(documents, *BINDINGS)}


def test_every_binding_is_to_the_operators_service_account_alone(documents: list[Document]) -> None:
    (account,) = of_kind(documents, "ServiceAccount")
    subject = {"kind": "ServiceAccount", "name": account["metadata"]["name"], "namespace": NAMESPACE}
    bindings = of_kind(documents, *BINDINGS)
    assert bindings
    assert all(binding["subjects"] == [subject] for binding in bindings)


@pytest.mark.parametrize("variant", NAMESPACED)
def test_watching_some_namespaces_gives_no_right_outside_of_them_but_reading_nodes(variant: str) -> None:
    documents = VARIANTS[variant]()
    nodes = [rule.to_wire() for rule in NODE_RULES]
    for binding in of_kind(documents, "ClusterRoleBinding"):
        assert bound_in(documents, binding) == nodes
    places = {
        binding["metadata"]["namespace"]: bound_in(documents, binding) for binding in of_kind(documents, "RoleBinding")
    }
    assert places.pop(NAMESPACE) == [rule.to_wire() for rule in LEASE_RULES]
    assert set(places) == (set(WATCHED) if variant.startswith("chart") else {"default"})
    assert all(rules == [rule.to_wire() for rule in WORKLOAD_RULES] for rules in places.values())


def test_the_charts_namespaced_variant_has_no_cluster_role_of_the_operator_but_for_nodes() -> None:
    documents = of_the_operator(VARIANTS["chart, some namespaces"]())
    assert [role["metadata"]["name"] for role in of_kind(documents, "ClusterRole")] == ["mabeam-nodes"]
