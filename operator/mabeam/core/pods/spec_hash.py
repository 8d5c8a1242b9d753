"""Hashes of an Agent's spec: of the fields that its pods are made from, and of all but `replicas`."""

from typing import Final

from pydantic.alias_generators import to_camel

from mabeam.api.agent import AgentSpec
from mabeam.core.conventions.hashing import short_digest
from mabeam.core.memoize import memoize_by_identity

# The fields of the spec that pods are made from: a change of one replaces the pods.
POD_FIELDS: Final = (
    "role",
    "custom_role",
    "module",
    "image",
    "env",
    "env_from",
    "volumes",
    "volume_mounts",
    "service_account_name",
    "template",
    "resources",
    "communication",
    "reports",
    "shutdown",
)

_WIRE_POD_FIELDS: Final = frozenset(to_camel(name) for name in POD_FIELDS)
# Fields of which a pod contains a part only → that part. Of `resources` the rest is for allocations, of `reports` for the reader.
_FIELDS_IN_PODS: Final = {
    "resources": frozenset({"requests", "limits", "networkPriority"}),
    "reports": frozenset({"port"}),
}


def pod_hash(spec: AgentSpec) -> str:
    """The hash of what pods contain of POD_FIELDS; without defaults (the operator's or a field's): an upgrade replaces no pod."""
    return _hashes(spec)[0]


def effective_pod_hash(spec: AgentSpec, reconfigurations: int, restarted_by: str | None = None) -> str:
    """`pod_hash` combined with the number of times that directives had the pods replaced (Reconfigure), and the last request of
    their restart (the annotation mabeam.dev/restart)."""
    own = pod_hash(spec)
    if restarted_by:
        return short_digest([own, reconfigurations, restarted_by])
    return short_digest([own, reconfigurations]) if reconfigurations else own


def spec_hash(spec: AgentSpec) -> str:
    """The hash of the spec without `replicas`: its change releases a parked or ended agent, a scaling does not.

    Without defaults: a field that a later version adds is at its default in every older object, and so changes no hash.
    """
    return _hashes(spec)[1]


# Several passes need the hashes of one spec, and dumping it takes a fifth of a pass.
@memoize_by_identity
def _hashes(spec: AgentSpec) -> tuple[str, str]:
    whole = spec.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude={"replicas"})
    fields = {name: value for name, value in whole.items() if name in _WIRE_POD_FIELDS}
    for field, in_pods in _FIELDS_IN_PODS.items():
        part = {name: value for name, value in fields.pop(field, {}).items() if name in in_pods}
        if part:
            fields[field] = part
    return short_digest(fields), short_digest(whole)
