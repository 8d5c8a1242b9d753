"""Figures and their bars: how they are made of samples. Nothing here measures."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Bar:
    """The most a figure may be, and how far from it downwards it may be when it must not be less either."""

    most: float
    least: float = -math.inf
    text: str = ""
    stretch: float | None = None

    def holds(self, value: float) -> bool:
        """Whether the figure keeps to it; what is not a number does not."""
        return self.least <= value <= self.most

    @property
    def label(self) -> str:
        """The bar as the table shows it."""
        return self.text or f"≤ {number(self.most)}"


@dataclass(frozen=True)
class Measurement:
    """A figure of a case: the median of its samples with their range."""

    case: str
    measure: str
    unit: str
    samples: tuple[float, ...]
    bar: Bar | None = None
    note: str = ""

    @property
    def median(self) -> float:
        """The figure itself."""
        return statistics.median(self.samples)

    @property
    def met(self) -> bool | None:
        """Whether the bar is met; None for a figure without a bar."""
        return None if self.bar is None else self.bar.holds(self.median)

    @property
    def text(self) -> str:
        """The figure as the table shows it."""
        unit = "" if self.unit == "×" else f" {self.unit}"
        times = " ×" if self.unit == "×" else ""
        if len(self.samples) == 1:
            return f"{number(self.median)}{times}{unit}"
        return f"{number(self.median)}{times}{unit} ({number(min(self.samples))}–{number(max(self.samples))})"


def number(value: float) -> str:
    """Three significant digits, or as many as a whole number has."""
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of the values does not exceed."""
    if not values:
        raise ValueError("no samples")
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, ...]:
    """Each round's ratio, ours to theirs; arms are interleaved, so that rounds compare and slow spells cancel out."""
    return tuple(a / b for a, b in zip(ours, theirs, strict=True))


def slope(points: Sequence[tuple[float, float]]) -> float:
    """The slope of the least-squares line through the points."""
    return statistics.linear_regression([x for x, _ in points], [y for _, y in points]).slope
