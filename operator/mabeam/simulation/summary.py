"""Rehearsals → figures: of one run per agent and Supervisor, of many runs how they are spread."""

import math
import statistics
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from mabeam.api.base import JsonDict
from mabeam.api.supervisor import ChildKind
from mabeam.simulation.cluster import Place
from mabeam.simulation.run import START, Rehearsal

QUANTILES: Final = (1, 5, 50, 95, 99)


def summary(run: Rehearsal) -> JsonDict:
    """What came of one run: per agent its availability, restarts, causes and headroom; per Supervisor its restarts."""
    return {
        "seconds": round(run.seconds(), 3),
        "seed": run.seed,
        "decisions": run.passes.decisions,
        "agents": {"/".join(place): _agent(run, place) for place in sorted(run.cluster.agents)},
        "supervisors": {"/".join(place): _supervisor(run, place) for place in sorted(run.cluster.supervisors)},
    }


def _agent(run: Rehearsal, place: Place) -> JsonDict:
    life, agent = run.lives[ChildKind.AGENT, place], run.cluster.agents[place]
    status, tolerance = agent.status, agent.spec.fault_tolerance
    return {
        "state": str(status.state),
        "availability": round(life.ready / life.wanted, 6) if life.wanted else None,
        "restarts": status.restarts,
        "disruptions": status.disruptions,
        "failures": dict(sorted(life.causes.items())),
        "recoverySeconds": round(statistics.fmean(life.outages), 3) if life.outages else None,
        "budgetHeadroom": tolerance.max_failures - life.most_in_window,
        "parks": life.parks,
        "parkedAt": _seconds(status.parked_at),
    }


def _supervisor(run: Rehearsal, place: Place) -> JsonDict:
    life, found = run.lives[ChildKind.SUPERVISOR, place], run.cluster.supervisors[place]
    return {
        "state": found.status.state,
        "restarts": found.status.total_restarts,
        "budgetHeadroom": found.spec.max_restarts - life.most_in_window,
        "parks": life.parks,
        "parkedAt": _seconds(found.status.parked_at),
    }


def _seconds(moment: datetime | None) -> float | None:
    return round((moment - START).total_seconds(), 3) if moment is not None else None


# The figures of which many runs tell the quantiles.
SPREAD: Final = {
    "agents": ("availability", "restarts", "recoverySeconds", "budgetHeadroom"),
    "supervisors": ("restarts", "budgetHeadroom"),
}


def spread(summaries: Sequence[JsonDict]) -> JsonDict:
    """How the figures of many runs are spread: quantiles, and the share of runs in which the budget was exhausted."""
    first = summaries[0]
    return {
        "runs": len(summaries),
        "seconds": first["seconds"],
        "firstSeed": first["seed"],
        "decisions": sum(one["decisions"] for one in summaries),
    } | {
        kind: {name: _spread_of([one[kind][name] for one in summaries], figures) for name in first[kind]}
        for kind, figures in SPREAD.items()
    }


def _spread_of(runs: Sequence[JsonDict], figures: Iterable[str]) -> JsonDict:
    return {"parked": round(sum(run["parks"] > 0 for run in runs) / len(runs), 6)} | {
        figure: _quantiles([run[figure] for run in runs]) for figure in figures
    }


def _quantiles(values: Iterable[float | None]) -> JsonDict | None:
    """By nearest rank: the smallest value that so many of a hundred runs do not exceed."""
    known = sorted(value for value in values if value is not None)
    return {f"p{q}": known[max(0, math.ceil(len(known) * q / 100) - 1)] for q in QUANTILES} if known else None
