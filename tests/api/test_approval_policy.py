"""A human's word on a proposal, on a real apiserver: with the chart's policy only who has the verb `approve` may give it."""

import json
import secrets
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import pytest
import yaml

from support.kube import JsonDict, Kube, Refused, namespace, until
from support.rendered import CHART, helm

AUTHOR: Final = "variables.mabeam.test"
APPROVER: Final = "approver.mabeam.test"
GROUP: Final = "rbac.authorization.k8s.io"


def variable(**annotations: str) -> JsonDict:
    return {
        "apiVersion": "mabeam.dev/v1alpha1",
        "kind": "OrchestrationVariable",
        "metadata": {"name": "temperature", "annotations": annotations},
        "spec": {"agents": {"names": ["a"]}, "value": 0.5, "consensus": {"requireApproval": True}},
    }


def give_rights(kube: Kube) -> None:
    rights = {
        "authors": ([AUTHOR, APPROVER], ["create", "delete", "get", "patch", "update"]),
        "approvers": ([APPROVER], ["approve"]),
    }
    for name, (people, verbs) in rights.items():
        rules = [{"apiGroups": ["mabeam.dev"], "resources": ["orchestrationvariables"], "verbs": verbs}]
        subjects = [{"kind": "User", "name": person, "apiGroup": GROUP} for person in people]
        role = {"apiGroup": GROUP, "kind": "Role", "name": name}
        kube.apply(
            {"apiVersion": f"{GROUP}/v1", "kind": "Role", "metadata": {"name": name}, "rules": rules},
            {
                "apiVersion": f"{GROUP}/v1",
                "kind": "RoleBinding",
                "metadata": {"name": name},
                "roleRef": role,
                "subjects": subjects,
            },
        )
    for verb, person in (("patch", AUTHOR), ("approve", APPROVER)):
        until(f"{person} may {verb}", partial(may, kube, person, verb))


def may(kube: Kube, person: str, verb: str) -> bool:
    answer = kube.run("auth", "can-i", verb, "orchestrationvariables.mabeam.dev", "--as", person, check=False)
    return answer.strip() == "yes"


def change(kube: Kube, person: str, patch: JsonDict) -> None:
    """Ask for a change as that person, without making it; raises Refused."""
    kube.run("patch", "mov", "temperature", "--type=merge", "--dry-run=server", "--as", person, "-p", json.dumps(patch))


def refused(kube: Kube, person: str, patch: JsonDict) -> bool:
    try:
        change(kube, person, patch)
    except Refused:
        return True
    return False


def annotated(key: str) -> JsonDict:
    return {"metadata": {"annotations": {f"mabeam.dev/{key}": "temperature-2"}}}


@pytest.fixture(scope="module")
def guarded(crds: None) -> Iterator[Kube]:
    """A namespace in which the policy speaks, with a variable that waits for approval."""
    token = secrets.token_hex(3)
    with namespace(f"approval-{token}") as kube:
        give_rights(kube)
        kube.apply(variable())
        values = {
            "fullnameOverride": f"approval-{token}",
            "approvalPolicy": {"enabled": True},
            "watch": {"namespaces": [kube.namespace]},
        }
        answer = helm("template", "x", str(CHART), "--show-only", "templates/approvalpolicy.yaml", values=values)
        assert answer.returncode == 0, answer.stderr
        policy, binding = yaml.safe_load_all(answer.stdout)
        try:
            kube.apply(policy, binding)
            until("the policy is in force", lambda: refused(kube, AUTHOR, annotated("approve")))
            yield kube
        finally:
            for document in (binding, policy):
                kube.run("delete", document["kind"], document["metadata"]["name"], check=False)


NEEDS_THE_VERB: Final[dict[str, JsonDict]] = {
    "an approval": annotated("approve"),
    "a refusal": annotated("reject"),
    "doing without approval": {"spec": {"consensus": {"requireApproval": False}}},
    "doing without a vote": {"spec": {"consensus": None}},
    "other agents": {"spec": {"agents": {"names": ["nobody"]}}},
    "another parameter": {"spec": {"parameter": "pace"}},
    "mere advice": {"spec": {"mode": "Advise"}},
    "an owner that is gone": {
        "metadata": {
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": "00000000-0000-0000-0000-000000000000"}
            ]
        }
    },
}
FREE: Final[dict[str, Any]] = {
    "the value": {"spec": {"value": 0.7}},
    "another annotation": {"metadata": {"annotations": {"mabeam.dev/release": "1"}}},
    "the protocol": {"spec": {"consensus": {"protocol": "Unanimous"}}},
}


@pytest.mark.parametrize("what", NEEDS_THE_VERB)
def test_only_who_may_approve_does(guarded: Kube, what: str) -> None:
    with pytest.raises(Refused, match=f"{AUTHOR} may not approve for the variable temperature"):
        change(guarded, AUTHOR, NEEDS_THE_VERB[what])
    change(guarded, APPROVER, NEEDS_THE_VERB[what])


@pytest.mark.parametrize("what", FREE)
def test_everything_else_on_a_variable_is_its_authors(guarded: Kube, what: str) -> None:
    change(guarded, AUTHOR, FREE[what])


def test_a_variable_that_comes_with_an_approval_needs_the_verb_too(guarded: Kube) -> None:
    document = variable(**{"mabeam.dev/approve": "other-2"})
    document["metadata"]["name"] = "other"
    with pytest.raises(Refused, match="may not approve"):
        guarded.run("create", "--dry-run=server", "--as", AUTHOR, "-f", "-", stdin=json.dumps(document))


def test_only_who_may_approve_deletes_a_variable_that_needs_approval(guarded: Kube) -> None:
    delete = ("delete", "mov", "temperature", "--dry-run=server", "--as")
    with pytest.raises(Refused, match=f"{AUTHOR} may not approve for the variable temperature, nor delete it"):
        guarded.run(*delete, AUTHOR)
    guarded.run(*delete, APPROVER)


def test_an_approver_gives_no_other_name_than_its_own(guarded: Kube) -> None:
    approval = annotated("approve")
    approval["metadata"]["annotations"]["mabeam.dev/approver"] = AUTHOR
    with pytest.raises(Refused, match=f"mabeam.dev/approver must be {APPROVER}"):
        change(guarded, APPROVER, approval)
    approval["metadata"]["annotations"]["mabeam.dev/approver"] = APPROVER
    change(guarded, APPROVER, approval)


def test_a_namespace_that_ends_takes_its_guarded_variables_along(guarded: Kube) -> None:
    with namespace(f"ending-{secrets.token_hex(3)}") as kube:
        kube.apply(variable())
