"""The record of a decision: what it rested on, bounded, and what it came to; so that it can be explained, and made again.

`remake(record_of(snapshot, …))` gives the same bytes as the decision gave: the core is a function of what is in here.
"""

import base64
import gzip
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

from mabeam.api.agent import Agent, AgentSpec
from mabeam.api.base import JsonDict, KubeModel, format_time
from mabeam.api.names import ANNOTATION_CONTENT_HASH, decision_config_map
from mabeam.api.variable import Mode, OrchestrationVariable
from mabeam.api.variable_status import OrchestrationVariableStatus
from mabeam.core.conventions.times import parse_instant
from mabeam.core.coordination.config_maps.write import config_map_effect
from mabeam.core.decision import Effect
from mabeam.core.functions import FunctionCall, FunctionResult, Language, PluginGroup
from mabeam.core.memoize import memoize_by_identity
from mabeam.core.pods.resources import declared_resources
from mabeam.core.reports.report import Report
from mabeam.core.snapshot import SystemContext, VariableSnapshot

RECORD_KEY: Final = "decision.json"
COMPRESSED_KEY: Final = "decision.json.gz"
# Below this the record can be read as it is; above it is compressed.
PLAIN_BYTES: Final = 32 * 1024
# What a ConfigMap may hold is a MiB; a record beyond a quarter of that is not kept, and nor are the facts on so many agents.
MOST_BYTES: Final = 256 * 1024
MOST_AGENTS: Final = 2000
FORMAT: Final = 1


class UnreadableRecord(ValueError):
    """The record is none, or of a version that this operator does not know."""


@dataclass(frozen=True)
class ReplayedRecord:
    """A record's decision made anew: whether it is the same to the byte, and both for comparison."""

    same: bool
    recorded: JsonDict
    made: JsonDict


# --- what a decision rested on ------------------------------------------------------------------------------------------------


def record_of(snapshot: VariableSnapshot, now: datetime, status: OrchestrationVariableStatus) -> JsonDict:
    """The record: the inputs as the core saw them, all candidates, and the status that came of it."""
    document: JsonDict = {
        "format": FORMAT,
        "variable": snapshot.variable.metadata.name,
        "round": status.round,
        "now": now.isoformat(),
        "candidates": [one.to_wire() for one in status.last_decision.candidates] if status.last_decision else [],
        "outcome": canonical(status),
    }
    if len(snapshot.agents) <= MOST_AGENTS:
        document["inputs"] = inputs_of(snapshot)
    return document


def inputs_of(snapshot: VariableSnapshot) -> JsonDict:
    """The snapshot as JSON, with of each agent only what deciding looks at."""
    name = snapshot.variable.metadata.name
    return {
        "variable": _exactly(_slim_variable(snapshot.variable)),
        "agents": [_slim_agent(agent, name) for agent in snapshot.agents],
        "reports": {agent: _slim_report(report, name) for agent, report in sorted(snapshot.reports.items())},
        "context": asdict(snapshot.context),
        "asked": [asdict(ask) for ask in snapshot.open_calls],
        "answers": {id_: asdict(answer) for id_, answer in sorted(snapshot.function_results.items())},
    }


def _exactly(model: KubeModel) -> JsonDict:
    """What was set of the model, each number as it is: 1.0 has another hash than 1."""
    found: JsonDict = model.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_unset=True)
    return found


def _slim_variable(variable: OrchestrationVariable) -> OrchestrationVariable:
    meta = variable.metadata.model_copy(update={"resource_version": ""})
    return variable.model_copy(update={"metadata": meta})


@memoize_by_identity
def _spec(spec: AgentSpec) -> JsonDict:
    """The spec with its container's amounts in the place of its template; agents of a fleet share one."""
    template = spec.template
    if template is not None:
        container = {"name": "agent", "resources": declared_resources(spec).to_wire()}
        template = template.model_copy(update={"spec": {"containers": [container]}})
        spec = spec.model_copy(update={"template": template})
    return _exactly(spec)


def _slim_agent(agent: Agent, variable: str) -> JsonDict:
    """The agent without its pods, ledger and words, as JSON; by hand, for a thousand of them are one decision's inputs."""
    meta, status = agent.metadata, agent.status
    told: JsonDict = {
        "observedGeneration": status.observed_generation,
        "readyReplicas": status.ready_replicas,
        "conditions": [{"type": c.type, "status": str(c.status), "reason": c.reason} for c in status.conditions[:1]],
    }
    if status.state is not None:
        told["state"] = str(status.state)
    if status.role is not None:
        told["role"] = status.role
    if status.parked_at is not None:
        told["parkedAt"] = format_time(status.parked_at)
    if status.effective is not None:
        told["effective"] = {
            "replicas": status.effective.replicas,
            "desiredState": str(status.effective.desired_state),
        }
    if status.directives is not None:
        own = [_exactly(item) for item in status.directives.items if item.variable == variable]
        lost = [_exactly(c) for c in status.directives.conflicts if variable in (c.winner, c.loser)]
        told["directives"] = {"generation": status.directives.generation, "items": own, "conflicts": lost}
    names = {"name": meta.name, "namespace": meta.namespace, "uid": meta.uid, "generation": meta.generation}
    return {"metadata": names | {"labels": dict(meta.labels)}, "spec": _spec(agent.spec), "status": told}


