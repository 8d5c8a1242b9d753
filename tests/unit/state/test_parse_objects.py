"""Custom resources and ConfigMaps → objects of the API: nothing that the cluster may hold raises."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from mabeam.api.base import JsonDict
from mabeam.core.conventions.times import parse_instant
from mabeam.core.snapshot import Instructed
from mabeam.core.tree.instruction import parent_instruction
from mabeam.state.parse_objects import parse_agent, parse_config_map, parse_node, parse_supervisor, parse_variable
from support.builders import START, agent_body
from support.tree import Tree, child_body, supervisor_body

# --- times and conditions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-01-01T00:00:00Z", START),
        ("2026-01-01T01:00:00+01:00", START),
        ("2026-01-01T00:00:00", START),
        ("2026-01-01T00:00:00.250000Z", START + timedelta(milliseconds=250)),
        (datetime(2026, 1, 1), START),  # noqa: DTZ001 - what YAML makes of a time
        (datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=1))), START),
        ("yesterday", None),
        ("", None),
        (None, None),
        (1767225600, None),
        ("0001-01-01T00:00:00Z", None),
        ("9999-12-31T23:59:59-12:00", None),
    ],
)
def test_an_instant_is_utc_or_none(text: Any, time: datetime | None) -> None:
    found = parse_instant(text)
    assert found == time
    assert found is None or found.tzinfo is UTC


# --- agents and variables ---------------------------------------------------------------------------------------------------


def test_a_spec_that_cannot_be_read_is_a_finding_not_an_exception() -> None:
    parsed = parse_agent(agent_body(replicas=-1, restart="Always"))
    assert parsed.invalid == (
        "spec.replicas: must be greater than or equal to 0 (found -1); "
        "spec.restartStrategy: must be 'Permanent', 'Transient' or 'Temporary' (found \"Always\")"
    )
    assert (parsed.agent.metadata.name, parsed.agent.spec.module) == ("a", "invalid:Invalid")


@pytest.mark.parametrize(
    ("body", "invalid"),
    [
        (agent_body("a" * 51), "`metadata.name` must be at most 50 characters: pod names and labels derive from it"),
        (agent_body(colour="red", capabilities=["x"]), "spec.colour: is not a field here; allowed: "),
        (agent_body() | {"spec": {}}, "spec: exactly one of `module`"),
        (agent_body() | {"spec": None}, "spec: exactly one of `module`"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_spec_is_said_with_its_place(body: Any, invalid: str) -> None:
    found = parse_agent(body).invalid
    assert found is not None
    assert found.startswith(invalid)


def test_a_readable_spec_keeps_its_status_and_one_full_of_nonsense_is_begun_anew() -> None:
    assert parse_agent(agent_body(status={"observedGeneration": 3})).agent.status.observed_generation == 3
    assert parse_agent(agent_body(status={"pods": "none"})).agent.status.observed_generation == -1
    assert parse_agent(agent_body(status={"pods": "none"})).invalid is None


def test_a_variable_that_cannot_be_read_is_a_finding_too() -> None:
    body = {"metadata": {"name": "t", "namespace": "team"}, "spec": {"agents": {}, "value": 1}}
    assert parse_variable(body).invalid == "spec.agents: at least one of `names` and `selector` must be set"


def test_a_supervisor_that_cannot_be_read_has_the_children_it_last_spoke_to() -> None:
    tree = Tree.of(supervisor_body("root", "a", "b"), child_body("a", "root"), child_body("b", "root"))
    tree.stubborn.add("a")
    tree.settle()
    body = tree.supervisors["root"]
    body["spec"]["strategy"] = "OneForSome"
    parsed = parse_supervisor(body)
    assert str(parsed.invalid).startswith("spec.strategy")
    parent = parent_instruction(tree.agent("b"), {"root": parsed.supervisor})
    assert isinstance(parent, Instructed)
    assert parent.supervision.intent == "Stop"


def test_a_config_map_is_ours_when_the_uid_is() -> None:
    owner = {"apiVersion": "mabeam.dev/v1alpha1", "kind": "Agent", "name": "a", "uid": "x", "controller": True}
    body = {
        "metadata": {"name": "a-mabeam", "ownerReferences": [owner]},
        "data": {"directives.json": '{"generation": 4}'},
    }
    facts = parse_config_map(body, "x")
    assert (facts.owned, facts.generation) == (True, 4)
    assert not parse_config_map(body, "y").owned


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '{"generation": "four"}'])
def test_a_document_that_cannot_be_read_has_no_generation(text: str) -> None:
    assert parse_config_map({"metadata": {"name": "m"}, "data": {"directives.json": text}}, "x").generation == 0


def test_agents_made_from_one_template_share_one_spec_and_a_changed_one_has_its_own() -> None:
    first, second = (parse_agent(agent_body(name)).agent.spec for name in ("a", "b"))
    assert first is second
    changed = agent_body("c", replicas=3)
    assert parse_agent(changed).agent.spec.replicas == 3
    assert first.replicas == 1


def test_equal_conditions_of_different_agents_are_one_object() -> None:
    condition = {"type": "Ready", "status": "True", "reason": "Running", "message": "1/1 ready"}
    status = {"observedGeneration": 1, "conditions": [condition]}
    one, other = (parse_agent(agent_body(name, status=status)).agent.status for name in ("a", "b"))
    assert one.conditions[0] is other.conditions[0]
    assert one.conditions[0].message == "1/1 ready"


# --- nodes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("node", "cordoned", "unreachable"),
    [
        ({}, False, False),
        ({"spec": {"unschedulable": True}}, True, False),
        ({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}, True, False),
        ({"spec": {"taints": [{"key": "karpenter.sh/disrupted", "effect": "NoSchedule"}]}}, True, False),
        ({"spec": {"taints": [{"key": "ToBeDeletedByClusterAutoscaler"}, {"key": "other"}]}}, True, False),
        ({"spec": {"taints": [{"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}]}}, False, True),
        ({"spec": {"taints": [{"key": "node.kubernetes.io/disk-pressure"}, {}, None]}}, False, False),
        ({"spec": {"taints": None}, "metadata": None, "status": None}, False, False),
    ],
)
def test_a_node_is_cordoned_when_it_is_drained_or_deleted_and_unreachable_by_its_taint(
    node: Any, cordoned: bool, unreachable: bool
) -> None:
    found = parse_node(node)
    assert (found.cordoned, found.unreachable) == (cordoned, unreachable)


@pytest.mark.parametrize(
    ("info", "boot_id"), [({"bootID": "b-1"}, "b-1"), ({"bootID": ""}, None), ({}, None), (None, None)]
)
def test_a_nodes_boot_has_an_id_once_its_kubelet_said_so(info: Any, boot_id: str | None) -> None:
    assert parse_node({"status": {"nodeInfo": info}}).boot_id == boot_id


# --- autoscalers ------------------------------------------------------------------------------------------------------


def replicas_set_by(manager: str, subresource: str = "") -> JsonDict:
    fields = {"f:spec": {"f:replicas": {}}}
    return {"manager": manager, "operation": "Update", "fieldsV1": fields} | (
        {"subresource": subresource} if subresource else {}
    )


@pytest.mark.parametrize(
    "later",
    [replicas_set_by("helm"), replicas_set_by("kubectl-client-side-apply"), replicas_set_by("kubectl", "scale")],
)
def test_the_record_of_an_autoscaler_ends_when_somebody_else_sets_the_number(later: JsonDict) -> None:
    body = agent_body("a")
    body["metadata"]["managedFields"] = [replicas_set_by("kube-controller-manager", "scale")]
    assert parse_agent(body).agent.metadata.autoscaler == "kube-controller-manager"
    body["metadata"]["managedFields"].append(later)
    assert parse_agent(body).agent.metadata.autoscaler == ""
