"""Requests and limits of an agent's main container: as its spec declares them, and as an allocation changes them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Final

from mabeam.api.agent import AgentResources, AgentSpec, NetworkPriority
from mabeam.api.base import JsonDict
from mabeam.api.names import MAIN_CONTAINER
from mabeam.core.algorithms import quantity
from mabeam.core.memoize import memoize_by_identity

# What the kubelet can change on a running container (KEP-1287); other resources only reach the process, by its directives.
RESIZABLE: Final = ("cpu", "memory")
# Bits per second in each direction, read by the CNI bandwidth plug-in from the annotations when it sets up the pod's network.
BANDWIDTH: Final[Mapping[NetworkPriority, str]] = {
    NetworkPriority.LOW: "10M",
    NetworkPriority.NORMAL: "100M",
    NetworkPriority.HIGH: "1G",
}
BANDWIDTH_ANNOTATIONS: Final = ("kubernetes.io/ingress-bandwidth", "kubernetes.io/egress-bandwidth")


@dataclass(frozen=True, slots=True)
class ContainerResources:
    """Requests and limits of one container."""

    requests: Mapping[str, str] = field(default_factory=dict)  # resource name → quantity
    limits: Mapping[str, str] = field(default_factory=dict)  # resource name → quantity

    def to_wire(self) -> JsonDict:
        """The container's `resources` field."""
        sides = {"requests": dict(self.requests), "limits": dict(self.limits)}
        return {side: amounts for side, amounts in sides.items() if amounts}


def main_container(containers: list[JsonDict]) -> JsonDict:
    """The container that is the agent's process: the one named `agent`, else the first."""
    return next((c for c in containers if c.get("name") == MAIN_CONTAINER), containers[0])


def main_container_name(spec: AgentSpec) -> str:
    """The name of the main container in the pods that are made from the spec."""
    containers = _template_containers(spec)
    return str(main_container(containers).get("name", "")) if containers else MAIN_CONTAINER


def _template_containers(spec: AgentSpec) -> list[JsonDict]:
    """The containers of the template; empty when there is no template, or one that the apiserver would refuse."""
    containers = spec.template.spec.get("containers") if spec.template is not None else None
    is_readable = isinstance(containers, list) and all(isinstance(c, dict) for c in containers)
    return containers if is_readable and containers else []


@memoize_by_identity
def declared_resources(spec: AgentSpec) -> ContainerResources:
    """What the spec declares for the main container: the template's values, else those of `spec.resources`."""
    own = spec.resources or AgentResources()
    requests, limits = dict(own.requests or {}), dict(own.limits or {})
    containers = _template_containers(spec)
    if containers:
        written = main_container(containers).get("resources")
        written = written if isinstance(written, dict) else {}
        requests |= _quantities(written.get("requests"))
        limits |= _quantities(written.get("limits"))
    # The apiserver defaults a missing request to the limit.
    return ContainerResources({**{r: limits[r] for r in RESIZABLE if r in limits}, **requests}, limits)


def _quantities(values: Any) -> dict[str, str]:
    """The valid quantities of a template's `requests` or `limits`; the apiserver rejects the others."""
    named = values.items() if isinstance(values, dict) else ()
    return {str(name): str(amount) for name, amount in named if _is_quantity(str(amount))}


def _is_quantity(text: str) -> bool:
    try:
        quantity.parse(text)
    except ValueError:
        return False
    return True


def allotted_resources(spec: AgentSpec, shares: Mapping[str, str]) -> tuple[ContainerResources, str | None]:
    """The main container's resources under an allocation, and None; or what it declares, and why the shares cannot be applied.

    `shares`: resource name → quantity. Requests become the share; limits grow or shrink in proportion, up to the agent's own
    bounds. The pod keeps its QoS class, as a resize must (KEP-1287).
    """
    before = declared_resources(spec)
    requests, limits = dict(before.requests), dict(before.limits)
    most = {b.resource: b.max for b in (spec.resources.bounds or ())} if spec.resources is not None else {}
    for resource in RESIZABLE:
        share = shares.get(resource)
        if share is None:
            continue
        if resource not in requests:
            return before, f"its pods request no {resource}, and a request now would change their QoS class"
        try:
            amount, was = quantity.parse(share), quantity.parse(requests[resource])
            limit = quantity.parse(limits[resource]) if resource in limits else None
            bound = quantity.parse(str(most[resource])) if most.get(resource) is not None else None
        except ValueError as wrong:
            return before, str(wrong)
        if amount <= 0:
            return before, f"its pods cannot run with {share} {resource}"
        requests[resource] = share
        if limit is not None:  # equal ones stay equal to the letter, as the QoS class Guaranteed requires
            limits[resource] = share if limit == was else _limit(resource, amount, was, limit, bound)
    return ContainerResources(requests, limits), None


def _limit(resource: str, amount: Fraction, was: Fraction, limit: Fraction, bound: Fraction | None) -> str:
    moved = limit * amount / was if was else limit
    if bound is not None:
        moved = min(moved, max(bound, amount))
    unit = quantity.unit_of(resource)
    return unit.write(max(unit.ceil(amount), unit.floor(moved)))


def has_resources(actual: Mapping[str, Any] | None, wanted: Mapping[str, Any] | None) -> bool:
    """Whether a container has the wanted amounts of cpu and memory, in whatever notation.

    Amounts that nobody asked for are no difference: a LimitRange or an admission webhook adds them to every pod.
    """
    return _resizable(wanted).items() <= _resizable(actual).items()


def _resizable(resources: Mapping[str, Any] | None) -> dict[tuple[str, str], Fraction]:
    amounts = {}
    for side in ("requests", "limits"):
        for resource, amount in ((resources or {}).get(side) or {}).items():
            if resource in RESIZABLE:
                try:
                    amounts[side, resource] = quantity.parse(str(amount))
                except ValueError:
                    continue
    for resource in RESIZABLE:
        if ("limits", resource) in amounts:
            amounts.setdefault(("requests", resource), amounts["limits", resource])
    return amounts
