"""New agents of which nothing is stored yet, and until when that may stay so. Memory, not truth: without it all is told."""

from dataclasses import dataclass, field, replace
from datetime import datetime

from mabeam.api.agent_status import AgentStatus
from mabeam.core import implied, supervision
from mabeam.core.decision import Decision, soonest
from mabeam.core.snapshot import AgentSnapshot
from mabeam.shell.workqueue import Key


@dataclass
class FirstWords:
    """`due` has the moment, on a monotonic clock, at which each of them is told of at the latest."""

    due: dict[Key, float] = field(default_factory=dict)

    def held_back(
        self, key: Key, snapshot: AgentSnapshot, decided: Decision[AgentStatus], now: datetime, moment: float
    ) -> Decision[AgentStatus]:
        """The decision, or as much of it as a new agent needs before there is something to tell."""
        left = self.due.get(key, moment) - moment
        decision = implied.first_word(snapshot, decided, now, supervision.decide, left)
        if decision is decided:
            self.due.pop(key, None)
            return decided
        due = self.due.setdefault(key, moment + implied.patience(len(self.due)))
        return replace(decision, requeue_after=soonest(decided.requeue_after, max(0.0, due - moment)))

    def forget(self, key: Key) -> None:
        """The agent is gone."""
        self.due.pop(key, None)
