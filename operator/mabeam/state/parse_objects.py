"""The door: API objects as dicts come in, facts and frozen models go on; behind it there is no dict soup."""

import hashlib
import json
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, TypeVar, get_args

import orjson
from pydantic import BaseModel, ValidationError

from mabeam.api.agent import Agent, AgentSpec
from mabeam.api.agent_status import AgentStatus
from mabeam.api.base import DNS_LABEL, DNS_SUBDOMAIN, QUANTITY_PATTERN, Condition, JsonDict, ObjectMeta
from mabeam.api.names import API_VERSION, DIRECTIVES_KEY, HISTORY_KEY
from mabeam.api.supervisor import ChildReference, Supervisor, SupervisorSpec, SupervisorStatus
from mabeam.api.variable import OrchestrationVariable, OrchestrationVariableSpec
from mabeam.api.variable_status import OrchestrationVariableStatus
from mabeam.core.conventions.hashing import short_digest
from mabeam.core.snapshot import ConfigMapFacts, NetworkPolicyFacts
from mabeam.state.parse_status import StoredStatus, parse_status

MAX_PROBLEMS: Final = 5

Kind = TypeVar("Kind", Agent, OrchestrationVariable, Supervisor)
Status = TypeVar("Status", AgentStatus, OrchestrationVariableStatus, SupervisorStatus)


# Taints of a node that is being drained or removed: by `kubectl cordon`, Karpenter, the cluster autoscaler, a cloud's controller.
LEAVING_TAINTS: Final = frozenset(
    {
        "node.kubernetes.io/unschedulable",
        "node.cloudprovider.kubernetes.io/shutdown",
        "karpenter.sh/disrupted",
        "karpenter.sh/disruption",
        "ToBeDeletedByClusterAutoscaler",
    }
)
# Taints of a node whose kubelet does not answer (KEP-166, KEP-2268).
UNREACHABLE_TAINTS: Final = frozenset({"node.kubernetes.io/unreachable", "node.kubernetes.io/out-of-service"})


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """A node: whether new pods are kept off it, whether it answers, and what it can give to pods."""

    cordoned: bool = False  # spec.unschedulable, or it is being drained or deleted
    unreachable: bool = False  # its kubelet does not answer
    boot_id: str | None = None  # another one after each reboot
    allocatable: Mapping[str, str] = field(default_factory=dict)  # resource → quantity


@dataclass(frozen=True, slots=True)
class ParsedAgent:
    """An Agent, or why its spec cannot be read (then `agent.spec` is a placeholder)."""

    agent: Agent
    invalid: str | None = None
    stored: StoredStatus | None = None  # the status in the cluster, if it holds more than `agent.status`


@dataclass(frozen=True, slots=True)
class ParsedVariable:
    """A variable, or why its spec cannot be read (then `variable.spec` is a placeholder)."""

    variable: OrchestrationVariable
    invalid: str | None = None
    stored: StoredStatus | None = None  # the status in the cluster, if it holds more than `variable.status`


@dataclass(frozen=True, slots=True)
class ParsedSupervisor:
    """A Supervisor, or why its spec cannot be read (then `supervisor.spec` is a placeholder)."""

    supervisor: Supervisor
    invalid: str | None = None
    stored: StoredStatus | None = None  # the status in the cluster, if it holds more than `supervisor.status`


def describe_validation_error(error: ValidationError, root: str = "", model: type[BaseModel] | None = None) -> str:
    """The problems of a refused object in one line: each names its field, what is allowed and what was found.

    With `model`, the message on an unknown field lists the known ones.
    """
    problems = []
    for problem in error.errors(include_url=False)[:MAX_PROBLEMS]:
        path = ".".join(str(part) for part in problem["loc"])
        where = ".".join(part for part in (root, path) if part)
        text = _explanation(problem["type"], problem["msg"], problem.get("ctx") or {})
        if problem["type"] == "extra_forbidden":
            known = sorted(_fields(model, problem["loc"][:-1])) if model is not None else []
            text += f"; allowed: {', '.join(known)}" if known else ""
        found = problem.get("input")
        silent = problem["type"] in ("rule", "missing", "extra_forbidden")
        shown = "" if silent else f" (found {json.dumps(found, default=str)[:80]})"
        problems.append(f"{where}: {text}{shown}" if where else text)
    return "; ".join(problems)


_PATTERN_MESSAGES: Final[Mapping[str, str]] = {
    DNS_LABEL: "must be a DNS label: lower-case letters, digits and '-', not at its ends",
    DNS_SUBDOMAIN: "must be a DNS name: lower-case letters, digits, '-' and '.', neither at its ends",
    QUANTITY_PATTERN: "must be a quantity such as 100m, 2 or 1Gi",
}


