"""The optional admission policy as it is shipped: off unless asked for, one text in two places, in step with the code."""

import json
import re
from pathlib import Path

import pytest
import yaml
from pydantic.alias_generators import to_camel

from mabeam.api.names import ANNOTATION_APPROVE, ANNOTATION_APPROVER, ANNOTATION_REJECT
from mabeam.core.pods.spec_hash import POD_FIELDS
from support.rendered import MANIFESTS, ROOT, Document, chart, kustomized, of_kind, the

pytestmark = pytest.mark.chart

KINDS = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")


def shipped(**values: Document) -> list[Document]:
    return of_kind(chart({"admissionPolicy": {"enabled": True}, **values}), *KINDS)


def test_nobody_gets_the_policy_without_asking() -> None:
    assert of_kind(chart(), *KINDS) == []
    for folder in ("base", "overlays/namespaced"):
        assert of_kind(kustomized(MANIFESTS / folder), *KINDS) == []


def test_the_chart_and_the_component_ship_the_same_policy() -> None:
    component = kustomized(MANIFESTS / "components/admission-policy")
    ours = {(d["kind"], d["metadata"]["name"]): d["spec"] for d in shipped()}
    assert ours == {(d["kind"], d["metadata"]["name"]): d["spec"] for d in component}
    assert {kind for kind, _ in ours} == set(KINDS)


def test_the_install_guides_component_adds_the_policy_to_an_overlay(tmp_path: Path) -> None:
    snippets = re.findall(r"```yaml\n(components: .+?)```", (ROOT / "docs/install.md").read_text(), flags=re.DOTALL)
    (component,) = map(yaml.safe_load, snippets)
    (tmp_path / "mabeam").symlink_to(ROOT)
    (tmp_path / "mine").mkdir()
    overlay = {"resources": ["../mabeam/manifests/base"], **component}
    (tmp_path / "mine/kustomization.yaml").write_text(json.dumps(overlay))
    documents = kustomized(tmp_path / "mine")
    assert [d["kind"] for d in of_kind(documents, *KINDS)] == list(KINDS)
    assert len(documents) == len(kustomized(MANIFESTS / "base")) + 2


def test_what_is_judged_on_a_change_is_exactly_what_shapes_the_pod() -> None:
    (condition,) = the(shipped(), KINDS[0])["spec"]["matchConditions"]
    compared = re.findall(r"\|\| object\.spec\.\?(\w+) != oldObject\.spec\.\?(\w+)", condition["expression"])
    assert all(new == old for new, old in compared)
    assert sorted(name for name, _ in compared) == sorted(to_camel(name) for name in POD_FIELDS)


def test_the_policy_fails_closed_and_leaves_subresources_alone() -> None:
    spec = the(shipped(), KINDS[0])["spec"]
    assert spec["failurePolicy"] == "Fail"
    (rule,) = spec["matchConstraints"]["resourceRules"]
    assert rule["resources"] == ["agents"]
    assert set(rule["operations"]) == {"CREATE", "UPDATE"}


def test_the_binding_speaks_of_the_watched_namespaces_alone() -> None:
    assert "matchResources" not in the(shipped(), KINDS[1])["spec"]
    spec = the(shipped(watch={"namespaces": ["red", "blue"]}), KINDS[1])["spec"]
    (expression,) = spec["matchResources"]["namespaceSelector"]["matchExpressions"]
    assert expression == {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["red", "blue"]}


def test_it_can_be_tried_before_it_refuses_anybody() -> None:
    trying = {"enabled": True, "validationActions": ["Warn", "Audit"]}
    binding = the(of_kind(chart({"admissionPolicy": trying}), *KINDS), KINDS[1])
    assert binding["spec"]["validationActions"] == ["Warn", "Audit"]


# --- who may approve ------------------------------------------------------------------------------------------------------


def approvers(**values: Document) -> list[Document]:
    return of_kind(chart({"approvalPolicy": {"enabled": True}, **values}), *KINDS)


def test_the_chart_and_the_component_ship_the_same_approval_policy() -> None:
    component = kustomized(MANIFESTS / "components/approval-policy")
    ours = {(d["kind"], d["metadata"]["name"]): d["spec"] for d in approvers()}
    assert ours == {(d["kind"], d["metadata"]["name"]): d["spec"] for d in component}
    assert {kind for kind, _ in ours} == set(KINDS)


def test_the_approval_policy_judges_the_very_annotations_that_the_operator_reads() -> None:
    spec = the(approvers(), KINDS[0])["spec"]
    (condition,) = spec["matchConditions"]
    assert {ANNOTATION_APPROVE, ANNOTATION_REJECT, ANNOTATION_APPROVER} == set(
        re.findall(r"'(mabeam\.dev/\w+)'", condition["expression"])
    )
    assert spec["failurePolicy"] == "Fail"
    (rule,) = spec["matchConstraints"]["resourceRules"]
    assert rule["resources"] == ["orchestrationvariables"]


def test_both_policies_can_be_had_together_and_speak_of_the_watched_namespaces_alone() -> None:
    both = approvers(admissionPolicy={"enabled": True}, watch={"namespaces": ["red"]})
    assert sorted(d["kind"] for d in both) == sorted(KINDS * 2)
    for binding in (d for d in both if d["kind"] == KINDS[1]):
        (expression,) = binding["spec"]["matchResources"]["namespaceSelector"]["matchExpressions"]
        assert expression["values"] == ["red"]
