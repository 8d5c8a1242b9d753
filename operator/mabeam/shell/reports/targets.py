"""Which pods' reports are read, where and how often."""

from dataclasses import dataclass
from typing import Final

from mabeam.api.agent import Agent, Reports, ReportSource
from mabeam.api.directive import DirectiveState
from mabeam.core.pods.lifecycle import is_running
from mabeam.core.reports.reading import UnreadableReport
from mabeam.core.snapshot import AgentSnapshot, PodFacts
from mabeam.core.supervision.report_condition import wants_reports
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
    progress_timeout_seconds: int | None = None  # without progress for so long the process counts as hung; None: never

    @property
    def address(self) -> str:
        """The URL of the report in the pod."""
        host = f"[{self.ip}]" if ":" in self.ip else self.ip
        return f"http://{host}:{self.port}{self.path}"


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
        progress_timeout_seconds=agent.spec.fault_tolerance.progress_timeout_seconds,
    )


def never_read(agent: Agent, pod: PodFacts) -> UnreadableReport | None:
    """Why a running pod's report is never read from the pod; None when it is, or will be."""
    reports = agent.spec.reports or _BY_DEFAULT
    if reports.source is ReportSource.PROMETHEUS or not is_running(pod):
        return None
    if pod.host_network:
        return UnreadableReport("", "it uses the network of its node, from which no report is read")
    if pod.ip and not is_safe(pod.ip):
        return UnreadableReport("", f"its address {pod.ip} is not one of a pod, and is not asked")
    return None


def targets_of(snapshot: AgentSnapshot, *, has_directives: bool) -> tuple[Target, ...]:
    """The agent's pods to be read: none unless a variable, a directive or its own progress timeout makes use of its reports."""
    agent = snapshot.agent
    if not wants_reports(snapshot, has_directives=has_directives):
        return ()
    return tuple(target for pod in snapshot.pods if (target := target_of(agent, pod)) is not None)


def never_read_of(snapshot: AgentSnapshot, *, has_directives: bool) -> tuple[tuple[PodFacts, UnreadableReport], ...]:
    """The agent's pods whose reports are wanted and never read, and why."""
    if not wants_reports(snapshot, has_directives=has_directives):
        return ()
    found = ((pod, never_read(snapshot.agent, pod)) for pod in snapshot.pods)
    return tuple((pod, why) for pod, why in found if why is not None)


def awaited_generation(agent: Agent) -> int:
    """The generation of directives that the agent has still to acknowledge; 0: none."""
    directives = agent.status.directives
    is_open = directives is not None and any(item.state in _OPEN for item in directives.items)
    return directives.generation if directives is not None and is_open else 0
