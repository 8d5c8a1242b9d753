"""Worlds for `mabeam plan`: YAML as people and kubectl write it → parsed objects, or one line that says what is wrong.

What an apiserver would have seen to is seen to here: duplicate keys, numbers that JSON has not, names, types of fields.
"""

import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Final, Literal

import yaml
from pydantic import AfterValidator, BaseModel, Field, ValidationError
from pydantic_core import PydanticCustomError

from mabeam.api.agent import Agent
from mabeam.api.base import DNS_LABEL, DNS_SUBDOMAIN, JsonDict, Quantity, StatusModel
from mabeam.api.names import API_VERSION
from mabeam.api.supervisor import Supervisor
from mabeam.api.variable import OrchestrationVariable
from mabeam.core.algorithms.domain import check
from mabeam.core.conventions.times import parse_instant
from mabeam.core.reports.openmetrics import parse
from mabeam.core.reports.report import Report
from mabeam.core.snapshot import PodFacts
from mabeam.state.parse_objects import describe_validation_error, parse_quota
from mabeam.state.parse_pods import parse_pod

PLAN_API_VERSION: Final = "mabeam.dev/plan"
SIMULATE_API_VERSION: Final = "mabeam.dev/simulate"
KINDS: Final[Mapping[str, str]] = {
    "Agent": API_VERSION,
    "OrchestrationVariable": API_VERSION,
    "Supervisor": API_VERSION,
    "Pod": "v1",
    "ConfigMap": "v1",
    "Node": "v1",
    "ResourceQuota": "v1",
    "NetworkPolicy": "networking.k8s.io/v1",
    "Report": PLAN_API_VERSION,
    "Scenario": SIMULATE_API_VERSION,
}
ALLOWED_KINDS: Final = ", ".join(f"{kind} ({version})" for kind, version in KINDS.items()) + ", or a List of these"
# Deeper than any object, and far from what Python's own stack can bear.
MAX_DEPTH: Final = 100

NamespacedName = tuple[str, str]


class InvalidWorld(ValueError):
    """The input cannot be planned with; the message names the document, the field and what is allowed."""


@dataclass
class World:
    """The objects of a world, parsed, by namespace and name."""

    agents: dict[NamespacedName, Agent] = field(default_factory=dict)
    variables: dict[NamespacedName, OrchestrationVariable] = field(default_factory=dict)
    supervisors: dict[NamespacedName, Supervisor] = field(default_factory=dict)
    pods: dict[NamespacedName, tuple[JsonDict, PodFacts | None]] = field(default_factory=dict)
    config_maps: dict[NamespacedName, JsonDict] = field(default_factory=dict)
    nodes: dict[str, bool] | None = None  # by name, whether it is cordoned
    allocatable: dict[str, Mapping[str, str]] = field(default_factory=dict)  # by node
    quotas: dict[NamespacedName, Mapping[str, str]] = field(default_factory=dict)
    policies: dict[NamespacedName, JsonDict] = field(default_factory=dict)
    reports: dict[NamespacedName, Report] = field(default_factory=dict)
    scenario: JsonDict | None = None  # for `mabeam simulate`; a plan reads past it


def parse_now(text: str) -> datetime:
    """The time in `--now`; raises InvalidWorld when it is none."""
    found = parse_instant(text)
    if found is None:
        raise InvalidWorld(f"--now must be a time such as 2026-01-01T00:00:00Z, not {text!r}")
    return found


