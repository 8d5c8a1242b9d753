"""What `mabeam simulate` prints: a document, or a table of the timeline and the figures."""

import re
from collections.abc import Callable
from typing import Any, Final

from mabeam.api.base import JsonDict
from mabeam.simulation.run import Rehearsal
from mabeam.simulation.scenario import MAX_SECONDS, read_scenario
from mabeam.simulation.summary import spread, summary
from mabeam.worldfile import BadWorld, World

_DURATION: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)s?")


def rehearse(world: World, until: str, seed: int, runs: int, told: Callable[[int], None]) -> JsonDict:
    """The timeline and the summary of one run, or the spread of many; raises BadWorld for what cannot be played."""
    seconds = _seconds(until)
    scenario = read_scenario(world, world.scenario)
    if runs == 1:
        run = Rehearsal(world, scenario, seed)
        run.run(seconds)
        return {"timeline": run.timeline, "summary": summary(run)}
    summaries = []
    for number in range(runs):
        run = Rehearsal(world, scenario, seed + number)
        run.run(seconds)
        summaries.append(summary(run))
        told(number + 1)
    return {"spread": spread(summaries)}


def _seconds(text: str) -> float:
    found = _DURATION.fullmatch(text)
    if found is None or not 0 < float(found[1]) <= MAX_SECONDS:
        raise BadWorld(f"--until must be seconds such as 3600 or 3600s, at most {MAX_SECONDS:.0f}, not {text!r}")
    return float(found[1])


def table(result: JsonDict) -> str:
    """The same for people."""
    if "spread" in result:
        found = result["spread"]
        lines = [f"{found['runs']} runs from seed {found['firstSeed']}", ""]
        return "\n".join([*lines, *_rows(_SPREAD_HEAD, [_spread_row(n, a) for n, a in found["agents"].items()])]) + "\n"
    lines = [
        f"{entry['at']:>10.1f} s  {entry['about']:<28} {entry['what']:<24} {entry['note']}"
        for entry in result["timeline"]
    ]
    found = result["summary"]
    lines += ["", f"{found['seconds']:g} s, seed {found['seed']}, {found['decisions']} decisions", ""]
    lines += _rows(_AGENT_HEAD, [_agent_row(name, agent) for name, agent in found["agents"].items()])
    if found["supervisors"]:
        rows = [
            (name, one["state"], one["restarts"], _or_dash(one["parkedAt"]))
            for name, one in found["supervisors"].items()
        ]
        lines += ["", *_rows(("SUPERVISOR", "STATE", "RESTARTS", "PARKED AT"), rows)]
    return "\n".join(lines) + "\n"


_AGENT_HEAD: Final = ("AGENT", "STATE", "AVAILABILITY", "RESTARTS", "RECOVERY", "HEADROOM", "PARKED AT", "FAILURES")
_SPREAD_HEAD: Final = ("AGENT", "PARKED", "AVAILABILITY p5/p50/p95", "RESTARTS p5/p50/p95", "RECOVERY p50")


def _agent_row(name: str, agent: JsonDict) -> tuple[Any, ...]:
    causes = ", ".join(f"{cause} {count}" for cause, count in agent["failures"].items())
    available = "-" if agent["availability"] is None else f"{agent['availability']:.4%}"
    recovery = "-" if agent["recoverySeconds"] is None else f"{agent['recoverySeconds']:g} s"
    parked = _or_dash(agent["parkedAt"])
    return name, agent["state"], available, agent["restarts"], recovery, agent["budgetHeadroom"], parked, causes or "-"


def _spread_row(name: str, agent: JsonDict) -> tuple[Any, ...]:
    available = "/".join(f"{value:.4f}" for value in (agent["availability"] or {}).values()) or "-"
    restarts = "/".join(f"{value:g}" for value in (agent["restarts"] or {}).values()) or "-"
    recovery = f"{agent['recoverySeconds']['p50']:g} s" if agent["recoverySeconds"] else "-"
    return name, f"{agent['parked']:.2%}", available, restarts, recovery


def _or_dash(value: float | None) -> str:
    return "-" if value is None else f"{value:g} s"


def _rows(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> list[str]:
    cells = [head, *(tuple(str(cell) for cell in row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
