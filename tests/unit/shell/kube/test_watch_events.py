"""Lines of a WATCH stream: an event, an event of an object that cannot be read, the apiserver's error, or a broken stream."""

import json

import pytest

from mabeam.shell.kube.errors import ApiError
from mabeam.shell.kube.json_members import ObjectIdentity
from mabeam.shell.kube.watch_events import UNREADABLE, StreamError, identity_in, parse_event
from support.hostile_json import nested_object


def test_an_event_is_what_the_apiserver_sent() -> None:
    event = {"type": "ADDED", "object": {"metadata": {"name": "a", "resourceVersion": "7"}}}
    assert parse_event(json.dumps(event).encode()) == event
    assert identity_in(event) == ObjectIdentity("", "a", "", "7")


@pytest.mark.parametrize(
    ("sent", "type_"), [(b"ADDED", UNREADABLE), (b"MODIFIED", UNREADABLE), (b"DELETED", "DELETED")]
)
def test_an_object_that_nests_too_deep_is_reduced_to_what_it_is_called(sent: bytes, type_: str) -> None:
    event = parse_event(b'{"type":"%s","object":%s}' % (sent, nested_object("deep")))
    assert (event["type"], identity_in(event)) == (type_, ObjectIdentity("evil", "deep", "uid-of-deep", "7"))
    assert set(event["object"]) == {"metadata"}


def test_the_apiservers_error_is_raised() -> None:
    with pytest.raises(ApiError, match="410 Expired: too old"):
        parse_event(b'{"type":"ERROR","object":{"code":410,"reason":"Expired","message":"too old"}}')


@pytest.mark.parametrize(
    "line",
    [
        b'"words"',
        b'{"type":"ADDED"}',
        b'{"type":"ADDED","object":[]}',
        b'{"type":"ADDED","obj',
        b'{"type":"ERROR","object":{}}',
        b"7",
    ],
)
def test_what_is_no_event_breaks_the_stream(line: bytes) -> None:
    with pytest.raises(StreamError):
        parse_event(line)
