"""Which pods' reports are read, where and how often."""

from dataclasses import dataclass
from typing import Final

from mabeam.api.agent import Agent, Reports, ReportSource
from mabeam.api.directive import DirectiveState
from mabeam.core.pods.lifecycle import is_running
from mabeam.core.reports.report import expects_reports
from mabeam.core.snapshot import AgentSnapshot, PodFacts
from mabeam.shell.safe_address import is_safe

_BY_DEFAULT: Final = Reports()
_OPEN: Final = (DirectiveState.ISSUED, DirectiveState.DELIVERED)


@dataclass(frozen=True, slots=True)
class Target:
    """One pod to be read: of which agent, where, how often."""

    agent_uid: str
    namespace: str
    agent: str
    pod: str
    pod_uid: str
    ip: str
    port: int
    path: str
    period: float
    ordinal: int
    source: ReportSource = ReportSource.POD
    query: str | None = None


def target_of(agent: Agent, pod: PodFacts) -> Target | None:
    """Where the pod's report is read, None when it must not or cannot be."""
    reports = agent.spec.reports or _BY_DEFAULT
    asked = reports.source is not ReportSource.PROMETHEUS
    if not is_running(pod) or (asked and (pod.host_network or not pod.ip or not is_safe(pod.ip))):
        return None
    return Target(
        agent_uid=agent.metadata.uid,
        namespace=agent.metadata.namespace,
        agent=agent.metadata.name,
        pod=pod.name,
        pod_uid=pod.uid,
        ip=pod.ip or "",
        port=reports.port,
        path=reports.path,
        period=reports.period_seconds,
        ordinal=pod.ordinal,
        source=reports.source,
        query=reports.query,
    )


def targets_of(snapshot: AgentSnapshot, *, has_directives: bool) -> tuple[Target, ...]:
    """The agent's pods to be read: none unless a variable, a directive or its own progress timeout makes use of its reports."""
    agent = snapshot.agent
    is_watched = agent.spec.fault_tolerance.progress_timeout_seconds is not None
    if (
        snapshot.invalid is not None
        or not expects_reports(agent)
        or not (snapshot.variables or has_directives or is_watched)
    ):
        return ()
    return tuple(target for pod in snapshot.pods if (target := target_of(agent, pod)) is not None)


def awaited_generation(agent: Agent) -> int:
    """The generation of directives that the agent has still to acknowledge; 0: none."""
    directives = agent.status.directives
    is_open = directives is not None and any(item.state in _OPEN for item in directives.items)
    return directives.generation if directives is not None and is_open else 0
