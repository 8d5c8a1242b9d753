"""Simulations → figures: of one run per Agent, Supervisor and variable, of many runs their quantiles."""

import math
import statistics
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from mabeam.api.base import JsonDict
from mabeam.api.names import ConditionType
from mabeam.api.variable import OrchestrationVariable
from mabeam.core.conventions.conditions import find_condition
from mabeam.core.snapshot import Key, NamespacedName
from mabeam.simulation.run import START, Simulation
from mabeam.state.cache import AGENT, SUPERVISOR

QUANTILES: Final = (1, 5, 50, 95, 99)


def summary(run: Simulation) -> JsonDict:
    """What came of one run: per agent its availability, restarts, causes and headroom; per Supervisor its restarts."""
    variables = {
        "/".join(name): _variable(parsed.variable) for name, parsed in sorted(run.cluster.cache.variables.items())
    }
    return {
        "seconds": round(run.seconds(), 3),
        "seed": run.seed,
        "decisions": run.operator.decisions,
        "agents": {"/".join(place): _agent(run, place) for place in sorted(run.cluster.agents)},
        "supervisors": {"/".join(place): _supervisor(run, place) for place in sorted(run.cluster.supervisors)},
    } | ({"variables": variables} if variables else {})


def _agent(run: Simulation, place: NamespacedName) -> JsonDict:
    figures, agent = run.availability[Key(AGENT, *place)], run.cluster.agents[place]
    status, tolerance = agent.status, agent.spec.fault_tolerance
    return {
        "state": str(status.state),
        "availability": round(figures.ready / figures.wanted, 6) if figures.wanted else None,
        "restarts": status.restarts,
        "disruptions": status.disruptions,
        "failures": dict(sorted(figures.causes.items())),
        "recoverySeconds": round(statistics.fmean(figures.outages), 3) if figures.outages else None,
        "mostInWindow": figures.most_in_window,
        "budgetHeadroom": tolerance.max_failures - figures.most_in_window,
        "exhausted": figures.exhausted,
        "parkedAt": _seconds(status.parked_at),
    }


def _supervisor(run: Simulation, place: NamespacedName) -> JsonDict:
    figures, found = run.availability[Key(SUPERVISOR, *place)], run.cluster.supervisors[place]
    return {
        "state": found.status.state,
        "restarts": found.status.total_restarts,
        "mostInWindow": figures.most_in_window,
        "budgetHeadroom": found.spec.max_restarts - figures.most_in_window,
        "exhausted": figures.exhausted,
        "parkedAt": _seconds(found.status.parked_at),
    }


def _variable(variable: OrchestrationVariable) -> JsonDict:
    status = variable.status
    ready = find_condition(status.conditions, ConditionType.READY)
    return {"value": status.value, "round": status.round, "ready": ready.reason if ready is not None else None}


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
