"""Orders about pods are confirmed by what is seen of the pods: one row for each action."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from mabeam.api.agent_status import PodRecord
from mabeam.api.directive import DirectiveAction
from mabeam.core.pods.resources import ContainerResources, same_resources
from mabeam.core.snapshot import PodFacts


@dataclass(frozen=True)
class RolloutState:
    """How far the agent's pods are: the records after this pass, and what they should come to.

    `live` counts the pods that may still run, whatever they are; `amounts` are what each main container is to have.
    """

    records: tuple[PodRecord, ...] = ()
    live: int = 0
    replicas: int = 1
    shape: str = ""
    migrations: int = 0
    amounts: ContainerResources | None = None


Ready = tuple[PodFacts, ...]


def _whole(seen: RolloutState, ready: Ready) -> bool:
    """Every replica that is wanted is there and ready, and no other one."""
    alive = sum(1 for record in seen.records if record.is_alive)
    return alive == len(ready) == seen.replicas


def _started(seen: RolloutState, ready: Ready) -> bool:
    return seen.replicas > 0 and _whole(seen, ready)


def _stopped(seen: RolloutState, ready: Ready) -> bool:
    return seen.live == 0 and all(not record.is_alive for record in seen.records)


def _scaled(seen: RolloutState, ready: Ready) -> bool:
    return _whole(seen, ready) and seen.live == seen.replicas


def _migrated(seen: RolloutState, ready: Ready) -> bool:
    there = all(r.migrating_from is None and (r.migration or 0) >= seen.migrations for r in seen.records)
    return there and _started(seen, ready)


def _reconfigured(seen: RolloutState, ready: Ready) -> bool:
    return _started(seen, ready) and all(pod.spec_hash == seen.shape for pod in ready)


def _resized(seen: RolloutState, ready: Ready) -> bool:
    """What runs has what was asked for; where no kubelet tells (`actual`), that it was asked for has to do."""
    if seen.amounts is None:
        return bool(ready)
    wanted = seen.amounts.to_wire()
    return bool(ready) and all(
        same_resources(pod.resources, wanted) and pod.resize is None and same_resources(pod.actual or wanted, wanted)
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


def infeasible_resize(seen: RolloutState, ready: Ready, *, late: bool) -> str | None:
    """Why the amounts that were asked for cannot be had: the kubelet says never, or has put them off for too long."""
    if seen.amounts is None:
        return None
    wanted = seen.amounts.to_wire()
    for pod in ready:
        asked = pod.resources is not None and same_resources(pod.resources, wanted)
        if asked and (pod.resize == "Infeasible" or (pod.resize == "Deferred" and late)):
            return f"{pod.name}: {pod.resize_message or pod.resize}"
    return None
