"""The Supervisor kind: Agents and Supervisors in start order, restarted together by OTP's strategies within one budget."""

from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from mabeam.api.agent import SupervisionStrategy
from mabeam.api.base import (
    CRD_DEFAULT,
    Conditions,
    Count,
    KubeModel,
    ObjectMeta,
    ObjectName,
    Rule,
    ShortText,
    StatusModel,
    Time,
    list_map,
)
from mabeam.api.names import MAX_NAME_LENGTH
from mabeam.api.supervision import Intent, Supervision, Token

MAX_CHILDREN = 64
# Room for every restart a window can hold (`maxRestarts` + 1).
MAX_RESTARTS = 200


class ChildKind(StrEnum):
    """What can be supervised."""

    AGENT = "Agent"
    SUPERVISOR = "Supervisor"


class AutoShutdown(StrEnum):
    """When the Supervisor ends by itself because significant children ended (OTP 24)."""

    NEVER = "Never"
    ANY_SIGNIFICANT = "AnySignificant"
    ALL_SIGNIFICANT = "AllSignificant"


class ChildEnd(StrEnum):
    """How a child's life ended without being followed by another one at once."""

    FINISHED = "Finished"
    REMOVED = "Removed"


class ChildReference(KubeModel):
    """A child, in its place of the start order."""

    kind: Annotated[ChildKind, Field(json_schema_extra={CRD_DEFAULT: True})] = ChildKind.AGENT
    name: ObjectName
    significant: Annotated[
        bool,
        Field(description="Its end counts for `autoShutdown`; for Transient and Temporary agents only."),
    ] = False


class SupervisorSpec(KubeModel):
    """What the user wants: the children in start order, whom a death takes along, and how often."""

    supervisor: Annotated[
        ObjectName | None, Field(description="The Supervisor that lists this one as a child: hold until it says start.")
    ] = None
    strategy: Annotated[
        SupervisionStrategy,
        Field(json_schema_extra={CRD_DEFAULT: True}),
        Field(description="Whom a child's death takes along: nobody, those after it, all."),
    ] = SupervisionStrategy.ONE_FOR_ONE
    max_restarts: Annotated[
        int,
        Field(ge=0, le=MAX_RESTARTS, json_schema_extra={CRD_DEFAULT: True}),
        Field(
            description="The next restart inside the period exhausts the budget; a group restart counts as one. Budgets multiply "
            "along a path: see `status.worstCaseRestarts`."
        ),
    ] = 3
    period_seconds: Annotated[
        int, Field(ge=1, le=604_800, json_schema_extra={CRD_DEFAULT: True}, description="The budget's sliding window.")
    ] = 60
    auto_shutdown: Annotated[
        AutoShutdown, Field(description="When to end because significant children ended normally.")
    ] = AutoShutdown.NEVER
    children: Annotated[
        tuple[ChildReference, ...],
        Field(max_length=MAX_CHILDREN, json_schema_extra=list_map("kind", "name")),
        Field(description="In start order: each starts when those before it are ready; they stop in reverse."),
    ] = ()
    restart_finished: Annotated[
        bool, Field(description="Whether a group restart also restarts a finished Transient child, as OTP does.")
    ] = True
    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "(has(self.autoShutdown) && self.autoShutdown != 'Never') || !has(self.children) || "
            "!self.children.exists(c, has(c.significant) && c.significant)",
            "a significant child needs `autoShutdown` AnySignificant or AllSignificant",
            lambda spec: (
                spec.auto_shutdown is not AutoShutdown.NEVER or not any(child.significant for child in spec.children)
            ),
        ),
        Rule(
            "!has(self.children) || !self.children.exists(c, c.kind == 'Supervisor' && has(c.significant) && c.significant)",
            "a Supervisor cannot be a significant child: it is permanent",
            lambda spec: not any(c.significant and c.kind is ChildKind.SUPERVISOR for c in spec.children),
        ),
    )


class ChildRecord(StatusModel):
    """What one child is told. `due` is the life that follows the one told of, once all that must stop has stopped."""

    kind: Annotated[ChildKind, Field(json_schema_extra={CRD_DEFAULT: True})] = ChildKind.AGENT
    name: ObjectName
    intent: Intent = Intent.STOP
    token: Token = 1
    due: Token | None = None
    end: Annotated[
        ChildEnd | None,
        Field(
            description="Finished: a Transient child that ended normally, or a Temporary one that ended in any way. "
            "Removed: a Temporary one that a sibling took along."
        ),
    ] = None
    started: Annotated[bool | None, Field(description="It was ready, or at rest as desired, once in this life.")] = None
    state: ShortText | None = None


class GroupRestart(StatusModel):
    """One entry of the window: which child died when, and whom that took along."""

    time: Time
    child: ObjectName
    group: Annotated[tuple[ObjectName, ...], Field(max_length=MAX_CHILDREN)] = ()


class SupervisorStatus(StatusModel):
    """What the children are told and what was seen of them, written once per pass and only when it changed."""

    observed_generation: Annotated[int, Field(ge=-1, le=2**53)] = -1
    state: ShortText | None = None
    conditions: Conditions = ()
    restarts: Annotated[tuple[GroupRestart, ...], Field(max_length=MAX_RESTARTS + 1)] = ()
    children: Annotated[
        tuple[ChildRecord, ...], Field(max_length=2 * MAX_CHILDREN, json_schema_extra=list_map("kind", "name"))
    ] = ()
    worst_case_restarts: Annotated[
        int | None,
        Field(ge=0, le=2**53),
        Field(
            description="The product of `maxRestarts`, each at least 1, from the root to this Supervisor: so often its children "
            "may be restarted before the root gives up. An agent's own `maxFailures` multiplies it once more."
        ),
    ] = None
    total_restarts: Count = 0
    spec_hash: Annotated[str | None, Field(max_length=64)] = None
    parked_at: Time | None = None
    shut_down_at: Annotated[Time | None, Field(description="When `autoShutdown` ended it.")] = None
    released_by: Annotated[str | None, Field(max_length=1024)] = None
    supervision: Supervision | None = None


class Supervisor(KubeModel):
    """Agents and Supervisors in start order, restarted together by Erlang/OTP's strategies within one budget."""

    api_version: Literal["mabeam.dev/v1alpha1"] = "mabeam.dev/v1alpha1"
    kind: Literal["Supervisor"] = "Supervisor"
    metadata: ObjectMeta
    spec: SupervisorSpec
    status: SupervisorStatus = SupervisorStatus()
    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            f"self.metadata.name.size() <= {MAX_NAME_LENGTH}",
            f"`metadata.name` must be at most {MAX_NAME_LENGTH} characters",
            lambda supervisor: len(supervisor.metadata.name) <= MAX_NAME_LENGTH,
        ),
        Rule(
            "!has(self.spec.children) || !self.spec.children.exists(c, c.kind == 'Supervisor' && c.name == self.metadata.name)",
            "a Supervisor cannot be its own child",
            lambda supervisor: (
                not any(
                    child.kind is ChildKind.SUPERVISOR and child.name == supervisor.metadata.name
                    for child in supervisor.spec.children
                )
            ),
        ),
    )
