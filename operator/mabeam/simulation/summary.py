"""Rehearsals → figures: of one run per agent and Supervisor, of many runs how they are spread."""

import statistics
from collections.abc import Sequence
from typing import Final

from mabeam.api.base import JsonDict
from mabeam.simulation.run import Rehearsal

QUANTILES: Final = (5, 50, 95)


def summary(run: Rehearsal) -> JsonDict:
    """What came of one run: per agent its availability, restarts, causes and headroom; per Supervisor its restarts."""
    return {
        "seconds": round(run.seconds(), 3),
        "seed": run.seed,
        "decisions": run.decisions,
        "agents": {"/".join(place): _agent(run, place) for place in sorted(run.lives)},
        "supervisors": {"/".join(place): _supervisor(run, place) for place in sorted(run.cluster.supervisors)},
    }


def _agent(run: Rehearsal, place: tuple[str, str]) -> JsonDict:
    life, agent = run.lives[place], run.cluster.agents[place]
    status, tolerance = agent.status, agent.spec.fault_tolerance
    return {
        "state": str(status.state),
        "availability": round(life.ready / life.wanted, 6) if life.wanted else None,
        "restarts": status.restarts,
        "disruptions": status.disruptions,
        "failures": dict(sorted(life.causes.items())),
        "recoverySeconds": round(statistics.fmean(life.outages), 3) if life.outages else None,
        "budgetHeadroom": tolerance.max_failures - life.most_in_window,
        "parkedAt": round((status.parked_at - run.start).total_seconds(), 3) if status.parked_at else None,
    }


def _supervisor(run: Rehearsal, place: tuple[str, str]) -> JsonDict:
    status = run.cluster.supervisors[place].status
    return {
        "state": status.state,
        "restarts": status.total_restarts,
        "parkedAt": round((status.parked_at - run.start).total_seconds(), 3) if status.parked_at else None,
    }


def spread(summaries: Sequence[JsonDict]) -> JsonDict:
    """How the figures of many runs are spread: quantiles, and the share of runs that ended parked."""
    agents = {
        name: {
            "parked": _share(summaries, "agents", name),
            "availability": _quantiles([one["agents"][name]["availability"] for one in summaries]),
            "restarts": _quantiles([one["agents"][name]["restarts"] for one in summaries]),
            "recoverySeconds": _quantiles([one["agents"][name]["recoverySeconds"] for one in summaries]),
        }
        for name in summaries[0]["agents"]
    }
    supervisors = {
        name: {
            "parked": _share(summaries, "supervisors", name),
            "restarts": _quantiles([one["supervisors"][name]["restarts"] for one in summaries]),
        }
        for name in summaries[0]["supervisors"]
    }
    return {"runs": len(summaries), "firstSeed": summaries[0]["seed"], "agents": agents, "supervisors": supervisors}


def _share(summaries: Sequence[JsonDict], kind: str, name: str) -> float:
    return round(sum(one[kind][name]["parkedAt"] is not None for one in summaries) / len(summaries), 6)


def _quantiles(values: Sequence[float | None]) -> JsonDict | None:
    known = sorted(value for value in values if value is not None)
    if not known:
        return None
    return {f"p{q}": known[min(len(known) - 1, (len(known) * q) // 100)] for q in QUANTILES}
