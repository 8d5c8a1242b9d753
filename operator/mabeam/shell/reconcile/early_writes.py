"""Which agents have writes before the status that records them. In memory only: after a restart every status comes first."""

from dataclasses import dataclass, field, replace
from datetime import datetime

from mabeam.api.agent_status import AgentStatus
from mabeam.core.decision import Decision, soonest
from mabeam.core.passes.agent import decide
from mabeam.core.passes.early_writes import defer_first_status, deliver_before_status, first_status_delay
from mabeam.core.snapshot import AgentSnapshot, Key


@dataclass
class DeferredStatus:
    """New agents whose first status waits for their pods to run."""

    due: dict[Key, float] = field(
        default_factory=dict
    )  # key → the loop's time (seconds) at which the status is written

    def defer(
        self, key: Key, snapshot: AgentSnapshot, decided: Decision[AgentStatus], now: datetime, moment: float
    ) -> Decision[AgentStatus]:
        """The decision, or the part of it that precedes the first status; `moment` is the loop's time in seconds."""
        left = self.due.get(key, moment) - moment
        decision = defer_first_status(snapshot, decided, now, decide=decide, left=left)
        if decision is decided:
            self.due.pop(key, None)
            return decided
        due = self.due.setdefault(key, moment + first_status_delay(len(self.due)))
        return replace(decision, requeue_after=soonest(decided.requeue_after, max(0.0, due - moment)))

    def forget(self, key: Key) -> None:
        """Drop what is kept of an agent that no longer exists."""
        self.due.pop(key, None)


@dataclass
class EarlyDelivery:
    """The agents whose last pass delivered directives before the status that records them."""

    keys: set[Key] = field(default_factory=set)

    def before_status(self, key: Key, snapshot: AgentSnapshot, decided: Decision[AgentStatus]) -> Decision[AgentStatus]:
        """The decision, or only its writes when they may come first; never in two passes in a row, so the status is written."""
        if key in self.keys:
            self.keys.discard(key)
            return decided
        decision = deliver_before_status(snapshot, decided)
        if decision is not decided:
            self.keys.add(key)
        return decision

    def forget(self, key: Key) -> None:
        """Drop what is kept of an agent that no longer exists."""
        self.keys.discard(key)