def read_world(sources: Iterable[tuple[str, str]]) -> World:
    """The world in (name, YAML text) sources; raises InvalidWorld naming the document and the field."""
    world = World()
    reports: dict[NamespacedName, tuple[str, Report]] = {}
    for where, raw in _documents(sources):
        kind = _kind(where, raw)
        document = _json(where, raw, (kind,))
        namespace, name, here = _identity(where, kind, document)
        place = (namespace, name)
        match kind:
            case "Agent":
                _once(here, place, world.agents)
                world.agents[place] = _model(Agent, here, document)
            case "OrchestrationVariable":
                _once(here, place, world.variables)
                variable = _model(OrchestrationVariable, here, document)
                wrong = None if variable.spec.value is None else check(variable.spec.domain, variable.spec.value)
                if wrong is not None:
                    raise InvalidWorld(f"{here}: spec.value: {wrong} (found {json.dumps(variable.spec.value)[:80]})")
                world.variables[place] = variable
            case "Supervisor":
                _once(here, place, world.supervisors)
                world.supervisors[place] = _model(Supervisor, here, document)
            case "Pod":
                _once(here, place, world.pods)
                _model(_Pod, here, document)
                world.pods[place] = (document, parse_pod(document))
            case "ConfigMap":
                _once(here, place, world.config_maps)
                _model(_ConfigMap, here, document)
                world.config_maps[place] = document
            case "Node":
                spec = document.get("spec")
                cordoned = isinstance(spec, dict) and spec.get("unschedulable") is True
                world.nodes = (world.nodes or {}) | {name: cordoned}
                node: _Node = _model(_Node, here, document)
                world.allocatable[name] = node.status.allocatable
            case "ResourceQuota":
                _once(here, place, world.quotas)
                _model(_Quota, here, document)
                world.quotas[place] = parse_quota(document)
            case "NetworkPolicy":
                _once(here, place, world.policies)
                _model(_ConfigMap, here, document)
                world.policies[place] = document
            case "Scenario":
                if world.scenario is not None:
                    raise InvalidWorld(f"{here}: a world has one Scenario at most")
                world.scenario = document
            case _:
                text = document.get("openmetrics")
                if not isinstance(text, str):
                    raise InvalidWorld(f"{here}: openmetrics: must be the text of a report")
                named = (str(document["metadata"].get("namespace") or ""), name)
                _once(here, named, reports)
                reports[named] = (here, parse(text))
    for (namespace, name), (here, report) in reports.items():
        reporter = _reporter(world, here, namespace, name)
        if reporter in world.reports:
            raise InvalidWorld(f"{here}: metadata.name: given twice for the Agent {'/'.join(reporter)}")
        world.reports[reporter] = report
    return world


# --- YAML ---------------------------------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """YAML whose times stay text (the objects' own fields know what they are) and whose keys are given once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
        twice = next((key for key in keys if keys.count(key) > 1), None)
        if twice is not None:
            raise ValueError(f"the key {twice!r} is given twice in the object at line {node.start_mark.line + 1}")
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _documents(sources: Iterable[tuple[str, str]]) -> Iterator[tuple[str, JsonDict]]:
    for source, text in sources:
        found = _load(source, text)
        if not found:
            raise InvalidWorld(f"{source}: holds no object; a world needs at least one, of {ALLOWED_KINDS}")
        for where, document in found:
            if not isinstance(document, dict):
                raise InvalidWorld(f"{where}: must be an object with apiVersion, kind and metadata")
            if document.get("kind") != "List":
                yield where, document
                continue
            items = document.get("items") or []
            if not isinstance(items, list):
                raise InvalidWorld(f"{where}: items: must be a list of objects")
            for index, item in enumerate(items, start=1):
                if not isinstance(item, dict):
                    raise InvalidWorld(f"{where}, item {index}: must be an object with apiVersion, kind and metadata")
                yield f"{where}, item {index}", item


def _load(source: str, text: str) -> list[tuple[str, Any]]:
    numbers = itertools.count(1)
    try:
        loaded = [(f"{source}: document {next(numbers)}", document) for document in yaml.load_all(text, Loader=_Loader)]
    except RecursionError:
        raise InvalidWorld(f"{source}: nested too deeply") from None
    except (yaml.YAMLError, ValueError, OverflowError) as problem:
        told = " ".join(str(problem).replace('in "<unicode string>", ', "at ").split())
        raise InvalidWorld(f"{source}: not YAML: {told[:500]}") from None
    return [(where, document) for where, document in loaded if document is not None]


