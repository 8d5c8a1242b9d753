"""The capacity that a variable may divide: ResourceQuotas, what the nodes can give, and what of that is still free."""

from collections.abc import Iterable, Mapping
from fractions import Fraction

from mabeam.api.variable import OrchestrationType, OrchestrationVariable
from mabeam.core.algorithms import quantity
from mabeam.core.pods.lifecycle import is_live
from mabeam.core.pods.resources import RESIZABLE
from mabeam.core.snapshot import SystemContext
from mabeam.state.cache import Cache

Amounts = Mapping[str, str]  # resource → quantity


def system_context(cache: Cache, variable: OrchestrationVariable, load: tuple[float, str] | None) -> SystemContext:
    """The system as a pass over the variable sees it: only what a variable of its type depends on.

    `load` is from 0 (idle) to 1 (full), with the measure that it comes from.
    """
    spec = variable.spec
    if spec.type is OrchestrationType.RESOURCE_ALLOCATION and not spec.budget:
        return SystemContext(quota=quota_of(cache, variable.metadata.namespace), allocatable=allocatable(cache))
    if spec.type is OrchestrationType.AGENT_SELECTION and spec.resources is not None:
        return SystemContext(free=free(cache))
    wants_load = (spec.rate is not None and spec.rate.load is not None) or spec.function is not None
    # In tenths: a load that changes all the time would make each pass call the function anew.
    return SystemContext(round(load[0], 1), load[1]) if wants_load and load is not None else SystemContext()


def quota_of(cache: Cache, namespace: str) -> Amounts:
    """The amounts that the namespace's ResourceQuotas allow; the smallest where several name a resource."""
    smallest: dict[str, str] = {}
    for (space, _), hard in cache.quotas.items():
        for resource, amount in hard.items() if space == namespace else ():
            parsed = _parsed(amount)
            if parsed is not None and (resource not in smallest or parsed < quantity.parse(smallest[resource])):
                smallest[resource] = amount
    return smallest


def allocatable(cache: Cache) -> Amounts:
    """The amounts that all nodes together can give, without the cordoned ones, in the units in which they are divided."""
    return _written(_sums(amounts for node, amounts in cache.allocatable.items() if node not in cache.cordoned))


def free(cache: Cache) -> Amounts:
    """The allocatable cpu and memory that no pod of an Agent requests yet; what other pods request is not known."""
    given = _sums([allocatable(cache)])
    live = (known.pod.resources or {} for known in cache.pods.values() if is_live(known.pod))
    requested = _sums(resources.get("requests") or {} for resources in live)
    zero = Fraction(0)
    return _written({r: max(zero, given[r] - requested.get(r, zero)) for r in RESIZABLE if r in given})


def _sums(several: Iterable[Amounts]) -> dict[str, Fraction]:
    """The sum of each resource; what is no quantity is ignored."""
    sums: dict[str, Fraction] = {}
    for amounts in several:
        for resource, amount in amounts.items():
            parsed = _parsed(str(amount))
            if parsed is not None:
                sums[resource] = sums.get(resource, Fraction(0)) + parsed
    return sums


def _written(sums: Mapping[str, Fraction]) -> Amounts:
    units = {resource: quantity.unit_of(resource) for resource in sums}
    return {resource: units[resource].write(units[resource].floor(total)) for resource, total in sums.items()}


def _parsed(amount: str) -> Fraction | None:
    try:
        return quantity.parse(amount)
    except ValueError:
        return None
