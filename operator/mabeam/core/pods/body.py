"""The body of the pod that the operator creates for one incarnation of an agent's ordinal.

It carries fixed labels and one owner reference. Nothing of the Agent's own labels or annotations is copied: a GitOps tool
that tracks by label would take the pod for one of its own objects.
"""

import copy
from dataclasses import dataclass, field
from typing import Final

from mabeam.api.agent import Agent, AgentSpec, ShutdownPolicy
from mabeam.api.base import JsonDict
from mabeam.api.names import (
    ANNOTATION_GENERATION,
    ANNOTATION_MAIN_CONTAINER,
    ANNOTATION_SPEC_HASH,
    DIRECTIVES_DIR,
    DIRECTIVES_VOLUME,
    ENV_POD,
    MAIN_CONTAINER,
    READINESS_PATH,
    REPORT_PORT,
    REPORT_PORT_NAME,
    directives_config_map,
    pod_name,
)
from mabeam.api.pod_template import PodTemplate
from mabeam.core.conventions.metadata import owner_reference, pod_labels
from mabeam.core.pods.resources import (
    BANDWIDTH,
    BANDWIDTH_ANNOTATIONS,
    ContainerResources,
    main_container,
    main_container_name,
)
from mabeam.core.pods.restart_policies import remove_restart_policies
from mabeam.core.pods.spec_hash import pod_hash
from mabeam.core.snapshot import PodDefaults

# OTP's brutal_kill. Never 0: the API would delete the pod object while its container still runs.
BRUTAL_GRACE_SECONDS: Final = 1

_RESTRICTED_POD: Final = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
# The root filesystem is writable, for /tmp: an emptyDir there would make `kubectl drain` refuse the node ("local storage").
# docs/design/0018-module-readiness.md, "Draining".
_RESTRICTED_CONTAINER: Final = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


# While a module's class is set up it is asked every second, and however long that takes nothing is restarted: the operator
# decides about restarts. Then it is not Ready once probes fail for half a minute, so that a busy interpreter stays Ready.
_STARTUP: Final = {"periodSeconds": 1, "timeoutSeconds": 5, "failureThreshold": 2**31 - 1}
_READINESS: Final = {"periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 3}


@dataclass(frozen=True, slots=True, kw_only=True)
class PodRequest:
    """All that the body of one pod is made from."""

    agent: Agent  # its spec is the effective one
    ordinal: int
    incarnation: int
    generation: int = 0  # of the agent's directives; 0: it has none
    defaults: PodDefaults = field(default_factory=PodDefaults)  # for a `module` agent that names no image
    avoided_node: str | None = None  # the scheduler prefers any other node; None: no preference
    pod_hash: str | None = None  # recorded in the annotation mabeam.dev/spec-hash; None: the hash of the agent's spec
    resources: ContainerResources | None = None  # of the main container, instead of what the spec declares


def pod_body(request: PodRequest) -> JsonDict:
    """The Pod object. `restartPolicy: Never`, because the operator restarts, counts and delays, and not the kubelet."""
    agent, spec = request.agent, request.agent.spec
    meta = spec.template.metadata if spec.template else None
    labels = dict((meta.labels if meta else None) or {})
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": pod_name(agent.metadata.name, request.ordinal, request.incarnation),
            "namespace": agent.metadata.namespace,
            "labels": labels | pod_labels(agent.metadata.name, request.ordinal, request.incarnation),
            "annotations": _annotations(request),
            "ownerReferences": [owner_reference("Agent", agent.metadata.name, agent.metadata.uid)],
        },
        "spec": _pod_spec(request),
    }


def _annotations(request: PodRequest) -> dict[str, str]:
    spec = request.agent.spec
    meta = spec.template.metadata if spec.template else None
    annotations = dict((meta.annotations if meta else None) or {})
    if spec.resources is not None and spec.resources.network_priority is not None:
        annotations |= dict.fromkeys(BANDWIDTH_ANNOTATIONS, BANDWIDTH[spec.resources.network_priority])
    annotations[ANNOTATION_MAIN_CONTAINER] = main_container_name(spec)
    annotations[ANNOTATION_SPEC_HASH] = request.pod_hash or pod_hash(spec)
    if request.generation:
        annotations[ANNOTATION_GENERATION] = str(request.generation)
    return annotations


def _pod_spec(request: PodRequest) -> JsonDict:
    agent, spec = request.agent, request.agent.spec
    pod_spec = _from_template(spec.template) if spec.template else _from_module(spec, request.defaults)
    remove_restart_policies(pod_spec)
    if spec.service_account_name is None:
        pod_spec.setdefault("automountServiceAccountToken", False)
    if spec.template is None or "shutdown" in spec.model_fields_set:
        pod_spec["terminationGracePeriodSeconds"] = _grace_seconds(spec)
    else:
        pod_spec.setdefault("terminationGracePeriodSeconds", _grace_seconds(spec))
    if request.avoided_node is not None:
        _avoid(pod_spec, request.avoided_node)
    config_map = {"name": directives_config_map(agent.metadata.name), "optional": True}
    _list_in(pod_spec, "volumes").append({"name": DIRECTIVES_VOLUME, "configMap": config_map})
    container = main_container(pod_spec["containers"])
    _complete_container(container, request)
    if request.resources is not None:
        container["resources"] = request.resources.to_wire()
    return pod_spec


