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
# The most restarts that a budget can allow; a window holds one more.
MAX_RESTARTS = 200


class ChildKind(StrEnum):
    """What can be supervised."""

    AGENT = "Agent"
    SUPERVISOR = "Supervisor"


class AutoShutdown(StrEnum):
    """When the Supervisor shuts down because significant children ended (OTP 24's `auto_shutdown`)."""

    NEVER = "Never"
    ANY_SIGNIFICANT = "AnySignificant"
    ALL_SIGNIFICANT = "AllSignificant"


class ChildEnd(StrEnum):
    """How a child ended that is not restarted."""

    FINISHED = "Finished"
    REMOVED = "Removed"


class ChildReference(KubeModel):
    """A reference to a child; its position in the list is its place in the start order."""

    kind: Annotated[
        ChildKind, Field(json_schema_extra={CRD_DEFAULT: True}), Field(description="Kind of the child.")
    ] = ChildKind.AGENT
    name: Annotated[ObjectName, Field(description="Name of the child, in the same namespace.")]
    significant: Annotated[
        bool,
        Field(description="Whether its end counts for `autoShutdown`; only for Transient and Temporary agents."),
    ] = False


class SupervisorSpec(KubeModel):
    """The children in start order, and the strategy and the budget of their restarts."""

    supervisor: Annotated[
        ObjectName | None,
        Field(description="The Supervisor that lists this one as a child; this one waits until it is started."),
    ] = None
    strategy: Annotated[
        SupervisionStrategy,
        Field(json_schema_extra={CRD_DEFAULT: True}),
        Field(
            description="Which other children a failure restarts: none (OneForOne), those after it (RestForOne), all "
            "(OneForAll)."
        ),
    ] = SupervisionStrategy.ONE_FOR_ONE
    max_restarts: Annotated[
        int,
        Field(ge=0, le=MAX_RESTARTS, json_schema_extra={CRD_DEFAULT: True}),
        Field(
            description="Restarts that the period allows; the next one exhausts the budget. A group restart counts as "
            "one. Budgets multiply along a path: see `status.worstCaseRestarts`."
        ),
    ] = 3
    period_seconds: Annotated[
        int,
        Field(
            ge=1,
            le=604_800,
            json_schema_extra={CRD_DEFAULT: True},
            description="The budget's sliding window, in seconds.",
        ),
    ] = 60
    auto_shutdown: Annotated[
        AutoShutdown, Field(description="When to shut down because significant children ended normally.")
    ] = AutoShutdown.NEVER
    children: Annotated[
        tuple[ChildReference, ...],
        Field(max_length=MAX_CHILDREN, json_schema_extra=list_map("kind", "name")),
        Field(
            description="The children in start order: each starts after those before it are ready; they stop in "
            "reverse order."
        ),
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
    """The instruction to one child, and the state of the child."""

    kind: Annotated[
        ChildKind, Field(json_schema_extra={CRD_DEFAULT: True}), Field(description="Kind of the child.")
    ] = ChildKind.AGENT
    name: Annotated[ObjectName, Field(description="Name of the child.")]
    intent: Annotated[Intent, Field(description="The instruction to the child: start or stop.")] = Intent.STOP
    token: Annotated[
        Token,
        Field(
            description="Number of the start that the instruction belongs to; each restart of the child has a "
            "higher one."
        ),
    ] = 1
    due: Annotated[
        Token | None, Field(description="The token of the next start, once every child that must stop has stopped.")
    ] = None
    end: Annotated[
        ChildEnd | None,
        Field(
            description="Finished: a Transient child that ended normally, or a Temporary one that ended in any way. "
            "Removed: a Temporary one that was stopped in the restart of a sibling."
        ),
    ] = None
    started: Annotated[
        bool | None, Field(description="Whether it was ready, or stopped as desired, at least once since this start.")
    ] = None
    state: Annotated[ShortText | None, Field(description="State of the child, as last seen.")] = None


class GroupRestart(StatusModel):
    """One restart: which child failed, when, and which others were restarted with it."""

    time: Annotated[Time, Field(description="When the child failed.")]
    child: Annotated[ObjectName, Field(description="Name of the child that failed.")]
    group: Annotated[
        tuple[ObjectName, ...],
        Field(max_length=MAX_CHILDREN),
        Field(description="Names of the children that were restarted with it."),
    ] = ()


class SupervisorStatus(StatusModel):
    """The instructions to the children, and observations of them; written once per pass and only on change."""

    observed_generation: Annotated[
        int,
        Field(ge=-1, le=2**53),
        Field(description="The `metadata.generation` that this status was computed from; -1: none yet."),
    ] = -1
    state: Annotated[ShortText | None, Field(description="State of the Supervisor as a whole.")] = None
    conditions: Annotated[
        Conditions,
        Field(description="Accepted, Ready, Reconciling, Stalled and others; docs/architecture.md lists them."),
    ] = ()
    restarts: Annotated[
        tuple[GroupRestart, ...],
        Field(max_length=MAX_RESTARTS + 1),
        Field(description="The restarts within `periodSeconds`, newest last."),
    ] = ()
    children: Annotated[
        tuple[ChildRecord, ...],
        Field(max_length=2 * MAX_CHILDREN, json_schema_extra=list_map("kind", "name")),
        Field(description="The instruction to each child, and what it did."),
    ] = ()
    worst_case_restarts: Annotated[
        int | None,
        Field(ge=0, le=2**53),
        Field(
            description="The product of `maxRestarts`, each at least 1, from the root to this Supervisor: how often "
            "this Supervisor may restart its children before the root gives up. An agent's own "
            "`maxFailures` multiplies it once more."
        ),
    ] = None
    total_restarts: Annotated[Count, Field(description="Restarts in all.")] = 0
    spec_hash: Annotated[
        str | None, Field(max_length=64), Field(description="Hash of the spec: a change of it releases.")
    ] = None
    parked_at: Annotated[Time | None, Field(description="When the restart budget was exhausted.")] = None
    shut_down_at: Annotated[Time | None, Field(description="When `autoShutdown` stopped it.")] = None
    released_by: Annotated[
        str | None,
        Field(max_length=1024),
        Field(description="The last value of the annotation `mabeam.dev/release` that was used."),
    ] = None
    supervision: Annotated[
        Supervision | None, Field(description="The last instruction of its own Supervisor that it acted on.")
    ] = None


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
