"""Votes held against their definition: whatever the outstanding ballots turn out to be, a vote that was over stays as it was."""

import itertools
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mabeam.api.agent import AgentRole
from mabeam.api.variable_blocks import Consensus, ConsensusProtocol
from mabeam.api.variable_status import Choice
from mabeam.core.algorithms.consensus import PROTOCOLS, VoteOutcome, Voter, tally

CHOICES = tuple(Choice)
PROTOCOL_NAMES = [protocol.value for protocol in ConsensusProtocol]


def voters(**weights: float) -> dict[str, Voter]:
    return {name: Voter(Fraction(repr(weight))) for name, weight in weights.items()}


def ballots(text: str) -> dict[str, Choice]:
    """`a+ b- c0`: a says Yes, b No, c abstains."""
    words = {"+": Choice.YES, "-": Choice.NO, "0": Choice.ABSTAIN}
    return {one[:-1]: words[one[-1]] for one in text.split()}


def test_every_protocol_has_its_row() -> None:
    assert set(PROTOCOLS) == {str(protocol) for protocol in ConsensusProtocol}


@pytest.mark.parametrize(
    ("protocol", "cast", "outcome"),
    [
        ("SimpleMajority", "a+ b+", "Pending"),
        ("SimpleMajority", "a+ b+ c+", "Accepted"),
        ("SimpleMajority", "a+ b+ c0 d0", "Rejected"),
        ("SimpleMajority", "a- b-", "Rejected"),
        ("WeightedVoting", "d+", "Pending"),
        ("WeightedVoting", "d+ a+", "Accepted"),
        ("WeightedVoting", "a+ b+ c+", "Pending"),
        ("Unanimous", "a+ b+ c+", "Pending"),
        ("Unanimous", "a+ b+ c+ d0", "Accepted"),
        ("Unanimous", "a-", "Rejected"),
        ("Unanimous", "a0 b0 c0 d0", "Rejected"),
    ],
)
def test_a_vote_among_four_of_whom_one_weighs_as_much_as_the_others(protocol: str, cast: str, outcome: str) -> None:
    told = tally(Consensus(protocol=protocol), voters(a=1, b=1, c=1, d=3), ballots(cast), closed=False)
    assert told.outcome == outcome


@pytest.mark.parametrize(
    ("rules", "cast", "outcome"),
    [
        ({"quorum": 0.5}, "a+", "Rejected"),
        ({"quorum": 0.25, "absent": "Yes"}, "a+", "Accepted"),
        ({"quorum": 0.25, "absent": "No", "protocol": "Unanimous"}, "a+", "Rejected"),
        ({"quorum": 0.25, "protocol": "Unanimous"}, "a+", "Accepted"),
        ({"quorum": 0, "absent": "Yes"}, "", "Accepted"),
    ],
)
def test_at_the_deadline_the_absent_count_as_the_rule_has_it(rules: Any, cast: str, outcome: str) -> None:
    assert tally(Consensus(**rules), voters(a=1, b=1, c=1, d=1), ballots(cast), closed=True).outcome == outcome


def test_a_veto_ends_the_vote_at_once_and_is_named() -> None:
    rules = Consensus(veto_roles=(AgentRole.EVALUATOR,))
    some = voters(a=1, b=1, c=1) | {"judge": Voter(role=AgentRole.EVALUATOR)}
    assert tally(rules, some, ballots("a+ b+ c+"), closed=False).outcome == "Pending"
    told = tally(rules, some, ballots("a+ b+ c+ judge-"), closed=False)
    assert (told.outcome, told.message) == ("Rejected", "judge has a veto (Evaluator) and says No")


def test_nobody_passes_nothing() -> None:
    assert tally(Consensus(quorum=0), {}, {}, closed=True).outcome == "Rejected"


def test_who_may_not_vote_does_not_count() -> None:
    assert tally(Consensus(), voters(a=1, b=1, c=1), ballots("a- x+ y+ z+"), closed=False).outcome == "Pending"


@given(
    st.sampled_from(PROTOCOL_NAMES),
    st.sampled_from([0.0, 0.3, 0.5, 1.0]),
    st.sampled_from(["Abstain", "Yes", "No"]),
    st.booleans(),
    st.dictionaries(st.sampled_from("abcde"), st.sampled_from([0, 0.5, 1, 3]), min_size=1),
    st.dictionaries(st.sampled_from("abcde"), st.sampled_from(CHOICES)),
)
def test_a_vote_is_over_exactly_when_no_outstanding_ballot_can_change_it(
    protocol: str,
    quorum: float,
    absent: Any,
    with_veto: bool,
    weights: dict[str, float],
    cast: dict[str, Choice],
) -> None:
    rules = Consensus(
        protocol=protocol, quorum=quorum, absent=absent, veto_roles=(AgentRole.MONITOR,) if with_veto else ()
    )
    some = {n: Voter(Fraction(repr(float(w))), AgentRole.MONITOR if n == "a" else None) for n, w in weights.items()}
    told = tally(rules, some, cast, closed=False).outcome
    open_ = [name for name in some if name not in cast]
    ends = set()
    for completion in itertools.product([*CHOICES, None], repeat=len(open_)):
        more = {name: choice for name, choice in zip(open_, completion, strict=True) if choice is not None}
        ends.add(tally(rules, some, cast | more, closed=True).outcome)
    assert VoteOutcome.PENDING not in ends
    assert ends == {told} if told is not VoteOutcome.PENDING else len(ends) == 2
