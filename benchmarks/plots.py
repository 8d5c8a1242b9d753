"""The plots, as SVG, from the results alone: time against N for P1, P6 and P9, memory over time for P7."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.cases.p07_memory import settled
from benchmarks.result_files import ResultFiles

# Told apart by people who see colours differently too (Okabe and Ito).
_COLOURS: Final = {"agents": "#0072b2", "jobs": "#e69f00", "replicasets": "#009e73", "stock jobs": "#cc79a7"}
_SIZE: Final = (6.4, 4.0)

Samples = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Curve:
    """Seconds against a number of objects: the median of each size's samples, and their range."""

    name: str
    points: tuple[tuple[int, tuple[float, ...]], ...]

    @property
    def sizes(self) -> list[int]:
        """The sizes, growing."""
        return [size for size, _ in self.points]

    @property
    def medians(self) -> list[float]:
        """The median of each size."""
        return [statistics.median(seconds) for _, seconds in self.points]

    @property
    def errors(self) -> list[list[float]]:
        """How far each size's samples reach below and above the median."""
        low = [median - min(seconds) for median, (_, seconds) in zip(self.medians, self.points, strict=True)]
        high = [max(seconds) - median for median, (_, seconds) in zip(self.medians, self.points, strict=True)]
        return [low, high]


def scale_curves(samples: Samples) -> list[Curve]:
    """P1: a curve for each arm."""
    found: dict[str, dict[int, list[float]]] = {}
    for part, these in samples.items():
        for one in these["trials"]:
            found.setdefault(one["arm"], {}).setdefault(int(part), []).append(one["running"])
    return [_curve(arm, sizes) for arm, sizes in found.items()]


def round_curves(samples: Samples) -> list[Curve]:
    """P6 and P9: the operator's curve."""
    return [_curve("agents", {int(part): [one["seconds"] for one in s["rounds"]] for part, s in samples.items()})]


def _curve(name: str, sizes: Mapping[int, Sequence[float]]) -> Curve:
    return Curve(name, tuple((size, tuple(sizes[size])) for size in sorted(sizes)))


_CURVES: Final = {
    "P1": ("N created → all pods run", scale_curves),
    "P6": ("a variable changes → every agent told", round_curves),
    "P9": ("killed and started again → caught up", round_curves),
}


def draw(files: ResultFiles) -> list[Path]:
    """The files that were drawn, beside the results' folder; cases without results have none."""
    drawn = []
    with mpl.rc_context({"svg.hashsalt": "mabeam", "svg.fonttype": "none", "font.family": "sans-serif"}):
        for case, figure in _figures(files):
            path = files.folder.with_name(f"{files.folder.name}-{case.lower()}.svg")
            figure.savefig(path, format="svg", metadata={"Date": None})
            drawn.append(path)
    return drawn


def _figures(files: ResultFiles) -> Iterator[tuple[str, Figure]]:
    for case, (title, curves) in _CURVES.items():
        samples = files.samples(case)
        if len(samples) > 1:  # one size is no curve
            yield case, _against_size(f"{case}: {title}", curves(samples))
    memory = files.samples("P7")
    if memory:
        yield "P7", _over_time(memory)


def _against_size(title: str, curves: Sequence[Curve]) -> Figure:
    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.add_subplot(title=title, xlabel="N", ylabel="seconds", xscale="log", yscale="log")
    for curve in curves:
        axes.errorbar(
            curve.sizes,
            curve.medians,
            curve.errors,
            marker="o",
            capsize=3,
            label=curve.name,
            color=_COLOURS[curve.name],
        )
    axes.grid(visible=True, which="both", alpha=0.25)
    if len(curves) > 1:
        axes.legend()
    return figure


def _over_time(samples: Samples) -> Figure:
    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.add_subplot(title="P7: the operator's memory under churn", xlabel="minutes", ylabel="RSS, MB")
    for these in samples.values():
        course = [(at / 60, rss / 1e6) for at, rss in these["course"]]
        axes.plot(*zip(*course, strict=True), color=_COLOURS["agents"], label=f"{these['agents']:,} agents")
        begin = settled(course)[0][0]
        axes.axvline(begin, color="grey", linestyle=":", label="the slope is taken from here on")
        axes.set_ylim(bottom=0)
    axes.grid(visible=True, alpha=0.25)
    axes.legend()
    return figure