def _json(where: str, value: Any, path: tuple[str, ...]) -> Any:
    """The value as an apiserver would hold it: JSON only, and what is null is not there."""
    if len(path) > MAX_DEPTH:
        raise InvalidWorld(f"{where}: {'.'.join(path[:6])}…: nested too deeply")
    here = f"{where}: {'.'.join(path)}"
    if isinstance(value, dict):
        odd = next((key for key in value if not isinstance(key, str)), None)
        if odd is not None:
            raise InvalidWorld(f"{here}: every key must be text; put {odd!r} in quotes")
        return {key: _json(where, item, (*path, key)) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_json(where, item, (*path, str(index))) for index, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidWorld(f"{here}: must be a finite number, not {value}")
    if isinstance(value, int) and not isinstance(value, bool) and not -(2**63) <= value < 2**63:
        raise InvalidWorld(f"{here}: must be a number of at most 64 bits")
    if value is not None and not isinstance(value, str | int | float):
        raise InvalidWorld(
            f"{here}: must be text, a number, true, false, a list or an object, not {type(value).__name__}"
        )
    return value


# --- what every object must have ----------------------------------------------------------------------------------------


def _kind(where: str, document: JsonDict) -> str:
    kind = document.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise InvalidWorld(f"{where}: kind: {kind!r} is not part of a world; allowed: {ALLOWED_KINDS}")
    version = document.get("apiVersion")
    if version != KINDS[kind]:
        raise InvalidWorld(f"{where}: apiVersion: must be {KINDS[kind]} for kind {kind}, not {version!r}")
    return kind


class _Meta(StatusModel):
    name: Annotated[str, Field(pattern=DNS_SUBDOMAIN, max_length=253)]
    namespace: Annotated[str, Field(pattern=DNS_LABEL, max_length=63)] = "default"


class _Named(StatusModel):
    metadata: _Meta


def _identity(where: str, kind: str, document: JsonDict) -> tuple[str, str, str]:
    """Namespace, name, and how to speak of the object in a message."""
    meta = document.get("metadata")
    if isinstance(meta, dict) and not meta.get("namespace"):
        meta.pop("namespace", None)
    found: _Named = _model(_Named, f"{where}: {kind}", document)
    return found.metadata.namespace, found.metadata.name, f"{where}: {kind}/{found.metadata.name}"


def _once(here: str, place: NamespacedName, known: Mapping[NamespacedName, object]) -> None:
    if place in known:
        raise InvalidWorld(f"{here}: metadata.name: given twice in namespace {place[0] or 'default'}")


def _model(model: type[BaseModel], here: str, document: JsonDict) -> Any:
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise InvalidWorld(f"{here}: {describe_validation_error(error, model=model)}") from None


def _reporter(world: World, here: str, namespace: str, name: str) -> NamespacedName:
    candidates = [place for place in world.agents if place[1] == name and namespace in ("", place[0])]
    if len(candidates) != 1:
        found = "no Agent" if not candidates else f"{len(candidates)} Agents"
        raise InvalidWorld(f"{here}: metadata.name: must name the Agent that reports; {found} of that name")
    return candidates[0]


# --- the fields of a Pod and a ConfigMap that are read ------------------------------------------------------------------


def _moment(text: str) -> str:
    if parse_instant(text) is None:
        shown = f"{text!r:.80}"
        raise PydanticCustomError("rule", "must be a time such as 2026-01-01T00:00:00Z, not {text}", {"text": shown})
    return text


_Moment = Annotated[str, AfterValidator(_moment)]
_Int32 = Annotated[int, Field(strict=True, ge=-(2**31), le=2**31 - 1)]


class _Owner(StatusModel):
    api_version: str = ""
    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool = False


class _ChildMeta(StatusModel):
    uid: str = ""
    resource_version: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: list[_Owner] = []
    creation_timestamp: _Moment | None = None
    deletion_timestamp: _Moment | None = None
    deletion_grace_period_seconds: Annotated[int, Field(strict=True, ge=0, le=2**31 - 1)] = 0


class _Running(StatusModel):
    started_at: _Moment | None = None


class _Waiting(StatusModel):
    reason: str = ""
    message: str = ""


class _Terminated(_Waiting):
    exit_code: _Int32 = 0
    started_at: _Moment | None = None
    finished_at: _Moment | None = None


class _State(StatusModel):
    waiting: _Waiting | None = None
    running: _Running | None = None
    terminated: _Terminated | None = None


class _ContainerStatus(StatusModel):
    name: str
    ready: bool = True
    state: _State = _State()


class _PodCondition(StatusModel):
    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str = ""
    message: str = ""
    last_transition_time: _Moment | None = None


class _PodStatus(StatusModel):
    phase: Literal["Pending", "Running", "Succeeded", "Failed", "Unknown"] = "Pending"
    reason: str = ""
    message: str = ""
    pod_ip: Annotated[str, Field(alias="podIP")] = ""
    start_time: _Moment | None = None
    conditions: list[_PodCondition] = []
    container_statuses: list[_ContainerStatus] = []
    init_container_statuses: list[_ContainerStatus] = []


class _Container(StatusModel):
    name: str


class _PodSpec(StatusModel):
    node_name: str = ""
    host_network: bool = False
    containers: list[_Container] = []


class _Pod(StatusModel):
    metadata: _ChildMeta
    spec: _PodSpec = _PodSpec()
    status: _PodStatus = _PodStatus()


class _NodeStatus(StatusModel):
    allocatable: dict[str, Quantity] = {}


class _Node(StatusModel):
    status: _NodeStatus = _NodeStatus()


class _QuotaSpec(StatusModel):
    hard: dict[str, Quantity] = {}


class _Quota(StatusModel):
    spec: _QuotaSpec = _QuotaSpec()


class _ConfigMap(StatusModel):
    metadata: _ChildMeta
    data: dict[str, str] = {}
