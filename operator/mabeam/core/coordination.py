"""One pass over a variable: gather → value → directives → record.

A round is recorded only when something came of it: what starts one at once (the spec, the members, a static preference,
an offer that came or went) is hashed in `status.lastDecision.triggerHash`, and numbers that were reported anew are
looked at no more often than `negotiation.periodSeconds`. A pass over an unchanged world returns the stored status.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from mabeam.api.agent import Agent
from mabeam.api.base import Condition
from mabeam.api.directive import VariableDirectives
from mabeam.api.names import ConditionType, Reason
from mabeam.api.variable import (
    LastDecision,
    Mode,
    NegotiationSession,
    OrchestrationType,
    OrchestrationVariable,
    OrchestrationVariableStatus,
    ResolvedAgents,
)
from mabeam.core import domain as domains
from mabeam.core.conditions import condition, settle
from mabeam.core.convergence import config_map_effects, directives_of, judge, summarize
from mabeam.core.decision import Decision, Event
from mabeam.core.delivery import expects_reports
from mabeam.core.negotiation import Gathered, Outcome, gather, negotiate
from mabeam.core.snapshot import VariableSnapshot
from mabeam.core.verdict import Verdict, conditions_of, failure_events

SPEC_VALUE: Final = "SpecValue"
# What a round does not depend on: whether it is held, how it is delivered, and the agents (the members stand for them).
_NOT_INPUTS: Final = frozenset({"paused", "mode", "priority", "parameter", "agents"})
LISTED: Final = 100
# The last number a status can hold; nobody honest comes to it, and from there it stands still.
LAST_ROUND: Final = 2**53
_REASONS: Final = frozenset(map(str, Reason))
# A restarted operator listens before it decides; it asks itself again after this.
LISTENING_SECONDS: Final = 1.0


@dataclass(frozen=True)
class _Pass:
    """What one pass rests on; it never leaves this module."""

    snapshot: VariableSnapshot
    agents: tuple[Agent, ...]
    missing: tuple[str, ...]
    gathered: Gathered
    now: datetime

    @property
    def variable(self) -> OrchestrationVariable:
        return self.snapshot.variable

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
    status, requeue = (before, None) if trouble or variable.spec.paused else _round(run)
    advise = variable.spec.mode is Mode.ADVISE
    told = () if advise else directives_of(variable, run.agents, status.value)
    verdict = trouble or _verdict(run, status, judge(told))
    status = status.model_copy(
        update={
            "observed_generation": variable.metadata.generation,
            "agents": ResolvedAgents(
                selected=len(run.agents),
                missing=run.missing[:LISTED],
                names=tuple(agent.metadata.name for agent in run.agents[:LISTED]),
            ),
            "directives": summarize(told),
            "conditions": settle(
                before.conditions, _conditions(run, verdict), variable.metadata.generation, now.replace(microsecond=0)
            ),
        }
    )
    effects = () if advise or variable.spec.paused else config_map_effects(snapshot, told)
    return Decision(status, status_reason(before, status), effects, _events(run, status, verdict), requeue)


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
    gathered = gather(variable, agents, snapshot.reports) if negotiated else Gathered()
    return _Pass(snapshot, agents, missing, gathered, now)


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


# --- value ------------------------------------------------------------------------------------------------------------


def _parameter(run: _Pass) -> Outcome:
    spec = run.variable.spec
    if spec.negotiation is not None:
        return negotiate(spec.negotiation, spec.domain, run.gathered)
    value = domains.adopt(spec.domain, spec.value)
    return Outcome(SPEC_VALUE, f"{domains.plain(value)} from spec.value", value)


STRATEGIES: Final[Mapping[OrchestrationType, Callable[[_Pass], Outcome]]] = {
    OrchestrationType.PARAMETER: _parameter,
}


def _round(run: _Pass) -> tuple[OrchestrationVariableStatus, float | None]:
    """The status after this pass's round, or as it was when none was due or nothing came of it; and when to look again.

    `lastDecision.time` is that of the last round on record, so the period is the least distance between two records.
    """
    negotiation, last = run.variable.spec.negotiation, run.before.last_decision
    trigger = _hash(_trigger(run))
    at_once = last is None or last.trigger_hash != trigger
    if negotiation is None:
        return (_record(run, trigger) if at_once else run.before), None
    if _unheard(run):
        return run.before, LISTENING_SECONDS
    # Memory of reports runs out without a word, so whoever counts on reports looks again by itself.
    again = negotiation.period_seconds if any(offer.source == "Report" for offer in run.gathered.offers) else None
    if last is None or at_once:
        return _record(run, trigger), again
    wait = (last.time - run.now).total_seconds() + negotiation.period_seconds
    if wait > 0:
        return run.before, wait if again is not None else None
    after = _record(run, trigger)
    return (after if _gist(after) != _gist(run.before) else run.before), again


def _unheard(run: _Pass) -> bool:
    """Whether an agent whose report counted last time has not been listened to since the operator started.

    Without this a restarted operator would take silence for a withdrawn offer, and decide anew, twice.
    """
    session = run.before.negotiation
    counted = {offer.agent for offer in session.offers if offer.source == "Report"} if session is not None else set()
    return any(
        agent.metadata.name in counted
        and agent.metadata.name not in run.snapshot.reports
        and agent.status.ready_replicas > 0
        and expects_reports(agent)
        for agent in run.agents
    )


def _trigger(run: _Pass) -> Any:
    """What starts a round at once."""
    own = _spec_inputs(run)
    if run.variable.spec.negotiation is None:
        return own
    members = {
        agent.metadata.name: [
            p.model_dump(mode="json", by_alias=True, exclude_none=True)
            for p in agent.spec.preferences
            if p.variable == run.variable.metadata.name
        ]
        for agent in run.agents
    }
    return [own, members, [offer.agent for offer in run.gathered.offers]]


def _spec_inputs(run: _Pass) -> Any:
    """The part of the spec that bears on the value. Defaults are left out: an upgrade that adds one starts no round."""
    return run.variable.spec.model_dump(
        mode="json", by_alias=True, exclude_none=True, exclude_defaults=True, exclude=set(_NOT_INPUTS)
    )


def _hash(value: Any) -> str:
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(canonical.encode()).hexdigest()}"


def _gist(status: OrchestrationVariableStatus) -> tuple[Any, ...]:
    """What a round came to, without what it came from: while this is the same, nothing new is recorded."""
    session = status.negotiation
    if session is None:
        return (status.value,)
    return status.value, session.state, session.reason, session.winner, session.payment


def _record(run: _Pass, trigger: str) -> OrchestrationVariableStatus:
    spec, before = run.variable.spec, run.before
    outcome = STRATEGIES[spec.type](run)
    value, rule, message = _in_force(run, outcome)
    number = min(before.round + 1, LAST_ROUND)
    changed = value != before.value
    return before.model_copy(
        update={
            "value": value,
            "previous_value": before.value if changed and before.value is not None else before.previous_value,
            "round": number,
            "negotiation": _session(run, outcome, number),
            "last_decision": LastDecision(
                time=run.now,
                rule=rule,
                inputs_hash=_hash([_spec_inputs(run), [offer.to_wire() for offer in outcome.offers]]),
                trigger_hash=trigger,
                message=message[:1024],
            ),
        }
    )


def _in_force(run: _Pass, outcome: Outcome) -> tuple[Any, str, str]:
    """The value in force after a round, by which rule, and the explanation: what came out, else start or last good.

    A value that came from `spec.value` goes on following it until the agents have decided once.
    """
    if outcome.value is not None:
        return outcome.value, outcome.rule, outcome.message
    spec, before = run.variable.spec, run.before
    start = None if spec.value is None else domains.adopt(spec.domain, spec.value)
    last = before.value
    if last is not None and domains.problem(spec.domain) is None:
        last = domains.adopt(spec.domain, last)  # a domain that shrank bounds the last good value too
    never_decided = before.last_decision is None or before.last_decision.rule == SPEC_VALUE
    if start is not None and (last is None or never_decided):
        return start, SPEC_VALUE, f"{domains.plain(start)} from spec.value: {outcome.message}"
    if last is not None:
        return last, outcome.rule, f"{domains.plain(last)} stays in force: {outcome.message}"
    return None, outcome.rule, outcome.message


def _session(run: _Pass, outcome: Outcome, number: int) -> NegotiationSession | None:
    negotiation = run.variable.spec.negotiation
    if negotiation is None:
        return None
    return NegotiationSession(
        id=f"{run.variable.metadata.name}-{number}",
        state="Failed" if outcome.value is None else "Completed",
        participants=tuple(offer.agent for offer in outcome.offers[:LISTED]),
        strategy=negotiation.strategy,
        offers=outcome.offers[:LISTED],
        outcome=outcome.value,
        winner=outcome.winner,
        payment=outcome.payment,
        reason=outcome.rule,
        dropped=outcome.dropped[:LISTED],
    )


# --- record -----------------------------------------------------------------------------------------------------------


def _verdict(run: _Pass, status: OrchestrationVariableStatus, delivery: tuple[Reason, str]) -> Verdict:
    session = status.negotiation
    failed = session is not None and session.state == "Failed"
    explanation = status.last_decision.message if status.last_decision is not None else ""
    if failed and session is not None and session.reason == Reason.INVALID_CONFIGURATION:
        return Verdict(False, Reason.INVALID_CONFIGURATION, explanation, stalled=True)
    if status.value is None:
        known = session is not None and session.reason in _REASONS  # a stored status may have been edited
        reason = session.reason if failed and known and session is not None else Reason.NO_OFFERS
        hint = "; give an agent a preference for it, or set `spec.value`"
        return Verdict(False, reason, f"no value yet: {explanation or 'nothing was decided'}{hint}", reconciling=True)
    if run.variable.spec.mode is Mode.ADVISE:
        return Verdict(True, Reason.ADVISED, f"{domains.plain(status.value)}; mode Advise delivers nothing")
    reason, message = delivery
    if failed and session is not None:
        message = f"{message}; last round: {session.reason}"
    return Verdict(reason is Reason.CONVERGED, reason, message, reconciling=reason is Reason.DELIVERING)


def _conditions(run: _Pass, verdict: Verdict) -> tuple[Condition, ...]:
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
    )


def _events(run: _Pass, status: OrchestrationVariableStatus, verdict: Verdict) -> tuple[Event, ...]:
    before, events = run.before, []
    if before.observed_generation < 0:
        about = f"accepted; {len(run.agents)} agents selected" if verdict.accepted else "registered, not accepted"
        events.append(Event(Reason.VARIABLE_REGISTERED, about, action="Register"))
    if status.value is not None and status.value != before.value and status.last_decision is not None:
        was = "" if before.value is None else f" (was {domains.plain(before.value)})"
        note = f"{run.variable.parameter} = {domains.plain(status.value)}{was} by {status.last_decision.rule}: "
        events.append(Event(Reason.COORDINATION_COMPLETED, f"{note}{status.last_decision.message}"))
    return (*events, *failure_events(before, verdict))
