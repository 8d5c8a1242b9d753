"""What the benchmark's observer reads off watches, and off the operator's metrics, without parsing whole objects."""

import json
from typing import Any, cast

import pytest

from benchmarks.arena.api import Api
from benchmarks.arena.arms import ARMS, DIRECTED, names
from benchmarks.arena.directives import DirectiveTimeline, variable
from benchmarks.arena.operator_process import read_metrics, total
from benchmarks.arena.pod_timeline import PodEvent, PodTimeline, parse_pod_event
from mabeam.api.agent import Agent
from mabeam.api.directive import directives_document
from mabeam.api.variable import OrchestrationVariable
from mabeam.core.directives.document import directives_config_map_body
from mabeam.core.pods.body import PodRequest, pod_body

NO_API = cast(Api, None)  # a timeline that is only written into asks nobody


def agent(name: str) -> Agent:
    body = ARMS["agents"].body(name)
    body["metadata"] |= {"namespace": DIRECTED.namespace, "uid": f"uid-of-{name}", "generation": 1}
    return Agent.model_validate(body)


def event(type_: str, body: dict[str, Any]) -> bytes:
    """A watch event with the fields in the order in which the apiserver writes them."""
    return json.dumps({"type": type_, "object": body}, separators=(",", ":")).encode()


def pod(name: str, owner: str, phase: str = "Running", generation: int = 0) -> dict[str, Any]:
    made = pod_body(PodRequest(agent=agent(owner), ordinal=0, incarnation=1, generation=generation))
    meta = {"name": name} | {key: value for key, value in made["metadata"].items() if key != "name"}
    managed = [{"manager": "kwok", "fieldsV1": {"f:status": {"f:phase": {}}}}]
    return {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {**meta, "managedFields": managed},
        "spec": made["spec"],
        "status": {"phase": phase},
    }


def test_the_three_arms_have_the_same_pod_but_for_what_their_kind_demands() -> None:
    specs = {name: dict(arm.body("w")["spec"]["template"]["spec"]) for name, arm in ARMS.items()}
    assert specs["jobs"].pop("restartPolicy") == "Never"
    assert specs["agents"] == specs["jobs"] == specs["replicasets"]


def test_the_benchmarks_objects_are_what_the_operator_takes() -> None:
    assert agent("w-00000").spec.template is not None
    body = variable(7)
    body["metadata"] |= {"namespace": DIRECTED.namespace, "uid": "u", "generation": 1}
    assert OrchestrationVariable.model_validate(body).selects("w", {"team": "bench"})


def test_names_go_on_where_they_were_left() -> None:
    assert names(3)[-1] < names(1, first=3)[0]


def test_a_glance_finds_type_name_owner_and_phase() -> None:
    assert parse_pod_event(event("ADDED", pod("w-0-1", "w", "Pending"))) == PodEvent("ADDED", "w-0-1", "w", "Pending")


def test_a_glance_at_an_error_is_an_error() -> None:
    with pytest.raises(ValueError, match="410"):
        parse_pod_event(b'{"type":"ERROR","object":{"kind":"Status","metadata":{"name":"x"},"code":410}}')


def test_the_book_keeps_the_first_moment_of_everything() -> None:
    timeline = PodTimeline(NO_API, "")
    story = [
        ("ADDED", "Pending"),
        ("MODIFIED", "Running"),
        ("MODIFIED", "Running"),
        ("MODIFIED", "Failed"),
        ("DELETED", "Failed"),
    ]
    for moment, (type_, phase) in enumerate(story):
        timeline.note(PodEvent(type_, "w-0-1", "w", phase), moment)
    assert (timeline.seen, timeline.running, timeline.failed, timeline.gone) == (
        {"w-0-1": 0},
        {"w-0-1": 1},
        {"w-0-1": 3},
        {"w-0-1": 4},
    )


def test_a_replacement_is_the_next_pod_of_the_same_owner() -> None:
    timeline = PodTimeline(NO_API, "")
    for moment, (name, owner) in enumerate([("a-0-1", "a"), ("b-0-1", "b"), ("a-0-2", "a"), ("a-0-3", "a")]):
        timeline.note(PodEvent("ADDED", name, owner, "Pending"), moment)
    assert timeline.replaced("a", "a-0-1") == 2
    assert timeline.replaced("b", "b-0-1") is None
    assert timeline.replaced("a", "of-another") is None


def config_map(owner: str, generation: int, value: float) -> dict[str, Any]:
    document = directives_document(
        owner, generation, {"role": "Executor", "active": True, "parameters": {"load": value}}
    )
    return directives_config_map_body(agent(owner), document)


def test_an_agent_has_the_value_once_its_map_has_the_value_and_its_pod_that_generation() -> None:
    timeline = DirectiveTimeline(NO_API, value=7)
    timeline.note_map(event("MODIFIED", config_map("w", 4, 6)), 1)  # the value of before
    timeline.note_pod(event("MODIFIED", pod("w-0-1", "w", generation=4)), 2)
    assert timeline.delivered() == {}
    timeline.note_map(event("MODIFIED", config_map("w", 5, 7)), 3)
    assert timeline.delivered() == {}
    timeline.note_pod(event("MODIFIED", pod("w-0-1", "w", generation=5)), 4)
    timeline.note_map(event("MODIFIED", config_map("w", 5, 7)), 9)  # seen again: it had the value before
    assert timeline.delivered() == {"w": 4}


def test_a_map_that_comes_after_the_annotation_is_what_counts() -> None:
    timeline = DirectiveTimeline(NO_API, value=7)
    timeline.note_pod(event("MODIFIED", pod("w-0-1", "w", generation=5)), 1)
    timeline.note_map(event("ADDED", config_map("w", 5, 7.0)), 2)
    assert timeline.delivered() == {"w": 2}


METRICS = """\
# HELP mabeam_leader 1 while this process leads.
mabeam_leader 1.0
mabeam_reconcile_duration_seconds_count{kind="Agent",outcome="ok"} 10.0
mabeam_reconcile_duration_seconds_count{kind="Agent",outcome="error"} 2.0
mabeam_reconcile_duration_seconds_count{kind="OrchestrationVariable",outcome="ok"} 1.0
"""


def test_metrics_are_summed_over_the_labels_that_are_asked_for() -> None:
    seen = read_metrics(METRICS)
    assert total(seen, "mabeam_leader") == 1
    assert total(seen, "mabeam_reconcile_duration_seconds_count", 'kind="Agent"') == 12
    assert total(seen, "mabeam_reconcile_duration_seconds_count", 'kind="Agent"', 'outcome="ok"') == 10
    assert total(seen, "no_such_metric") == 0
