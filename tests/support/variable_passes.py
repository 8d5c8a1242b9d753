"""One pass over one variable and its agents, for tests of what is decided."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from mabeam.api.agent import Agent
from mabeam.api.variable import OrchestrationVariable
from mabeam.core.decision import Decision
from mabeam.core.passes.variable import decide
from mabeam.core.reports.report import Report
from mabeam.core.snapshot import ConfigMapFacts, VariableSnapshot
from support.builders import START, agent_body
from support.coordination import (
    Team,
    a_variable,
    condition_of,
    prefers,
    variable_body,
)


def look(
    variable: OrchestrationVariable,
    *agents: Agent,
    reports: Mapping[str, Report] | None = None,
    config_maps: tuple[ConfigMapFacts, ...] = (),
    now: datetime = START,
) -> Decision[Any]:
    return decide(VariableSnapshot(variable, agents, reports or {}, config_maps), now)


def ready(decision: Decision[Any]) -> tuple[str, str, str]:
    return condition_of(decision.status, "Ready")


def reasons(decision: Decision[Any]) -> list[str]:
    return [str(event.reason) for event in decision.events]


def wanting(*values: Any, **spec: Any) -> Team:
    """A team of one agent per value, each with it as its static preference, and a variable they negotiate."""
    agents = [agent_body(f"a{i}", preferences=[prefers(value)]) for i, value in enumerate(values)]
    names = [agent["metadata"]["name"] for agent in agents]
    return Team.of(variable_body(agents=names, negotiation={}, **spec), *agents)


def converging(*agents: Agent, **spec: Any) -> Decision[Any]:
    """A pass over a variable whose value 0.6 is being delivered."""
    names = tuple(agent.metadata.name for agent in agents)
    variable = a_variable(agents=names, value=0.6, **spec)
    settled = look(variable, *agents).status
    return look(variable.model_copy(update={"status": settled}), *agents)
