"""What agents say: OpenMetrics text → `Report`; a hostile or broken report costs its own samples, nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Refusal:
    """An agent's process would not apply what a variable told it."""

    variable: str
    generation: int
    reason: str


@dataclass(frozen=True)
class Report:
    """One agent's word on itself: only finite, well-formed samples are in it; `problems` says what was dropped and why.

    `performance` is by metric name, the unlabelled (primary) one under "". `numbers` are numeric preferences by variable;
    `choices` are strengths by variable and choice.
    """

    performance: Mapping[str, float] = field(default_factory=dict)
    numbers: Mapping[str, float] = field(default_factory=dict)
    choices: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    bids: Mapping[str, float] = field(default_factory=dict)
    votes: Mapping[str, str] = field(default_factory=dict)
    applied_generation: int | None = None
    refusals: tuple[Refusal, ...] = ()
    progress: float | None = None
    waiting_until: float | None = None
    problems: tuple[str, ...] = ()
