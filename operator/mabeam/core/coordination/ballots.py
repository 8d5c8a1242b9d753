"""The vote on a value: a proposal, ballots from the agents' reports or preferences, and a human's word where one is asked."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from fractions import Fraction
from typing import Any, Final

from mabeam.api.agent import Agent
from mabeam.api.names import ANNOTATION_APPROVE, ANNOTATION_REJECT
from mabeam.api.variable import Negotiation
from mabeam.api.variable_blocks import Consensus
from mabeam.api.variable_status import ConsensusRound, Vote
from mabeam.core.algorithms.consensus import PROTOCOLS, Choice, Tally, VoteOutcome, Voter, tally
from mabeam.core.conventions.metadata import annotation_request
from mabeam.core.coordination.strategies.interface import StrategyInputs, result_of_call
from mabeam.core.functions import FunctionCall, Language, PluginGroup

# As many votes as a status lists; all of them are counted.
LISTED: Final = 100


@dataclass(frozen=True)
class VoteProgress:
    """The vote as it stands, in how many seconds it has to be looked at again, and what is to be asked of a plug-in."""

    vote: ConsensusRound
    again: float | None = None
    function_calls: tuple[FunctionCall, ...] = ()


def new_proposal(inputs: StrategyInputs, rules: Consensus, number: int, value: Any, spec_hash: str) -> ConsensusRound:
    """The proposal of a value, of that round and under that spec."""
    # Rounded up to a status's whole seconds: a deadline may come out later than asked for, never earlier.
    deadline = inputs.now + timedelta(seconds=rules.deadline_seconds, microseconds=999_999)
    return ConsensusRound(
        proposal=f"{inputs.variable.metadata.name}-{number}",
        proposed=value,
        protocol=rules.protocol,
        eligible=len(inputs.agents),
        deadline=deadline.replace(microsecond=0),
        spec_hash=spec_hash,
    )


def count_ballots(inputs: StrategyInputs, rules: Consensus, vote: ConsensusRound) -> VoteProgress:
    """The vote after the ballots of this moment: Pending, Accepted or Rejected."""
    if vote.awaits_approval:
        return VoteProgress(_approved(inputs, vote))
    ballots = _ballots(inputs, vote.proposal)
    voters = {agent.metadata.name: _voter(inputs, agent) for agent in inputs.agents}
    left = (vote.deadline - inputs.now).total_seconds() if vote.deadline is not None else 0.0
    cast = {name: ballots[name] for name in sorted(voters) if name in ballots}
    listed = tuple(
        Vote(agent=name, choice=choice.value, weight=float(voters[name].weight)) for name, choice in cast.items()
    )
    vote = vote.model_copy(update={"votes": listed[:LISTED], "eligible": len(voters)})
    asks: tuple[FunctionCall, ...] = ()
    if rules.protocol in PROTOCOLS:
        result = tally(rules, voters, ballots, closed=left <= 0)
    else:
        result, asks = _by_plugin(inputs, rules, vote, voters, cast, closed=left <= 0)
    vote = vote.model_copy(update={"outcome": str(result.outcome), "reason": result.message[:1024]})
    if result.outcome is VoteOutcome.PENDING:
        return VoteProgress(vote, max(left, 0.0) if not asks else None, asks)
    if result.outcome is VoteOutcome.ACCEPTED and rules.require_approval:
        vote = vote.model_copy(update={"outcome": str(VoteOutcome.PENDING), "awaits_approval": True})
        return VoteProgress(_approved(inputs, vote))
    return VoteProgress(vote)


def _ballots(inputs: StrategyInputs, proposal: str) -> dict[str, Choice]:
    """Each agent's ballot: as it reports, else as its preference for the variable says of every proposal."""
    found: dict[str, Choice] = {}
    for agent in inputs.agents:
        name = agent.metadata.name
        report = inputs.reports.get(name)
        reported = report.votes.get(proposal) if report is not None else None
        static = _preference(inputs, agent)
        choice = reported if reported in set(Choice) else static
        if choice is not None:
            found[name] = Choice(choice)
    return found


def _preference(inputs: StrategyInputs, agent: Agent) -> str | None:
    name = inputs.variable.metadata.name
    return next((p.vote for p in agent.spec.preferences if p.variable == name), None)


def _voter(inputs: StrategyInputs, agent: Agent) -> Voter:
    """A reported weight is capped, as in a negotiation; a static one is not, for who may write it may write the cap too."""
    name, variable = agent.metadata.name, inputs.variable.metadata.name
    report = inputs.reports.get(name)
    reported = report.weights.get(variable) if report is not None else None
    static = next((p.weight for p in agent.spec.preferences if p.variable == variable), None)
    cap = (inputs.variable.spec.negotiation or Negotiation()).max_weight
    weight = min(reported, cap) if reported is not None else 1.0 if static is None else static
    return Voter(Fraction(repr(weight)), agent.spec.role)


def _approved(inputs: StrategyInputs, vote: ConsensusRound) -> ConsensusRound:
    """The vote after a human's word, when there is one on this very proposal."""
    for annotation, outcome, word in (
        (ANNOTATION_REJECT, VoteOutcome.REJECTED, "refused"),
        (ANNOTATION_APPROVE, VoteOutcome.ACCEPTED, "approved"),
    ):
        if annotation_request(inputs.variable.metadata, annotation) == vote.proposal:
            told = {"outcome": str(outcome), "awaits_approval": None, "approved_by": annotation}
            return vote.model_copy(
                update=told | {"reason": f"{vote.reason}; {word} by the annotation {annotation}"[:1024]}
            )
    return vote


def _by_plugin(
    inputs: StrategyInputs,
    rules: Consensus,
    vote: ConsensusRound,
    voters: Mapping[str, Voter],
    cast: Mapping[str, Choice],
    *,
    closed: bool,
) -> tuple[Tally, tuple[FunctionCall, ...]]:
    """A plug-in's word on the vote: true, false, or null while it is open; without one it is rejected at the deadline."""
    told = {
        "value": vote.proposed,
        "proposal": vote.proposal,
        "closed": closed,
        "voters": {name: {"weight": float(v.weight), "role": v.role} for name, v in voters.items()},
        "ballots": {name: str(choice) for name, choice in cast.items()},
    }
    ask, answer = result_of_call(inputs, FunctionCall(Language.PLUGIN, rules.protocol, told, PluginGroup.CONSENSUS))
    if answer is None:
        return Tally(VoteOutcome.PENDING, f"the plug-in {rules.protocol} is being asked"), (ask,)
    if answer.error is not None:
        outcome = VoteOutcome.REJECTED if closed else VoteOutcome.PENDING
        return Tally(outcome, f"the plug-in {rules.protocol}: {answer.error}"), () if closed else (ask,)
    verdicts = {True: VoteOutcome.ACCEPTED, False: VoteOutcome.REJECTED}
    outcome = verdicts.get(answer.value, VoteOutcome.PENDING) if isinstance(answer.value, bool) else VoteOutcome.PENDING
    if outcome is VoteOutcome.PENDING and closed:
        return Tally(VoteOutcome.REJECTED, f"the plug-in {rules.protocol} did not accept it in time"), ()
    return Tally(outcome, f"by the plug-in {rules.protocol}; {len(cast)} of {len(voters)} have voted"), ()
