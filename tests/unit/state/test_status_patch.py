"""Merge patches of statuses; what survives them beside the models is in test_parse_status."""

import copy

from hypothesis import given
from hypothesis import strategies as st

from mabeam.api.agent_status import AgentStatus
from mabeam.api.base import JsonDict
from mabeam.state.parse_status import parse_status
from mabeam.state.status_patch import merge_patch, status_patch, without_unknown
from support.apiserver_in_memory import patched

# RFC 7386 cannot express null, and a status holds none: they are left out where a value enters, and by `to_wire`.
SCALARS = st.booleans() | st.integers() | st.text(max_size=3)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcd"), inner, max_size=4),
    max_leaves=12,
)
DOCUMENTS = st.dictionaries(st.sampled_from("abcd"), VALUES, max_size=4)


@given(DOCUMENTS, DOCUMENTS)
def test_a_merge_patch_turns_the_one_into_the_other(before: JsonDict, after: JsonDict) -> None:
    untouched = copy.deepcopy((before, after))
    assert patched(before, merge_patch(before, after)) == after
    assert (before, after) == untouched


@given(DOCUMENTS)
def test_a_merge_patch_between_equals_is_empty(document: JsonDict) -> None:
    assert merge_patch(document, copy.deepcopy(document)) == {}


@given(DOCUMENTS, DOCUMENTS)
def test_a_merge_patch_names_nothing_that_did_not_change(before: JsonDict, after: JsonDict) -> None:
    changed = {key for key in before.keys() | after.keys() if before.get(key, ...) != after.get(key, ...)}
    assert merge_patch(before, after).keys() == changed


def test_an_unchanged_status_needs_no_patch_whatever_else_is_stored() -> None:
    before, stored = parse_status(AgentStatus, {"observedGeneration": 1, "state": "Suspended"})
    assert status_patch(stored, before, before.model_copy()) == {}


def test_nothing_but_the_status_is_left_without_the_unknown() -> None:
    json = {"observedGeneration": 1, "state": "Suspended", "failures": [{"cause": "New"}], "more": {"a": 1}}
    before, stored = parse_status(AgentStatus, json)
    assert stored is not None
    assert patched(json, without_unknown(stored, before)) == before.to_wire()
