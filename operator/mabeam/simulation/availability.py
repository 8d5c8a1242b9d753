"""What is kept of each agent and Supervisor for its figures: how long it was wanted and ready, and how full its window was."""

from dataclasses import dataclass, field

from mabeam.api.agent import Agent
from mabeam.api.agent_status import AgentState, AgentStatus, DesiredState
from mabeam.api.names import ConditionType
from mabeam.api.supervision import Intent
from mabeam.api.supervisor import Supervisor, SupervisorStatus
from mabeam.core.algorithms import otp
from mabeam.core.conventions import conditions
from mabeam.core.supervision.ledger import failures_in_window, new_failures
from mabeam.core.tree import lineage as family


def is_wanted(agent: Agent, kin: dict[str, Supervisor]) -> bool:
    """Whether the agent is wanted to run: not one that rests as desired, for it finished or its Supervisor's work is done."""
    status = agent.status
    wanted = status.effective or agent.spec  # what directives made of the spec, once a pass looked at them
    if wanted.desired_state is not DesiredState.RUNNING or wanted.replicas == 0:
        return False
    if status.supervision is not None and status.supervision.intent is Intent.STOP:
        return not _is_done(agent, kin)
    return status.state is not AgentState.STOPPED or not conditions.is_true(status.conditions, ConditionType.READY)


@dataclass
class Availability:
    """One agent's or Supervisor's figures so far; times are seconds of virtual time."""

    wanted: float = 0.0
    ready: float = 0.0
    outages: list[float] = field(default_factory=list)
    most_in_window: int = 0
    exhausted: int = 0
    causes: dict[str, int] = field(default_factory=dict)
    is_wanted: bool = False
    is_ready: bool = False
    _since: float = 0.0
    _down_since: float | None = None

    def pass_time(self, now: float) -> None:
        """Let the time until now be as the agent was."""
        spent, self._since = now - self._since, now
        self.wanted += spent * self.is_wanted
        self.ready += spent * (self.is_wanted and self.is_ready)

    def see_agent(self, agent: Agent, before: AgentStatus, kin: dict[str, Supervisor], now: float) -> None:
        """Take in an agent's new status."""
        self.pass_time(now)
        after = agent.status
        ready = after.ready_replicas >= (after.effective or agent.spec).replicas > 0
        self.is_wanted = is_wanted(agent, kin)
        if self.is_ready and not ready and self.is_wanted:
            self._down_since = now
        elif ready and self._down_since is not None:
            self.outages.append(now - self._down_since)
            self._down_since = None
        self.is_ready = ready
        if after.failures is before.failures:
            return
        tolerance = agent.spec.fault_tolerance
        window = tolerance.failure_window_seconds
        if after.parked_at is not None and before.parked_at is None:
            # Not by a rule for its exit code, nor because a single try failed.
            last = failures_in_window(after.failures, after.failures[-1].time, window)
            self.exhausted += last > tolerance.max_failures
        for failure in new_failures(before, after):
            self.causes[str(failure.cause)] = self.causes.get(str(failure.cause), 0) + 1
            inside = failures_in_window(after.failures, failure.time, window)
            self.most_in_window = max(self.most_in_window, inside)

    def see_supervisor(self, supervisor: Supervisor, before: SupervisorStatus) -> None:
        """Take in a Supervisor's new status."""
        after = supervisor.status
        self.exhausted += after.parked_at is not None and before.parked_at is None
        if len(after.restarts) > len(before.restarts) or after.total_restarts > before.total_restarts:
            last, period = after.restarts[-1].time, supervisor.spec.period_seconds
            inside = otp.count_in_window((one.time for one in after.restarts), last, period)
            self.most_in_window = max(self.most_in_window, inside)


def _is_done(agent: Agent, kin: dict[str, Supervisor]) -> bool:
    """Whether it was stopped because its Supervisor, or one above, shut down by itself, or removed it as a Temporary child."""
    parent = kin.get(agent.spec.supervisor or "")
    if parent is None:
        return False
    ended = any(record.name == agent.metadata.name and record.end is not None for record in parent.status.children)
    return ended or any(one.status.shut_down_at is not None for one in (parent, *family.ancestors(parent, kin)))
