"""Points in time: RFC 3339 text to datetime, and sums that cannot overflow."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

EARLIEST_YEAR: Final = 1970
LATEST_YEAR: Final = 9000
# `datetime` ends with the year 9999: any timeout can still be added to this.
_LATEST: Final = datetime(LATEST_YEAR, 1, 1, tzinfo=UTC)


def add_seconds(moment: datetime, seconds: float) -> datetime:
    """The time `seconds` after `moment`. A moment beyond the year 9000, as only an edited status holds, counts as 9000."""
    return min(moment, _LATEST) + timedelta(seconds=seconds)


def parse_instant(text: Any) -> datetime | None:
    """The aware UTC time in RFC 3339 text, or in the datetime that a YAML parser made of it; None when there is none.

    A time without an offset is UTC. Years before 1970 or after 9000 give None: adding a timeout to a time must never fail.
    """
    if isinstance(text, str) and text:
        try:
            text = datetime.fromisoformat(text.replace("Z", "+00:00"))
        except ValueError:
            return None
    if not isinstance(text, datetime) or not EARLIEST_YEAR <= text.year <= LATEST_YEAR:
        return None
    return text.replace(tzinfo=UTC) if text.tzinfo is None else text.astimezone(UTC)
