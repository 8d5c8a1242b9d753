"""Worlds for `mabeam plan`, `lint`, `explain` and `simulate`: documents → parsed objects, and the cache that they fill.

A world may be written by hand, so it may say less than a cluster: what an apiserver would have added (a namespace, a uid, the
controller reference of an Agent's pods) is added here, and the parse functions of the reflector read the result.
"""

import copy
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from mabeam.api.agent import Agent
from mabeam.api.base import JsonDict
from mabeam.api.names import API_VERSION, LABEL_AGENT, directives_config_map
from mabeam.api.supervisor import Supervisor
from mabeam.api.variable import OrchestrationVariable
from mabeam.core.algorithms.domain import check
from mabeam.core.conventions.times import parse_instant
from mabeam.core.reports.openmetrics import parse
from mabeam.core.reports.reading import UnreadableReport
from mabeam.core.reports.report import Report, expects_reports
from mabeam.core.snapshot import Key, NamespacedName, PodFacts, Progress
from mabeam.offline.documents import InvalidWorld, as_json, documents
from mabeam.offline.shapes import ConfigMapShape, NamedShape, NodeShape, PodShape, QuotaShape
from mabeam.state.cache import (
    AGENT,
    CONFIG_MAP,
    NETWORK_POLICY,
    NODE,
    POD,
    RESOURCE_QUOTA,
    SUPERVISOR,
    VARIABLE,
    Cache,
)
from mabeam.state.parse_objects import describe_validation_error

PLAN_API_VERSION: Final = "mabeam.dev/plan"
SIMULATE_API_VERSION: Final = "mabeam.dev/simulate"
REPORT: Final = "Report"
SCENARIO: Final = "Scenario"
KINDS: Final[Mapping[str, str]] = {
    AGENT: API_VERSION,
    VARIABLE: API_VERSION,
    SUPERVISOR: API_VERSION,
    POD: "v1",
    CONFIG_MAP: "v1",
    NODE: "v1",
    RESOURCE_QUOTA: "v1",
    NETWORK_POLICY: "networking.k8s.io/v1",
    REPORT: PLAN_API_VERSION,
    SCENARIO: SIMULATE_API_VERSION,
}
ALLOWED_KINDS: Final = ", ".join(f"{kind} ({version})" for kind, version in KINDS.items()) + ", or a List of these"


@dataclass
class World:
    """The objects of a world, each by namespace and name."""

    agents: dict[NamespacedName, Agent] = field(default_factory=dict)
    variables: dict[NamespacedName, OrchestrationVariable] = field(default_factory=dict)
    supervisors: dict[NamespacedName, Supervisor] = field(default_factory=dict)
    reports: dict[NamespacedName, Report] = field(default_factory=dict)  # by the Agent that reports
    scenario: JsonDict | None = None  # for `mabeam simulate`; a plan ignores it
    # kind → the documents of the cluster's objects as they were written, by namespace and name
    bodies: dict[str, dict[NamespacedName, JsonDict]] = field(default_factory=dict)

    @property
    def nodes(self) -> list[str]:
        """The names of the nodes."""
        return sorted(name for _, name in self.bodies.get(NODE, {}))

    def cache(self) -> Cache:
        """A new cache that holds all objects, read by the operator's own parse functions."""
        cache = Cache()
        for kind, body in self.complete_bodies():
            cache.upsert(kind, body)
        note_missing_nodes(cache)
        return cache

    def complete_bodies(self) -> list[tuple[str, JsonDict]]:
        """Kind and body of every object as an apiserver would hand it out, in order of kind, namespace and name."""
        return [
            (kind, _complete(self, kind, name, body))
            for kind, bodies in sorted(self.bodies.items())
            for name, body in sorted(bodies.items())
        ]


def note_missing_nodes(cache: Cache) -> None:
    """Note in the cache that the nodes which only pods and records name are gone: a world has all of its nodes."""
    named = {owned.pod.node for owned in cache.pods.values()}
    named |= {record.node for parsed in cache.agents.values() for record in parsed.agent.status.pods}
    for name in sorted(name for name in named if name and name not in cache.node_names):
        cache.note_gone_node(name)


class WorldReports:
    """The reports of a world: one Report stands for all processes of its Agent, and none counts its progress."""

    def __init__(self, cache: Cache, reports: Mapping[NamespacedName, Report]) -> None:
        self._reports = reports
        self._reporters = {owned.pod.uid: (namespace, owned.agent) for (namespace, _), owned in cache.pods.items()}

    def of_pods(self, pods: Iterable[PodFacts]) -> dict[str, Report]:
        """The report of each pod whose Agent has one, by pod name."""
        found = ((pod.name, self._reports.get(self._reporters[pod.uid])) for pod in pods)
        return {name: report for name, report in found if report is not None}

    def progress_of(self, pods: Iterable[PodFacts]) -> dict[str, Progress]:
        """Nothing: a world is one instant."""
        return {}

    def unreadable(self, pods: Iterable[PodFacts]) -> dict[str, UnreadableReport]:
        """Nothing: a Report stands for one that was read."""
        return {}

    def of_agents(self, agents: Iterable[Agent]) -> dict[str, Report]:
        """The report of each agent that has one, by agent name."""
        names = [(agent.metadata.namespace, agent.metadata.name) for agent in agents]
        return {name[1]: self._reports[name] for name in names if name in self._reports}


