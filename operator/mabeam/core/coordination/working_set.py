"""The working set of one variable pass: its agents, offers and what is wrong with them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from mabeam.api.agent import Agent
from mabeam.api.names import Reason
from mabeam.api.variable import OrchestrationVariable
from mabeam.api.variable_status import OrchestrationVariableStatus
from mabeam.core.algorithms import domain as domains
from mabeam.core.conventions.conditions import KStatus
from mabeam.core.coordination.offers import GatheredOffers, gather_offers
from mabeam.core.coordination.strategies.interface import StrategyInputs
from mabeam.core.coordination.strategies.table import STRATEGIES
from mabeam.core.snapshot import VariableSnapshot


@dataclass(frozen=True)
class VariablePass:
    """What one pass rests on; it never leaves this module."""

    snapshot: VariableSnapshot
    round: StrategyInputs
    missing: tuple[str, ...]
    now: datetime

    @property
    def variable(self) -> OrchestrationVariable:
        return self.snapshot.variable

    @property
    def agents(self) -> Sequence[Agent]:
        return self.round.agents

    @property
    def before(self) -> OrchestrationVariableStatus:
        return self.snapshot.variable.status


# --- gather_offers -----------------------------------------------------------------------------------------------------------


def begin_pass(snapshot: VariableSnapshot, now: datetime) -> VariablePass:
    variable = snapshot.variable
    agents = tuple(
        sorted(
            (
                agent
                for agent in snapshot.agents
                if agent.metadata.deletion_timestamp is None
                and variable.selects(agent.metadata.name, agent.metadata.labels)
            ),
            key=lambda agent: agent.metadata.name,
        )
    )
    found = {agent.metadata.name for agent in agents}
    missing = tuple(sorted(set(variable.spec.agents.names) - found))
    negotiated = variable.spec.negotiation is not None
    inputs = StrategyInputs(
        variable=variable,
        agents=agents,
        now=now,
        reports=snapshot.reports,
        gathered=gather_offers(variable, agents, snapshot.reports) if negotiated else GatheredOffers(),
        context=snapshot.context,
        function_results=snapshot.answers,
        open_calls=snapshot.asked,
        results_used_at=snapshot.heard_at,
    )
    return VariablePass(snapshot, inputs, missing, now)


def blocking_problem(run: VariablePass) -> KStatus | None:
    """Why nothing can be decided now; None when something can. The last good value stays in force meanwhile."""
    spec = run.variable.spec
    wrong = None if spec.value is None else domains.check(spec.domain, spec.value)
    if wrong is not None:
        message = f"`spec.value` is {spec.value!r:.80}; it {wrong}"
        return KStatus(False, Reason.INVALID_SPEC, message, stalled=True, accepted=False)
    if spec.type not in STRATEGIES:
        message = f"variables of type {spec.type} cannot be coordinated yet; supported: {', '.join(STRATEGIES)}"
        return KStatus(False, Reason.UNSUPPORTED_COORDINATION_TYPE, message, stalled=True)
    if not run.agents:
        kept = "" if run.before.value is None else f"; {domains.format_value(run.before.value)} stays in force"
        message = f"{missing_agents_message(run)}{kept}"
        return KStatus(False, Reason.AGENT_UNAVAILABLE, message, reconciling=True)
    return None


def missing_agents_message(run: VariablePass) -> str:
    if not run.missing:
        return "the selector matches no agent"
    more = f" and {len(run.missing) - 10} more" if len(run.missing) > 10 else ""
    return f"no valid agent named {', '.join(run.missing[:10])}{more}"
