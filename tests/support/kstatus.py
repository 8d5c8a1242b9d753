"""kstatus's verdict on an object with conditions: a port of `Compute` in sigs.k8s.io/cli-utils (pkg/kstatus/status).

What `kubectl wait`, Helm 4 `--wait`, Flux and kpt make of a custom resource, in the order in which it asks.
"""

from typing import Literal

from mabeam.api.base import JsonDict

Verdict = Literal["InProgress", "Failed", "Current", "Terminating"]


def compute(body: JsonDict) -> Verdict:
    """The status of any custom resource: checkGenericProperties, then checkReadyCondition, else Current."""
    metadata, status = body["metadata"], body.get("status") or {}
    if metadata.get("deletionTimestamp"):
        return "Terminating"
    observed = status.get("observedGeneration")
    if observed is not None and observed != metadata["generation"]:
        return "InProgress"
    conditions = status.get("conditions") or []
    for condition in conditions:
        if condition["type"] == "Reconciling" and condition["status"] == "True":
            return "InProgress"
        if condition["type"] == "Stalled" and condition["status"] == "True":
            return "Failed"
    for condition in conditions:
        if condition["type"] == "Ready":
            return "Current" if condition["status"] == "True" else "InProgress"
    return "Current"
