"""The inputs of one delivery of an agent's directives, and the facts that follow from them."""

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from mabeam.api.agent import Agent
from mabeam.api.base import JsonDict
from mabeam.api.directive import AgentDirective, AgentDirectives
from mabeam.api.names import directives_config_map
from mabeam.core.directives.confirmation import CONFIRMATIONS, STARTS_AND_STOPS, RolloutState
from mabeam.core.directives.generations import (
    annotated_generation,
    config_map_document,
    config_map_generation,
    stored_directives,
)
from mabeam.core.directives.last_good import HealthChange
from mabeam.core.directives.overrides import SpecOverrides
from mabeam.core.pods.lifecycle import is_live
from mabeam.core.reports.report import Report, expects_reports
from mabeam.core.snapshot import AgentSnapshot, PodFacts


@dataclass(frozen=True)
class DeliveryPass:
    """One delivery: the snapshot, and the part of the agent's pass that comes before it."""

    snapshot: AgentSnapshot
    now: datetime
    ready_pods: tuple[PodFacts, ...]  # current pods whose main container runs and that are Ready
    at_rest: bool  # no process is to run now, as desired or as the agent is parked or has failed: none can acknowledge
    overrides: SpecOverrides
    rollout: RolloutState
    health_change: HealthChange = HealthChange.NONE

    @property
    def agent(self) -> Agent:
        """The agent, its spec as overridden by its directives."""
        return self.snapshot.agent

    @cached_property
    def before(self) -> AgentDirectives:
        """The directives of the stored status."""
        return stored_directives(self.snapshot)

    @cached_property
    def document(self) -> JsonDict:
        """`directives.json` of the agent's ConfigMap; empty when there is none."""
        return config_map_document(self.snapshot)

    @cached_property
    def config_map_generation(self) -> int:
        """The generation of the ConfigMap; 0 when there is none."""
        return config_map_generation(self.snapshot)

    @cached_property
    def annotated_generation(self) -> int:
        """The generation in a pod's annotation that status and ConfigMap have both lost; else 0."""
        return annotated_generation(self.snapshot)

    @property
    def live_pods(self) -> tuple[PodFacts, ...]:
        """The pods that may still run and are not being deleted."""
        return tuple(pod for pod in self.snapshot.pods if is_live(pod) and not pod.deleting)

    @property
    def foreign(self) -> bool:
        """Whether a ConfigMap of the agent's name belongs to another owner."""
        return self.snapshot.config_map is not None and not self.snapshot.config_map.owned

    @cached_property
    def obstacle(self) -> str | None:
        """Why the agent's ConfigMap cannot be written, as a sentence; None when it can."""
        name = directives_config_map(self.agent.metadata.name)
        if self.foreign:
            return f"ConfigMap {name} has another owner; delete or rename it: until then the agent gets no directives"
        refused = self.snapshot.refused_writes.get(f"ConfigMap {name}")
        return f"{refused.message}: until then the agent gets no directives" if refused is not None else None

    @property
    def stamp(self) -> datetime:
        """Now in whole seconds, as a status carries it."""
        return self.now.replace(microsecond=0)

    def answers(self, item: AgentDirective) -> bool:
        """Whether an acknowledgement can be waited for: of pods and processes while they are to run."""
        if self.at_rest:
            return item.action in STARTS_AND_STOPS
        return item.action in CONFIRMATIONS or expects_reports(self.agent)

    def remaining(self, moment: datetime, seconds: float) -> float:
        """Seconds from now until that many seconds after the moment; 0 or less when they are over."""
        return (moment - self.now).total_seconds() + seconds

    def report(self, pod: PodFacts) -> Report | None:
        """The pod's latest report; None when it has none."""
        return self.snapshot.reports.get(pod.name)

    def reported_generation(self, pod: PodFacts) -> int:
        """The generation that the pod reports as applied; -1 when it reports none."""
        report = self.report(pod)
        return -1 if report is None or report.applied_generation is None else report.applied_generation
