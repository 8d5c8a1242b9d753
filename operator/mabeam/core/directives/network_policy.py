"""`enforcement: NetworkPolicy`: one policy per agent that admits its peers, and to its report's port anyone."""

from dataclasses import replace
from typing import Final

from mabeam.api.agent import ReportSource
from mabeam.api.base import JsonDict
from mabeam.api.names import ANNOTATION_CONTENT_HASH, LABEL_AGENT, REPORT_PORT, network_policy
from mabeam.api.variable import Mode
from mabeam.core.algorithms.peer_graph import Direction
from mabeam.core.conventions.hashing import short_digest
from mabeam.core.conventions.metadata import child_labels, owner_reference
from mabeam.core.decision import Effect
from mabeam.core.directives.effective import EffectiveSet
from mabeam.core.reports.report import expects_reports
from mabeam.core.snapshot import AgentSnapshot

_OUT: Final = str(Direction.OUT)


def network_policy_effects(snapshot: AgentSnapshot, directives: EffectiveSet) -> tuple[Effect, ...]:
    """The write that makes the agent's NetworkPolicy as its topology is, or deletes it; none when nothing differs.

    A policy of that name with another owner is left alone.
    """
    held, meta = snapshot.network_policy, snapshot.agent.metadata
    if held is not None and not held.owned:
        return ()
    if not _is_enforced(snapshot):
        if held is None:
            return ()
        return (Effect("delete", "NetworkPolicy", meta.namespace, held.name, "not enforced", uid=held.uid),)
    body = network_policy_body(snapshot, directives)
    create = Effect("create", "NetworkPolicy", meta.namespace, body["metadata"]["name"], "enforce", body)
    if held is None:
        return (create,)
    if held.content_hash == body["metadata"]["annotations"][ANNOTATION_CONTENT_HASH]:
        return ()
    body["spec"]["podSelector"] = _replacing(held.selector, body["spec"]["podSelector"])
    return (replace(create, verb="apply", name=held.name, resource_version=held.resource_version),)


def _replacing(held: JsonDict, wanted: JsonDict) -> JsonDict:
    """The merge patch that makes one object of the other: what is too much is null."""
    inner = {
        k: _replacing(held[k], v) if isinstance(v, dict) and isinstance(held.get(k), dict) else v
        for k, v in wanted.items()
    }
    return dict.fromkeys((key for key in held if key not in wanted), None) | inner


def network_policy_problems(snapshot: AgentSnapshot) -> tuple[str, ...]:
    """Why an enforced topology of the agent is not enforced, as sentences; empty when it is."""
    name, held = network_policy(snapshot.agent.metadata.name), snapshot.network_policy
    if not _is_enforced(snapshot):
        return ()
    if held is not None and not held.owned:
        return (
            f"NetworkPolicy {name} has another owner; delete or rename it: until then its topology is not enforced",
        )
    refused = snapshot.refused_writes.get(f"NetworkPolicy {name}")
    return (f"{refused.message}: until then its topology is not enforced",) if refused is not None else ()


def _is_enforced(snapshot: AgentSnapshot) -> bool:
    """Whether a variable of the agent has a topology that is enforced.

    Also while the agent is not a member of it: its peers admit a starting agent a pass later, and it must be closed until then.
    """
    return any(
        variable.spec.topology is not None
        and variable.spec.topology.enforcement == "NetworkPolicy"
        and variable.metadata.deletion_timestamp is None
        and variable.spec.mode is not Mode.ADVISE
        and variable.status.value is not None
        for variable in snapshot.variables
    )


def network_policy_body(snapshot: AgentSnapshot, directives: EffectiveSet) -> JsonDict:
    """The policy: the agent's pods admit the peers that may open a connection to it, and anyone to the report's port.

    Egress is not restricted: an agent uses models and stores of which a topology knows nothing.
    """
    meta, reports = snapshot.agent.metadata, snapshot.agent.spec.reports
    scraped = expects_reports(snapshot.agent) and (reports is None or reports.source is ReportSource.POD)
    peers = (directives.communication or {}).get("peers") or ()
    callers = [str(peer["name"]) for peer in peers if peer.get("direction") != _OUT]
    ingress: list[JsonDict] = []
    if callers:
        ingress.append({"from": [{"podSelector": {"matchLabels": {LABEL_AGENT: name}}} for name in callers]})
    if scraped:
        port = reports.port if reports is not None else REPORT_PORT
        ingress.append({"ports": [{"port": port, "protocol": "TCP"}]})
    spec = {
        "podSelector": {"matchLabels": {LABEL_AGENT: meta.name}},
        "policyTypes": ["Ingress"],
        "ingress": ingress,
    }
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {
            "name": network_policy(meta.name),
            "namespace": meta.namespace,
            "labels": child_labels("topology", meta.name),
            "annotations": {ANNOTATION_CONTENT_HASH: short_digest(spec)},
            "ownerReferences": [owner_reference("Agent", meta.name, meta.uid)],
        },
        "spec": spec,
    }
