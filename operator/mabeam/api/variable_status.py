"""The status of a variable, written by the operator once per pass and only on change."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from mabeam.api.base import (
    Conditions,
    Count,
    JsonDict,
    JsonValue,
    LongText,
    NonNegative,
    Number,
    ObjectName,
    ShortText,
    StatusModel,
    Time,
)
from mabeam.api.directive import VariableDirectives


class NegotiationStrategy(StrEnum):
    """How offers become one value."""

    WEIGHTED_CONSENSUS = "WeightedConsensus"
    AUCTION = "Auction"


class Choice(StrEnum):
    """The choice on one ballot."""

    YES = "Yes"
    NO = "No"
    ABSTAIN = "Abstain"


class Offer(StatusModel):
    """The offer of one agent in a round, after clamping and capping."""

    agent: Annotated[ObjectName, Field(description="Name of the agent.")]
    value: Annotated[JsonValue, Field(description="The offered value.")] = None
    weight: Annotated[NonNegative | None, Field(description="Its weight, after the cap.")] = None
    bid: Annotated[NonNegative | None, Field(description="Its bid, after the cap.")] = None
    clamped: Annotated[
        bool | None, Field(description="True: the offer was outside the domain and was moved to its edge.")
    ] = None
    source: Annotated[
        Literal["Spec", "Report"] | None, Field(description="Spec: the Agent's `preferences`. Report: the process.")
    ] = None


class NegotiationSession(StatusModel):
    """The last round: its participants, their offers and the outcome."""

    id: Annotated[str, Field(max_length=253), Field(description="Identifier of the round.")]
    state: Annotated[Literal["Active", "Completed", "Failed"], Field(description="How the round ended.")]
    participants: Annotated[
        tuple[ObjectName, ...],
        Field(max_length=100),
        Field(description="Names of the agents that took part, the first hundred."),
    ] = ()
    strategy: Annotated[NegotiationStrategy, Field(description="The strategy of the round.")]
    offers: Annotated[
        tuple[Offer, ...], Field(max_length=100), Field(description="Their offers, the first hundred.")
    ] = ()
    outcome: Annotated[JsonValue, Field(description="The resulting value.")] = None
    winner: Annotated[ObjectName | None, Field(description="Winner of the auction.")] = None
    payment: Annotated[NonNegative | None, Field(description="What the winner pays.")] = None
    reason: Annotated[ShortText, Field(description="How the outcome came about, or why there is none.")] = ""
    dropped: Annotated[
        tuple[ShortText, ...],
        Field(max_length=100),
        Field(description="Offers that were not counted, with the reason."),
    ] = ()


class Vote(StatusModel):
    """One agent's ballot."""

    agent: Annotated[ObjectName, Field(description="Name of the agent.")]
    choice: Annotated[Literal["Yes", "No", "Abstain"], Field(description="Its vote.")]
    weight: Annotated[NonNegative, Field(description="Weight of the vote.")] = 1


class ConsensusRound(StatusModel):
    """The last proposal and the votes on it."""

    proposal: Annotated[str, Field(max_length=253), Field(description="Identifier of the proposal.")]
    proposed: Annotated[JsonValue, Field(description="The proposed value.")] = None
    protocol: Annotated[ShortText, Field(description="The rule by which votes are counted.")] = ""
    rule: Annotated[ShortText, Field(description="The rule that gave the proposed value.")] = ""
    eligible: Annotated[Count, Field(description="Number of agents that may vote.")] = 0
    votes: Annotated[tuple[Vote, ...], Field(max_length=100), Field(description="The votes, the first hundred.")] = ()
    outcome: Annotated[
        Literal["Pending", "Accepted", "Rejected"], Field(description="Pending, Accepted or Rejected.")
    ] = "Pending"
    deadline: Annotated[Time | None, Field(description="When the vote ends at the latest.")] = None
    reason: Annotated[LongText, Field(description="The count as a sentence.")] = ""
    spec_hash: Annotated[
        str | None,
        Field(max_length=80, description="Hash of the spec at the proposal; under another spec there is a new vote."),
    ] = None
    awaits_approval: Annotated[
        bool | None, Field(description="True: the agents accepted it, and a human has not approved it yet.")
    ] = None
    approved_by: Annotated[
        str | None,
        Field(
            max_length=1024,
            description="The person who approved it, as the annotation `mabeam.dev/approver` says; absent without one.",
        ),
    ] = None


class ResolvedAgents(StatusModel):
    """The agents to which the variable applies."""

    selected: Annotated[Count, Field(description="Number of agents that the variable applies to.")] = 0
    missing: Annotated[
        tuple[ObjectName, ...],
        Field(max_length=100),
        Field(description="Names in the spec for which there is no valid agent, the first hundred."),
    ] = ()
    names: Annotated[
        tuple[ObjectName, ...],
        Field(max_length=100),
        Field(description="Names of the selected agents, the first hundred."),
    ] = ()


