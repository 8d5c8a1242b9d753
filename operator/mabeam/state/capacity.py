"""What there is to divide and what is free: quotas, the nodes' own, and what our pods have asked for of that."""

from collections.abc import Iterable, Mapping
from fractions import Fraction

from mabeam.api.variable import OrchestrationType, OrchestrationVariable
from mabeam.core.algorithms import quantity
from mabeam.core.pods.lifecycle import is_live
from mabeam.core.pods.resources import RESIZABLE
from mabeam.core.snapshot import SystemContext
from mabeam.state.cache import Cache


def system_context(cache: Cache, variable: OrchestrationVariable, load: tuple[float, str] | None) -> SystemContext:
    """The context of a pass over the variable: of all that could be looked at only what a variable like it looks at."""
    spec = variable.spec
    if spec.type is OrchestrationType.RESOURCE_ALLOCATION and not spec.budget:
        return SystemContext(quota=quota_in(cache, variable.metadata.namespace), allocatable=allocatable(cache))
    if spec.type is OrchestrationType.AGENT_SELECTION and spec.resources is not None:
        return SystemContext(free=free(cache))
    wants_load = (spec.rate is not None and spec.rate.load is not None) or spec.function is not None
    # In tenths: a load that ticks would ask each function anew at every pass.
    return SystemContext(round(load[0], 1), load[1]) if wants_load and load is not None else SystemContext()


def quota_in(cache: Cache, namespace: str) -> dict[str, str]:
    """What the namespace's ResourceQuotas allow; of several on one resource the least."""
    return least(found for (space, _), found in cache.quotas.items() if space == namespace)


def least(quotas: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Each resource's smallest amount; what is no quantity is read past."""
    found: dict[str, str] = {}
    for hard in quotas:
        for resource, amount in hard.items():
            try:
                if resource not in found or quantity.parse(amount) < quantity.parse(found[resource]):
                    found[resource] = amount
            except ValueError:
                continue
    return found


def allocatable(cache: Cache) -> dict[str, str]:
    """What the nodes that take new pods can give."""
    return added(own for node, own in cache.allocatable.items() if node not in cache.cordoned)


def added(nodes: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """The sums, in the units in which each resource is divided."""
    sums: dict[str, Fraction] = {}
    for own in nodes:
        for resource, amount in own.items():
            try:
                sums[resource] = sums.get(resource, Fraction(0)) + quantity.parse(amount)
            except ValueError:
                continue
    units = {resource: quantity.unit_of(resource) for resource in sums}
    return {resource: units[resource].write(units[resource].floor(total)) for resource, total in sums.items()}


def free(cache: Cache) -> dict[str, str]:
    """The allocatable amounts minus the requests of agents' pods; requests of other pods are not known."""
    whole, asked = allocatable(cache), dict.fromkeys(RESIZABLE, Fraction(0))
    for known in cache.pods.values():
        own = (known.pod.resources or {}).get("requests") or {}
        if is_live(known.pod):
            for resource in RESIZABLE:
                try:
                    asked[resource] += quantity.parse(str(own.get(resource, "0")))
                except ValueError:
                    continue
    units = {resource: quantity.unit_of(resource) for resource in RESIZABLE}
    return {
        resource: units[resource].write(
            max(0, units[resource].floor(quantity.parse(whole[resource]) - asked[resource]))
        )
        for resource in RESIZABLE
        if resource in whole
    }
