"""The capacity that a variable may divide: ResourceQuotas, what the nodes can give, and what of that is still free."""

from fractions import Fraction

from mabeam.api.variable import OrchestrationType, OrchestrationVariable
from mabeam.core.algorithms import quantity
from mabeam.core.pods.resources import RESIZABLE
from mabeam.core.snapshot import SystemContext
from mabeam.state.cache import Cache
from mabeam.state.requested import Amounts, parse_amount, write_amounts


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
            parsed = parse_amount(amount)
            if parsed is not None and (resource not in smallest or parsed < quantity.parse(smallest[resource])):
                smallest[resource] = amount
    return smallest


def allocatable(cache: Cache) -> Amounts:
    """The amounts that all nodes together can give, without the cordoned ones, in the units in which they are divided."""
    return cache.total_allocatable


def free(cache: Cache) -> Amounts:
    """The allocatable cpu and memory that no pod of an Agent requests yet; what other pods request is not known."""
    zero = Fraction(0)
    given = {r: parse_amount(amount) or zero for r, amount in allocatable(cache).items() if r in RESIZABLE}
    requested = cache.requested.sums
    return write_amounts({r: max(zero, given[r] - requested.get(r, zero)) for r in RESIZABLE if r in given})
