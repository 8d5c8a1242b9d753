"""One agent's directives between a decision and its process: a delivery, and what reports say of it."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from mabeam.api.agent import Agent
from mabeam.api.variable import OrchestrationVariable
from mabeam.core.directives.delivery import Delivery
from mabeam.core.reports.report import Report
from mabeam.core.snapshot import AgentSnapshot, ConfigMapFacts, PodFacts
from support.builders import START, a_pod, at
from support.coordination import (
    Team,
    a_decided,
    a_map,
    an_item,
    delivered,
    told_agent,
)


def delivery(
    agent: Agent,
    *variables: OrchestrationVariable,
    pods: tuple[PodFacts, ...] = (),
    config_map: ConfigMapFacts | None = None,
    reports: Mapping[str, Report] | None = None,
    at_rest: bool = False,
    now: datetime = START,
) -> Delivery:
    snapshot = AgentSnapshot(agent, pods, config_map, variables=variables, reports=reports or {})
    return delivered(snapshot, tuple(pod for pod in pods if pod.ready), at_rest, now)


def seen(
    *reports: Report | None,
    pods: tuple[PodFacts, ...] | None = None,
    now: float = 1,
    at_rest: bool = False,
    item: dict[str, Any] | None = None,
    agent: dict[str, Any] | None = None,
    config_map: ConfigMapFacts | None = None,
) -> Delivery:
    """One directive of generation 1 in the ConfigMap, and what the pods say of it."""
    pods = pods if pods is not None else tuple(a_pod(f"a-{i}-1", generation=1) for i in range(len(reports)))
    heard = {pod.name: report for pod, report in zip(pods, reports, strict=False) if report is not None}
    return delivery(
        told_agent("a", an_item(**(item or {})), **(agent or {})),
        a_decided(),
        pods=pods,
        config_map=config_map or a_map(temperature=0.6),
        reports=heard,
        at_rest=at_rest,
        now=at(now),
    )


def generation(team: Team) -> int:
    """The generation of the agent's directives, as its status has it."""
    directives = team.agent("a").status.directives
    assert directives is not None
    return directives.generation
