"""What `mabeam simulate` prints: a document, or tables of the timeline and the figures."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from mabeam.api.base import JsonDict
from mabeam.core.algorithms.domain import format_value
from mabeam.offline.documents import InvalidWorld
from mabeam.offline.lint_trees import of_trees
from mabeam.offline.world import World
from mabeam.simulation.run import Simulation
from mabeam.simulation.scenario import MAX_SECONDS, Scenario, check_length, read_scenario
from mabeam.simulation.summary import spread, summary

_UNITS: Final[Mapping[str, int]] = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)([smhd]?)")


def simulate(
    world: World, until: str, seed: int, runs: int, progress: Callable[[int], None], warn: Callable[[str], None]
) -> JsonDict:
    """The timeline and the summary of one run, or the spread of many; raises InvalidWorld for what cannot be played.

    `progress` gets the number of finished runs, `warn` what is probably not meant.
    """
    seconds = _seconds(until)
    scenario = read_scenario(world, world.scenario)
    check_length(world, scenario, seconds)
    for doubt in _doubts(world, scenario, seconds, runs):
        warn(doubt)
    if runs == 1:
        run = Simulation(world, scenario, seed)
        run.run(seconds)
        return {"timeline": run.timeline, "summary": summary(run)}
    summaries, applied = [], world.cache()
    for number in range(runs):
        run = Simulation(world, scenario, seed + number, applied)
        run.run(seconds)
        summaries.append(summary(run))
        progress(number + 1)
    return {"spread": spread(summaries)}


def _doubts(world: World, scenario: Scenario, seconds: float, runs: int) -> Iterator[str]:
    """What can be played and is hardly meant: a tree that cannot start as it is, faults after the end, runs without chance."""
    yield from (str(finding) for finding in of_trees(world) if finding.level == "error")
    late = [fault.at for fault in scenario.faults if fault.at >= seconds]
    if late:
        yield f"{len(late)} of the faults come after the end ({seconds:g} s), the first at {min(late):g} s: see --until"
    if runs > 1 and not scenario.rates:
        yield "the Scenario has no `rates`: nothing is left to chance but jitter, and all runs are much the same"


def decisions(result: JsonDict) -> int:
    """How many passes of the core the result took."""
    found: int = result["summary" if "summary" in result else "spread"]["decisions"]
    return found


def _seconds(text: str) -> float:
    found = _DURATION.fullmatch(text)
    seconds = float(found[1]) * _UNITS[found[2]] if found is not None else 0.0
    if not 0 < seconds <= MAX_SECONDS:
        raise InvalidWorld(f"--until must be a time such as 3600, 3600s, 90m, 24h or 7d, at most a year, not {text!r}")
    return seconds


# --- tables ------------------------------------------------------------------------------------------------------------------

Column = tuple[str, Callable[[JsonDict], str]]


def table(result: JsonDict) -> str:
    """The same for people."""
    return (_table_of_many(result["spread"]) if "spread" in result else _table_of_one(result)) + "\n"


def _table_of_one(result: JsonDict) -> str:
    found = result["summary"]
    events = [(f"{one['at']:.1f} s".rjust(10), one["what"], one["about"], one["note"]) for one in result["timeline"]]
    parts = [_rows([("      TIME", "WHAT", "ABOUT", "NOTE"), *events])]
    parts.append([f"{found['seconds']:g} s of virtual time, seed {found['seed']}, {found['decisions']} decisions"])
    parts.append(_figures("AGENT", _AGENT, found["agents"]))
    parts.append(_figures("SUPERVISOR", _SUPERVISOR, found["supervisors"]))
    parts.append(_figures("VARIABLE", _VARIABLE, found.get("variables", {})))
    return "\n\n".join("\n".join(part) for part in parts if part)


def _table_of_many(found: JsonDict) -> str:
    parts = [
        [f"{found['runs']} runs of {found['seconds']:g} s each, seeds from {found['firstSeed']}; {_TRIPLE} of the runs"]
    ]
    parts.append(_figures("AGENT", _MANY_AGENTS, found["agents"]))
    parts.append(_figures("SUPERVISOR", _MANY_SUPERVISORS, found["supervisors"]))
    parts.append(_LEGEND)
    return "\n\n".join("\n".join(part) for part in parts if part)


_TRIPLE: Final = "p5 / p50 / p95"
_LEGEND: Final = [
    "EXHAUSTED: the share of runs in which the budget was exhausted at least once; PARKED: in which it rested parked at the end.",
    "FULLEST WINDOW: the most that were counted in one window; HEADROOM: how many more it had room for, -1 is exhausted.",
]


def _plain(figure: str, unit: str = "") -> Callable[[JsonDict], str]:
    return lambda one: "-" if one[figure] is None else f"{one[figure]:g}{unit}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.3%}"


def _three(figure: str, text: Callable[[float], str] = "{:g}".format) -> Callable[[JsonDict], str]:
    return lambda one: " / ".join(text(one[figure][q]) for q in ("p5", "p50", "p95")) if one[figure] else "-"


def _causes(one: JsonDict) -> str:
    return ", ".join(f"{cause} {count}" for cause, count in one["failures"].items()) or "-"


_AGENT: Final[tuple[Column, ...]] = (
    ("STATE", lambda one: one["state"]),
    ("AVAILABLE", lambda one: _percent(one["availability"])),
    ("RESTARTS", _plain("restarts")),
    ("RECOVERY", _plain("recoverySeconds", " s")),
    ("HEADROOM", _plain("budgetHeadroom")),
    ("PARKED AT", _plain("parkedAt", " s")),
    ("FAILURES", _causes),
)
_SUPERVISOR: Final[tuple[Column, ...]] = (
    ("STATE", lambda one: one["state"]),
    ("RESTARTS", _plain("restarts")),
    ("HEADROOM", _plain("budgetHeadroom")),
    ("PARKED AT", _plain("parkedAt", " s")),
)
_VARIABLE: Final[tuple[Column, ...]] = (
    ("READY", lambda one: one["ready"] or "-"),
    ("ROUND", _plain("round")),
    ("VALUE", lambda one: format_value(one["value"])),
)
_MANY_SUPERVISORS: Final[tuple[Column, ...]] = (
    ("EXHAUSTED", lambda one: f"{one['exhausted']:.1%}"),
    ("PARKED", lambda one: f"{one['parked']:.1%}"),
    ("RESTARTS", _three("restarts")),
    ("FULLEST WINDOW", _three("mostInWindow")),
    ("HEADROOM", _three("budgetHeadroom")),
)
_MANY_AGENTS: Final[tuple[Column, ...]] = (
    *_MANY_SUPERVISORS[:2],
    ("AVAILABLE", _three("availability", _percent)),
    *_MANY_SUPERVISORS[2:],
    ("RECOVERY p50", lambda one: f"{one['recoverySeconds']['p50']:g} s" if one["recoverySeconds"] else "-"),
)


def _figures(head: str, columns: Iterable[Column], found: Mapping[str, JsonDict]) -> list[str]:
    if not found:
        return []
    columns = tuple(columns)
    rows = [(name, *(tell(one) for _, tell in columns)) for name, one in found.items()]
    return _rows([(head, *(name for name, _ in columns)), *rows])


def _rows(cells: list[tuple[Any, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
