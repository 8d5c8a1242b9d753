"""Instants: RFC 3339 text to datetime, and sums of times that cannot overflow."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

# Any timeout can still be added to it.
_LATEST: Final = datetime(9000, 1, 1, tzinfo=UTC)


def add_seconds(moment: datetime, seconds: float) -> datetime:
    """So many seconds after a moment that a status tells of; what is beyond the calendar's end nobody honest wrote."""
    return min(moment, _LATEST) + timedelta(seconds=seconds)


EARLIEST_YEAR: Final = 1970
LATEST_YEAR: Final = 9000


def parse_instant(text: Any) -> datetime | None:
    """An aware UTC time from RFC 3339 text (or what YAML made of it); None when there is none that can be reckoned with.

    A time without an offset is UTC. Years before 1970 or after 9000 are no times: adding a timeout to one must never fail.
    """
    if isinstance(text, str) and text:
        try:
            text = datetime.fromisoformat(text.replace("Z", "+00:00"))
        except ValueError:
            return None
    if not isinstance(text, datetime) or not EARLIEST_YEAR <= text.year <= LATEST_YEAR:
        return None
    return text.replace(tzinfo=UTC) if text.tzinfo is None else text.astimezone(UTC)
