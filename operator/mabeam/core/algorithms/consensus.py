"""The vote that gates a variable's value: ballots to accepted, rejected or pending.

A vote ends as soon as no outstanding ballot can change it, and at its deadline at the latest (docs/coordination.md, "Consensus").
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Final

from mabeam.api.agent import AgentRole
from mabeam.api.variable_blocks import Consensus, ConsensusProtocol
from mabeam.api.variable_status import Choice


class VoteOutcome(StrEnum):
    """The state of a vote: Pending until its outcome is certain."""

    PENDING = "Pending"
    ACCEPTED = "Accepted"
    REJECTED = "Rejected"


@dataclass(frozen=True, slots=True)
class Voter:
    """An agent that may vote."""

    weight: Fraction = Fraction(1)  # only for weighted voting
    role: AgentRole | None = None  # decides whether it has a veto


@dataclass(frozen=True, slots=True)
class Count:
    """The numbers of a vote; absent voters are included in `yes` and `no` as the variable's `absent` rule counts them."""

    eligible: int  # voters
    cast: int  # voters that have voted
    yes: int
    no: int
    weight: Fraction  # sum over all voters
    weight_yes: Fraction


@dataclass(frozen=True, slots=True)
class Tally:
    """The outcome so far, and the reason in a sentence."""

    outcome: VoteOutcome
    message: str


# Whether the vote accepts, and the reason.
Protocol = Callable[[Count], tuple[bool, str]]


def _simple_majority(count: Count) -> tuple[bool, str]:
    """⌊n/2⌋+1 of the eligible, so that an abstention does not count as a Yes."""
    needed = count.eligible // 2 + 1
    return count.yes >= needed, f"{count.yes} of {count.eligible} say Yes; {needed} are needed"


def _weighted_voting(count: Count) -> tuple[bool, str]:
    """More than half of the declared weight."""
    message = f"weight {_decimal(count.weight_yes)} of {_decimal(count.weight)} says Yes; more than half is needed"
    return 2 * count.weight_yes > count.weight, message


def _unanimous(count: Count) -> tuple[bool, str]:
    """At least one Yes and no No; abstentions do not count."""
    return count.no == 0 and count.yes > 0, f"{count.yes} say Yes, {count.no} No; nobody may say No"


PROTOCOLS: Final[Mapping[str, Protocol]] = {
    ConsensusProtocol.SIMPLE_MAJORITY: _simple_majority,
    ConsensusProtocol.WEIGHTED_VOTING: _weighted_voting,
    ConsensusProtocol.UNANIMOUS: _unanimous,
}


def tally(rules: Consensus, voters: Mapping[str, Voter], ballots: Mapping[str, Choice], *, closed: bool) -> Tally:
    """The outcome of the vote so far; never Pending when it is `closed`. Ballots of agents that may not vote are ignored."""
    cast = {name: ballots[name] for name in voters if name in ballots}
    vetoes = sorted(n for n, choice in cast.items() if choice is Choice.NO and voters[n].role in rules.veto_roles)
    if vetoes:
        return Tally(VoteOutcome.REJECTED, f"{vetoes[0]} has a veto ({voters[vetoes[0]].role}) and says No")
    if closed or len(cast) == len(voters):
        return _outcome(rules, voters, cast)
    outstanding = [name for name in voters if name not in cast]
    # Yes and quorum are monotone in the outstanding ballots, so all-No, all-Yes and all-absent bound every completion.
    if_absent = _outcome(rules, voters, cast)
    could_be_vetoed = any(voters[name].role in rules.veto_roles for name in outstanding)
    if_all_no = _outcome(rules, voters, cast | dict.fromkeys(outstanding, Choice.NO), veto=could_be_vetoed)
    if_all_yes = _outcome(rules, voters, cast | dict.fromkeys(outstanding, Choice.YES))
    if if_absent.outcome is if_all_no.outcome is VoteOutcome.ACCEPTED:
        return if_absent
    if if_absent.outcome is if_all_yes.outcome is VoteOutcome.REJECTED:
        return if_all_yes
    return Tally(VoteOutcome.PENDING, f"{len(cast)} of {len(voters)} have voted")


def _outcome(rules: Consensus, voters: Mapping[str, Voter], cast: Mapping[str, Choice], *, veto: bool = False) -> Tally:
    """The outcome if nobody else votes; with `veto` as if a voter had used its veto."""
    full = dict.fromkeys(voters, Choice(rules.absent)) | dict(cast)
    count = Count(
        eligible=len(voters),
        cast=len(cast),
        yes=sum(choice is Choice.YES for choice in full.values()),
        no=sum(choice is Choice.NO for choice in full.values()),
        weight=sum((voter.weight for voter in voters.values()), Fraction(0)),
        weight_yes=sum((voters[n].weight for n, choice in full.items() if choice is Choice.YES), Fraction(0)),
    )
    if count.cast < Fraction(repr(rules.quorum)) * count.eligible or count.eligible == 0:
        message = f"{count.cast} of {count.eligible} have voted; the quorum is {rules.quorum:g}"
        return Tally(VoteOutcome.REJECTED, message)
    passes, message = PROTOCOLS[rules.protocol](count)
    return Tally(VoteOutcome.ACCEPTED if passes and not veto else VoteOutcome.REJECTED, message)


def _decimal(weight: Fraction) -> str:
    return f"{float(weight):g}"