def _explanation(kind: str, message: str, context: Mapping[str, Any]) -> str:
    """A validation error of pydantic in the terms of YAML."""
    match kind:
        case "missing":
            return "must be set"
        case "extra_forbidden":
            return "is not a field here"
        case "model_type" | "dict_type" | "model_attributes_type":
            return "must be an object"
        case "tuple_type" | "list_type":
            return "must be a list"
        case "too_short" | "too_long":
            bound, count = ("at least", "min_length") if kind == "too_short" else ("at most", "max_length")
            return f"must have {bound} {context.get(count)} entries"
        case "string_pattern_mismatch":
            pattern = str(context.get("pattern"))
            return _PATTERN_MESSAGES.get(pattern, f"must match {pattern}")
        case _:
            return message.replace("Input should", "must", 1).replace("should have", "must have", 1)


def _fields(model: Any, path: tuple[int | str, ...]) -> set[str]:
    """The names of the fields at a place in a model; none when the place is no model's."""
    for part in path:
        if isinstance(part, str):
            fields = _models(model)
            model = next((f.annotation for m in fields for f in m.model_fields.values() if f.alias == part), None)
    return {str(f.alias) for found in _models(model) for f in found.model_fields.values()}


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for inner in get_args(annotation) for found in _models(inner)]


def parse_agent(body: JsonDict, before: ParsedAgent | None = None) -> ParsedAgent:
    """The Agent in `body`. Never raises on a bad spec: the operator reports it, and must not stumble over it twice.

    `before` is what was known of it: every change of a spec is a new generation, so within one the spec is read once.
    """
    meta = _meta(body)
    status, stored = _status(AgentStatus, body)
    if before is not None and _same_spec(before.agent.metadata, meta):
        model = Agent if before.invalid is None else Agent.model_construct
        return ParsedAgent(model(metadata=meta, spec=before.agent.spec, status=status), before.invalid, stored)
    return ParsedAgent(
        *_read(Agent, meta, status, body, _agent_spec, lambda: AgentSpec(module="invalid:Invalid")), stored
    )


# Fleets are made from one template, and a frozen spec can be shared: a thousand alike cost the memory of one.
_SPECS: Final["weakref.WeakValueDictionary[bytes, AgentSpec]"] = weakref.WeakValueDictionary()


