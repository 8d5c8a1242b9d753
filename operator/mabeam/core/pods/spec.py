"""The bodies of what the operator creates: pods and ConfigMaps, with fixed labels and one explicit owner.

Nothing of the owner's labels or annotations is copied: a GitOps tool that tracks by label would take the child for its own.
"""

import copy
from typing import Final

from mabeam.api.agent import Agent, AgentSpec, ShutdownPolicy
from mabeam.api.base import JsonDict
from mabeam.api.names import (
    ANNOTATION_GENERATION,
    ANNOTATION_SPEC_HASH,
    DIRECTIVES_DIR,
    DIRECTIVES_VOLUME,
    MAIN_CONTAINER,
    REPORT_PORT,
    REPORT_PORT_NAME,
    directives_config_map,
    pod_name,
)
from mabeam.api.pod_template import PodTemplate
from mabeam.core.conventions.metadata import owner_reference, pod_labels
from mabeam.core.pods.resources import BANDWIDTH, BANDWIDTH_ANNOTATIONS, ContainerResources, main_container
from mabeam.core.pods.spec_hash import pod_hash
from mabeam.core.snapshot import PodDefaults

# OTP's brutal_kill. Never 0: the API would forget a container that still runs.
BRUTAL_GRACE_SECONDS: Final = 1

_RESTRICTED_POD: Final = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
_RESTRICTED_CONTAINER: Final = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}


def pod_body(
    agent: Agent,
    ordinal: int,
    incarnation: int,
    generation: int,
    defaults: PodDefaults,
    avoid: str | None = None,
    made_from: str | None = None,
    resources: ContainerResources | None = None,
) -> JsonDict:
    """The pod of one incarnation: `restartPolicy: Never`, for the operator alone restarts, counts and delays.

    The node to `avoid` is taken all the same when there is no other: an agent on one node must not wait for ever. `made_from` is
    the hash that says of what the pod is made; `resources` are what the main container gets instead of what it declares.
    """
    spec = agent.spec
    name = pod_name(agent.metadata.name, ordinal, incarnation)
    meta = spec.template.metadata if spec.template else None
    pod_spec = _from_template(spec.template) if spec.template else _from_module(spec, defaults)
    pod_spec["restartPolicy"] = "Never"
    pod_spec.setdefault("automountServiceAccountToken", False)
    if spec.template is None or "shutdown" in spec.model_fields_set:
        pod_spec["terminationGracePeriodSeconds"] = _grace(spec)
    else:
        pod_spec.setdefault("terminationGracePeriodSeconds", _grace(spec))
    if avoid is not None:
        _avoid(pod_spec, avoid)
    volumes = _list_in(pod_spec, "volumes")
    volumes.append(
        {"name": DIRECTIVES_VOLUME, "configMap": {"name": directives_config_map(agent.metadata.name), "optional": True}}
    )
    _equip(main_container(pod_spec["containers"]), agent, ordinal, incarnation)
    if resources is not None:
        main_container(pod_spec["containers"])["resources"] = resources.to_wire()
    annotations = dict((meta.annotations if meta else None) or {})
    if spec.resources is not None and spec.resources.network_priority is not None:
        annotations |= dict.fromkeys(BANDWIDTH_ANNOTATIONS, BANDWIDTH[spec.resources.network_priority])
    annotations[ANNOTATION_SPEC_HASH] = made_from or pod_hash(spec)
    if generation:
        annotations[ANNOTATION_GENERATION] = str(generation)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": agent.metadata.namespace,
            "labels": dict((meta.labels if meta else None) or {})
            | pod_labels(agent.metadata.name, ordinal, incarnation),
            "annotations": annotations,
            "ownerReferences": [owner_reference("Agent", agent.metadata.name, agent.metadata.uid)],
        },
        "spec": pod_spec,
    }


def _avoid(pod_spec: JsonDict, node: str) -> None:
    elsewhere = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "NotIn", "values": [node]}]}
    affinity = pod_spec.setdefault("affinity", {})
    affinity = affinity.setdefault("nodeAffinity", {}) if isinstance(affinity, dict) else {}
    if isinstance(affinity, dict):
        _list_in(affinity, "preferredDuringSchedulingIgnoredDuringExecution").append(
            {"weight": 100, "preference": elsewhere}
        )


def _grace(spec: AgentSpec) -> int:
    return BRUTAL_GRACE_SECONDS if spec.shutdown.policy is ShutdownPolicy.BRUTAL else spec.shutdown.timeout_seconds


def _from_template(template: PodTemplate) -> JsonDict:
    return copy.deepcopy(template.spec)


def _from_module(spec: AgentSpec, defaults: PodDefaults) -> JsonDict:
    container: JsonDict = {
        "name": MAIN_CONTAINER,
        "image": spec.image or defaults.image,
        "command": ["mabeam-agent", "run", spec.module],
        "securityContext": copy.deepcopy(_RESTRICTED_CONTAINER),
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108 - the container's own, an emptyDir
    }
    if spec.image is None:
        container["imagePullPolicy"] = defaults.image_pull_policy
    return {
        "containers": [container],
        "securityContext": copy.deepcopy(_RESTRICTED_POD),
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    }


def _list_in(holder: JsonDict, key: str) -> list[JsonDict]:
    """The list to add to; templating tools leave a null where a list was empty."""
    found: list[JsonDict] = holder.get(key) or []
    holder[key] = found
    return found


def _equip(container: JsonDict, agent: Agent, ordinal: int, incarnation: int) -> None:
    """Give the main container its directives, its identity, its ports and its resources; the template's own words win."""
    spec = agent.spec
    mounts = _list_in(container, "volumeMounts")
    if not any(mount.get("mountPath") == DIRECTIVES_DIR for mount in mounts):
        mounts.append({"name": DIRECTIVES_VOLUME, "mountPath": DIRECTIVES_DIR, "readOnly": True})
    port = spec.reports.port if spec.reports else REPORT_PORT
    env = _list_in(container, "env")
    known = {variable.get("name") for variable in env}
    identity = {
        "MABEAM_AGENT": agent.metadata.name,
        "MABEAM_NAMESPACE": agent.metadata.namespace,
        "MABEAM_POD": pod_name(agent.metadata.name, ordinal, incarnation),
        "MABEAM_ORDINAL": str(ordinal),
        "MABEAM_INCARNATION": str(incarnation),
        "MABEAM_ROLE": spec.role_name,
        "MABEAM_DIRECTIVES_DIR": DIRECTIVES_DIR,
        "MABEAM_REPORT_PORT": str(port),
    }
    env.extend({"name": key, "value": value} for key, value in identity.items() if key not in known)
    wanted = [(i.name, i.port, i.protocol) for i in spec.communication.interfaces] if spec.communication else []
    if spec.template is None and not any(number == port and proto == "TCP" for _, number, proto in wanted):
        wanted.append((REPORT_PORT_NAME, port, "TCP"))
    ports = _list_in(container, "ports")
    taken = {p.get("name") for p in ports}
    ports.extend({"name": n, "containerPort": p, "protocol": proto} for n, p, proto in wanted if n not in taken)
    if not ports:
        del container["ports"]
    if spec.resources is not None:
        resources = container["resources"] = container.get("resources") or {}
        for side, amounts in (("requests", spec.resources.requests), ("limits", spec.resources.limits)):
            if amounts:
                resources[side] = dict(amounts) | (resources.get(side) or {})
