"""The working set of one pass over a variable: its agents, the inputs of its strategy, and what keeps it from deciding."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from mabeam.api.agent import Agent
from mabeam.api.names import Reason
from mabeam.api.variable import OrchestrationVariable
from mabeam.api.variable_status import OrchestrationVariableStatus
from mabeam.core.algorithms import domain as domains
from mabeam.core.conventions.conditions import KStatus
from mabeam.core.coordination.offers import GatheredOffers, gather_offers
from mabeam.core.coordination.strategies.interface import StrategyInputs
from mabeam.core.coordination.strategies.parameter import MAX_VALUE_BYTES
from mabeam.core.coordination.strategies.table import STRATEGIES
from mabeam.core.snapshot import VariableSnapshot

# As many missing agents as a message names.
SHOWN_MISSING: Final = 10


@dataclass(frozen=True)
class VariablePass:
    """The facts of one pass over a variable."""

    snapshot: VariableSnapshot
    inputs: StrategyInputs
    missing: tuple[str, ...]  # names in `spec.agents.names` without a valid agent, sorted

    @classmethod
    def begin(cls, snapshot: VariableSnapshot, now: datetime) -> "VariablePass":
        """The facts at the moment `now`."""
        variable = snapshot.variable
        agents = _selected(snapshot)
        negotiates = variable.spec.negotiation is not None
        inputs = StrategyInputs(
            variable=variable,
            agents=agents,
            now=now,
            reports=snapshot.reports,
            gathered=gather_offers(variable, agents, snapshot.reports) if negotiates else GatheredOffers(),
            context=snapshot.context,
            function_results=snapshot.function_results,
            open_calls=snapshot.open_calls,
            results_used_at=snapshot.results_used_at,
            reading_since=snapshot.reading_since,
        )
        missing = set(variable.spec.agents.names) - {agent.metadata.name for agent in agents}
        return cls(snapshot, inputs, tuple(sorted(missing)))

    @property
    def variable(self) -> OrchestrationVariable:
        """The variable that the pass is about."""
        return self.snapshot.variable

    @property
    def agents(self) -> Sequence[Agent]:
        """The selected agents, by name."""
        return self.inputs.agents

    @property
    def before(self) -> OrchestrationVariableStatus:
        """The stored status."""
        return self.snapshot.variable.status


def _selected(snapshot: VariableSnapshot) -> tuple[Agent, ...]:
    """The agents that the variable selects, without those being deleted, by name."""
    variable = snapshot.variable
    selected = (
        agent
        for agent in snapshot.agents
        if agent.metadata.deletion_timestamp is None and variable.selects(agent.metadata.name, agent.metadata.labels)
    )
    return tuple(sorted(selected, key=lambda agent: agent.metadata.name))


def blocking_problem(pass_: VariablePass) -> KStatus | None:
    """The status of a variable that cannot be decided now; None when it can. The value in force stays meanwhile."""
    spec = pass_.variable.spec
    if isinstance(spec.value, dict | list) and (size := len(json.dumps(spec.value))) > MAX_VALUE_BYTES:
        message = f"`spec.value` has {size} bytes of JSON; at most {MAX_VALUE_BYTES} are allowed"
        return KStatus(False, Reason.INVALID_SPEC, message, stalled=True, accepted=False)
    problem = None if spec.value is None else domains.check(spec.domain, spec.value)
    if problem is not None:
        message = f"`spec.value` is {spec.value!r:.80}; it {problem}"
        return KStatus(False, Reason.INVALID_SPEC, message, stalled=True, accepted=False)
    if spec.type not in STRATEGIES:
        message = f"variables of type {spec.type} cannot be coordinated yet; supported: {', '.join(STRATEGIES)}"
        return KStatus(False, Reason.UNSUPPORTED_COORDINATION_TYPE, message, stalled=True)
    if not pass_.agents:
        return KStatus(False, Reason.AGENT_UNAVAILABLE, missing_agents_message(pass_), reconciling=True)
    return None


def with_value_in_force(problem: KStatus, value: Any) -> KStatus:
    """The problem, its message with the JSON value that is in force all the same when there are no agents."""
    if problem.reason is not Reason.AGENT_UNAVAILABLE or value is None:
        return problem
    return replace(problem, message=f"{problem.message}; {domains.format_value(value)} stays in force")


def missing_agents_message(pass_: VariablePass) -> str:
    """Which named agents are missing, as a phrase; of a selector, that it matches none."""
    if not pass_.missing:
        return "the selector matches no agent"
    unnamed = len(pass_.missing) - SHOWN_MISSING
    more = f" and {unnamed} more" if unnamed > 0 else ""
    return f"no valid agent named {', '.join(pass_.missing[:SHOWN_MISSING])}{more}"
