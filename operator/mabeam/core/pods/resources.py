"""What an agent's main container asks for and may use, and what it comes to when an allocation says otherwise."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Final

from mabeam.api.agent import AgentResources, AgentSpec, NetworkPriority
from mabeam.api.base import JsonDict
from mabeam.api.names import MAIN_CONTAINER
from mabeam.core.algorithms import quantity
from mabeam.core.memoize import memoize_by_identity

# What the kubelet can change on a running container (KEP-1287); anything else is only told to the process.
RESIZABLE: Final = ("cpu", "memory")
# Each way; the annotations are those of the bandwidth plug-in (CNI), which reads them when a pod's network is made.
BANDWIDTH: Final[Mapping[NetworkPriority, str]] = {
    NetworkPriority.LOW: "10M",
    NetworkPriority.NORMAL: "100M",
    NetworkPriority.HIGH: "1G",
}
BANDWIDTH_ANNOTATIONS: Final = ("kubernetes.io/ingress-bandwidth", "kubernetes.io/egress-bandwidth")


@dataclass(frozen=True, slots=True)
class ContainerResources:
    """Requests and limits by resource, as quantities."""

    requests: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, str] = field(default_factory=dict)

    def to_wire(self) -> JsonDict:
        """As a container's `resources`."""
        sides = {"requests": dict(self.requests), "limits": dict(self.limits)}
        return {side: amounts for side, amounts in sides.items() if amounts}


def main_container(containers: list[JsonDict]) -> JsonDict:
    """The container whose end is the agent's end: the one named `agent`, else the first."""
    return next((c for c in containers if c.get("name") == MAIN_CONTAINER), containers[0])


@memoize_by_identity
def declared_resources(spec: AgentSpec) -> ContainerResources:
    """What the agent's main container declares: the template's own words, then those of `spec.resources`."""
    own = spec.resources or AgentResources()
    requests, limits = dict(own.requests or {}), dict(own.limits or {})
    containers = (spec.template.spec.get("containers") or []) if spec.template is not None else []
    if isinstance(containers, list) and containers and all(isinstance(c, dict) for c in containers):
        written = main_container(containers).get("resources")
        written = written if isinstance(written, dict) else {}
        requests |= _quantities(written.get("requests"))
        limits |= _quantities(written.get("limits"))
    # A limit without a request is a request of as much: so the apiserver defaults it.
    return ContainerResources({**{r: limits[r] for r in RESIZABLE if r in limits}, **requests}, limits)


def _quantities(found: Any) -> dict[str, str]:
    """The amounts among what a template says; what is none the apiserver will tell its author."""
    named = found.items() if isinstance(found, dict) else ()
    return {str(name): str(amount) for name, amount in named if _is_quantity(str(amount))}


def _is_quantity(text: str) -> bool:
    try:
        quantity.parse(text)
    except ValueError:
        return False
    return True


def allotted_resources(spec: AgentSpec, shares: Mapping[str, str]) -> tuple[ContainerResources, str | None]:
    """What the main container gets of an allocation, and why it cannot have it; what it declares, when it cannot.

    Requests become the share; limits move with them in proportion, no higher than the agent's own bounds: the pod's QoS class
    stays, as a resize has to leave it (KEP-1287).
    """
    before = declared_resources(spec)
    requests, limits = dict(before.requests), dict(before.limits)
    most = {b.resource: b.max for b in (spec.resources.bounds or ())} if spec.resources is not None else {}
    for resource in RESIZABLE:
        share = shares.get(resource)
        if share is None:
            continue
        if resource not in requests:
            return before, f"its pods ask for no {resource}, and asking now would change their QoS class"
        try:
            amount, was = quantity.parse(share), quantity.parse(requests[resource])
            limit = quantity.parse(limits[resource]) if resource in limits else None
            bound = quantity.parse(str(most[resource])) if most.get(resource) is not None else None
        except ValueError as wrong:
            return before, str(wrong)
        if amount <= 0:
            return before, f"its pods cannot run with {share} {resource}"
        requests[resource] = share
        if limit is not None:  # equal ones stay equal to the letter: that is what the class Guaranteed means
            limits[resource] = share if limit == was else _limit(resource, amount, was, limit, bound)
    return ContainerResources(requests, limits), None


def _limit(resource: str, amount: Fraction, was: Fraction, limit: Fraction, bound: Fraction | None) -> str:
    moved = limit * amount / was if was else limit
    if bound is not None:
        moved = min(moved, max(bound, amount))
    unit = quantity.unit_of(resource)
    return unit.write(max(unit.ceil(amount), unit.floor(moved)))


def same_resources(one: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> bool:
    """Whether two containers' `resources` mean the same cpu and memory, however they are written."""
    return _resizable(one) == _resizable(other)


def _resizable(resources: Mapping[str, Any] | None) -> dict[tuple[str, str], Fraction]:
    found = {}
    for side in ("requests", "limits"):
        for resource, amount in ((resources or {}).get(side) or {}).items():
            if resource in RESIZABLE:
                try:
                    found[side, resource] = quantity.parse(str(amount))
                except ValueError:
                    continue
    for resource in RESIZABLE:
        if ("limits", resource) in found:
            found.setdefault(("requests", resource), found["limits", resource])
    return found
