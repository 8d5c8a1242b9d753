"""A table of measurements: what was measured, how often, and the most it may be."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One line of the table; `bar` is the most `p50` (or the only number) may be."""

    name: str
    unit: str
    p50: float
    p95: float | None = None
    samples: int = 1
    bar: float | None = None
    note: str = ""

    @property
    def holds(self) -> bool:
        """Whether the bar is kept; a figure without one always does."""
        return self.bar is None or self.p50 <= self.bar


@dataclass
class Results:
    """The figures and where they were measured."""

    figures: list[Figure] = field(default_factory=list)
    machine: dict[str, Any] = field(default_factory=dict)

    def add(self, figure: Figure) -> None:
        """Keep a figure, and print it at once."""
        self.figures.append(figure)
        print(f"  {figure.name}: {numbers(figure)}", flush=True)

    def add_times(self, name: str, seconds: Sequence[float], note: str = "") -> None:
        """A latency: its median and 95th percentile in milliseconds."""
        ordered = sorted(1000 * value for value in seconds)
        p95 = ordered[math.ceil(0.95 * len(ordered)) - 1]
        self.add(Figure(name, "ms", round(statistics.median(ordered), 1), round(p95, 1), len(ordered), note=note))


def numbers(figure: Figure) -> str:
    """A figure's numbers as text."""
    p95 = f", p95 {figure.p95:g}" if figure.p95 is not None else ""
    bar = f" (bar {figure.bar:g}: {'kept' if figure.holds else 'BROKEN'})" if figure.bar is not None else ""
    return f"{figure.p50:g} {figure.unit}{p95}{bar}, n={figure.samples}"


def table(results: Results) -> str:
    """The figures as a table in Markdown."""
    rows = ["| figure | p50 | p95 | unit | n | bar | |", "|---|---:|---:|---|---:|---|---|"]
    for figure in results.figures:
        p95 = "" if figure.p95 is None else f"{figure.p95:g}"
        bar = "" if figure.bar is None else f"≤ {figure.bar:g}, {'kept' if figure.holds else '**broken**'}"
        rows.append(
            f"| {figure.name} | {figure.p50:g} | {p95} | {figure.unit} | {figure.samples} | {bar} | {figure.note} |"
        )
    return "\n".join(rows)
