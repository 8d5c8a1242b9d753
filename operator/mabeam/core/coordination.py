"""One pass over a variable: gather → value → gate → directives → record (design, section 6).

What a round comes to is `rounds.play`'s; here are the facts it rests on, the directives that follow, and what people read of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from mabeam.api.agent import Agent
from mabeam.api.base import Condition
from mabeam.api.directive import VariableDirectives
from mabeam.api.names import ConditionType, Reason
from mabeam.api.variable import Mode, OrchestrationVariable
from mabeam.api.variable_status import ConsensusRound, OrchestrationVariableStatus, ResolvedAgents
from mabeam.core import domain as domains
from mabeam.core.conditions import condition, settle
from mabeam.core.convergence import config_map_effects, directives_of, judge, summarize
from mabeam.core.decision import Decision, Event, soonest
from mabeam.core.history import history_effects, history_of, next_sample
from mabeam.core.negotiation import Gathered, gather
from mabeam.core.record import record_effects
from mabeam.core.rounds import Played, failure_of, play
from mabeam.core.setbacks import is_frozen, reckon
from mabeam.core.snapshot import VariableSnapshot
from mabeam.core.strategies.round import Round
from mabeam.core.strategies.table import STRATEGIES
from mabeam.core.verdict import Verdict, conditions_of, failure_events

LISTED: Final = 100
_REASONS: Final = frozenset(map(str, Reason))


@dataclass(frozen=True)
class _Pass:
    """What one pass rests on; it never leaves this module."""

    snapshot: VariableSnapshot
    round: Round
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


def decide(snapshot: VariableSnapshot, now: datetime) -> Decision[OrchestrationVariableStatus]:
    """The variable's next status, then the writes to its own ConfigMaps, then the Events; rules: design section 6."""
    variable, before = snapshot.variable, snapshot.variable.status
    if variable.metadata.deletion_timestamp is not None:
        return Decision(before, "unchanged")  # the garbage collector and the agents' own passes have the rest
    run = _look(snapshot, now)
    trouble = _trouble(run)
    still = trouble is not None or variable.spec.paused or is_frozen(variable)
    played = Played(before) if still else play(run.round)
    status = played.status
    advise = variable.spec.mode is Mode.ADVISE
    told = () if advise else directives_of(variable, run.agents, status.value)
    verdict = trouble or _verdict(run, played, judge(told))
    undecided = trouble is None and failure_of(status) is not None
    setback = reckon(variable, status, verdict, now, undecided=undecided, tried=played.tried)
    verdict = setback.verdict
    status = setback.status.model_copy(
        update={
            "observed_generation": variable.metadata.generation,
            "agents": ResolvedAgents(
                selected=len(run.agents),
                missing=run.missing[:LISTED],
                names=tuple(agent.metadata.name for agent in run.agents[:LISTED]),
            ),
            "directives": summarize(told),
            "history": history_of(snapshot, setback.status, now),
            "conditions": settle(
                before.conditions,
                _conditions(run, setback.status, verdict),
                variable.metadata.generation,
                now.replace(microsecond=0),
            ),
        }
    )
    effects = () if advise or variable.spec.paused else config_map_effects(snapshot, told)
    beforehand = (*record_effects(snapshot, now, status), *history_effects(snapshot, status, now))
    events = (*_events(run, status, verdict), *setback.events)
    requeue = soonest(played.requeue, setback.requeue, next_sample(snapshot, now))
    return Decision(status, status_reason(before, status), effects, events, requeue, played.asks, beforehand)


def invalid(snapshot: VariableSnapshot, message: str, now: datetime) -> Decision[OrchestrationVariableStatus]:
    """The decision on a variable whose spec cannot be read: say so, and leave the last good value in force."""
    before = snapshot.variable.status
    generation = snapshot.variable.metadata.generation
    verdict = Verdict(False, Reason.INVALID_SPEC, message, stalled=True, accepted=False)
    wanted = conditions_of(verdict)
    kept = [c for c in before.conditions if c.type not in {w.type for w in wanted}]
    status = before.model_copy(
        update={
            "observed_generation": generation,
            "conditions": settle(before.conditions, (*wanted, *kept), generation, now.replace(microsecond=0)),
        }
    )
    return Decision(status, status_reason(before, status), (), failure_events(before, verdict))


