"""Acknowledgement of directives about pods by the observed pods: one predicate for each action."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from mabeam.api.agent_status import PodRecord
from mabeam.api.directive import DirectiveAction
from mabeam.core.pods.resources import ContainerResources, has_resources
from mabeam.core.snapshot import PodFacts, ResizeRefused


@dataclass(frozen=True)
class RolloutState:
    """The agent's pods after this pass, and what directives want of them."""

    records: tuple[PodRecord, ...] = ()  # in order of ordinal
    live: int = 0  # pods that may still run, of whatever incarnation
    replicas: int = 1  # wanted
    shape: str = ""  # wanted hash of what a pod is made from
    migrations: int = 0  # the number that every record must have reached
    amounts: ContainerResources | None = None  # wanted of each main container; None: no directive allots any
    refused_resizes: Mapping[str, ResizeRefused] = field(default_factory=dict)  # pod name → the apiserver's refusal

    @property
    def may_resize_again(self) -> bool:
        """Whether a resize that the apiserver refused is to be asked for again."""
        return any(refused.is_retry_due for refused in self.refused_resizes.values())


Ready = tuple[PodFacts, ...]
"""The current pods that are Ready."""


def _whole(state: RolloutState, ready: Ready) -> bool:
    """Whether exactly the wanted replicas are alive, and all of them are ready."""
    alive = sum(1 for record in state.records if record.is_alive)
    return alive == len(ready) == state.replicas


def _started(state: RolloutState, ready: Ready) -> bool:
    return state.replicas > 0 and _whole(state, ready)


def _stopped(state: RolloutState, ready: Ready) -> bool:
    return state.live == 0 and all(not record.is_alive for record in state.records)


def _scaled(state: RolloutState, ready: Ready) -> bool:
    return _whole(state, ready) and state.live == state.replicas


def _migrated(state: RolloutState, ready: Ready) -> bool:
    there = all(r.migrating_from is None and (r.migration or 0) >= state.migrations for r in state.records)
    return there and _started(state, ready)


def _reconfigured(state: RolloutState, ready: Ready) -> bool:
    return _started(state, ready) and all(pod.spec_hash == state.shape for pod in ready)


def _resized(state: RolloutState, ready: Ready) -> bool:
    """Whether the pods have the wanted amounts: in the spec, and in the status where the kubelet reports them there."""
    if state.amounts is None:
        return bool(ready)
    wanted = state.amounts.to_wire()
    return bool(ready) and all(
        has_resources(pod.resources, wanted) and pod.resize is None and has_resources(pod.actual or wanted, wanted)
        for pod in ready
    )


CONFIRMATIONS: Final[Mapping[DirectiveAction, Callable[[RolloutState, Ready], bool]]] = {
    DirectiveAction.START: _started,
    DirectiveAction.STOP: _stopped,
    DirectiveAction.SCALE_UP: _scaled,
    DirectiveAction.SCALE_DOWN: _scaled,
    DirectiveAction.MIGRATE: _migrated,
    DirectiveAction.RECONFIGURE: _reconfigured,
    DirectiveAction.ALLOCATE_RESOURCES: _resized,
}

# The actions that an agent at rest can carry out; all others wait until it runs again.
STARTS_AND_STOPS: Final = frozenset({DirectiveAction.START, DirectiveAction.STOP})


def infeasible_resize(state: RolloutState, ready: Ready, *, late: bool) -> str | None:
    """Why a pod cannot have the wanted amounts; None if it can.

    The apiserver refuses them (since Kubernetes 1.36 also those that the node cannot give), or the kubelet finds them Infeasible,
    or has still Deferred them when it is `late`.
    """
    if state.amounts is None:
        return None
    wanted = state.amounts.to_wire()
    for pod in ready:
        refused = state.refused_resizes.get(pod.name)
        if refused is not None and refused.resources == wanted and not refused.is_retry_due:
            return refused.message
        asked = pod.resources is not None and has_resources(pod.resources, wanted)
        if asked and (pod.resize == "Infeasible" or (pod.resize == "Deferred" and late)):
            return f"{pod.name}: {pod.resize_message or pod.resize}"
    return None
