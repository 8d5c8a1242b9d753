"""What the agent's processes are told, all of it: `directives.json` but for its number (docs/agent-contract.md)."""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from mabeam.api.agent import Agent
from mabeam.api.base import JsonDict, format_time
from mabeam.api.directive import AgentDirective, DirectiveAction
from mabeam.api.names import DIRECTIVES_KEY, directives_config_map
from mabeam.api.variable import Mode
from mabeam.core.conventions.metadata import child_labels, owner_reference
from mabeam.core.directives.desired import NETWORK_PRIORITY
from mabeam.core.directives.effective import PARAMETRIC, EffectiveSet
from mabeam.core.directives.suspension import is_suspended
from mabeam.core.snapshot import AgentSnapshot, PeerFacts

# What a document of an older operator leaves out was nothing.
_EMPTY: Final[JsonDict] = {"peers": [], "resources": {}, "proposals": []}


def desired_content(snapshot: AgentSnapshot, told: EffectiveSet, shares: Mapping[str, str]) -> JsonDict:
    """The content by the set in force.

    An agent that its user stopped is not an idle one: the pod that follows its next start must not read that it is.
    """
    communication = told.communication or {}
    content: JsonDict = {
        "role": told.role or snapshot.agent.spec.role_name,
        "active": told.active,
        "parameters": told.parameters,
        "peers": [_peer(peer, snapshot.peers) for peer in communication.get("peers") or ()],
        "resources": dict(sorted(shares.items())),
        "proposals": _proposals(snapshot),
    }
    if communication.get("coordinator"):
        content["coordinator"] = {"name": communication["coordinator"], "term": communication.get("term", 1)}
    if told.term is not None:
        content["term"] = told.term
    return content


def _peer(told: JsonDict, facts: Mapping[str, PeerFacts]) -> JsonDict:
    """A peer as the process has to know it; without addresses while nobody of it is ready."""
    known = facts.get(told["name"], PeerFacts())
    return told | ({"role": known.role} if known.role else {}) | {"addresses": list(known.addresses)}


def _proposals(snapshot: AgentSnapshot) -> list[JsonDict]:
    """What waits for the agent's vote, in order of the variables' names."""
    agent, found = snapshot.agent.metadata, []
    for variable in snapshot.variables:
        vote = variable.status.consensus
        if vote is None or vote.outcome != "Pending" or vote.awaits_approval or variable.spec.consensus is None:
            continue
        if (
            is_suspended(variable)
            or variable.spec.mode is Mode.ADVISE
            or not variable.selects(agent.name, agent.labels)
        ):
            continue
        proposal = {"id": vote.proposal, "variable": variable.metadata.name, "proposed": vote.proposed}
        deadline = {"deadline": format_time(vote.deadline)} if vote.deadline is not None else {}
        found.append(proposal | deadline)
    return sorted(found, key=lambda proposal: str(proposal["variable"]))


def content_of_document(document: JsonDict) -> JsonDict:
    """What a stored document tells, in today's words."""
    return _EMPTY | {key: value for key, value in document.items() if key not in ("agent", "generation")}


def document_carries(document: JsonDict, item: AgentDirective) -> bool:
    """Whether the document has what the directive tells; an order about pods is in none."""
    if item.action in PARAMETRIC:
        return _within(document.get("parameters"), item.parameters)
    told = _HELD.get(item.action)
    return told is None or told(document, item.parameters)


def _within(held: Any, wanted: JsonDict) -> bool:
    return isinstance(held, dict) and all(key in held and held[key] == value for key, value in wanted.items())


def _has_peers(document: JsonDict, parameters: JsonDict) -> bool:
    held = [peer.get("name") for peer in document.get("peers") or () if isinstance(peer, dict)]
    return held == [peer["name"] for peer in parameters.get("peers") or ()]


_HELD: Final[Mapping[DirectiveAction, Callable[[JsonDict, JsonDict], bool]]] = {
    DirectiveAction.ACTIVATE: lambda document, told: bool(document.get("active") == told.get("active", True)),
    DirectiveAction.CHANGE_ROLE: lambda document, told: bool(document.get("role") == told.get("role")),
    DirectiveAction.UPDATE_COMMUNICATION: _has_peers,
    DirectiveAction.ALLOCATE_RESOURCES: lambda document, told: _within(
        document.get("resources"), {key: value for key, value in told.items() if key != NETWORK_PRIORITY}
    ),
}


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
