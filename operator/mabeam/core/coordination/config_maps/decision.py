"""The record of a decision in a ConfigMap: its inputs, bounded in size, and its outcome, for `mabeam explain`.

The core is a function of what is in the record: replaying it (`offline/explain`) gives the recorded outcome to the byte.
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
# A record up to this size is stored as readable JSON, a larger one compressed.
PLAIN_BYTES: Final = 32 * 1024
# A record beyond a quarter of a ConfigMap's limit of 1 MiB, or about more agents than this, is kept without its inputs.
MOST_BYTES: Final = 256 * 1024
MOST_AGENTS: Final = 2000
FORMAT: Final = 1


class UnreadableRecord(ValueError):
    """The document is no record of a decision, or has a format that this operator does not know."""


@dataclass(frozen=True)
class ReplayedRecord:
    """A record's decision, made again from its inputs."""

    same: bool  # to the byte
    recorded: JsonDict  # the recorded outcome
    made: JsonDict  # the outcome of the replay


# --- the document -------------------------------------------------------------------------------------------------------------


def record_of(snapshot: VariableSnapshot, now: datetime, status: OrchestrationVariableStatus) -> JsonDict:
    """The record as JSON: the inputs of the core, all candidates, and the decided part of the status."""
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
    """The snapshot as JSON, with only those fields of each agent that a decision depends on."""
    name = snapshot.variable.metadata.name
    return {
        "variable": _exactly(_slim_variable(snapshot.variable)),
        "agents": [_slim_agent(agent, name) for agent in snapshot.agents],
        "reports": {agent: _slim_report(report, name) for agent, report in sorted(snapshot.reports.items())},
        "context": asdict(snapshot.context),
        "asked": [asdict(call) for call in snapshot.open_calls],
        "answers": {id_: asdict(result) for id_, result in sorted(snapshot.function_results.items())},
    }


def _exactly(model: KubeModel) -> JsonDict:
    """The fields that were set, with every number as it was written: 1.0 and 1 have different hashes."""
    found: JsonDict = model.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_unset=True)
    return found


def _slim_variable(variable: OrchestrationVariable) -> OrchestrationVariable:
    meta = variable.metadata.model_copy(update={"resource_version": ""})
    return variable.model_copy(update={"metadata": meta})


@memoize_by_identity
def _spec(spec: AgentSpec) -> JsonDict:
    """The spec as JSON, its template reduced to the resources of its container; agents of a fleet share one spec object."""
    template = spec.template
    if template is not None:
        container = {"name": "agent", "resources": declared_resources(spec).to_wire()}
        template = template.model_copy(update={"spec": {"containers": [container]}})
        spec = spec.model_copy(update={"template": template})
    return _exactly(spec)


def _slim_agent(agent: Agent, variable: str) -> JsonDict:
    """The agent as JSON, without pods, failures and messages.

    Built by hand instead of dumped from the model: a thousand agents are the inputs of one decision.
    """
    meta, status = agent.metadata, agent.status
    kept: JsonDict = {
        "observedGeneration": status.observed_generation,
        "readyReplicas": status.ready_replicas,
        "conditions": [{"type": c.type, "status": str(c.status), "reason": c.reason} for c in status.conditions[:1]],
    }
    if status.state is not None:
        kept["state"] = str(status.state)
    if status.role is not None:
        kept["role"] = status.role
    if status.parked_at is not None:
        kept["parkedAt"] = format_time(status.parked_at)
    if status.effective is not None:
        kept["effective"] = {
            "replicas": status.effective.replicas,
            "desiredState": str(status.effective.desired_state),
        }
    if status.directives is not None:
        own = [_exactly(item) for item in status.directives.items if item.variable == variable]
        lost = [_exactly(c) for c in status.directives.conflicts if variable in (c.winner, c.loser)]
        kept["directives"] = {"generation": status.directives.generation, "items": own, "conflicts": lost}
    names = {"name": meta.name, "namespace": meta.namespace, "uid": meta.uid, "generation": meta.generation}
    return {"metadata": names | {"labels": dict(meta.labels)}, "spec": _spec(agent.spec), "status": kept}


def _slim_report(report: Report, variable: str) -> JsonDict:
    """The parts of a report about this variable, performance and proposals, without empty ones."""
    own = {
        key: {variable: values[variable]}
        for key, values in (
            ("numbers", report.numbers),
            ("choices", report.choices),
            ("weights", report.weights),
            ("bids", report.bids),
        )
        if variable in values
    }
    whole = {"performance": dict(report.performance), "votes": dict(report.votes)}
    return {key: values for key, values in {**whole, **own}.items() if values}


def snapshot_of(inputs: Mapping[str, Any]) -> VariableSnapshot:
    """The snapshot of a record's inputs; raises UnreadableRecord when they describe none."""
    try:
        return VariableSnapshot(
            variable=OrchestrationVariable.model_validate(inputs["variable"]),
            agents=tuple(Agent.model_validate(agent) for agent in inputs["agents"]),
            reports={name: Report(**report) for name, report in inputs["reports"].items()},
            function_results={id_: FunctionResult(**result) for id_, result in inputs["answers"].items()},
            open_calls=tuple(_call(call) for call in inputs["asked"]),
            context=SystemContext(**inputs["context"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise UnreadableRecord(f"its inputs cannot be read: {str(problem).splitlines()[0][:200]}") from None


def _call(fields: JsonDict) -> FunctionCall:
    return FunctionCall(**{**fields, "language": Language(fields["language"]), "group": PluginGroup(fields["group"])})


def canonical(status: OrchestrationVariableStatus) -> str:
    """The decided part of the status (DECIDED) as canonical JSON."""
    wire = status.to_wire()
    return json.dumps({key: wire[key] for key in DECIDED if key in wire}, sort_keys=True, separators=(",", ":"))


# The fields that a round decides. The others of a status record delivery, which comes from the agents' own statuses.
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


# --- the ConfigMap ------------------------------------------------------------------------------------------------------------


def record_effects(
    snapshot: VariableSnapshot, now: datetime, status: OrchestrationVariableStatus
) -> tuple[Effect, ...]:
    """The write of the record when this pass made a decision; empty without one, and for a variable in mode Advise."""
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
    write = config_map_effect(
        variable,
        name,
        found,
        component="decision",
        reason="record",
        data=_packed(document),
        annotations={ANNOTATION_CONTENT_HASH: str(document["round"])},
    )
    return (write,)


def _packed(document: JsonDict) -> dict[str, str | None]:
    """The data of a ConfigMap with the document, without its inputs if it would be too large; the unused key is None."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    if len(text) <= PLAIN_BYTES:
        return {RECORD_KEY: text, COMPRESSED_KEY: None}
    packed = base64.b64encode(gzip.compress(text.encode(), compresslevel=1, mtime=0)).decode()
    if len(packed) <= MOST_BYTES:
        return {COMPRESSED_KEY: packed, RECORD_KEY: None}
    if "inputs" in document:
        return _packed({**{key: value for key, value in document.items() if key != "inputs"}, "candidates": []})
    return _packed(
        {key: document[key] for key in ("format", "variable", "round", "now")} | {"candidates": [], "outcome": "{}"}
    )


def read_record(data: Mapping[str, Any]) -> JsonDict:
    """The record in a ConfigMap's data; raises UnreadableRecord without one."""
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
        raise UnreadableRecord("it has no time of its decision")
    return moment
