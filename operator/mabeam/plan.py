"""`mabeam plan`: a world of ordinary API objects in, one pass of the same core, what it would write out; no cluster.

A world may be written by hand, so it may be less complete than a cluster's: an Agent without a uid owns the pods that name it.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import yaml
from pydantic import ValidationError

from mabeam.api.agent import Agent, AgentStatus
from mabeam.api.base import JsonDict
from mabeam.api.names import API_VERSION, LABEL_AGENT, directives_config_map, variable_config_map
from mabeam.api.variable import OrchestrationVariable, OrchestrationVariableStatus
from mabeam.core import coordination, supervision
from mabeam.core.decision import Decision, soonest
from mabeam.core.reports import Report, parse
from mabeam.core.snapshot import AgentSnapshot, ConfigMapFacts, PodFacts, VariableSnapshot
from mabeam.shell.parse import explain, instant, parse_config_map, parse_pod

PLAN_API_VERSION: Final = "mabeam.dev/plan"
KINDS: Final[Mapping[str, str]] = {
    "Agent": API_VERSION,
    "OrchestrationVariable": API_VERSION,
    "Pod": "v1",
    "ConfigMap": "v1",
    "Node": "v1",
    "Report": PLAN_API_VERSION,
}


class BadWorld(ValueError):
    """The input cannot be planned with; the message names the document, the field and what is allowed."""


class _Loader(yaml.SafeLoader):
    """YAML whose times stay text: the objects' own fields know what they are."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


@dataclass
class World:
    """The objects of a world, parsed, by namespace and name."""

    agents: dict[tuple[str, str], Agent] = field(default_factory=dict)
    variables: dict[tuple[str, str], OrchestrationVariable] = field(default_factory=dict)
    pods: list[tuple[str, JsonDict, PodFacts]] = field(default_factory=list)
    config_maps: dict[tuple[str, str], JsonDict] = field(default_factory=dict)
    nodes: set[str] | None = None
    reports: dict[tuple[str, str], Report] = field(default_factory=dict)


def parse_now(text: str) -> datetime:
    """The time in `--now`; raises BadWorld when it is none."""
    found = instant(text)
    if found is None:
        raise BadWorld(f"--now must be a time such as 2026-01-01T00:00:00Z, not {text!r}")
    return found


def read_world(sources: Iterable[tuple[str, str]]) -> World:
    """The world in (name, YAML text) sources; raises BadWorld naming the document and the field."""
    world = World()
    reports: list[tuple[str, str, str, Report]] = []
    for where, document in _documents(sources):
        kind = _kind(where, document)
        meta = document.get("metadata")
        if not isinstance(meta, dict) or not isinstance(meta.get("name"), str) or not meta["name"]:
            raise BadWorld(f"{where}: {kind}: metadata.name: must be set, and be text")
        here = f"{where}: {kind}/{meta['name']}"
        namespace = str(meta.get("namespace") or "default")
        place = (namespace, meta["name"])
        match kind:
            case "Agent":
                _once(here, place, world.agents)
                world.agents[place] = _model(Agent, here, document)
            case "OrchestrationVariable":
                _once(here, place, world.variables)
                world.variables[place] = _model(OrchestrationVariable, here, document)
            case "Pod":
                pod = _pod(here, document)
                if pod is not None:
                    world.pods.append((namespace, document, pod))
            case "ConfigMap":
                world.config_maps[place] = document
            case "Node":
                world.nodes = (world.nodes or set()) | {meta["name"]}
            case _:
                text = document.get("openmetrics")
                if not isinstance(text, str):
                    raise BadWorld(f"{here}: openmetrics: must be the text of a report")
                reports.append((here, str(meta.get("namespace") or ""), meta["name"], parse(text)))
    for here, namespace, name, report in reports:
        world.reports[_reporter(world, here, namespace, name)] = report
    return world


def _documents(sources: Iterable[tuple[str, str]]) -> Iterator[tuple[str, JsonDict]]:
    for source, text in sources:
        numbers = itertools.count(1)
        try:
            for document in yaml.load_all(text, Loader=_Loader):
                where = f"{source}: document {next(numbers)}"
                if document is None:
                    continue
                if not isinstance(document, dict):
                    raise BadWorld(f"{where}: must be an object with apiVersion, kind and metadata")
                if document.get("kind") == "List":
                    for index, item in enumerate(document.get("items") or ()):
                        yield f"{where}, item {index + 1}", item
                else:
                    yield where, document
        except yaml.YAMLError as problem:
            raise BadWorld(f"{source}: not YAML: {' '.join(str(problem).split())}") from None


def _kind(where: str, document: JsonDict) -> str:
    kind = document.get("kind")
    allowed = ", ".join(f"{name} ({version})" for name, version in KINDS.items())
    if not isinstance(kind, str) or kind not in KINDS:
        raise BadWorld(f"{where}: kind: {kind!r} is not part of a world; allowed: {allowed}")
    version = document.get("apiVersion")
    if version != KINDS[kind]:
        raise BadWorld(f"{where}: apiVersion: must be {KINDS[kind]} for kind {kind}, not {version!r}")
    return kind


def _once(here: str, place: tuple[str, str], known: Mapping[tuple[str, str], object]) -> None:
    if place in known:
        raise BadWorld(f"{here}: metadata.name: given twice in namespace {place[0]}")


def _model(model: Any, here: str, document: JsonDict) -> Any:
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise BadWorld(f"{here}: {explain(error)}") from None