def _avoid(pod_spec: JsonDict, node: str) -> None:
    """Prefer any other node. Not a requirement: an agent in a cluster of one node must not wait for ever."""
    elsewhere = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "NotIn", "values": [node]}]}
    affinity = pod_spec.setdefault("affinity", {})
    affinity = affinity.setdefault("nodeAffinity", {}) if isinstance(affinity, dict) else {}
    if isinstance(affinity, dict):
        _list_in(affinity, "preferredDuringSchedulingIgnoredDuringExecution").append(
            {"weight": 100, "preference": elsewhere}
        )


def _grace_seconds(spec: AgentSpec) -> int:
    return BRUTAL_GRACE_SECONDS if spec.shutdown.policy is ShutdownPolicy.BRUTAL else spec.shutdown.timeout_seconds


def _from_template(template: PodTemplate) -> JsonDict:
    return copy.deepcopy(template.spec)


def _from_module(spec: AgentSpec, defaults: PodDefaults) -> JsonDict:
    ready = {"httpGet": {"path": READINESS_PATH, "port": spec.reports.port if spec.reports else REPORT_PORT}}
    container: JsonDict = {
        "name": MAIN_CONTAINER,
        "image": spec.image or defaults.image,
        "command": ["mabeam-agent", "run", spec.module],
        "startupProbe": _STARTUP | ready,
        "readinessProbe": _READINESS | ready,
        "securityContext": copy.deepcopy(_RESTRICTED_CONTAINER),
        "volumeMounts": [mount.to_wire() for mount in spec.volume_mounts],
    }
    if spec.env:
        container["env"] = [variable.to_wire() for variable in spec.env]
    if spec.env_from:
        container["envFrom"] = [source.to_wire() for source in spec.env_from]
    if spec.image is None:
        container["imagePullPolicy"] = defaults.image_pull_policy
    account = {} if spec.service_account_name is None else {"serviceAccountName": spec.service_account_name}
    return {
        "containers": [container],
        "securityContext": copy.deepcopy(_RESTRICTED_POD),
        "volumes": [volume.to_wire() for volume in spec.volumes],
        **account,
    }


def _list_in(holder: JsonDict, key: str) -> list[JsonDict]:
    """The list under the key, created when it is missing or null: templating tools leave a null for an empty list."""
    items: list[JsonDict] = holder.get(key) or []
    holder[key] = items
    return items


def _complete_container(container: JsonDict, request: PodRequest) -> None:
    """Add the directives mount, the identity variables, ports and resources; what the template sets already stays."""
    spec = request.agent.spec
    mounts = _list_in(container, "volumeMounts")
    if not any(mount.get("mountPath") == DIRECTIVES_DIR for mount in mounts):
        mounts.append({"name": DIRECTIVES_VOLUME, "mountPath": DIRECTIVES_DIR, "readOnly": True})
    port = spec.reports.port if spec.reports else REPORT_PORT
    env = _list_in(container, "env")
    known = {variable.get("name") for variable in env}
    identity = _identity(request) | {"MABEAM_REPORT_PORT": str(port)}
    env.extend({"name": key, "value": value} for key, value in identity.items() if key not in known)
    _add_ports(container, spec, port)
    if spec.resources is not None:
        resources = container["resources"] = container.get("resources") or {}
        for side, amounts in (("requests", spec.resources.requests), ("limits", spec.resources.limits)):
            if amounts:
                resources[side] = dict(amounts) | (resources.get(side) or {})


def _identity(request: PodRequest) -> dict[str, str]:
    """The environment variables by which the SDK knows its agent (docs/agent-contract.md)."""
    meta = request.agent.metadata
    return {
        "MABEAM_AGENT": meta.name,
        "MABEAM_NAMESPACE": meta.namespace,
        ENV_POD: pod_name(meta.name, request.ordinal, request.incarnation),
        "MABEAM_ORDINAL": str(request.ordinal),
        "MABEAM_INCARNATION": str(request.incarnation),
        "MABEAM_ROLE": request.agent.spec.role_name,
        "MABEAM_DIRECTIVES_DIR": DIRECTIVES_DIR,
    }


def _add_ports(container: JsonDict, spec: AgentSpec, report_port: int) -> None:
    """Add the ports of `communication.interfaces`, and of the report where the operator makes the container."""
    wanted = [(i.name, i.port, i.protocol) for i in spec.communication.interfaces] if spec.communication else []
    if spec.template is None and not any(port == report_port and proto == "TCP" for _, port, proto in wanted):
        wanted.append((REPORT_PORT_NAME, report_port, "TCP"))
    ports = _list_in(container, "ports")
    taken = {p.get("name") for p in ports}
    ports.extend({"name": n, "containerPort": p, "protocol": proto} for n, p, proto in wanted if n not in taken)
    if not ports:
        del container["ports"]
