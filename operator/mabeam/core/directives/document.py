"""The content of `directives.json` without its generation, and the ConfigMap that holds it (docs/agent-contract.md)."""

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

# The keys that documents of an older release may lack, with what their absence means.
_EMPTY: Final[JsonDict] = {"peers": [], "resources": {}, "proposals": []}


def desired_content(snapshot: AgentSnapshot, directives: EffectiveSet, shares: Mapping[str, str]) -> JsonDict:
    """The content of the directives in force; `shares` are resource → quantity.

    `active` is the directives' alone: the first pod after a user's stop must not read that its agent is inactive.
    """
    communication = directives.communication or {}
    content: JsonDict = {
        "role": directives.role or snapshot.agent.spec.role_name,
        "active": directives.active,
        "parameters": directives.parameters,
        "peers": [_peer(peer, snapshot.peers) for peer in communication.get("peers") or ()],
        "resources": dict(sorted(shares.items())),
        "proposals": _proposals(snapshot),
    }
    if communication.get("coordinator"):
        content["coordinator"] = {"name": communication["coordinator"], "term": communication.get("term", 1)}
    if directives.term is not None:
        content["term"] = directives.term
    return content


def _peer(peer: JsonDict, facts: Mapping[str, PeerFacts]) -> JsonDict:
    """`{name, direction?, role?, addresses}`; no addresses while the peer has no ready pod."""
    known = facts.get(peer["name"], PeerFacts())
    return peer | ({"role": known.role} if known.role else {}) | {"addresses": list(known.addresses)}


def _proposals(snapshot: AgentSnapshot) -> list[JsonDict]:
    """The proposals that await the agent's vote, in order of the variables' names."""
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
    """The content of a stored document, with every key of this release."""
    return _EMPTY | {key: value for key, value in document.items() if key not in ("agent", "generation")}


def document_carries(document: JsonDict, item: AgentDirective) -> bool:
    """Whether the document holds what the directive sets; a directive about pods sets nothing in it."""
    if item.action in PARAMETRIC:
        return _is_within(document.get("parameters"), item.parameters)
    is_carried = _CARRIES.get(item.action)
    return is_carried is None or is_carried(document, item.parameters)


def _is_within(held: Any, wanted: JsonDict) -> bool:
    return isinstance(held, dict) and all(key in held and held[key] == value for key, value in wanted.items())


def _has_peers(document: JsonDict, parameters: JsonDict) -> bool:
    held = [peer.get("name") for peer in document.get("peers") or () if isinstance(peer, dict)]
    return held == [peer["name"] for peer in parameters.get("peers") or ()]


def _has_amounts(document: JsonDict, parameters: JsonDict) -> bool:
    amounts = {name: amount for name, amount in parameters.items() if name != NETWORK_PRIORITY}
    return _is_within(document.get("resources"), amounts)


_CARRIES: Final[Mapping[DirectiveAction, Callable[[JsonDict, JsonDict], bool]]] = {
    DirectiveAction.ACTIVATE: lambda document, parameters: document.get("active") == parameters.get("active", True),
    DirectiveAction.CHANGE_ROLE: lambda document, parameters: document.get("role") == parameters.get("role"),
    DirectiveAction.UPDATE_COMMUNICATION: _has_peers,
    DirectiveAction.ALLOCATE_RESOURCES: _has_amounts,
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