def _agent_spec(spec: JsonDict) -> AgentSpec:
    try:
        text = orjson.dumps(spec, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # a world read from YAML may hold what JSON cannot say; the model tells what is wrong with it
        return AgentSpec.model_validate(spec)
    key = hashlib.blake2b(text, digest_size=16).digest()
    known = _SPECS.get(key)
    if known is None:
        known = _SPECS[key] = AgentSpec.model_validate(spec)
    return known


def _same_spec(before: ObjectMeta, now: ObjectMeta) -> bool:
    return bool(now.generation) and (before.uid, before.generation) == (now.uid, now.generation)


def parse_variable(body: JsonDict) -> ParsedVariable:
    """The variable in `body`; as with agents, a bad spec is a finding, not an exception."""
    spec_of = OrchestrationVariableSpec.model_validate
    status, stored = _status(OrchestrationVariableStatus, body)
    placeholder = {"agents": {"names": ["invalid"]}, "value": 0}
    return ParsedVariable(
        *_read(OrchestrationVariable, _meta(body), status, body, spec_of, lambda: spec_of(placeholder)), stored
    )


def parse_supervisor(body: JsonDict) -> ParsedSupervisor:
    """The Supervisor in `body`; as with agents, a bad spec is a finding, not an exception.

    The placeholder keeps the stored children: they follow their last instruction, rather than run as if it were gone.
    """
    status, stored = _status(SupervisorStatus, body)
    known = tuple(ChildReference(kind=record.kind, name=record.name) for record in status.children)
    parent = status.supervision.supervisor if status.supervision is not None else None
    last = SupervisorSpec.model_construct(children=known, supervisor=parent)
    read = _read(Supervisor, _meta(body), status, body, SupervisorSpec.model_validate, lambda: last)
    return ParsedSupervisor(*read, stored)


def _read(
    kind: type[Kind],
    meta: ObjectMeta,
    status: Any,
    body: JsonDict,
    spec_of: Callable[[JsonDict], Any],
    placeholder: Callable[[], Any],
) -> tuple[Kind, str | None]:
    """The object; or one with a placeholder for its spec, and why that cannot be read."""
    try:
        return kind(metadata=meta, spec=spec_of(body.get("spec") or {}), status=status), None
    except ValidationError as error:
        spec = placeholder()
        whole = error.title == kind.__name__
        wrong = (
            describe_validation_error(error, "", kind)
            if whole
            else describe_validation_error(error, "spec", type(spec))
        )
        return kind.model_construct(metadata=meta, spec=spec, status=status), wrong


def _meta(body: JsonDict) -> ObjectMeta:
    found = body.get("metadata") or {}
    meta = ObjectMeta.model_validate({key: value for key, value in found.items() if key != "autoscaler"})
    scaler = _autoscaler(found.get("managedFields"))
    return meta.model_copy(update={"autoscaler": scaler}) if scaler else meta


def _autoscaler(fields: Any) -> str:
    """Who alone sets `replicas`, through the scale subresource; a person's `kubectl scale` is no autoscaler.

    A write that changes the number takes it away from all others (structured-merge-diff), so whoever shares it wrote it later:
    the record of an autoscaler that was deleted ends when anybody else sets the number.
    """
    owners = [
        entry
        for entry in (fields if isinstance(fields, list) else ())
        if isinstance(entry, dict) and "f:replicas" in ((entry.get("fieldsV1") or {}).get("f:spec") or {})
    ]
    scalers = [str(entry.get("manager", "")) for entry in owners if entry.get("subresource") == "scale"]
    if len(scalers) != len(owners) or any(manager.startswith("kubectl") for manager in scalers):
        return ""
    return scalers[0][:253] if scalers else ""


def _status(model: type[Status], body: JsonDict) -> tuple[Status, StoredStatus | None]:
    """The readable part of the stored status; and the whole of it, if that part is not all."""
    status, stored = parse_status(model, body.get("status"))
    conditions = tuple(_one_of_equals(found) for found in status.conditions)
    return status.model_copy(update={"conditions": conditions}), stored


@lru_cache(maxsize=4096)
def _one_of_equals(condition: Condition) -> Condition:
    """The condition, as the one object that all equal ones share: agents that start together say the same, word for word."""
    return condition


def owner_uid(body: JsonDict, kind: str) -> str | None:
    """The uid of the controller of that kind that owns the object; the only proof of ownership there is."""
    for reference in (body.get("metadata") or {}).get("ownerReferences") or ():
        if reference.get("kind") == kind and reference.get("controller") and reference.get("apiVersion") == API_VERSION:
            return str(reference.get("uid", ""))
    return None


def parse_network_policy(body: JsonDict, owner: str) -> NetworkPolicyFacts:
    """The facts about an agent's NetworkPolicy, `owned` when the object with uid `owner` controls it."""
    meta: Mapping[str, Any] = body.get("metadata") or {}
    spec: Mapping[str, Any] = body.get("spec") or {}
    return NetworkPolicyFacts(
        name=str(meta.get("name", "")),
        uid=str(meta.get("uid", "")),
        resource_version=str(meta.get("resourceVersion", "")),
        owned=bool(owner) and owner_uid(body, "Agent") == owner,
        content_hash=short_digest({key: spec.get(key) or [] for key in ("podSelector", "policyTypes", "ingress")}),
        selector=spec.get("podSelector") or {},
    )


def parse_node(body: JsonDict) -> NodeFacts:
    """The facts about a node."""
    spec: Mapping[str, Any] = body.get("spec") or {}
    status: Mapping[str, Any] = body.get("status") or {}
    taints = {str(taint.get("key", "")) for taint in spec.get("taints") or () if isinstance(taint, dict)}
    is_leaving = bool((body.get("metadata") or {}).get("deletionTimestamp")) or not taints.isdisjoint(LEAVING_TAINTS)
    boot_id = (status.get("nodeInfo") or {}).get("bootID")
    return NodeFacts(
        cordoned=bool(spec.get("unschedulable")) or is_leaving,
        unreachable=not taints.isdisjoint(UNREACHABLE_TAINTS),
        boot_id=str(boot_id)[:253] if boot_id else None,
        allocatable=dict(status.get("allocatable") or {}),
    )


def parse_quota(body: JsonDict) -> Mapping[str, str]:
    """What a ResourceQuota allows, by resource: of requests where it tells them apart."""
    hard = (body.get("spec") or {}).get("hard") or {}
    found = {str(name): str(amount) for name, amount in hard.items()}
    own = {name: amount for name, amount in found.items() if "." not in name or "/" in name}
    asked = {name.removeprefix("requests."): a for name, a in found.items() if name.startswith("requests.")}
    return own | asked


def parse_config_map(body: JsonDict, owner: str, kind: str = "Agent") -> ConfigMapFacts:
    """The facts about a directives ConfigMap, `owned` when the object with uid `owner` controls it."""
    meta: Mapping[str, Any] = body.get("metadata") or {}
    data = body.get("data") or {}
    text = data.get(DIRECTIVES_KEY) or data.get(HISTORY_KEY)
    try:
        document = json.loads(text) if text else None
    except (ValueError, RecursionError):  # no JSON, or nested deeper than the parser goes
        document = None
    return ConfigMapFacts(
        name=str(meta.get("name", "")),
        uid=str(meta.get("uid", "")),
        resource_version=str(meta.get("resourceVersion", "")),
        owned=owner_uid(body, kind) == owner,
        document=document if isinstance(document, dict) else None,
    )
