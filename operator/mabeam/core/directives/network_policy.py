"""`enforcement: NetworkPolicy`: one policy per agent lets its peers in, and nobody else but whoever reads its report."""

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


def network_policy_effects(snapshot: AgentSnapshot, told: EffectiveSet) -> tuple[Effect, ...]:
    """The writes that make the agent's NetworkPolicy say what its topology does; its deletion when none is enforced."""
    found = snapshot.network_policy
    if found is not None and not found.owned:
        return ()
    meta = snapshot.agent.metadata
    if not _is_enforced(snapshot):
        gone = (
            Effect("delete", "NetworkPolicy", meta.namespace, found.name, "not enforced", uid=found.uid)
            if found
            else None
        )
        return (gone,) if gone is not None else ()
    body = network_policy_body(snapshot, told)
    if found is None:
        return (Effect("create", "NetworkPolicy", meta.namespace, body["metadata"]["name"], "enforce", body),)
    if found.content_hash == body["metadata"]["annotations"][ANNOTATION_CONTENT_HASH]:
        return ()
    version = found.resource_version
    return (Effect("apply", "NetworkPolicy", meta.namespace, found.name, "enforce", body, resource_version=version),)


def _is_enforced(snapshot: AgentSnapshot) -> bool:
    """Whether a topology of the agent's is one that its variable has enforced.

    Also while the agent has no part in it: one that starts is let in by its peers a pass later, and must not be open until then.
    """
    return any(
        variable.spec.topology is not None
        and variable.spec.topology.enforcement == "NetworkPolicy"
        and variable.metadata.deletion_timestamp is None
        and variable.spec.mode is not Mode.ADVISE
        and variable.status.value is not None
        for variable in snapshot.variables
    )


def network_policy_body(snapshot: AgentSnapshot, told: EffectiveSet) -> JsonDict:
    """The policy: into the agent's pods come the peers that may begin to talk to it, and reports are read by anyone.

    What its pods begin themselves is not bound: an agent has models and stores to reach, of which a topology knows nothing.
    """
    meta, reports = snapshot.agent.metadata, snapshot.agent.spec.reports
    scraped = expects_reports(snapshot.agent) and (reports is None or reports.source is ReportSource.POD)
    peers = (told.communication or {}).get("peers") or ()
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
