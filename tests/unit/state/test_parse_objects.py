"""The door: API objects come in, facts go on; nothing that the cluster may hold makes it stumble."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from mabeam.core.conventions.times import parse_instant
from mabeam.core.snapshot import ContainerFacts, Instructed, PodFacts
from mabeam.core.tree.instruction import parent_instruction
from mabeam.state.parse_objects import owner_uid, parse_agent, parse_config_map, parse_supervisor, parse_variable
from mabeam.state.parse_pods import parse_pod
from support.builders import START, agent_body, at, stamp
from support.tree import Tree, child_body, supervisor_body

RUNNING = {"state": {"running": {"startedAt": stamp(1)}}, "ready": True}


def pod(name: str = "a-0-1", *, spec: Any = None, status: Any = None, **meta: Any) -> PodFacts:
    facts = parse_pod({"metadata": {"name": name, **meta}, "spec": spec or {}, "status": status or {}})
    assert facts is not None
    return facts


# --- names and owners -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "ordinal", "incarnation"), [("a-0-1", 0, 1), ("my-agent-12-345", 12, 345), ("a-1-2-3", 2, 3), ("a-1000-0", 1000, 0)]
)  # fmt: skip
def test_a_pods_name_tells_its_ordinal_and_incarnation(name: str, ordinal: int, incarnation: int) -> None:
    assert (pod(name).ordinal, pod(name).incarnation) == (ordinal, incarnation)


@pytest.mark.parametrize(
    "name", ["", "a-1", "-0-1", "a-x-1", "a-0-x", "a-00-1", "a-0-01", "a-²-1", "a-9999-1", "a-0-2147483647", f"a-0-{10**400}"]
)  # fmt: skip
def test_a_name_the_operator_could_not_have_given_is_nobodys_pod(name: str) -> None:
    assert parse_pod({"metadata": {"name": name}}) is None


def test_a_pod_that_is_labelled_for_another_agent_is_not_this_ones() -> None:
    assert parse_pod({"metadata": {"name": "a-0-1", "labels": {"mabeam.dev/agent": "b"}}}) is None
    assert pod(labels={"mabeam.dev/agent": "a"}).name == "a-0-1"


def test_only_a_controller_reference_of_the_kind_proves_ownership() -> None:
    ours = {"apiVersion": "mabeam.dev/v1alpha1", "kind": "Agent", "name": "a", "uid": "x", "controller": True}
    body = {"metadata": {"ownerReferences": [ours]}}
    assert owner_uid(body, "Agent") == "x"
    assert owner_uid(body, "OrchestrationVariable") is None
    for change in ({"controller": False}, {"apiVersion": "other/v1"}, {"kind": "Job"}):
        assert owner_uid({"metadata": {"ownerReferences": [{**ours, **change}]}}, "Agent") is None
    assert owner_uid({}, "Agent") is None


# --- containers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "facts"),
    [
        ({"running": {"startedAt": stamp(1)}}, ContainerFacts("running", started_at=at(1))),
        ({"running": None}, ContainerFacts("running")),
        ({"waiting": {"reason": "R", "message": "m"}}, ContainerFacts("waiting", "R", "m")),
        (
            {"terminated": {"exitCode": 3, "reason": "Error", "startedAt": stamp(1), "finishedAt": stamp(9)}},
            ContainerFacts("terminated", "Error", None, 3, at(1), at(9)),
        ),
        ({}, ContainerFacts()),
        (None, ContainerFacts()),
    ],
)
def test_the_state_of_the_main_container(state: Any, facts: ContainerFacts) -> None:
    assert pod(status={"containerStatuses": [{"name": "agent", "state": state}]}).main == facts


def test_the_container_named_agent_is_the_main_one_else_the_specs_first() -> None:
    statuses = [{"name": "b", **RUNNING}, {"name": "a", "state": {"waiting": {"reason": "R"}}}]
    assert (
        pod(spec={"containers": [{"name": "a"}, {"name": "b"}]}, status={"containerStatuses": statuses}).main.reason
        == "R"
    )
    named = [{"name": "proxy", "state": {"waiting": {}}}, {"name": "agent", **RUNNING}]
    assert pod(status={"containerStatuses": named}).main.state == "running"
    assert pod(spec={"containers": [{"name": "a"}]}).main == ContainerFacts()


@pytest.mark.parametrize(
    ("others", "running"),
    [
        ([], False),
        ([{"name": "proxy", **RUNNING}], True),
        ([{"name": "proxy", "state": {"waiting": {}}}], True),
        ([{"name": "proxy", "state": {"terminated": {}}}], False),
    ],
)
def test_a_sidecar_runs_until_it_has_terminated(others: list[Any], running: bool) -> None:
    containers = [{"name": "agent"}, *({"name": other["name"]} for other in others)]
    ended = {"name": "agent", "state": {"terminated": {"exitCode": 0}}}
    found = pod(spec={"containers": containers}, status={"containerStatuses": [ended, *others]})
    assert found.others_running is running


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


def test_a_pod_is_scheduled_when_its_condition_says_so_else_when_it_has_a_node() -> None:
    condition = {"type": "PodScheduled", "status": "True", "lastTransitionTime": stamp(5)}
    assert pod(status={"conditions": [condition], "startTime": stamp(9)}).scheduled_at == at(5)
    assert pod(spec={"nodeName": "n"}, status={"startTime": stamp(9)}).scheduled_at == at(9)
    assert pod(spec={"nodeName": "n"}, creationTimestamp=stamp(1)).scheduled_at == at(1)
    assert pod(creationTimestamp=stamp(1)).scheduled_at is None
    waits = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "full"}
    assert pod(spec={"nodeName": "n"}, status={"conditions": [waits]}).scheduled_at is None
    assert pod(status={"conditions": [waits]}).unschedulable == "full"


def test_a_deletion_was_asked_for_its_grace_before_its_deadline() -> None:
    found = pod(deletionTimestamp=stamp(30), deletionGracePeriodSeconds=30)
    assert (found.deleting, found.deletion_requested_at) == (True, at(0))
    assert (pod().deleting, pod().deletion_requested_at) == (False, None)


@pytest.mark.parametrize(
    ("status", "disruption", "time"),
    [("True", "EvictionByEvictionAPI", at(3)), ("False", None, None)],
)
def test_a_disruption_is_one_only_while_its_condition_is_true(status: str, disruption: Any, time: Any) -> None:
    condition = {
        "type": "DisruptionTarget",
        "status": status,
        "reason": "EvictionByEvictionAPI",
        "lastTransitionTime": stamp(3),
    }
    found = pod(status={"conditions": [condition]})
    assert (found.disruption, found.disrupted_at) == (disruption, time)


@pytest.mark.parametrize(
    ("status", "ready"),
    [
        ({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}, True),
        ({"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}]}, False),
        ({"phase": "Running"}, True),
        ({"phase": "Running", "containerStatuses": [{"name": "agent", "ready": False}]}, False),
        ({"phase": "Pending"}, False),
    ],
)
def test_ready_is_what_the_kubelet_says_and_in_a_hand_written_world_what_runs(status: Any, ready: bool) -> None:
    assert pod(status=status).ready is ready


@pytest.mark.parametrize(("text", "number"), [("7", 7), ("", 0), ("-1", 0), ("x", 0), ("²", 0), ("9" * 5000, 0)])
def test_an_annotation_that_is_no_number_is_no_generation(text: str, number: int) -> None:
    assert pod(annotations={"mabeam.dev/directives-generation": text}).generation == number


def test_a_pod_of_which_nothing_is_known_is_pending() -> None:
    found = parse_pod({"metadata": {"name": "a-0-1"}})
    assert found == PodFacts("a-0-1", "", 0, 1)


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


@pytest.mark.parametrize(
    ("type_", "reason", "resize"),
    [
        ("PodResizePending", "Infeasible", "Infeasible"),
        ("PodResizePending", "Deferred", "Deferred"),
        ("PodResizeInProgress", "", "InProgress"),
        # The kubelet tries it again: a process may use less memory in a moment.
        ("PodResizeInProgress", "Error", "Deferred"),
    ],
)
def test_how_far_a_resize_is_comes_from_the_pods_conditions(type_: str, reason: str, resize: str) -> None:
    told = {"type": type_, "status": "True", "reason": reason, "message": "why"}
    found = pod(status={"conditions": [told]})
    assert (found.resize, found.resize_message) == (resize, "why")
    assert pod(status={"conditions": [told | {"status": "False"}]}).resize is None