class Candidate(StatusModel):
    """One candidate of a decision: an agent, a choice or an edge."""

    name: Annotated[ShortText, Field(description="Name of the agent, the choice or the edge.")]
    score: Annotated[Number | None, Field(description="Its score; higher is better.")] = None
    chosen: Annotated[bool, Field(description="Whether it was chosen.")] = False
    reason: Annotated[ShortText, Field(description="Why it was chosen or not.")] = ""


class LastDecision(StatusModel):
    """How the value in force was decided."""

    time: Annotated[Time, Field(description="When the value was decided.")]
    rule: Annotated[ShortText, Field(description="The rule that gave the value, for example WeightedMean.")]
    inputs_hash: Annotated[
        str | None, Field(max_length=80), Field(description="Hash of all inputs of the decision.")
    ] = None
    trigger_hash: Annotated[
        str | None,
        Field(
            max_length=80,
            description="Hash of the inputs whose change starts a round at once: spec, agents, static preferences.",
        ),
    ] = None
    message: Annotated[LongText, Field(description="The decision as a sentence.")] = ""
    candidates: Annotated[tuple[Candidate, ...], Field(max_length=20, description="The first candidates.")] = ()


class ValueOrigin(StatusModel):
    """How the value in force came about; the last decision may be about one that was rejected since."""

    time: Annotated[Time, Field(description="When the value came into force.")]
    round: Annotated[int, Field(ge=0, le=2**53), Field(description="Number of the round.")] = 0
    rule: Annotated[ShortText, Field(description="The rule that gave the value.")] = ""
    message: Annotated[LongText, Field(description="The decision as a sentence.")] = ""


class CoordinationFailure(StatusModel):
    """One failure of coordination, which counts against the variable's budget."""

    time: Annotated[Time, Field(description="When it failed.")]
    error: Annotated[ShortText, Field(description="The kind of failure, for example Timeout.")]
    message: Annotated[LongText, Field(description="What went wrong.")] = ""
    released: Annotated[bool | None, Field(description="True: an earlier release removed it from the budget.")] = None


class HistoryEntry(StatusModel):
    """One past decision, and the agents' metrics at that time."""

    time: Annotated[Time, Field(description="When the value was decided.")]
    round: Annotated[int, Field(ge=0, le=2**53), Field(description="Number of the round.")] = 0
    value: Annotated[JsonValue, Field(description="The value.")] = None
    rule: Annotated[ShortText, Field(description="The rule that gave the value.")] = ""
    metrics: Annotated[
        dict[str, Number],
        Field(max_length=32),
        Field(description="Mean of each metric in `telemetry.metrics` over the agents at that time."),
    ] = {}


class OrchestrationVariableStatus(StatusModel):
    """The decided value, how it was decided, and how far it was delivered."""

    observed_generation: Annotated[
        int,
        Field(ge=-1, le=2**53),
        Field(description="The `metadata.generation` that this status was computed from; -1: none yet."),
    ] = -1
    conditions: Annotated[
        Conditions,
        Field(description="Accepted, Ready, Reconciling, Stalled and others; docs/architecture.md lists them."),
    ] = ()
    value: Annotated[
        JsonValue,
        Field(description="The value that the variable puts in force; `valueInForce` is what its agents have."),
    ] = None
    value_in_force: Annotated[
        str | None,
        Field(
            max_length=256,
            description="The value that the agents have, as short text; not `value` where another variable has a say or a "
            "failed agent went back to its last good parameters.",
        ),
    ] = None
    previous_value: Annotated[JsonValue, Field(description="The value before.")] = None
    round: Annotated[
        int, Field(ge=0, le=2**53), Field(description="Number of the last round that decided a value.")
    ] = 0
    agents: Annotated[ResolvedAgents | None, Field(description="The agents that the variable applies to.")] = None
    negotiation: Annotated[NegotiationSession | None, Field(description="The last round of negotiation.")] = None
    consensus: Annotated[ConsensusRound | None, Field(description="The last proposal and the votes on it.")] = None
    directives: Annotated[VariableDirectives | None, Field(description="How far the value was delivered.")] = None
    last_decision: Annotated[LastDecision | None, Field(description="How the value came about.")] = None
    value_origin: Annotated[ValueOrigin | None, Field(description="How the value in force came about.")] = None
    failures: Annotated[
        tuple[CoordinationFailure, ...],
        Field(
            max_length=64,
            description="Failures of coordination, newest last; those within the window count against the budget.",
        ),
    ] = ()
    frozen_at: Annotated[Time | None, Field(description="When the failure budget was exhausted.")] = None
    released_by: Annotated[
        str | None, Field(max_length=1024, description="The last value of `mabeam.dev/release` that was used.")
    ] = None
    history: Annotated[
        tuple[HistoryEntry, ...], Field(max_length=10), Field(description="The last ten decisions, newest last.")
    ] = ()
    watching: Annotated[
        JsonDict | None,
        Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True}),
        Field(description="Observations that do not count yet: agent → since when it has crossed the threshold."),
    ] = None
    context: Annotated[
        JsonDict | None,
        Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True}),
        Field(description="The system at the last decision: its load, the amounts to divide, and their source."),
    ] = None

    @property
    def decided(self) -> bool:
        """Whether a value is in force."""
        return self.value is not None
