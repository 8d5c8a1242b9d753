"""A case of the benchmark, and the plan by which cases run."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.arena.arena import Arena
from benchmarks.measurements import Measurement

JsonDict = dict[str, Any]
Samples = Mapping[str, JsonDict]
LARGE = 5000
QUICK_FLOOR = 100


@dataclass(frozen=True)
class Plan:
    """How much is measured; what is None is as the case has it."""

    quick: bool = False
    sizes: tuple[int, ...] | None = None
    repeats: int | None = None
    arms: tuple[str, ...] | None = None
    before: Path | None = None  # another checkout, whose operator is measured beside this one's

    @property
    def partial(self) -> bool:
        """Whether something else than the whole was asked for, so that the results are not the benchmark's."""
        return (self.sizes, self.repeats, self.arms, self.before) != (None, None, None, None)

    def rounds(self, size: int = 0) -> int:
        """How often each arm is run; the largest populations, of which a round takes minutes, less often."""
        return self.repeats or (2 if self.quick else 3 if size >= LARGE else 5)

    def pick(self, full: tuple[int, ...], quick: tuple[int, ...]) -> tuple[int, ...]:
        """The sizes to measure."""
        return self.sizes or (quick if self.quick else full)

    def has_floor(self, size: int) -> bool:
        """Whether the floor is measured for so many: the quick run has time for it at one size."""
        return not self.quick or self.sizes is not None or size <= QUICK_FLOOR

    def has(self, arm: str) -> bool:
        """Whether the arm takes part."""
        return self.arms is None or arm in self.arms


@dataclass(frozen=True)
class Case:
    """One case of docs/performance.md: how it is measured, and which figures with which bars come of it.

    `run` measures one part and returns its samples as JSON; `measurements` turns the samples of all parts into figures. A
    case whose `source` is another case's id is read off that case's samples and measures nothing itself.
    """

    id: str
    title: str
    measurements: Callable[[Samples], list[Measurement]]
    parts: Callable[[Plan], list[str]] = lambda plan: []
    run: Callable[[Arena, Plan, str], Awaitable[JsonDict]] | None = None
    source: str = ""
    estimate: Callable[[Plan, str], float] = lambda plan, part: 60.0  # seconds
    left_out: str = ""  # what the quick run does not do
    place: Callable[[str], tuple[int, int]] = lambda part: (0, 0)  # when it runs among the others


def sized(part: str) -> int:
    """The size a part is about, 0 for one that is about none: parts run from small to large populations."""
    return int(part) if part.isdigit() else 0
