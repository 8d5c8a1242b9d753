"""The bodies of what the operator creates: pods and ConfigMaps, with fixed labels and one explicit owner.

Nothing of the owner's labels or annotations is copied: a GitOps tool that tracks by label would take the child for its own.
"""

import copy
import json
from typing import Final

from pydantic.alias_generators import to_camel

from mabeam.api.agent import Agent, AgentSpec, ShutdownPolicy
from mabeam.api.base import JsonDict
from mabeam.api.names import (
    ANNOTATION_GENERATION,
    ANNOTATION_SPEC_HASH,
    API_VERSION,
    DIRECTIVES_DIR,
    DIRECTIVES_KEY,
    DIRECTIVES_VOLUME,
    LABEL_AGENT,
    LABEL_COMPONENT,
    LABEL_INCARNATION,
    LABEL_MANAGED_BY,
    LABEL_NAME,
    LABEL_ORDINAL,
    LABEL_PART_OF,
    MAIN_CONTAINER,
    MANAGED_BY,
    REPORT_PORT,
    REPORT_PORT_NAME,
    directives_config_map,
    pod_name,
)
from mabeam.api.template import PodTemplate
from mabeam.core.digest import short_digest
from mabeam.core.memo import once
from mabeam.core.resources import BANDWIDTH, BANDWIDTH_ANNOTATIONS, Amounts, main_container
from mabeam.core.snapshot import PodDefaults

# The fields of the spec that shape the pod. A change of any replaces the pods; `replicas`, budgets and preferences do not.
SHAPING: Final = (
    "role",
    "custom_role",
    "module",
    "image",
    "template",
    "resources",
    "communication",
    "reports",
    "shutdown",
)

_SHAPING_ON_THE_WIRE: Final = frozenset(to_camel(name) for name in SHAPING)

# OTP's brutal_kill. Never 0: the API would forget a container that still runs.
BRUTAL_GRACE_SECONDS: Final = 1

_RESTRICTED_POD: Final = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
_RESTRICTED_CONTAINER: Final = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}


def pod_hash(spec: AgentSpec) -> str:
    """The hash of what shapes the pod; no default is in it, the operator's or a field's, so an upgrade replaces nothing."""
    return _hashes(spec)[0]


def shape(spec: AgentSpec, reconfigurations: int) -> str:
    """The hash of what shapes the pod: its spec, and how often directives had the pods made anew."""
    own = pod_hash(spec)
    return short_digest([own, reconfigurations]) if reconfigurations else own


def spec_hash(spec: AgentSpec) -> str:
    """The hash of the spec but `replicas`: a change of it releases a parked or ended agent, a scaling does not.

    A field that a later version adds is at its default in every older object, so it changes no hash.
    """
    return _hashes(spec)[1]


# Several passes ask for the hashes of one spec, and dumping it is a fifth of a pass.
@once
def _hashes(spec: AgentSpec) -> tuple[str, str]:
    whole = spec.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude={"replicas"})
    shape = {name: value for name, value in whole.items() if name in _SHAPING_ON_THE_WIRE}
    if "resources" in shape:  # what an allocation may do with them is in no pod
        made = {name: value for name, value in shape["resources"].items() if name not in ("bounds", "cpuWeight")}
        shape = {name: value for name, value in (shape | {"resources": made}).items() if name != "resources" or made}
    return short_digest(shape), short_digest(whole)


def child_labels(component: str, agent: str | None = None) -> dict[str, str]:
    """The fixed labels of a child; never its owner's."""
    labels = {
        LABEL_NAME: "mabeam",
        LABEL_COMPONENT: component,
        LABEL_PART_OF: "mabeam",
        LABEL_MANAGED_BY: MANAGED_BY,
    }
    return labels | ({LABEL_AGENT: agent} if agent else {})


def pod_labels(agent: str, ordinal: int, incarnation: int) -> dict[str, str]:
    """The fixed labels of a pod: by them it is found; that it is the agent's own is proven by its owner reference."""
    return child_labels("agent", agent) | {LABEL_ORDINAL: str(ordinal), LABEL_INCARNATION: str(incarnation)}


def owner_reference(kind: str, name: str, uid: str) -> JsonDict:
    """The controller reference of a child; without `blockOwnerDeletion`, so that no deletion ever waits for us."""
    return {"apiVersion": API_VERSION, "kind": kind, "name": name, "uid": uid, "controller": True}


def directives_config_map_body(agent: Agent, document: JsonDict) -> JsonDict:
    """The ConfigMap `<agent>-mabeam` that the agent's pods mount."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": directives_config_map(agent.metadata.name),
            "namespace": agent.metadata.namespace,
            "labels": child_labels("directives", agent.metadata.name),
            "ownerReferences": [owner_reference("Agent", agent.metadata.name, agent.metadata.uid)],
        },
        "data": {DIRECTIVES_KEY: json.dumps(document, sort_keys=True)},
    }


def pod_body(
    agent: Agent,
    ordinal: int,
    incarnation: int,
    generation: int,
    defaults: PodDefaults,
    avoid: str | None = None,
    made_from: str | None = None,
    resources: Amounts | None = None,
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