def _pod(here: str, document: JsonDict) -> PodFacts | None:
    try:
        return parse_pod(document)
    except (AttributeError, TypeError, ValueError) as problem:
        raise BadWorld(f"{here}: not a Pod as the apiserver would give it: {problem}") from None


def _reporter(world: World, here: str, namespace: str, name: str) -> tuple[str, str]:
    candidates = [place for place in world.agents if place[1] == name and namespace in ("", place[0])]
    if len(candidates) != 1:
        found = "no Agent" if not candidates else f"{len(candidates)} Agents"
        raise BadWorld(f"{here}: metadata.name: must name the Agent that reports; {found} of that name")
    return candidates[0]


# --- the pass --------------------------------------------------------------------------------------------------------------


def plan(world: World, now: datetime) -> JsonDict:
    """What one pass over every object of the world would write: statuses, writes, Events, and when to look again."""
    writes: list[JsonDict] = []
    events: list[JsonDict] = []
    agents: JsonDict = {}
    variables: JsonDict = {}
    requeue: float | None = None
    for place, agent in sorted(world.agents.items()):
        decision = supervision.decide(_agent_snapshot(world, agent), now.astimezone(UTC))
        agents["/".join(place)] = decision.status.to_wire()
        requeue = soonest(requeue, decision.requeue_after)
        _tell("Agent", place, agent.status, decision, writes, events)
    for place, variable in sorted(world.variables.items()):
        outcome = coordination.decide(_variable_snapshot(world, variable), now.astimezone(UTC))
        variables["/".join(place)] = outcome.status.to_wire()
        requeue = soonest(requeue, outcome.requeue_after)
        _tell("OrchestrationVariable", place, variable.status, outcome, writes, events)
    return {
        "agents": agents,
        "variables": variables,
        "writes": writes,
        "events": events,
        "requeueAfterSeconds": int(requeue) if requeue is not None and requeue == int(requeue) else requeue,
    }


def _tell(
    kind: str,
    place: tuple[str, str],
    before: AgentStatus | OrchestrationVariableStatus,
    decision: Decision[AgentStatus] | Decision[OrchestrationVariableStatus],
    writes: list[JsonDict],
    events: list[JsonDict],
) -> None:
    namespace, name = place
    if decision.status.to_wire() != before.to_wire():
        writes.append(_write("patch-status", kind, namespace, name, decision.status_reason, {}))
    for effect in decision.effects:
        writes.append(_write(effect.verb, effect.kind, effect.namespace, effect.name, effect.reason, effect.body))
    for event in decision.events:
        regarding = f"{kind}/{namespace}/{name}"
        events.append({"reason": str(event.reason), "type": event.type, "regarding": regarding, "note": event.note})


def _write(verb: str, kind: str, namespace: str, name: str, reason: str, body: JsonDict) -> JsonDict:
    return {"verb": verb, "kind": kind, "namespace": namespace, "name": name, "reason": reason, "body": body}


def _agent_snapshot(world: World, agent: Agent) -> AgentSnapshot:
    meta = agent.metadata
    pods = tuple(pod for space, body, pod in world.pods if space == meta.namespace and _owns(agent, body))
    report = world.reports.get((meta.namespace, meta.name))
    # One Report stands for all of the agent's processes.
    names = [pod.name for pod in pods] or [meta.name]
    return AgentSnapshot(
        agent=agent,
        pods=tuple(sorted(pods, key=lambda pod: pod.name)),
        config_map=_config_map(world, agent),
        variables=tuple(
            variable
            for (space, _), variable in sorted(world.variables.items())
            if space == meta.namespace and variable.selects(meta.name, meta.labels)
        ),
        reports=dict.fromkeys(names, report) if report is not None else {},
        nodes=frozenset(world.nodes) if world.nodes is not None else None,
    )


def _variable_snapshot(world: World, variable: OrchestrationVariable) -> VariableSnapshot:
    meta = variable.metadata
    selected = tuple(
        agent
        for (space, name), agent in sorted(world.agents.items())
        if space == meta.namespace and variable.selects(name, agent.metadata.labels)
    )
    reports = {
        agent.metadata.name: world.reports[meta.namespace, agent.metadata.name]
        for agent in selected
        if (meta.namespace, agent.metadata.name) in world.reports
    }
    prefix = variable_config_map(meta.name)
    config_maps = tuple(
        parse_config_map(body, meta.uid, "OrchestrationVariable")
        for (space, name), body in sorted(world.config_maps.items())
        if space == meta.namespace and name.startswith(prefix)
    )
    return VariableSnapshot(variable=variable, agents=selected, reports=reports, config_maps=config_maps)


def _config_map(world: World, agent: Agent) -> ConfigMapFacts | None:
    meta = agent.metadata
    body = world.config_maps.get((meta.namespace, directives_config_map(meta.name)))
    if body is None:
        return None
    facts = parse_config_map(body, meta.uid)
    if not facts.ours and _owns(agent, body):
        return ConfigMapFacts(facts.name, facts.uid, facts.resource_version, True, facts.document)
    return facts


def _owns(agent: Agent, body: JsonDict) -> bool:
    """Whether the object belongs to the agent: by uid where there is one, else by the names in a hand-written world."""
    meta = body.get("metadata") or {}
    references = [r for r in meta.get("ownerReferences") or () if r.get("kind") == "Agent"]
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
