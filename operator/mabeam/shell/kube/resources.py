"""The resources of the Kubernetes API that the operator reads or writes: their paths, plurals and label selectors."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from mabeam.api.names import GROUP, VERSION


@dataclass(frozen=True, slots=True)
class Resource:
    """The address of a kind at the apiserver."""

    prefix: str
    plural: str
    selector: str | None = None
    namespaced: bool = True

    def path(self, namespace: str | None = None, name: str | None = None, sub: str | None = None) -> str:
        """The URL path of a collection (without a name), of an object, or of a subresource of it."""
        parts = [self.prefix]
        if namespace and self.namespaced:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        parts += [part for part in (name, sub) if part]
        return "/".join(parts)


_MANAGED: Final = "app.kubernetes.io/managed-by=mabeam"
RESOURCES: Final[Mapping[str, Resource]] = {
    "Agent": Resource(f"/apis/{GROUP}/{VERSION}", "agents"),
    "OrchestrationVariable": Resource(f"/apis/{GROUP}/{VERSION}", "orchestrationvariables"),
    "Supervisor": Resource(f"/apis/{GROUP}/{VERSION}", "supervisors"),
    "Pod": Resource("/api/v1", "pods", _MANAGED),
    "ConfigMap": Resource("/api/v1", "configmaps", _MANAGED),
    "Node": Resource("/api/v1", "nodes", namespaced=False),
    "NetworkPolicy": Resource("/apis/networking.k8s.io/v1", "networkpolicies", _MANAGED),
    "ResourceQuota": Resource("/api/v1", "resourcequotas"),
    "Event": Resource("/apis/events.k8s.io/v1", "events"),
    "Lease": Resource("/apis/coordination.k8s.io/v1", "leases"),
    "PodMetrics": Resource("/apis/metrics.k8s.io/v1beta1", "pods", _MANAGED),
    "NodeMetrics": Resource("/apis/metrics.k8s.io/v1beta1", "nodes", namespaced=False),
}
