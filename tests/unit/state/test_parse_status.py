"""Stored statuses that a newer version, or a stranger, wrote into: the unreadable costs itself alone, and survives writes."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mabeam.api.agent_status import AgentState, AgentStatus, Failure
from mabeam.api.base import JsonDict, StatusModel
from mabeam.api.directive import AgentDirectives
from mabeam.api.supervisor import SupervisorStatus
from mabeam.api.variable_status import OrchestrationVariableStatus
from mabeam.state.parse_status import INFERRED, parse_status
from mabeam.state.status_patch import next_stored, status_patch
from support.builders import stamp

READY = {"type": "Ready", "status": "True", "reason": "Running", "message": "1/1", "lastTransitionTime": stamp(1)}
AGENT: JsonDict = {
    "observedGeneration": 3,
    "state": "Failed",
    "conditions": [READY, READY | {"type": "Stalled", "status": "False"}],
    "role": "coder",
    "active": True,
    "pods": [
        {"ordinal": 0, "name": "a-0-4", "incarnation": 4, "state": "Failed", "reason": "Failed", "startTime": stamp(1)},
        {"ordinal": 1, "name": "a-1-2", "incarnation": 2, "state": "Stopped", "node": "node1"},
    ],
    "restarts": 7,
    "failures": [
        {"time": stamp(t), "ordinal": 0, "cause": "Crash", "exitCode": 1, "counted": True, "pod": f"a-0-{t}"}
        for t in (1, 2, 3)
    ],
    "parkedAt": stamp(9),
    "effective": {"replicas": 2, "desiredState": "Running", "resources": {"limits": {"cpu": "1"}}},
    "directives": {
        "generation": 5,
        "items": [
            {"variable": "v", "action": "AdjustParameters", "parameters": {"t": 0.5}, "state": "Acknowledged"},
            {"variable": "w", "action": "Stop", "state": "Refused", "reason": "Dropped", "message": "m"},
        ],
        "allotted": {"cpu": "1", "memory": "1Gi"},
        "lastGood": {"t": {"a": 1}},
    },
    "supervision": {"supervisor": "root", "intent": "Start", "token": 3},
}  # fmt: skip
VARIABLE: JsonDict = {
    "observedGeneration": 2,
    "conditions": [READY],
    "value": {"model": "x"},
    "round": 4,
    "agents": {"selected": 2, "names": ["a", "b"]},
    "negotiation": {
        "id": "v-4",
        "state": "Completed",
        "strategy": "WeightedConsensus",
        "participants": ["a", "b"],
        "offers": [{"agent": "a", "value": 0.5, "weight": 1, "source": "Spec"}, {"agent": "b", "value": 0.7}],
        "outcome": 0.6,
    },
    "consensus": {
        "proposal": "v-4",
        "proposed": 0.6,
        "outcome": "Accepted",
        "votes": [{"agent": "a", "choice": "Yes"}, {"agent": "b", "choice": "No", "weight": 2}],
    },
    "directives": {"issued": 1, "items": [{"agent": "a", "action": "Stop", "state": "Delivered"}]},
    "lastDecision": {
        "time": stamp(4),
        "rule": "WeightedMean",
        "candidates": [{"name": "a", "score": 1, "chosen": True}],
    },
    "failures": [{"time": stamp(3), "error": "Timeout", "message": "late"}],
    "history": [{"time": stamp(4), "round": 4, "value": 0.6, "rule": "WeightedMean", "metrics": {"performance": 1}}],
    "watching": {"a": stamp(1)},
}
SUPERVISOR: JsonDict = {
    "observedGeneration": 1,
    "state": "Running",
    "conditions": [READY],
    "restarts": [{"time": stamp(1), "child": "a", "group": ["a", "b"]}, {"time": stamp(2), "child": "b"}],
    "children": [
        {"kind": "Agent", "name": "a", "intent": "Start", "token": 2, "started": True, "state": "Running"},
        {"kind": "Agent", "name": "b", "intent": "Stop", "token": 3, "due": 4, "end": "Finished"},
    ],
    "totalRestarts": 2,
    "parkedAt": stamp(5),
}
STATUSES: dict[type[StatusModel], JsonDict] = {
    AgentStatus: AGENT,
    OrchestrationVariableStatus: VARIABLE,
    SupervisorStatus: SUPERVISOR,
}
JUNK = ["a word of a newer version", "", -(2**70), 1.5, True, [], [None], {}, {"of": {"a": ["newer"]}}, "x" * 5000]
Place = tuple[str | int, ...]


def places(node: Any, at: Place = ()) -> Iterator[Place]:
    """The paths of everything inside a JSON document."""
    inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in inner:
        yield (*at, key)
        yield from places(value, (*at, key))


def at(node: Any, place: Place) -> Any:
    for key in place:
        node = node[key]
    return node


def cases() -> st.SearchStrategy[tuple[type[StatusModel], Place, Any]]:
    return st.sampled_from(list(STATUSES)).flatmap(
        lambda model: st.tuples(st.just(model), st.sampled_from(list(places(STATUSES[model]))), st.sampled_from(JUNK))
    )


def with_junk(model: type[StatusModel], place: Place, junk: Any) -> JsonDict:
    json = copy.deepcopy(STATUSES[model])
    at(json, place[:-1])[place[-1]] = copy.deepcopy(junk)
    return json


def readable_by_removal(model: type[StatusModel], json: JsonDict, place: Place) -> StatusModel:
    """The model after the smallest part around the place was removed without which the rest is valid."""
    for length in range(len(place), -1, -1):
        try:
            return model.model_validate(json)
        except ValidationError:
            json = copy.deepcopy(json)
            del at(json, place[: length - 1])[place[length - 1]]
    raise AssertionError("the status is invalid by itself")


def inferred(model: type[StatusModel], place: Place) -> bool:
    owner = {"pods": "PodRecord", "children": "ChildRecord"}.get(str(place[0]))
    return len(place) == 3 and any(m.__name__ == owner and name == place[-1] for m, name in INFERRED)


@given(cases())
def test_junk_anywhere_costs_the_smallest_part_around_it_and_nothing_else(case: tuple[Any, Place, Any]) -> None:
    model, place, junk = case
    json = with_junk(model, place, junk)
    status, _ = parse_status(model, json)
    if not inferred(model, place):
        assert status == readable_by_removal(model, json, place)


def decided(status: Any) -> Any:
    """What a pass may make of it: another generation, and one more entry in its ledger."""
    changed = status.model_copy(update={"observed_generation": 9})
    if isinstance(changed, AgentStatus):
        failure = Failure.model_validate({"time": stamp(30), "cause": "OOM", "pod": "a-0-30"})
        pods = tuple(r.model_copy(update={"state": AgentState.RUNNING}) for r in changed.pods)
        return changed.model_copy(update={"failures": (*changed.failures, failure)[-256:], "pods": pods})
    return changed


@given(cases())
def test_what_a_pass_decided_is_read_back_whatever_else_is_stored(case: tuple[Any, Place, Any]) -> None:
    model, place, junk = case
    before, stored = parse_status(model, with_junk(model, place, junk))
    after = decided(before)
    if stored is not None:
        again, _ = parse_status(model, next_stored(stored, before, after))
        assert again.to_wire() == after.to_wire()


@given(
    st.sampled_from(list(STATUSES)).flatmap(
        lambda m: st.tuples(st.just(m), st.sampled_from([(), *places(STATUSES[m])]))
    )
)
def test_a_field_that_this_version_does_not_know_survives_every_patch(case: tuple[Any, Place]) -> None:
    model, place = case
    json = copy.deepcopy(STATUSES[model])
    owner = at(json, place)
    if not isinstance(owner, dict):
        return
    owner["ofANewerVersion"] = {"kept": ["as", "it", "is"]}
    before, stored = parse_status(model, json)
    if stored is None:
        return  # a free object of the user's, in which every key is known
    assert at(next_stored(stored, before, decided(before)), place)["ofANewerVersion"] == {"kept": ["as", "it", "is"]}


def test_a_status_that_its_model_holds_whole_costs_no_second_copy() -> None:
    assert all(parse_status(model, json)[1] is None for model, json in STATUSES.items())


@pytest.mark.parametrize("junk", [None, "x", 7, []])
def test_a_status_that_is_none_is_begun_anew(junk: Any) -> None:
    assert parse_status(AgentStatus, junk) == (AgentStatus(), None)


# --- the cases that once cost everything ----------------------------------------------------------------------------------------


def test_an_unknown_cause_costs_one_entry_of_the_ledger_and_stays_stored_in_its_place() -> None:
    json = copy.deepcopy(AGENT)
    json["failures"][1]["cause"] = "GpuLost"
    before, stored = parse_status(AgentStatus, json)
    assert (before.parked_at is not None, len(before.pods), len(before.failures)) == (True, 2, 2)
    assert stored is not None
    failures = next_stored(stored, before, decided(before))["failures"]
    assert [failure["cause"] for failure in failures] == ["Crash", "GpuLost", "Crash", "OOM"]


def test_an_entry_that_cannot_be_read_gives_way_when_the_list_is_full() -> None:
    json = copy.deepcopy(AGENT)
    json["failures"] = [{"time": stamp(n), "cause": "Crash"} for n in range(256)]
    json["failures"][0]["cause"] = "GpuLost"
    before, stored = parse_status(AgentStatus, json)
    assert stored is not None
    failures = next_stored(stored, before, decided(before))["failures"]
    assert (len(failures), {failure["cause"] for failure in failures}) == (256, {"Crash", "OOM"})


@pytest.mark.parametrize(
    ("reason", "state"),
    [
        ("Completed", "Stopped"),
        ("Disrupted", "Stopped"),
        ("Failed", "Failed"),
        ("ErrImagePull", "Starting"),
        (None, "Starting"),
    ],
)
def test_a_replica_in_an_unknown_state_is_at_rest_when_its_reason_is_that_of_an_end(
    reason: str | None, state: str
) -> None:
    record = {"ordinal": 0, "name": "a-0-1", "incarnation": 1, "state": "Suspended"} | (
        {"reason": reason} if reason else {}
    )
    assert parse_status(AgentStatus, {"pods": [record]})[0].pods[0].state == state


def test_a_working_child_with_an_unknown_instruction_is_not_stopped() -> None:
    children = [{"name": "a", "intent": "Pause", "token": 3}, {"name": "b", "intent": "Pause", "end": "Finished"}]
    read = parse_status(SupervisorStatus, {"children": children})[0].children
    assert [(child.intent, child.token) for child in read] == [("Start", 3), ("Stop", 1)]


def test_an_unknown_word_that_nobody_decided_about_stays_and_one_that_was_decided_goes() -> None:
    json = {
        "observedGeneration": 1,
        "state": "Suspended",
        "supervision": {"supervisor": "s", "intent": "Pause", "token": 1},
    }
    before, stored = parse_status(AgentStatus, json)
    after = before.model_copy(update={"state": AgentState.RUNNING})
    patch = status_patch(stored, before, after)
    assert patch["state"] == "Running"
    assert "supervision" not in patch


def test_a_reason_of_a_newer_release_costs_itself_only() -> None:
    item = {"variable": "v", "action": "Stop", "state": "Refused", "reason": "SomethingNew", "message": "why"}
    found, stored = parse_status(AgentDirectives, {"generation": 4, "items": [item]})
    assert (found.generation, found.items[0].reason, found.items[0].message) == (4, None, "why")
    assert stored is not None
    changed = found.model_copy(update={"items": (found.items[0].model_copy(update={"message": "still"}),)})
    assert next_stored(stored, found, changed)["items"][0] | {"message": "still"} == item | {
        "message": "still",
        "parameters": {},
        "priority": 0,
        "timeoutSeconds": 30,
        "generation": 0,
    }


def test_two_items_of_one_key_are_read_as_the_first() -> None:
    record = {"ordinal": 0, "name": "a-0-1", "incarnation": 1}
    before, stored = parse_status(AgentStatus, {"pods": [record, record | {"incarnation": 2, "name": "a-0-2"}]})
    assert [r.name for r in before.pods] == ["a-0-1"]
    assert stored is not None
    assert [r["name"] for r in next_stored(stored, before, decided(before))["pods"]] == ["a-0-1"]
