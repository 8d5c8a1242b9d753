"""What a campaign is: a module with an ID, a TITLE, ALONE, and `plans(seed, sample)`; and what one plan is.

A module that must know how long the undisturbed run is (its writes, its watch events) has `plans_for(undisturbed, seed,
sample)` instead of `plans`, and WORKLOADS: which of the reference workloads its plans run.
"""

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from faults.arena import Arena

T = TypeVar("T")


@dataclass(frozen=True)
class Plan:
    """One fault at one place. `run` fails by AssertionError, which says what differs and ends with the operator's log."""

    name: str
    run: Callable[[Arena], Awaitable[Any] | None]


def chosen(plans: Sequence[T], seed: int, sample: int | None) -> Sequence[T]:
    """All of them, or a seeded choice of so many, in their order."""
    if sample is None or sample >= len(plans):
        return plans
    places = sorted(random.Random(seed).sample(range(len(plans)), sample))
    return [plans[place] for place in places]
