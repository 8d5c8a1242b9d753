"""The status of a variable: what was decided, who was told, how far that came; one writer, one write a pass."""

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


class Offer(StatusModel):
    """What one agent brought to a round, after clamping and capping."""

    agent: ObjectName
    value: JsonValue = None
    weight: NonNegative | None = None
    bid: NonNegative | None = None
    clamped: bool | None = None
    source: Literal["Spec", "Report"] | None = None


class NegotiationSession(StatusModel):
    """The last round: who took part, what each offered, what came out and by which rule."""

    id: Annotated[str, Field(max_length=253)]
    state: Literal["Active", "Completed", "Failed"]
    participants: Annotated[tuple[ObjectName, ...], Field(max_length=100)] = ()
    strategy: NegotiationStrategy
    offers: Annotated[tuple[Offer, ...], Field(max_length=100)] = ()
    outcome: JsonValue = None
    winner: ObjectName | None = None
    payment: NonNegative | None = None
    reason: ShortText = ""
    dropped: Annotated[tuple[ShortText, ...], Field(max_length=100)] = ()


class Vote(StatusModel):
    """One agent's ballot."""

    agent: ObjectName
    choice: Literal["Yes", "No", "Abstain"]
    weight: NonNegative = 1


class ConsensusRound(StatusModel):
    """The last proposal and every vote on it."""

    proposal: Annotated[str, Field(max_length=253)]
    proposed: JsonValue = None
    protocol: ShortText = ""
    rule: Annotated[ShortText, Field(description="By which rule the proposed value came about.")] = ""
    eligible: Count = 0
    votes: Annotated[tuple[Vote, ...], Field(max_length=100)] = ()
    outcome: Literal["Pending", "Accepted", "Rejected"] = "Pending"
    deadline: Time | None = None
    reason: LongText = ""
    spec_hash: Annotated[
        str | None,
        Field(max_length=80, description="Hash of the spec it was proposed under; another one is voted on anew."),
    ] = None
    awaits_approval: Annotated[
        bool | None, Field(description="The agents accepted it; a human has to approve of it yet.")
    ] = None
    approved_by: Annotated[
        str | None, Field(max_length=1024, description="The annotation that approved or refused it for the humans.")
    ] = None


class ResolvedAgents(StatusModel):
    """Whom the variable found; the first hundred by name."""

    selected: Count = 0
    missing: Annotated[tuple[ObjectName, ...], Field(max_length=100)] = ()
    names: Annotated[tuple[ObjectName, ...], Field(max_length=100)] = ()


class Candidate(StatusModel):
    """What was weighed in a decision: an agent, a choice, an edge; its score, and why it was taken or not."""

    name: ShortText
    score: Number | None = None
    chosen: bool = False
    reason: ShortText = ""


class LastDecision(StatusModel):
    """Why the value is what it is."""

    time: Time
    rule: ShortText
    inputs_hash: Annotated[str | None, Field(max_length=80)] = None
    trigger_hash: Annotated[
        str | None,
        Field(max_length=80, description="Hash of what starts a round at once: spec, members, static preferences."),
    ] = None
    message: LongText = ""
    candidates: Annotated[
        tuple[Candidate, ...], Field(max_length=20, description="The first of those that were weighed.")
    ] = ()


class CoordinationFailure(StatusModel):
    """One failure of coordination, as it counts against the variable's budget."""

    time: Time
    error: ShortText
    message: LongText = ""
    released: bool | None = None


class HistoryEntry(StatusModel):
    """One decision of the past, and what the agents measured then."""

    time: Time
    round: Annotated[int, Field(ge=0, le=2**53)] = 0
    value: JsonValue = None
    rule: ShortText = ""
    metrics: Annotated[dict[str, Number], Field(max_length=32)] = {}


class OrchestrationVariableStatus(StatusModel):
    """What was decided, who was told, and how far that came."""

    observed_generation: Annotated[int, Field(ge=-1, le=2**53)] = -1
    conditions: Conditions = ()
    value: JsonValue = None
    previous_value: JsonValue = None
    round: Annotated[int, Field(ge=0, le=2**53)] = 0
    agents: ResolvedAgents | None = None
    negotiation: NegotiationSession | None = None
    consensus: ConsensusRound | None = None
    directives: VariableDirectives | None = None
    last_decision: LastDecision | None = None
    failures: Annotated[
        tuple[CoordinationFailure, ...],
        Field(max_length=64, description="What went wrong, newest last; those inside the window spend the budget."),
    ] = ()
    frozen_at: Annotated[Time | None, Field(description="Since when the failure budget is exhausted.")] = None
    released_by: Annotated[
        str | None, Field(max_length=1024, description="The last value of `mabeam.dev/release` that was used.")
    ] = None
    history: Annotated[tuple[HistoryEntry, ...], Field(max_length=10)] = ()
    watching: Annotated[
        JsonDict | None,
        Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True}),
        Field(
            description="What was seen and is too young to be decided on: since when a threshold is crossed, by agent."
        ),
    ] = None
    context: Annotated[
        JsonDict | None,
        Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True}),
        Field(description="The system as the last decision saw it: load, what there was to divide, and from where."),
    ] = None

    @property
    def decided(self) -> bool:
        """Whether a value is in force."""
        return self.value is not None
