"""The operator in a simulation: its own passes over a cluster in memory, woken as watch events wake them, until nothing moves."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from mabeam.core.decision import AnyStatus, Effect, Event
from mabeam.core.passes.decide import decide
from mabeam.core.snapshot import Key
from mabeam.offline.functions import LocalFunctions
from mabeam.simulation.cluster import MemoryCluster, SimulatedReports
from mabeam.state.cache import POD
from mabeam.state.observe import NoRefusals, Observer
from mabeam.state.wakeups import affected_keys

# Passes at one instant; far more than any tree needs, so what exceeds it never comes to rest.
MAX_PASSES: Final = 100_000

StatusListener = Callable[[Key, AnyStatus, AnyStatus, tuple[Event, ...]], None]  # key, status before, after, and Events


class DidNotSettle(RuntimeError):
    """The passes at one instant do not come to an end."""


@dataclass
class SimulatedOperator:
    """The passes of the operator, first in, first out, each key queued once."""

    cluster: MemoryCluster
    on_status: StatusListener  # called with every new status
    reports: SimulatedReports | None = None
    decisions: int = 0
    due: dict[Key, datetime] = field(default_factory=dict)  # when a key is looked at without any news
    _queue: dict[Key, None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.functions = LocalFunctions()
        reports = self.reports or SimulatedReports(self.cluster)
        self.observer = Observer(self.cluster.cache, reports, NoRefusals(), functions=self.functions)

    def all_keys(self) -> list[Key]:
        """The keys of all there is, as an operator that starts finds them."""
        return self.cluster.cache.all_keys()

    def settle(self, keys: Iterable[Key] = ()) -> None:
        """Passes over these keys and over all that changes wake, until nothing is left to do; time stands still."""
        self._wake(None)
        self._queue.update(dict.fromkeys(keys))
        for _ in range(MAX_PASSES):
            if not self._queue:
                return
            key = next(iter(self._queue))
            del self._queue[key]
            self._pass(key)
        moment, stuck = f"{self.cluster.now:%Y-%m-%d %H:%M:%S}", list(self._queue)[:3]
        raise DidNotSettle(f"the passes at {moment} over {', '.join(map(str, stuck))} do not come to an end")

    def _pass(self, key: Key) -> None:
        self.due.pop(key, None)
        snapshot = self.observer.snapshot(key, 0.0)
        if snapshot is None:
            return  # what woke it names an object that does not exist
        before, now = self.cluster.cache.status_of(key), self.cluster.now
        decision = decide(snapshot, now)
        self.decisions += 1
        if decision.requeue_after is not None:
            self._look_again(key, decision.requeue_after)
        self._apply(key, decision.effects_before_status)
        if decision.status is not before and decision.status != before:
            self.cluster.put_status(key, decision.status)
            self.on_status(key, before, decision.status, decision.events)
            self._wake(None if decision.expects_follow_up else key)
        self._apply(key, decision.effects)
        if self.functions.call(key, decision.function_calls, now):
            self._queue[key] = None

    def _apply(self, key: Key, effects: Iterable[Effect]) -> None:
        for effect in effects:
            self.cluster.apply(effect)
            # As the applier has it: the operator's own create needs no wake-up, the pod's next status change is one.
            self._wake(key if (effect.verb, effect.kind) == ("create", POD) else None)

    def _wake(self, foreseen_by: Key | None) -> None:
        """Queue the keys that the latest changes affect, but the one whose own pass foresaw them."""
        for change in self.cluster.take_changes():
            for key, delay in affected_keys(change, self.cluster.cache):
                if key == foreseen_by:
                    continue
                if delay > 0:
                    self._look_again(key, delay)
                else:
                    self._queue[key] = None

    def _look_again(self, key: Key, seconds: float) -> None:
        """Look at the key in so many seconds; an earlier appointment stays."""
        at = self.cluster.now + timedelta(seconds=seconds)
        if key not in self._queue:
            self.due[key] = min(self.due.get(key, at), at)
