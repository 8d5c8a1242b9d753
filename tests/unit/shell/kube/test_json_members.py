"""Members of JSON as raw text: whatever a parser takes is split as the parser splits it, and what none takes is still split."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mabeam.shell.kube.json_members import ObjectIdentity, identity_of, member, members

DEPTH = 5000
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(document=st.dictionaries(st.text(), VALUES, max_size=5), indent=st.sampled_from([None, 2]))
def test_the_members_of_an_object_are_those_that_a_parser_finds(document: dict[str, Any], indent: int | None) -> None:
    raw = json.dumps(document, indent=indent).encode()
    assert {key: json.loads(value) for key, value in members(raw)} == document


@given(document=st.lists(VALUES, max_size=5))
def test_the_members_of_an_array_are_its_elements_without_keys(document: list[Any]) -> None:
    found = list(members(json.dumps(document).encode()))
    assert [(key, json.loads(value)) for key, value in found] == [("", value) for value in document]


def test_no_depth_ends_the_scan() -> None:
    deep = b'{"a":' * DEPTH + b"[" * DEPTH + b"]" * DEPTH + b"}" * DEPTH
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(deep)
    assert dict(members(b'{"deep":%s,"next":"}"}' % deep)) == {"deep": deep, "next": b'"}"'}


@pytest.mark.parametrize(
    "raw", [b"", b'"text"', b"7", b'{"a"', b'{"a":', b'{"a":{', b'{"a":"x', b"[[", b'{"a":{"b":"' + b"x" * 1_000_000]
)
def test_what_is_no_whole_object_or_array_is_an_error(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"JSON|unexpected"):
        list(members(raw))


def test_an_object_is_identified_by_its_metadata_and_not_by_what_looks_like_it() -> None:
    forged = {"name": "other", "namespace": "other", "uid": "other", "resourceVersion": "999"}
    body = {
        "apiVersion": "v1",
        "metadata": {
            "annotations": forged,
            "labels": {"metadata": json.dumps({"metadata": forged})},
            "managedFields": [forged],
            "name": 'a"b',
            "namespace": "team",
            "resourceVersion": "7",
            "uid": "u",
        },
        "spec": {"metadata": forged},
    }
    assert identity_of(json.dumps(body).encode()) == ObjectIdentity("team", 'a"b', "u", "7")


def test_what_an_object_does_not_tell_is_empty() -> None:
    assert identity_of(b'{"metadata":{"name":"node1","uid":7}}') == ObjectIdentity("", "node1", "", "")
    with pytest.raises(ValueError, match="without metadata"):
        identity_of(b'{"kind":"Node"}')


def test_a_member_is_found_by_its_name() -> None:
    assert (member(b'{"a":1,"b":[2]}', "b"), member(b'{"a":1}', "c")) == (b"[2]", None)
