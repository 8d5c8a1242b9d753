"""What one way of deciding came to: the shape that every strategy gives back, and the record of why."""

from dataclasses import dataclass
from typing import Any

from mabeam.api.base import JsonDict
from mabeam.api.names import Reason
from mabeam.api.variable_status import Candidate, Offer
from mabeam.core.questions import Ask


@dataclass(frozen=True)
class Outcome:
    """What a round came to. Without a `value`, `rule` is the reason why; `error` blames the configuration or the function.

    `winner` and `payment` are an auction's. `candidates` are what was weighed, best first. With `asks` nothing is decided until
    they are answered; `asked` is the question whose answer this is. `memory` is what the strategy wants to remember of what it
    saw, though nothing was decided on it yet; `again` says in how many seconds time alone may change the outcome.
    """

    rule: str
    message: str
    value: Any = None
    winner: str | None = None
    payment: float | None = None
    error: Reason | None = None
    offers: tuple[Offer, ...] = ()
    dropped: tuple[str, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    asks: tuple[Ask, ...] = ()
    memory: JsonDict | None = None
    again: float | None = None
    asked: str | None = None