def _slim_report(report: Report, variable: str) -> JsonDict:
    """What the agent says of this variable, of its performance, and on proposals; nothing of what it does not say."""
    own = {
        key: {variable: said[variable]}
        for key, said in (
            ("numbers", report.numbers),
            ("choices", report.choices),
            ("weights", report.weights),
            ("bids", report.bids),
        )
        if variable in said
    }
    whole = {"performance": dict(report.performance), "votes": dict(report.votes)}
    return {key: said for key, said in {**whole, **own}.items() if said}


def snapshot_of(inputs: Mapping[str, Any]) -> VariableSnapshot:
    """The snapshot that the inputs stand for; raises UnreadableRecord when they stand for none."""
    try:
        return VariableSnapshot(
            variable=OrchestrationVariable.model_validate(inputs["variable"]),
            agents=tuple(Agent.model_validate(agent) for agent in inputs["agents"]),
            reports={name: Report(**report) for name, report in inputs["reports"].items()},
            function_results={id_: FunctionResult(**answer) for id_, answer in inputs["answers"].items()},
            open_calls=tuple(_ask(ask) for ask in inputs["asked"]),
            context=SystemContext(**inputs["context"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise UnreadableRecord(f"its inputs cannot be read: {str(problem).splitlines()[0][:200]}") from None


def _ask(fields: JsonDict) -> FunctionCall:
    return FunctionCall(**{**fields, "language": Language(fields["language"]), "group": PluginGroup(fields["group"])})


def canonical(status: OrchestrationVariableStatus) -> str:
    """The status in canonical JSON, but for what its ConfigMaps and the agents' answers make of it after the decision."""
    wire = status.to_wire()
    return json.dumps({key: wire[key] for key in DECIDED if key in wire}, sort_keys=True, separators=(",", ":"))


# What a decision decides. The rest of a status tells how far that came, and comes from the agents' own statuses.
DECIDED: Final = (
    "value",
    "previousValue",
    "round",
    "negotiation",
    "consensus",
    "lastDecision",
    "watching",
    "context",
)


# --- where it is kept -----------------------------------------------------------------------------------------------------------


def record_effects(
    snapshot: VariableSnapshot, now: datetime, status: OrchestrationVariableStatus
) -> tuple[Effect, ...]:
    """The write that keeps the record, when a decision was made in this pass; a variable that only advises writes nothing."""
    variable, before = snapshot.variable, snapshot.variable.status
    if (
        variable.spec.mode is Mode.ADVISE
        or status.last_decision is None
        or status.last_decision == before.last_decision
    ):
        return ()
    name = decision_config_map(variable.metadata.name)
    found = next((facts for facts in snapshot.config_maps if facts.name == name), None)
    if found is not None and not found.owned:
        return ()
    document = record_of(snapshot, now, status)
    annotations = {ANNOTATION_CONTENT_HASH: str(document["round"])}
    return (config_map_effect(variable, name, "decision", "record", _packed(document), found, annotations),)


def _packed(document: JsonDict) -> dict[str, str | None]:
    """The document as a ConfigMap's data, the other key taken away; without its inputs when it would be too large."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    if len(text) <= PLAIN_BYTES:
        return {RECORD_KEY: text, COMPRESSED_KEY: None}
    packed = base64.b64encode(gzip.compress(text.encode(), compresslevel=1, mtime=0)).decode()
    if len(packed) <= MOST_BYTES:
        return {COMPRESSED_KEY: packed, RECORD_KEY: None}
    return _packed({**{key: value for key, value in document.items() if key != "inputs"}, "candidates": []})


def read_record(data: Mapping[str, Any]) -> JsonDict:
    """The record in a ConfigMap's data; raises UnreadableRecord when there is none."""
    try:
        if data.get(COMPRESSED_KEY):
            packed = base64.b64decode(str(data[COMPRESSED_KEY]), validate=True)
            text = gzip.decompress(packed).decode()
        else:
            text = str(data[RECORD_KEY])
        document = json.loads(text)
    except (KeyError, ValueError, OSError, EOFError) as problem:
        raise UnreadableRecord(f"it holds no decision: {str(problem)[:200]}") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise UnreadableRecord("it is of a format that is not known here")
    return document


def moment_of(document: JsonDict) -> datetime:
    """When the decision was made."""
    moment = parse_instant(document.get("now"))
    if moment is None:
        raise UnreadableRecord("it does not say when it was made")
    return moment
