"""The RBAC rules that the calls of `client.py` need; the chart and the manifests are generated from these rules."""

from dataclasses import dataclass
from typing import Final

from mabeam.api.base import JsonDict
from mabeam.api.names import GROUP, SERVICE_CONFIG_MAP


@dataclass(frozen=True, slots=True)
class PolicyRule:
    """One RBAC rule, and the call that needs it."""

    groups: tuple[str, ...]
    resources: tuple[str, ...]
    verbs: tuple[str, ...]
    names: tuple[str, ...] = ()

    def to_wire(self) -> JsonDict:
        """The rule as rbac.authorization.k8s.io/v1 has it."""
        names = {"resourceNames": list(self.names)} if self.names else {}
        groups, resources = list(self.groups), list(self.resources)
        return {"apiGroups": groups, "resources": resources, **names, "verbs": list(self.verbs)}


# Least privilege, sorted; `mabeam rbac` prints them, the chart and the manifests hold generated copies.
WORKLOAD_RULES: Final = (
    PolicyRule(("",), ("configmaps",), ("create", "delete", "get", "list", "patch", "watch")),  # directives
    PolicyRule(("",), ("pods",), ("create", "delete", "get", "list", "patch", "watch")),  # incarnations; annotations
    PolicyRule(("",), ("pods/resize",), ("patch",)),  # what a ResourceAllocation gives (KEP-1287)
    PolicyRule(("",), ("resourcequotas",), ("list", "watch")),  # what there is to divide
    PolicyRule(("events.k8s.io",), ("events",), ("create", "patch")),  # own Events; patch for a series
    PolicyRule((GROUP,), ("agents", "orchestrationvariables", "supervisors"), ("get", "list", "watch")),
    PolicyRule(  # the one status write
        (GROUP,), ("agents/status", "orchestrationvariables/status", "supervisors/status"), ("patch",)
    ),
    PolicyRule(  # one for each agent of a topology that is enforced
        ("networking.k8s.io",), ("networkpolicies",), ("create", "delete", "get", "list", "patch", "watch")
    ),
    PolicyRule(("metrics.k8s.io",), ("pods",), ("list",)),  # what agents use, where the cluster tells
)
NODE_RULES: Final = (
    PolicyRule(("",), ("nodes",), ("list", "watch")),  # fencing: is the old pod's node gone?
    PolicyRule(("metrics.k8s.io",), ("nodes",), ("list",)),  # the load
)
LEASE_RULES: Final = (
    PolicyRule(("",), ("configmaps",), ("create",)),  # the service's entry; a name cannot bound what is to be made
    PolicyRule(("",), ("configmaps",), ("get", "patch"), (SERVICE_CONFIG_MAP,)),
    PolicyRule(("coordination.k8s.io",), ("leases",), ("create", "get", "patch")),
)
# Only an operator outside the cluster reads reports through the apiserver.
OUTSIDE_RULES: Final = (PolicyRule(("",), ("pods/proxy",), ("get",)),)