def status_reason(before: OrchestrationVariableStatus, after: OrchestrationVariableStatus) -> str:
    """A word for why the status is written, for `mabeam plan` and the log."""
    if before == after:
        return "unchanged"
    if before.observed_generation < 0:
        return "registered"
    if before.round != after.round:
        return "decided"
    return "directives" if (before.directives or VariableDirectives()) != after.directives else "conditions"


# --- gather -----------------------------------------------------------------------------------------------------------


def _look(snapshot: VariableSnapshot, now: datetime) -> _Pass:
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
    round_ = Round(
        variable,
        agents,
        now,
        snapshot.reports,
        gather(variable, agents, snapshot.reports) if negotiated else Gathered(),
        snapshot.context,
        snapshot.answers,
        snapshot.asked,
        snapshot.heard_at,
    )
    return _Pass(snapshot, round_, missing, now)


def _trouble(run: _Pass) -> Verdict | None:
    """Why nothing can be decided now; None when something can. The last good value stays in force meanwhile."""
    spec = run.variable.spec
    wrong = None if spec.value is None else domains.check(spec.domain, spec.value)
    if wrong is not None:
        message = f"`spec.value` is {spec.value!r:.80}; it {wrong}"
        return Verdict(False, Reason.INVALID_SPEC, message, stalled=True, accepted=False)
    if spec.type not in STRATEGIES:
        message = f"variables of type {spec.type} cannot be coordinated yet; supported: {', '.join(STRATEGIES)}"
        return Verdict(False, Reason.UNSUPPORTED_COORDINATION_TYPE, message, stalled=True)
    if not run.agents:
        kept = "" if run.before.value is None else f"; {domains.plain(run.before.value)} stays in force"
        message = f"{_unresolved(run)}{kept}"
        return Verdict(False, Reason.AGENT_UNAVAILABLE, message, reconciling=True)
    return None


def _unresolved(run: _Pass) -> str:
    if not run.missing:
        return "the selector matches no agent"
    more = f" and {len(run.missing) - 10} more" if len(run.missing) > 10 else ""
    return f"no valid agent named {', '.join(run.missing[:10])}{more}"


# --- record -----------------------------------------------------------------------------------------------------------


def _verdict(run: _Pass, played: Played, delivery: tuple[Reason, str]) -> Verdict:
    status = played.status
    session = status.negotiation
    explanation = status.last_decision.message if status.last_decision is not None else ""
    failure = failure_of(status)
    if failure is not None:
        reason, message = failure
        return Verdict(
            False, reason, message, stalled=reason is Reason.INVALID_CONFIGURATION, reconciling=reason in _PASSING
        )
    failed = session is not None and session.state == "Failed"
    if failed and session is not None and session.reason == Reason.INVALID_CONFIGURATION:
        return Verdict(False, Reason.INVALID_CONFIGURATION, explanation, stalled=True)
    if played.waits is not None and (played.waits is not Reason.EVALUATING or status.value is None):
        vote = status.consensus
        told = f"{domains.plain(vote.proposed)}: {vote.reason}" if vote is not None and vote.reason else "in progress"
        return Verdict(False, played.waits, told, reconciling=True)
    if status.value is None and run.variable.spec.paused:
        return Verdict(False, Reason.PAUSED, "paused before anything was decided")
    if status.value is None:
        known = session is not None and session.reason in _REASONS  # a stored status may have been edited
        reason = Reason(session.reason) if failed and known and session is not None else Reason.NO_OFFERS
        hint = "; give an agent a preference for it, or set `spec.value`"
        if status.consensus is not None and status.consensus.outcome == "Rejected":
            return Verdict(False, Reason.CONSENSUS_REJECTED, explanation, reconciling=True)
        return Verdict(False, reason, f"no value yet: {explanation or 'nothing was decided'}{hint}", reconciling=True)
    if run.variable.spec.mode is Mode.ADVISE:
        return Verdict(True, Reason.ADVISED, f"{domains.plain(status.value)}; mode Advise delivers nothing")
    reason, message = delivery
    if failed and session is not None:
        message = f"{message}; last round: {session.reason}"
    if status.consensus is not None and status.consensus.outcome == "Rejected":
        message = f"{message}; {status.consensus.proposal} was rejected"
    return Verdict(reason is Reason.CONVERGED, reason, message, reconciling=reason is Reason.DELIVERING)


