"""Ballots → accepted, rejected, or not yet: the vote that gates a variable's value.

A vote ends as soon as no outstanding ballot can change it, and at its deadline at the latest (docs/coordination.md, "Consensus").
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Final

from mabeam.api.agent import AgentRole
from mabeam.api.variable_blocks import Consensus, ConsensusProtocol


class Choice(StrEnum):
    """What a ballot says."""

    YES = "Yes"
    NO = "No"
    ABSTAIN = "Abstain"


class VoteOutcome(StrEnum):
    """What a vote came to."""

    PENDING = "Pending"
    ACCEPTED = "Accepted"
    REJECTED = "Rejected"


@dataclass(frozen=True, slots=True)
class Voter:
    """Who may vote, with what weight, and in which role."""

    weight: Fraction = Fraction(1)
    role: AgentRole | None = None


@dataclass(frozen=True, slots=True)
class Count:
    """Heads and weights of a vote, the absent already counted as the rule has it."""

    eligible: int
    cast: int
    yes: int
    no: int
    weight: Fraction
    weight_yes: Fraction


@dataclass(frozen=True, slots=True)
class Tally:
    """The outcome, and why in a sentence."""

    outcome: VoteOutcome
    message: str


Protocol = Callable[[Count], tuple[bool, str]]


def _simple_majority(count: Count) -> tuple[bool, str]:
    """⌊n/2⌋+1 of the eligible, so that an abstention does not count as a Yes."""
    needed = count.eligible // 2 + 1
    return count.yes >= needed, f"{count.yes} of {count.eligible} say Yes; {needed} are needed"


def _weighted_voting(count: Count) -> tuple[bool, str]:
    """More than half of the declared weight."""
    told = f"weight {_plain(count.weight_yes)} of {_plain(count.weight)} says Yes; more than half is needed"
    return 2 * count.weight_yes > count.weight, told


def _unanimous(count: Count) -> tuple[bool, str]:
    """Every vote that is cast says Yes, and one does; an abstention is no vote."""
    return count.no == 0 and count.yes > 0, f"{count.yes} say Yes, {count.no} No; nobody may say No"


PROTOCOLS: Final[Mapping[str, Protocol]] = {
    ConsensusProtocol.SIMPLE_MAJORITY: _simple_majority,
    ConsensusProtocol.WEIGHTED_VOTING: _weighted_voting,
    ConsensusProtocol.UNANIMOUS: _unanimous,
}


def tally(rules: Consensus, voters: Mapping[str, Voter], ballots: Mapping[str, Choice], *, closed: bool) -> Tally:
    """What the vote came to so far; never Pending when it is `closed`. Ballots of those who may not vote do not count."""
    cast = {name: ballots[name] for name in voters if name in ballots}
    vetoes = sorted(n for n, choice in cast.items() if choice is Choice.NO and voters[n].role in rules.veto_roles)
    if vetoes:
        return Tally(VoteOutcome.REJECTED, f"{vetoes[0]} has a veto ({voters[vetoes[0]].role}) and says No")
    if closed or len(cast) == len(voters):
        return _judge(rules, voters, cast)
    outstanding = [name for name in voters if name not in cast]
    # Consent and quorum both grow with ballots, so of all ways to go on these extremes bound the rest.
    away = _judge(rules, voters, cast)
    feared = any(voters[name].role in rules.veto_roles for name in outstanding)
    against = _judge(rules, voters, cast | dict.fromkeys(outstanding, Choice.NO), veto=feared)
    favour = _judge(rules, voters, cast | dict.fromkeys(outstanding, Choice.YES))
    if away.outcome is against.outcome is VoteOutcome.ACCEPTED:
        return away
    if away.outcome is favour.outcome is VoteOutcome.REJECTED:
        return favour
    return Tally(VoteOutcome.PENDING, f"{len(cast)} of {len(voters)} have voted")


def _judge(rules: Consensus, voters: Mapping[str, Voter], cast: Mapping[str, Choice], *, veto: bool = False) -> Tally:
    """The outcome if nobody else votes; with `veto` as if somebody had used one."""
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
        told = f"{count.cast} of {count.eligible} have voted; the quorum is {rules.quorum:g}"
        return Tally(VoteOutcome.REJECTED, told)
    passes, told = PROTOCOLS[rules.protocol](count)
    return Tally(VoteOutcome.ACCEPTED if passes and not veto else VoteOutcome.REJECTED, told)


def _plain(weight: Fraction) -> str:
    return f"{float(weight):g}"
