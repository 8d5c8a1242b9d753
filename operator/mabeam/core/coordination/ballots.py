"""The vote on a proposed value: ballots from the agents' reports or preferences, and a human's approval where one is required."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from fractions import Fraction
from typing import Any, Final

from mabeam.api.agent import Agent
from mabeam.api.base import ObjectMeta
from mabeam.api.names import ANNOTATION_APPROVE, ANNOTATION_APPROVER, ANNOTATION_REJECT
from mabeam.api.variable import Negotiation
from mabeam.api.variable_blocks import Consensus
from mabeam.api.variable_status import Choice, ConsensusRound, Vote
from mabeam.core.algorithms.consensus import PROTOCOLS, Tally, VoteOutcome, Voter, tally
from mabeam.core.conventions.metadata import annotation_request
from mabeam.core.coordination.strategies.interface import StrategyInputs, result_of_call
from mabeam.core.functions import FunctionCall, Language, PluginGroup

# The most digits of a proposal's number: what is longer is no id of ours.
ID_DIGITS: Final = 12
# The most votes that a status lists; all of them are counted.
LISTED: Final = 100


@dataclass(frozen=True)
class VoteProgress:
    """The vote after the ballots were counted."""

    vote: ConsensusRound
    recheck_seconds: float | None = None  # until the deadline; None: nothing changes by time alone
    function_calls: tuple[FunctionCall, ...] = ()  # to the protocol's plug-in


def new_proposal(
    inputs: StrategyInputs, rules: Consensus, number: int, *, value: Any, spec_hash: str
) -> ConsensusRound:
    """The proposal of a JSON value in round `number`, open until the deadline of the rules.

    Its id is none that an annotation or the last vote names already: after a lost status or a new variable of the same name an
    old approval must fit nothing.
    """
    # Rounded up to the whole seconds of a status: a deadline may be later than asked for, never earlier.
    deadline = inputs.now + timedelta(seconds=rules.deadline_seconds, microseconds=999_999)
    return ConsensusRound(
        proposal=f"{inputs.variable.metadata.name}-{max(number, _last_named(inputs) + 1)}",
        proposed=value,
        protocol=rules.protocol,
        eligible=len(inputs.agents),
        deadline=deadline.replace(microsecond=0),
        spec_hash=spec_hash,
    )


def _last_named(inputs: StrategyInputs) -> int:
    """The highest number of a proposal that the annotations or the last vote name; 0 when they name none."""
    meta, vote = inputs.variable.metadata, inputs.before.consensus
    ids = [annotation_request(meta, annotation) for annotation in (ANNOTATION_APPROVE, ANNOTATION_REJECT)]
    return max(proposal_number(meta.name, one) or 0 for one in (*ids, vote.proposal if vote is not None else ""))


def proposal_number(variable: str, proposal: str) -> int | None:
    """The number in the id of one of the variable's proposals; None when it is no such id."""
    digits = proposal.removeprefix(f"{variable}-")
    return (
        int(digits)
        if digits != proposal and len(digits) <= ID_DIGITS and digits.isascii() and digits.isdigit()
        else None
    )


def unmatched_answer(metadata: ObjectMeta, vote: ConsensusRound) -> str | None:
    """The annotation that approves or rejects another proposal than the open one, as a sentence; None without one.

    Once the vote is over, an earlier proposal's annotation is a matter of the past.
    """
    for annotation in (ANNOTATION_APPROVE, ANNOTATION_REJECT):
        named = annotation_request(metadata, annotation)
        if not named or named == vote.proposal:
            continue
        number, current = (proposal_number(metadata.name, one) for one in (named, vote.proposal))
        is_past = number is not None and current is not None and number < current
        if vote.outcome == "Pending":
            return f"{annotation}={named[:63]} has no effect: the open proposal is {vote.proposal}"
        if not is_past:
            return f"{annotation}={named[:63]} has no effect: no proposal is open, the last was {vote.proposal}"
    return None


def approval_command(metadata: ObjectMeta, proposal: str) -> str:
    """The kubectl command that approves the proposal, and how to reject it."""
    target = f"mov {metadata.name} -n {metadata.namespace}"
    return (
        f"kubectl annotate {target} --overwrite {ANNOTATION_APPROVE}={proposal} "
        f"(to reject it: {ANNOTATION_REJECT}={proposal})"
    )


