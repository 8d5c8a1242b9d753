"""`mabeam plan`: a world of ordinary API objects → what one pass over each of them would write; no cluster.

The operator's own path: the parse functions fill a Cache, the Observer makes each snapshot, the core decides.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from mabeam.api.base import JsonDict
from mabeam.core.decision import AnyDecision, Effect, soonest
from mabeam.core.passes.decide import decide
from mabeam.core.snapshot import AgentSnapshot, Key
from mabeam.offline.functions import LocalFunctions
from mabeam.offline.world import World, WorldReports
from mabeam.state.cache import AGENT, SUPERVISOR, VARIABLE, Cache
from mabeam.state.observe import NoRefusals, Observer

# A decision may need calls that follow from a result; one that never has enough is taken as it is.
MAX_FUNCTION_ROUNDS: Final = 4

# In the order of the plan's writes and Events, and where their statuses are in it.
PLANNED_KINDS: Final[Mapping[str, str]] = {AGENT: "agents", SUPERVISOR: "supervisors", VARIABLE: "variables"}


class Planner:
    """The operator's passes over a world at one instant."""

    def __init__(self, world: World) -> None:
        self.cache = world.cache()
        self.functions = LocalFunctions()
        self.reports = WorldReports(self.cache, world.reports)
        # A world without nodes does not say that there are none: no pod is taken for lost with its node.
        observed = bool(self.cache.nodes)
        self.observer = Observer(
            self.cache, self.reports, NoRefusals(), functions=self.functions, nodes_observed=observed
        )

    def all_keys(self) -> list[Key]:
        """All objects, in the order of a plan."""
        order = list(PLANNED_KINDS)
        return sorted(self.cache.all_keys(), key=lambda key: (order.index(key.kind), key))

    def decide(self, key: Key, now: datetime) -> AnyDecision:
        """The decision that knows the results of its function calls, as the operator's next passes would reach it."""
        decision = self._pass(key, now)
        for _ in range(MAX_FUNCTION_ROUNDS):
            if not self.functions.call(key, decision.function_calls, now):
                break
            decision = self._pass(key, now)
        return decision

    def _pass(self, key: Key, now: datetime) -> AnyDecision:
        snapshot = self.observer.snapshot(key, 0.0)
        if snapshot is None:
            raise KeyError(key)
        if isinstance(snapshot, AgentSnapshot) and not snapshot.pods:
            # A Report needs no pod in a world, and its problems are shown all the same.
            snapshot = replace(snapshot, reports=self.reports.of_agents((snapshot.agent,)))
        return decide(snapshot, now)


def plan(world: World, now: datetime) -> JsonDict:
    """What one pass over every object of the world would write: statuses, writes, Events, and when to look again."""
    planner = Planner(world)
    statuses: dict[str, JsonDict] = {kind: {} for kind in PLANNED_KINDS}
    writes: list[JsonDict] = []
    events: list[JsonDict] = []
    requeue: float | None = None
    for key in planner.all_keys():
        decision = planner.decide(key, now.astimezone(UTC))
        statuses[key.kind][f"{key.namespace}/{key.name}"] = decision.status.to_wire()
        requeue = soonest(requeue, decision.requeue_after)
        writes += _writes(planner.cache, key, decision)
        events += _events(key, decision)
    return {
        "agents": statuses[AGENT],
        "variables": statuses[VARIABLE],
        **({"supervisors": statuses[SUPERVISOR]} if statuses[SUPERVISOR] else {}),
        "writes": writes,
        "events": events,
        "requeueAfterSeconds": int(requeue) if requeue is not None and requeue == int(requeue) else requeue,
    }


def _writes(cache: Cache, key: Key, decision: AnyDecision) -> list[JsonDict]:
    """The writes of a decision, in the order in which the operator makes them."""
    status = {
        "verb": "patch-status",
        "kind": key.kind,
        "namespace": key.namespace,
        "name": key.name,
        "reason": decision.status_reason,
        "body": {},
    }
    changed = decision.status.to_wire() != cache.status_of(key).to_wire()
    return [
        *map(_write, decision.effects_before_status),
        *([status] if changed else []),
        *map(_write, decision.effects),
    ]


def _write(effect: Effect) -> JsonDict:
    return {
        "verb": effect.verb,
        "kind": effect.kind,
        "namespace": effect.namespace,
        "name": effect.name,
        "reason": effect.reason,
        "body": effect.body,
    }


def _events(key: Key, decision: AnyDecision) -> list[JsonDict]:
    return [
        {"reason": str(event.reason), "type": event.type, "regarding": str(key), "note": event.note}
        for event in decision.events
    ]
