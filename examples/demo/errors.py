"""What ends the demo early, in words for the person in front of it."""

from dataclasses import dataclass


@dataclass
class Unmet(Exception):
    """An expectation that did not hold: what was expected, what was seen, and how to look for oneself."""

    expected: str
    seen: str
    look: str = ""


class Unusable(Exception):
    """The demo cannot run here; the message says why, and what to do about it."""
