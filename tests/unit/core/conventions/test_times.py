"""Points in time: what a status or a pod may hold is parsed once, and no sum overflows."""

from datetime import UTC, datetime
from typing import Any

import pytest

from mabeam.core.conventions.times import add_seconds, parse_instant

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "text", ["2026-01-01T12:00:00Z", "2026-01-01T14:00:00+02:00", "2026-01-01T12:00:00", NOON.replace(tzinfo=None)]
)
def test_rfc_3339_text_becomes_utc(text: Any) -> None:
    assert parse_instant(text) == NOON


@pytest.mark.parametrize("text", [None, "", "noon", 12, "1969-12-31T23:59:59Z", "9001-01-01T00:00:00Z"])
def test_what_is_no_time_to_count_with_is_none(text: Any) -> None:
    assert parse_instant(text) is None


def test_a_sum_with_the_last_moment_of_the_calendar_does_not_overflow() -> None:
    assert add_seconds(datetime.max.replace(tzinfo=UTC), 3600).year == 9000
