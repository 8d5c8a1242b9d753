"""Pages of a LIST: one object that cannot be read costs nobody else's."""

import json

import pytest

from mabeam.shell.kube.json_members import ObjectIdentity
from mabeam.shell.kube.list_page import ListPage, parse_page, parse_page_by_item
from support.hostile_json import nested_object

NORMAL = {"metadata": {"name": "a", "namespace": "team"}, "spec": {"x": [1, "]}"]}}


def page(*items: bytes) -> bytes:
    return b'{"kind":"AgentList","items":[%s],"metadata":{"continue":"next","resourceVersion":"9"}}' % b",".join(items)


def test_both_ways_of_reading_a_page_agree() -> None:
    raw = page(json.dumps(NORMAL).encode(), json.dumps(NORMAL).encode())
    assert parse_page(raw) == parse_page_by_item(raw) == ListPage([NORMAL, NORMAL], "9", "next")


def test_an_object_that_nests_too_deep_is_named_and_left_out() -> None:
    raw = page(nested_object("deep", 1100), json.dumps(NORMAL).encode(), nested_object("deeper", 9000))
    with pytest.raises(ValueError, match="depth"):
        parse_page(raw)
    deep, deeper = (
        ObjectIdentity("evil", "deep", "uid-of-deep", "7"),
        ObjectIdentity("evil", "deeper", "uid-of-deeper", "7"),
    )
    assert parse_page_by_item(raw) == ListPage([NORMAL], "9", "next", (deep, deeper))


@pytest.mark.parametrize("raw", [b"{}", b'{"items":null,"metadata":null}'])
def test_a_page_of_nothing_is_empty(raw: bytes) -> None:
    assert parse_page(raw) == ListPage([])