def parse_now(text: str) -> datetime:
    """The time in `--now`; raises InvalidWorld when it is none."""
    found = parse_instant(text)
    if found is None:
        raise InvalidWorld(f"--now must be a time such as 2026-01-01T00:00:00Z, not {text!r}")
    return found


# --- reading ------------------------------------------------------------------------------------------------------------


@dataclass
class _Draft:
    """A world while its documents are read; a Report may come before the Agent that it names."""

    world: World = field(default_factory=World)
    reports: dict[NamespacedName, tuple[str, Report]] = field(default_factory=dict)  # where it stands, and what it says


def read_world(sources: Iterable[tuple[str, str]]) -> World:
    """The world in (name, YAML text) sources; raises InvalidWorld naming the document and the field."""
    draft = _Draft()
    for where, raw in documents(sources, ALLOWED_KINDS):
        kind = _kind(where, raw)
        document = as_json(where, raw, (kind,))
        name, here = _identity(where, kind, document)
        _READERS[kind](draft, here, name, document)
    world = draft.world
    for (namespace, name_), (here, report) in draft.reports.items():
        reporter = _reporter(world, here, namespace, name_)
        if reporter in world.reports:
            raise InvalidWorld(f"{here}: metadata.name: given twice for the Agent {'/'.join(reporter)}")
        world.reports[reporter] = report
    return world


def _read_agent(draft: _Draft, here: str, name: NamespacedName, document: JsonDict) -> None:
    _keep(AGENT, draft, here, name, document)
    draft.world.agents[name] = _model(Agent, here, document)


def _read_variable(draft: _Draft, here: str, name: NamespacedName, document: JsonDict) -> None:
    _keep(VARIABLE, draft, here, name, document)
    variable: OrchestrationVariable = _model(OrchestrationVariable, here, document)
    wrong = None if variable.spec.value is None else check(variable.spec.domain, variable.spec.value)
    if wrong is not None:
        raise InvalidWorld(f"{here}: spec.value: {wrong} (found {json.dumps(variable.spec.value)[:80]})")
    draft.world.variables[name] = variable


def _read_supervisor(draft: _Draft, here: str, name: NamespacedName, document: JsonDict) -> None:
    _keep(SUPERVISOR, draft, here, name, document)
    draft.world.supervisors[name] = _model(Supervisor, here, document)


def _read_node(draft: _Draft, here: str, name: NamespacedName, document: JsonDict) -> None:
    _model(NodeShape, here, document)
    draft.world.bodies.setdefault(NODE, {})["", name[1]] = document


def _read_scenario(draft: _Draft, here: str, _: NamespacedName, document: JsonDict) -> None:
    if draft.world.scenario is not None:
        raise InvalidWorld(f"{here}: a world has one Scenario at most")
    draft.world.scenario = document


def _read_report(draft: _Draft, here: str, name: NamespacedName, document: JsonDict) -> None:
    text = document.get("openmetrics")
    if not isinstance(text, str):
        raise InvalidWorld(f"{here}: openmetrics: must be the text of a report")
    named = (str(document["metadata"].get("namespace") or ""), name[1])
    _once(here, named, draft.reports)
    draft.reports[named] = (here, parse(text))


def _read_shape(
    kind: str, shape: type[BaseModel], draft: _Draft, here: str, name: NamespacedName, document: JsonDict
) -> None:
    _keep(kind, draft, here, name, document)
    _model(shape, here, document)


_READERS: Final[Mapping[str, Callable[[_Draft, str, NamespacedName, JsonDict], None]]] = {
    AGENT: _read_agent,
    VARIABLE: _read_variable,
    SUPERVISOR: _read_supervisor,
    POD: partial(_read_shape, POD, PodShape),
    CONFIG_MAP: partial(_read_shape, CONFIG_MAP, ConfigMapShape),
    NODE: _read_node,
    RESOURCE_QUOTA: partial(_read_shape, RESOURCE_QUOTA, QuotaShape),
    NETWORK_POLICY: partial(_read_shape, NETWORK_POLICY, ConfigMapShape),
    REPORT: _read_report,
    SCENARIO: _read_scenario,
}


def _kind(where: str, document: JsonDict) -> str:
    kind = document.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise InvalidWorld(f"{where}: kind: {kind!r} is not part of a world; allowed: {ALLOWED_KINDS}")
    version = document.get("apiVersion")
    if version != KINDS[kind]:
        raise InvalidWorld(f"{where}: apiVersion: must be {KINDS[kind]} for kind {kind}, not {version!r}")
    return kind


