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
    PolicyRule(("",), ("configmaps",), ("create", "delete", "get", "list", "patch", "watch")),  # directives, records
    PolicyRule(("",), ("pods",), ("create", "delete", "get", "list", "patch", "watch")),  # the replicas of Agents
    PolicyRule(("",), ("pods/resize",), ("patch",)),  # a ResourceAllocation in place (KEP-1287)
    PolicyRule(("",), ("resourcequotas",), ("list", "watch")),  # the budget of a ResourceAllocation
    PolicyRule(("events.k8s.io",), ("events",), ("create", "patch")),  # the operator's Events; patch for a series
    PolicyRule((GROUP,), ("agents", "orchestrationvariables", "supervisors"), ("get", "list", "watch")),
    PolicyRule(  # one status write in each pass
        (GROUP,), ("agents/status", "orchestrationvariables/status", "supervisors/status"), ("patch",)
    ),
    PolicyRule(  # one for each agent of an enforced topology
        ("networking.k8s.io",), ("networkpolicies",), ("create", "delete", "get", "list", "patch", "watch")
    ),
    PolicyRule(("metrics.k8s.io",), ("pods",), ("list",)),  # the resource usage of agents
)
NODE_RULES: Final = (
    PolicyRule(("",), ("nodes",), ("get", "list", "watch")),  # fencing: is the old pod's node gone?
    PolicyRule(("metrics.k8s.io",), ("nodes",), ("list",)),  # the load
)
LEASE_RULES: Final = (
    PolicyRule(
        ("",), ("configmaps",), ("create",)
    ),  # the ConfigMap of the service; RBAC cannot restrict create by name
    PolicyRule(("",), ("configmaps",), ("get", "patch"), (SERVICE_CONFIG_MAP,)),
    PolicyRule(("coordination.k8s.io",), ("leases",), ("create", "get", "patch")),
)
# Only an operator outside the cluster reads reports through the apiserver.
OUTSIDE_RULES: Final = (PolicyRule(("",), ("pods/proxy",), ("get",)),)
