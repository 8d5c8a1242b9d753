"""Restart policies in a pod template: the operator restarts, counts and delays, so the kubelet must restart nothing.

A container's own policy (KEP-5307) or a rule that restarts all containers (KEP-5532) would let it start a second process beside
the one of the next incarnation. Only a native sidecar (an init container with `restartPolicy: Always`) keeps its policy.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from mabeam.api.base import JsonDict

_FIELDS = ("restartPolicy", "restartPolicyRules")
_WHY = "the operator restarts, counts and delays, and not the kubelet"


def remove_restart_policies(pod_spec: JsonDict) -> None:
    """Set the pod's `restartPolicy` to Never, and remove those of its containers."""
    pod_spec["restartPolicy"] = "Never"
    for _, container, field in _policies(pod_spec):
        del container[field]


def unused_restart_policies(pod_spec: Mapping[str, Any]) -> str | None:
    """Which restart policies of the template its pods do not get, and why, as a sentence; None: it sets none."""
    found = [f"{key} {container.get('name')}: {field}" for key, container, field in _policies(pod_spec)]
    if pod_spec.get("restartPolicy") not in (None, "Never"):
        found.insert(0, f"restartPolicy: {pod_spec['restartPolicy']}")
    if not found:
        return None
    shown = ", ".join(f"`{one}`" for one in found[:4]) + (f" and {len(found) - 4} more" if len(found) > 4 else "")
    return f"`template.spec` sets {shown}, which its pods do not get (they have `restartPolicy: Never`): {_WHY}"


def _policies(pod_spec: Mapping[str, Any]) -> Iterator[tuple[str, JsonDict, str]]:
    """The restart policies that containers have, except those of native sidecars: key, container, field."""
    for key in ("containers", "initContainers"):
        for container in pod_spec.get(key) or ():
            fields = [field for field in _FIELDS if isinstance(container, dict) and container.get(field) is not None]
            for field in fields:
                is_native = key == "initContainers" and container[field] == "Always"
                if not is_native:
                    yield key, container, field