def _identity(where: str, kind: str, document: JsonDict) -> tuple[NamespacedName, str]:
    """Namespace and name, and how a message names the object."""
    meta = document.get("metadata")
    if isinstance(meta, dict) and not meta.get("namespace"):
        meta.pop("namespace", None)
    found: NamedShape = _model(NamedShape, f"{where}: {kind}", document)
    return (found.metadata.namespace, found.metadata.name), f"{where}: {kind}/{found.metadata.name}"


def _keep(kind: str, draft: _Draft, here: str, name: NamespacedName, document: JsonDict) -> None:
    kept = draft.world.bodies.setdefault(kind, {})
    _once(here, name, kept)
    kept[name] = document


def _once(here: str, name: NamespacedName, known: Mapping[NamespacedName, object]) -> None:
    if name in known:
        raise InvalidWorld(f"{here}: metadata.name: given twice in namespace {name[0] or 'default'}")


def _model(model: type[BaseModel], here: str, document: JsonDict) -> Any:
    # Strict, and by the names on the wire alone: an API server turns no text into a number, and knows no other spelling.
    # A status is the operator's own, perhaps of another release, and is read as the operator reads it.
    written = {field: value for field, value in document.items() if field != "status"}
    try:
        model.model_validate_json(json.dumps(written), strict=True, by_alias=True, by_name=False)
        return model.model_validate(document)
    except ValidationError as error:
        raise InvalidWorld(f"{here}: {describe_validation_error(error, model=model)}") from None


def _reporter(world: World, here: str, namespace: str, name: str) -> NamespacedName:
    candidates = [agent for agent in world.agents if agent[1] == name and namespace in ("", agent[0])]
    if len(candidates) != 1:
        found = "no Agent" if not candidates else f"{len(candidates)} Agents"
        raise InvalidWorld(f"{here}: metadata.name: must name the Agent that reports; {found} of that name")
    if not expects_reports(world.agents[candidates[0]]):
        raise InvalidWorld(
            f"{here}: metadata.name: must name an Agent whose reports are read; those of {'/'.join(candidates[0])} are not: its "
            "`spec.reports.source` is None, or it has a `template` and no `spec.reports`"
        )
    return candidates[0]


# --- what an apiserver would have added -----------------------------------------------------------------------------------


def _complete(world: World, kind: str, name: NamespacedName, body: JsonDict) -> JsonDict:
    """The body with namespace, uid and the controller reference of its owner. The body itself stays as it was written."""
    found = copy.copy(body)
    meta = found["metadata"] = {**body["metadata"], "uid": body["metadata"].get("uid") or _placeholder_uid(kind, name)}
    if name[0]:
        meta["namespace"] = name[0]
    owner = _controller(world, kind, name, body)
    if owner is not None:
        owner_kind, uid = owner
        meta["ownerReferences"] = [{"apiVersion": API_VERSION, "kind": owner_kind, "uid": uid, "controller": True}]
    return found


def _placeholder_uid(kind: str, name: NamespacedName) -> str:
    """The uid of an object that was written without one: unique, and the same in every plan."""
    return str(Key(kind, *name))


def _controller(world: World, kind: str, name: NamespacedName, body: JsonDict) -> tuple[str, str] | None:
    """Kind and uid of the object that controls this one; None when none in the world does, or its references say so."""
    if kind not in (POD, CONFIG_MAP, NETWORK_POLICY):
        return None
    for place, agent in sorted(world.agents.items()):
        if place[0] == name[0] and _owns(agent, body):
            return AGENT, agent.metadata.uid or _placeholder_uid(AGENT, place)
    for place, variable in sorted(world.variables.items()) if kind == CONFIG_MAP else ():
        named = name[1].startswith(f"{place[1]}-mabeam-") and not body["metadata"].get("ownerReferences")
        if place[0] == name[0] and named and not variable.metadata.uid:
            return VARIABLE, _placeholder_uid(VARIABLE, place)
    return None


def _may_control(reference: JsonDict) -> bool:
    """Whether the reference may be an Agent's as controller; a hand-written one may leave out what an apiserver insists on."""
    return (
        reference.get("kind") == AGENT
        and reference.get("apiVersion", API_VERSION) == API_VERSION
        and reference.get("controller", True) is True
    )


def _owns(agent: Agent, body: JsonDict) -> bool:
    """Whether the object belongs to the agent: by uid where there is one, else by the names in a hand-written world."""
    meta = body.get("metadata") or {}
    references = [r for r in meta.get("ownerReferences") or () if _may_control(r)]
    for reference in references:
        uid = reference.get("uid")
        if reference.get("name") == agent.metadata.name and (
            not uid or not agent.metadata.uid or uid == agent.metadata.uid
        ):
            return True
        if uid and uid == agent.metadata.uid:
            return True
    if references or meta.get("ownerReferences") or agent.metadata.uid:
        return False
    label = (meta.get("labels") or {}).get(LABEL_AGENT)
    if label is not None:
        return bool(label == agent.metadata.name)
    head = str(meta.get("name", "")).rsplit("-", 2)[0]
    return head == agent.metadata.name or meta.get("name") == directives_config_map(agent.metadata.name)
