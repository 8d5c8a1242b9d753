"""Pods as the API server has them → facts: whose they are, what runs, when they were scheduled, and why they go."""

from typing import Any

import pytest

from mabeam.core.pods.lifecycle import is_live
from mabeam.core.snapshot import ContainerFacts, PodFacts
from mabeam.state.parse_objects import owner_uid
from mabeam.state.parse_pods import parse_pod
from support.builders import at, stamp

RUNNING = {"state": {"running": {"startedAt": stamp(1)}}, "ready": True}


def pod(name: str = "a-0-1", *, spec: Any = None, status: Any = None, **meta: Any) -> PodFacts:
    facts = parse_pod({"metadata": {"name": name, **meta}, "spec": spec or {}, "status": status or {}})
    assert facts is not None
    return facts


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


MESHED: Any = [{"name": "istio-proxy"}, {"name": "worker", "env": [{"name": "MABEAM_POD", "value": "a-0-1"}]}]
PROXY_RUNS = {
    "containerStatuses": [
        {"name": "istio-proxy", **RUNNING},
        {"name": "worker", "state": {"terminated": {"exitCode": 3}}},
    ]
}


@pytest.mark.parametrize(
    ("containers", "annotations", "main"),
    [
        (MESHED, {}, "worker"),  # by the variable that the operator gave it
        ([{"name": "istio-proxy"}, {"name": "worker"}], {"mabeam.dev/main-container": "worker"}, "worker"),
        ([{"name": "agent"}, {"name": "worker"}], {"mabeam.dev/main-container": "worker"}, "worker"),
        (MESHED, {"mabeam.dev/main-container": "gone"}, "worker"),
        ([{"name": "first"}, {"name": "second"}], {"mabeam.dev/main-container": "gone"}, "first"),
        ([{"name": "first", "env": None}, {"name": "agent", "env": [{"valueFrom": {}}]}], {}, "agent"),
    ],
)
def test_the_pod_itself_says_which_container_is_the_agents_process(
    containers: Any, annotations: Any, main: str
) -> None:
    assert pod(spec={"containers": containers}, annotations=annotations).main_name == main


def test_a_proxy_that_a_webhook_put_first_hides_no_crash_and_gets_no_allotment() -> None:
    found = pod(
        spec={"containers": [*MESHED[:1], {**MESHED[1], "resources": {"requests": {"cpu": "1"}}}]}, status=PROXY_RUNS
    )
    assert (found.main.state, found.main.exit_code, is_live(found)) == ("terminated", 3, True)
    assert found.resources == {"requests": {"cpu": "1"}}
    assert found.candidates == {}


def test_a_pod_that_does_not_say_it_keeps_the_facts_by_each_of_its_containers() -> None:
    found = pod(spec={"containers": [{"name": "istio-proxy"}, {"name": "worker"}]}, status=PROXY_RUNS)
    assert found.main_name == "istio-proxy"
    assert {name: facts.main.state for name, facts in found.candidates.items()} == {
        "istio-proxy": "running",
        "worker": "terminated",
    }


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
    assert is_live(found) is running


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
