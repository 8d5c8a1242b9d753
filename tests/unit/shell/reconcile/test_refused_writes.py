"""Refused writes are remembered, told once and tried again later; writes without effect wait longer and longer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mabeam.core.decision import Decision, Effect, without_refused
from mabeam.core.snapshot import WriteRefused
from mabeam.shell.reconcile.refused_writes import (
    RefusedWrites,
    StoreRefused,
    WritesWithoutEffect,
    WriteWithoutEffect,
    is_within,
)

MAP = Effect("create", "ConfigMap", "team", "v-mabeam-decision", "record")
OTHER = Effect("create", "ConfigMap", "team", "v-mabeam-history", "history")
POD = Effect("patch", "Pod", "team", "a-0-1", "refresh", needs_config_maps=True)
NO = (MAP, StoreRefused("exceeded quota"))


def test_a_refusal_is_news_once_and_its_end_is_news_too(caplog: pytest.LogCaptureFixture) -> None:
    refused = RefusedWrites()
    assert refused.record("u", [MAP, OTHER], [NO], 0.0)
    assert "ConfigMap v-mabeam-decision cannot be written: exceeded quota" in caplog.text
    assert not refused.record("u", [MAP], [NO], 20.0)
    assert not refused.record("u", [OTHER], [], 21.0)
    assert refused.of("u", 20.0)["ConfigMap v-mabeam-decision"] == WriteRefused("exceeded quota", 20.0)
    assert refused.record("u", [MAP], [], 60.0)
    assert refused.of("u", 60.0) == {}


def test_what_is_gone_is_forgotten() -> None:
    refused = RefusedWrites()
    refused.record("u", [MAP], [NO], 0.0)
    refused.forget("u")
    assert refused.of("u", 0.0) == {}


def test_a_refused_write_waits_and_so_does_what_depends_on_it() -> None:
    decision = Decision("status", "why", effects=(OTHER, POD), effects_before_status=(MAP,))  # type: ignore[type-var]
    refused = {MAP.slot: WriteRefused("no", 8.0)}
    left = without_refused(decision, refused)
    assert (left.effects, left.effects_before_status, left.requeue_after) == ((OTHER,), (), 8.0)
    assert without_refused(decision, {MAP.slot: WriteRefused("no", 0.0)}) is decision


def test_a_write_that_changes_nothing_waits_longer_and_longer_until_one_is_taken() -> None:
    writes, waits = WritesWithoutEffect(), []
    now = 0.0
    for _ in range(12):
        writes.check("Agent", "team", "a", now)
        writes.record("Agent", "team", "a", taken=False, now=now)
        try:
            writes.check("Agent", "team", "a", now)
            waits.append(0.0)
        except WriteWithoutEffect as wait:
            waits.append(wait.retry_after)
            now += wait.retry_after
    assert waits[0] == 0.0
    assert waits == sorted(waits)
    assert 0 < waits[1] <= waits[-1] <= 300
    writes.record("Agent", "team", "a", taken=True, now=now)
    writes.record("Agent", "team", "a", taken=False, now=now)
    writes.check("Agent", "team", "a", now)


@pytest.mark.parametrize(
    ("sent", "found", "within"),
    [
        ({"data": {"k": "v"}}, {"data": {"k": "v", "other": "x"}, "metadata": {}}, True),
        ({"data": {"k": "v"}}, {"data": {"k": "w"}}, False),
        ({"data": {"k": "v", "gone": None}}, {"data": {"k": "v"}}, True),
        ({"data": {"gone": None}}, {"data": {"gone": "still"}}, False),
        ({"data": {"k": "v"}}, {}, False),
        ({"spec": {"ingress": []}}, {"spec": {"ingress": [{}]}}, False),
    ],
)
def test_a_write_is_taken_when_all_of_it_is_read_back(sent: dict[str, object], found: object, within: bool) -> None:
    assert is_within(sent, found) is within


@given(st.recursive(st.integers() | st.text(), lambda inner: st.dictionaries(st.text(max_size=2), inner, max_size=3)))
def test_what_is_read_back_as_it_was_sent_is_taken(value: object) -> None:
    assert is_within(value, value)
