"""Objects that are passed over: always counted, logged once for each version."""

import logging

import pytest

from mabeam.shell.kube.json_members import ObjectIdentity
from mabeam.shell.kube.unreadable import MEMORY_LIMIT, UnreadableObjects

DEEP = ObjectIdentity("evil", "deep", "u", "7")


def test_an_object_is_counted_each_time_and_logged_once_for_each_version(caplog: pytest.LogCaptureFixture) -> None:
    counted: list[str] = []
    met = UnreadableObjects(counted.append)
    with caplog.at_level(logging.WARNING):
        for found in (DEEP, DEEP, ObjectIdentity("evil", "deep", "u", "8")):
            met.report("Agent", found)
    assert counted == ["Agent"] * 3
    assert len(caplog.messages) == 2
    assert (
        caplog.messages[0]
        == "Agent evil/deep cannot be read (its JSON nests too deep) and is passed over until it changes"
    )


def test_what_is_remembered_is_bounded() -> None:
    met = UnreadableObjects()
    for number in range(MEMORY_LIMIT + 10):
        met.report("Agent", ObjectIdentity("evil", f"deep-{number}", "u", "7"))
    assert len(met._logged) == MEMORY_LIMIT