# Failures that other people's doing may end: the operator looks again by itself.
_PASSING: Final = frozenset(
    {
        Reason.AGENT_UNAVAILABLE,
        Reason.RESOURCE_EXHAUSTED,
        Reason.TIMEOUT,
        Reason.FUNCTION_FAILED,
        Reason.CONSTRAINT_VIOLATION,
    }
)


def _conditions(run: _Pass, status: OrchestrationVariableStatus, verdict: Verdict) -> tuple[Condition, ...]:
    resolved = bool(run.agents) and not run.missing
    paused = run.variable.spec.paused
    return (
        *conditions_of(verdict),
        condition(
            ConditionType.AGENTS_RESOLVED,
            resolved,
            Reason.ALL_RESOLVED if resolved else Reason.AGENTS_MISSING,
            "" if resolved else _unresolved(run),
        ),
        condition(ConditionType.PAUSED, paused, Reason.PAUSED if paused else Reason.NOT_PAUSED),
        *_consensus(run, status),
    )


def _consensus(run: _Pass, status: OrchestrationVariableStatus) -> tuple[Condition, ...]:
    """Whether the agents agree on the last proposal; Unknown while there was none."""
    if run.variable.spec.consensus is None:
        return ()
    vote = status.consensus
    if vote is None:
        return (condition(ConditionType.CONSENSUS_REACHED, None, Reason.NO_PROPOSAL),)
    holds, reason = _VOTES[vote.outcome]
    if vote.awaits_approval:
        reason = Reason.AWAITING_APPROVAL
    return (condition(ConditionType.CONSENSUS_REACHED, holds, reason, f"{vote.proposal}: {vote.reason}"),)


_VOTES: Final = {
    "Pending": (None, Reason.VOTING),
    "Accepted": (True, Reason.CONSENSUS_REACHED),
    "Rejected": (False, Reason.CONSENSUS_REJECTED),
}


def _events(run: _Pass, status: OrchestrationVariableStatus, verdict: Verdict) -> tuple[Event, ...]:
    before, events = run.before, []
    if before.observed_generation < 0:
        about = f"accepted; {len(run.agents)} agents selected" if verdict.accepted else "registered, not accepted"
        events.append(Event(Reason.VARIABLE_REGISTERED, about, action="Register"))
    if status.value is not None and status.value != before.value and status.last_decision is not None:
        was = "" if before.value is None else f" (was {domains.plain(before.value)})"
        note = f"{run.variable.parameter} = {domains.plain(status.value)}{was} by {status.last_decision.rule}: "
        events.append(Event(Reason.COORDINATION_COMPLETED, f"{note}{status.last_decision.message}"))
    events.extend(_of_the_vote(before, status))
    return (*events, *failure_events(before, verdict))


def _of_the_vote(before: OrchestrationVariableStatus, status: OrchestrationVariableStatus) -> list[Event]:
    """What is told of a vote: that it began, that a human is waited for, that it was lost. What it won is told by the value."""
    vote, was = status.consensus, before.consensus
    if vote is None or (was is not None and (was.proposal, was.outcome, was.awaits_approval) == _mark(vote)):
        return []
    told = f"{vote.proposal}: {domains.plain(vote.proposed)}"
    if vote.outcome == "Rejected":
        return [Event(Reason.CONSENSUS_REJECTED, f"{told} is rejected: {vote.reason}", "Warning", action="Vote")]
    if vote.awaits_approval:
        return [
            Event(
                Reason.AWAITING_APPROVAL,
                f"{told} needs the annotation mabeam.dev/approve={vote.proposal}",
                action="Vote",
            )
        ]
    if vote.outcome == "Pending":
        return [Event(Reason.VOTING, f"{told} is proposed to {vote.eligible} agents", action="Vote")]
    return []


def _mark(vote: ConsensusRound) -> tuple[str, str, bool | None]:
    return vote.proposal, vote.outcome, vote.awaits_approval