def count_ballots(inputs: StrategyInputs, rules: Consensus, vote: ConsensusRound) -> VoteProgress:
    """The vote after counting the ballots cast by now: Pending, Accepted or Rejected."""
    if vote.awaits_approval:
        return VoteProgress(_with_approval(inputs, vote))
    ballots = _ballots(inputs, vote.proposal)
    voters = {agent.metadata.name: _voter(inputs, agent) for agent in inputs.agents}
    left = (vote.deadline - inputs.now).total_seconds() if vote.deadline is not None else 0.0
    cast = {name: ballots[name] for name in sorted(voters) if name in ballots}
    listed = tuple(
        Vote(agent=name, choice=choice.value, weight=float(voters[name].weight)) for name, choice in cast.items()
    )
    vote = vote.model_copy(update={"votes": listed[:LISTED], "eligible": len(voters)})
    calls: tuple[FunctionCall, ...] = ()
    if rules.protocol in PROTOCOLS:
        result = tally(rules, voters, ballots, closed=left <= 0)
    else:
        call = _plugin_call(rules, vote, voters, cast=cast, closed=left <= 0)
        result, calls = _plugin_tally(inputs, call, voted=f"{len(cast)} of {len(voters)}", closed=left <= 0)
    vote = vote.model_copy(update={"outcome": str(result.outcome), "reason": result.message[:1024]})
    if result.outcome is VoteOutcome.PENDING:
        return VoteProgress(vote, None if calls else max(left, 0.0), calls)
    if result.outcome is VoteOutcome.ACCEPTED and rules.require_approval:
        vote = vote.model_copy(update={"outcome": str(VoteOutcome.PENDING), "awaits_approval": True})
        return VoteProgress(_with_approval(inputs, vote))
    return VoteProgress(vote)


def _ballots(inputs: StrategyInputs, proposal: str) -> dict[str, Choice]:
    """Agent name → its ballot: the one it reports for this proposal, else the `vote` of its preference, for every proposal."""
    found: dict[str, Choice] = {}
    for agent in inputs.agents:
        name = agent.metadata.name
        report = inputs.reports.get(name)
        reported = report.votes.get(proposal) if report is not None else None
        choice = reported if reported in set(Choice) else _static_ballot(inputs, agent)
        if choice is not None:
            found[name] = Choice(choice)
    return found


def _static_ballot(inputs: StrategyInputs, agent: Agent) -> str | None:
    name = inputs.variable.metadata.name
    return next((p.vote for p in agent.spec.preferences if p.variable == name), None)


def _voter(inputs: StrategyInputs, agent: Agent) -> Voter:
    """The agent's role and weight: the reported weight, capped by `maxWeight`, else the weight of its preference.

    A static weight is not capped: whoever may write a preference may write the cap too.
    """
    name, variable = agent.metadata.name, inputs.variable.metadata.name
    report = inputs.reports.get(name)
    reported = report.weights.get(variable) if report is not None else None
    static = next((p.weight for p in agent.spec.preferences if p.variable == variable), None)
    cap = (inputs.variable.spec.negotiation or Negotiation()).max_weight
    weight = min(reported, cap) if reported is not None else 1.0 if static is None else static
    return Voter(Fraction(repr(weight)), agent.spec.role)


def _with_approval(inputs: StrategyInputs, vote: ConsensusRound) -> ConsensusRound:
    """The vote, decided when the annotation `approve` or `reject` names this very proposal; `reject` wins over `approve`."""
    meta = inputs.variable.metadata
    person = annotation_request(meta, ANNOTATION_APPROVER) or None
    for annotation, outcome, verb in (
        (ANNOTATION_REJECT, VoteOutcome.REJECTED, "rejected"),
        (ANNOTATION_APPROVE, VoteOutcome.ACCEPTED, "approved"),
    ):
        if annotation_request(meta, annotation) == vote.proposal:
            by = f"{person}, " if person is not None else ""
            approver = person if outcome is VoteOutcome.ACCEPTED else None
            reason = f"{vote.reason}; {verb} by {by}the annotation {annotation}"[:1024]
            return vote.model_copy(
                update={"outcome": str(outcome), "awaits_approval": None, "approved_by": approver, "reason": reason}
            )
    return vote


# --- a protocol that is a plug-in ---------------------------------------------------------------------------------------------


def _plugin_call(
    rules: Consensus,
    vote: ConsensusRound,
    voters: Mapping[str, Voter],
    *,
    cast: Mapping[str, Choice],
    closed: bool,
) -> FunctionCall:
    given = {
        "value": vote.proposed,
        "proposal": vote.proposal,
        "closed": closed,
        "voters": {name: {"weight": float(v.weight), "role": v.role} for name, v in voters.items()},
        "ballots": {name: str(choice) for name, choice in cast.items()},
    }
    return FunctionCall(Language.PLUGIN, rules.protocol, given, PluginGroup.CONSENSUS)


def _plugin_tally(
    inputs: StrategyInputs, call: FunctionCall, *, voted: str, closed: bool
) -> tuple[Tally, tuple[FunctionCall, ...]]:
    """(the plug-in's tally, calls to wait for). It returns true, false, or null for open; at the deadline open is rejected."""
    plugin = f"the plug-in {call.text}"
    call, result = result_of_call(inputs, call)
    if result is None:
        return Tally(VoteOutcome.PENDING, f"{plugin} is being called"), (call,)
    if result.error is not None:
        outcome = VoteOutcome.REJECTED if closed else VoteOutcome.PENDING
        return Tally(outcome, f"{plugin}: {result.error}; built in are {', '.join(PROTOCOLS)}"), () if closed else (
            call,
        )
    outcome = VoteOutcome.PENDING
    if isinstance(result.value, bool):
        outcome = VoteOutcome.ACCEPTED if result.value else VoteOutcome.REJECTED
    if outcome is VoteOutcome.PENDING and closed:
        return Tally(VoteOutcome.REJECTED, f"{plugin} did not accept it in time"), ()
    return Tally(outcome, f"by {plugin}; {voted} have voted"), ()
