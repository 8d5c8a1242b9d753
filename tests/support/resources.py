"""Where the apiserver has what the tests read and write."""

from collections.abc import Mapping
from typing import Final

MABEAM: Final = "/apis/mabeam.dev/v1alpha1"
CORE: Final = "/api/v1"
PREFIXES: Final[Mapping[str, str]] = {
    "agents": MABEAM,
    "orchestrationvariables": MABEAM,
    "supervisors": MABEAM,
    "pods": CORE,
    "configmaps": CORE,
    "serviceaccounts": CORE,
    "leases": "/apis/coordination.k8s.io/v1",
    "events": "/apis/events.k8s.io/v1",
    "networkpolicies": "/apis/networking.k8s.io/v1",
    "replicasets": "/apis/apps/v1",
}


def path_of(namespace: str, plural: str, name: str = "", sub: str = "") -> str:
    """Where a collection, an object or a subresource of the namespace is."""
    return "/".join(part for part in (PREFIXES[plural], "namespaces", namespace, plural, name, sub) if part)
