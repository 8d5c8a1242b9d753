"""Rehearsals → figures: of one run per agent and Supervisor, of many runs how they are spread."""

import math
import statistics
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from mabeam.api.base import JsonDict
from mabeam.api.supervisor import ChildKind
from mabeam.core.snapshot import NamespacedName
from mabeam.simulation.run import START, Simulation

QUANTILES: Final = (1, 5, 50, 95, 99)


def summary(run: Simulation) -> JsonDict:
    """What came of one run: per agent its availability, restarts, causes and headroom; per Supervisor its restarts."""
    return {
        "seconds": round(run.seconds(), 3),
        "seed": run.seed,
        "decisions": run.passes.decisions,
        "agents": {"/".join(place): _agent(run, place) for place in sorted(run.cluster.agents)},
        "supervisors": {"/".join(place): _supervisor(run, place) for place in sorted(run.cluster.supervisors)},
    }


def _agent(run: Simulation, place: NamespacedName) -> JsonDict:
    life, agent = run.availability[ChildKind.AGENT, place], run.cluster.agents[place]
    status, tolerance = agent.status, agent.spec.fault_tolerance
    return {
        "state": str(status.state),
        "availability": round(life.ready / life.wanted, 6) if life.wanted else None,
        "restarts": status.restarts,
        "disruptions": status.disruptions,
        "failures": dict(sorted(life.causes.items())),
        "recoverySeconds": round(statistics.fmean(life.outages), 3) if life.outages else None,
        "mostInWindow": life.most_in_window,
        "budgetHeadroom": tolerance.max_failures - life.most_in_window,
        "exhausted": life.exhausted,
        "parkedAt": _seconds(status.parked_at),
    }


def _supervisor(run: Simulation, place: NamespacedName) -> JsonDict:
    life, found = run.availability[ChildKind.SUPERVISOR, place], run.cluster.supervisors[place]
    return {
        "state": found.status.state,
        "restarts": found.status.total_restarts,
        "mostInWindow": life.most_in_window,
        "budgetHeadroom": found.spec.max_restarts - life.most_in_window,
        "exhausted": life.exhausted,
        "parkedAt": _seconds(found.status.parked_at),
    }


def _seconds(moment: datetime | None) -> float | None:
    return round((moment - START).total_seconds(), 3) if moment is not None else None


# The figures of which many runs tell the quantiles.
SPREAD: Final = {
    "agents": ("availability", "restarts", "recoverySeconds", "mostInWindow", "budgetHeadroom"),
    "supervisors": ("restarts", "mostInWindow", "budgetHeadroom"),
}


def spread(summaries: Sequence[JsonDict]) -> JsonDict:
    """How the figures of many runs are spread: quantiles; in which share of them a budget was exhausted, or ended parked."""
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
    return {
        "exhausted": _share(run["exhausted"] > 0 for run in runs),
        "parked": _share(run["parkedAt"] is not None for run in runs),
    } | {figure: _quantiles([run[figure] for run in runs]) for figure in figures}


def _share(found: Iterable[bool]) -> float:
    return round(statistics.fmean(found), 6)


def _quantiles(values: Iterable[float | None]) -> JsonDict | None:
    """By nearest rank, counted from the end that is nearer, so that p5 and p95 are equally far out."""
    known = sorted(value for value in values if value is not None)
    rank = {q: math.ceil(len(known) * min(q, 100 - q) / 100) for q in QUANTILES}
    return {f"p{q}": known[rank[q] - 1 if q <= 50 else -rank[q]] for q in QUANTILES} if known else None
