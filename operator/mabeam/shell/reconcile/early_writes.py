"""What was done before its status: new agents' first pods, and directives. Memory, not truth: without it all is told."""

from dataclasses import dataclass, field, replace
from datetime import datetime

from mabeam.api.agent_status import AgentStatus
from mabeam.core.decision import Decision, soonest
from mabeam.core.passes import agent as supervision
from mabeam.core.passes import early_writes as implied
from mabeam.core.snapshot import AgentSnapshot, Key


@dataclass
class DeferredStatus:
    """New agents of which nothing is stored yet.

    `due` has the moment, on a monotonic clock, at which each of them is told of at the latest.
    """

    due: dict[Key, float] = field(default_factory=dict)

    def defer(
        self, key: Key, snapshot: AgentSnapshot, decided: Decision[AgentStatus], now: datetime, moment: float
    ) -> Decision[AgentStatus]:
        """The decision, or as much of it as a new agent needs before there is something to tell."""
        left = self.due.get(key, moment) - moment
        decision = implied.defer_first_status(snapshot, decided, now, supervision.decide, left)
        if decision is decided:
            self.due.pop(key, None)
            return decided
        due = self.due.setdefault(key, moment + implied.first_status_delay(len(self.due)))
        return replace(decision, requeue_after=soonest(decided.requeue_after, max(0.0, due - moment)))

    def forget(self, key: Key) -> None:
        """The agent is gone."""
        self.due.pop(key, None)


@dataclass
class EarlyDelivery:
    """The agents whose directives were delivered in their last pass, before the status told of them."""

    keys: set[Key] = field(default_factory=set)

    def before_status(self, key: Key, snapshot: AgentSnapshot, decided: Decision[AgentStatus]) -> Decision[AgentStatus]:
        """The decision, or only its writes when they may come first; never twice in a row, so that a status is never starved."""
        if key in self.keys:
            self.keys.discard(key)
            return decided
        decision = implied.deliver_before_status(snapshot, decided)
        if decision is not decided:
            self.keys.add(key)
        return decision

    def forget(self, key: Key) -> None:
        """The agent is gone."""
        self.keys.discard(key)
