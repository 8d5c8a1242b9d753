"""The hash of the pod-shaping fields of an Agent's spec: a changed hash replaces the pods."""

from typing import Final

from pydantic.alias_generators import to_camel

from mabeam.api.agent import AgentSpec
from mabeam.core.conventions.hashing import short_digest
from mabeam.core.memoize import memoize_by_identity

# The fields of the spec that shape the pod. A change of any replaces the pods; `replicas`, budgets and preferences do not.
POD_FIELDS: Final = (
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

_WIRE_POD_FIELDS: Final = frozenset(to_camel(name) for name in POD_FIELDS)


def pod_hash(spec: AgentSpec) -> str:
    """The hash of what shapes the pod; no default is in it, the operator's or a field's, so an upgrade replaces nothing."""
    return _hashes(spec)[0]


def effective_pod_hash(spec: AgentSpec, reconfigurations: int) -> str:
    """The hash of what shapes the pod: its spec, and how often directives had the pods made anew."""
    own = pod_hash(spec)
    return short_digest([own, reconfigurations]) if reconfigurations else own


def spec_hash(spec: AgentSpec) -> str:
    """The hash of the spec but `replicas`: a change of it releases a parked or ended agent, a scaling does not.

    A field that a later version adds is at its default in every older object, so it changes no hash.
    """
    return _hashes(spec)[1]


# Several passes ask for the hashes of one spec, and dumping it is a fifth of a pass.
@memoize_by_identity
def _hashes(spec: AgentSpec) -> tuple[str, str]:
    whole = spec.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude={"replicas"})
    shape = {name: value for name, value in whole.items() if name in _WIRE_POD_FIELDS}
    if "resources" in shape:  # what an allocation may do with them is in no pod
        made = {name: value for name, value in shape["resources"].items() if name not in ("bounds", "cpuWeight")}
        shape = {name: value for name, value in (shape | {"resources": made}).items() if name != "resources" or made}
    return short_digest(shape), short_digest(whole)
