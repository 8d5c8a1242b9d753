"""Every snapshot is made here: what it holds, and what it leaves out."""

from collections.abc import Iterable
from typing import Any

import pytest

from mabeam.api.agent import Agent
from mabeam.api.base import JsonDict
from mabeam.api.names import API_VERSION
from mabeam.core.conventions.metadata import pod_labels
from mabeam.core.reports.reading import UnreadableReport
from mabeam.core.reports.report import Report
from mabeam.core.snapshot import AgentSnapshot, Key, PodFacts, Progress, SupervisorSnapshot, VariableSnapshot
from mabeam.state.cache import AGENT, RECONCILED_KINDS, SUPERVISOR, VARIABLE, Cache
from mabeam.state.observe import NoRefusals, Observer
from support.builders import agent_body
from support.coordination import variable_body
from support.tree import supervisor_body


class NoReports:
    """No process has reported."""

    def of_pods(self, pods: Iterable[PodFacts]) -> dict[str, Report]:
        return {}

    def progress_of(self, pods: Iterable[PodFacts]) -> dict[str, Progress]:
        return {}

    def unreadable(self, pods: Iterable[PodFacts]) -> dict[str, UnreadableReport]:
        return {}

    def of_agents(self, agents: Iterable[Agent]) -> dict[str, Report]:
        return {}


def observer(*bodies: JsonDict, **options: Any) -> Observer:
    cache = Cache()
    for body in bodies:
        cache.upsert(body["kind"], body)
    return Observer(cache, NoReports(), NoRefusals(), **options)


def agent_snapshot(seen: Observer, name: str = "a") -> AgentSnapshot:
    snapshot = seen.snapshot(Key(AGENT, "team", name), 0.0)
    assert isinstance(snapshot, AgentSnapshot)
    return snapshot


def variable_snapshot(seen: Observer, name: str) -> VariableSnapshot:
    snapshot = seen.snapshot(Key(VARIABLE, "team", name), 0.0)
    assert isinstance(snapshot, VariableSnapshot)
    return snapshot


def owned(kind: str, name: str, owner: str = "a", **parts: Any) -> JsonDict:
    reference = {
        "apiVersion": API_VERSION,
        "kind": "Agent",
        "name": owner,
        "uid": f"uid-of-{owner}",
        "controller": True,
    }
    meta = {"name": name, "namespace": "team", "uid": f"uid-of-{name}", "ownerReferences": [reference]}
    return {"kind": kind, "metadata": meta | parts.pop("metadata", {}), **parts}


def a_pod(name: str, ip: str, **meta: Any) -> JsonDict:
    status = {"phase": "Running", "podIP": ip, "conditions": [{"type": "Ready", "status": "True"}]}
    spec = {"nodeName": "node-1", "containers": [{"name": "agent"}]}
    return owned("Pod", name, name.rsplit("-", 2)[0], metadata=meta, spec=spec, status=status)


def a_node(name: str, memory: str = "1Gi", *, cordoned: bool = False) -> JsonDict:
    spec = {"unschedulable": True} if cordoned else {}
    return {
        "kind": "Node",
        "metadata": {"name": name, "uid": name},
        "spec": spec,
        "status": {"allocatable": {"memory": memory}},
    }


@pytest.mark.parametrize("kind", RECONCILED_KINDS)
def test_there_is_no_snapshot_of_an_object_that_does_not_exist(kind: str) -> None:
    assert observer().snapshot(Key(kind, "team", "missing"), 0.0) is None


def test_a_kind_that_is_not_reconciled_has_no_snapshot() -> None:
    with pytest.raises(KeyError):
        observer().snapshot(Key("Pod", "team", "a-0-1"), 0.0)


def test_the_nodes_are_all_that_the_cache_holds_unless_nobody_observes_them() -> None:
    bodies = agent_body("a"), a_node("node-1"), a_node("node-2", cordoned=True)
    found = agent_snapshot(observer(*bodies))
    assert (found.nodes, found.cordoned) == ({"node-1", "node-2"}, {"node-2"})
    assert agent_snapshot(observer(*bodies, nodes_observed=False)).nodes is None


def test_a_pod_that_names_no_main_container_is_read_by_the_agents_template() -> None:
    template = {"spec": {"containers": [{"name": "worker", "image": "worker:1"}]}}
    statuses = [
        {"name": "proxy", "state": {"running": {}}},
        {"name": "worker", "state": {"terminated": {"exitCode": 3}}},
    ]
    spec = {"nodeName": "node-1", "containers": [{"name": "proxy"}, {"name": "worker"}]}
    meshed = owned("Pod", "a-0-1", spec=spec, status={"phase": "Running", "containerStatuses": statuses})
    (seen,) = agent_snapshot(observer(agent_body("a", template=template), meshed)).pods
    assert (seen.main_name, seen.main.state, seen.main.exit_code) == ("worker", "terminated", 3)
    renamed = {"spec": {"containers": [{"name": "runner", "image": "worker:2"}]}}
    (seen,) = agent_snapshot(observer(agent_body("a", template=renamed), meshed)).pods
    assert seen.main_name == "proxy"


def test_a_config_map_and_a_policy_of_another_owner_are_seen_and_are_not_the_agents() -> None:
    names = ("ConfigMap", "NetworkPolicy")
    own, other = (
        agent_snapshot(observer(agent_body("a"), *(owned(kind, "a-mabeam", owner) for kind in names))) for owner in "ab"
    )
    assert own.config_map is not None
    assert own.network_policy is not None
    assert (own.config_map.owned, own.network_policy.owned) == (True, True)
    assert other.config_map is not None
    assert other.network_policy is not None
    assert (other.config_map.owned, other.network_policy.owned) == (False, False)


def test_a_peer_is_given_with_the_addresses_of_its_ready_pods_and_of_none_that_terminates() -> None:
    talk = variable_body("talk", ["a", "b"], type="CommunicationTopology", topology={"pattern": "Mesh"})
    talk["status"] = {"observedGeneration": 1, "round": 1, "value": {"pattern": "Mesh", "members": ["a", "b"]}}
    gone = {"deletionTimestamp": "2026-01-01T00:00:30Z"}
    pods = a_pod("b-0-1", "10.0.0.2"), a_pod("b-1-1", "10.0.0.3", **gone)
    found = agent_snapshot(observer(agent_body("a"), agent_body("b"), talk, *pods))
    assert {name: peer.addresses for name, peer in found.peers.items()} == {"b": ("10.0.0.2",)}


def test_a_selection_by_resources_sees_what_the_nodes_have_left() -> None:
    crew = variable_body("crew", ["a"], type="AgentSelection", resources={"requests": {"memory": "2Gi"}})
    found = variable_snapshot(
        observer(agent_body("a"), crew, a_node("node-1"), a_node("node-2", cordoned=True)), "crew"
    )
    assert found.context.free == {"memory": "1Gi"}


def test_an_unreadable_variable_is_seen_with_the_reason_and_selects_for_no_agent() -> None:
    bad = variable_body("bad", ["a"], type="Nonsense")
    seen = observer(agent_body("a"), bad)
    assert "spec.type" in str(variable_snapshot(seen, "bad").invalid)
    assert agent_snapshot(seen).variables == ()


def test_a_supervisor_is_seen_with_the_agents_that_it_lists_and_every_supervisor_of_its_namespace() -> None:
    bodies = [agent_body("a"), agent_body("b"), supervisor_body("top", "/low"), supervisor_body("low", "a")]
    found = observer(*bodies).snapshot(Key(SUPERVISOR, "team", "low"), 0.0)
    assert isinstance(found, SupervisorSnapshot)
    assert (sorted(found.agents), sorted(found.supervisors)) == (["a"], ["low", "top"])


# --- pods without an owner, and of other owners -------------------------------------------------------------------------------


def test_a_pod_of_an_earlier_agent_of_that_name_is_a_namesakes_and_not_the_agents() -> None:
    earlier = a_pod("a-0-7", "10.0.0.7")
    earlier["metadata"]["ownerReferences"][0]["uid"] = "uid-of-another"
    snapshot = agent_snapshot(observer(agent_body("a"), earlier, a_pod("a-0-1", "10.0.0.1")))
    assert [pod.name for pod in snapshot.pods] == ["a-0-1"]
    assert [pod.name for pod in snapshot.namesake_pods] == ["a-0-7"]


def test_a_pod_that_lost_its_owner_is_the_agents_by_its_labels() -> None:
    orphan = a_pod("a-0-7", "10.0.0.7", labels=pod_labels("a", 0, 7), ownerReferences=[])
    unlabelled = a_pod("a-0-8", "10.0.0.8", ownerReferences=[])
    mislabelled = a_pod("a-0-9", "10.0.0.9", labels=pod_labels("a", 0, 8), ownerReferences=[])
    controller = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "u", "controller": True}
    foreign = a_pod("a-1-1", "10.0.0.2", labels=pod_labels("a", 1, 1), ownerReferences=[controller])
    snapshot = agent_snapshot(observer(agent_body("a"), orphan, unlabelled, mislabelled, foreign))
    assert [(pod.name, pod.orphaned) for pod in snapshot.pods] == [("a-0-7", True)]
    assert snapshot.namesake_pods == ()


def test_a_node_that_nobody_has_heard_of_counts_as_there_until_it_is_known_to_be_gone() -> None:
    seen = observer(agent_body("a"), a_pod("a-0-1", "10.0.0.1"), a_node("node-2"))
    assert agent_snapshot(seen).nodes == {"node-1", "node-2"}
    seen.cache.note_gone_node("node-1")
    assert agent_snapshot(seen).nodes == {"node-2"}


def test_a_node_that_was_known_and_is_deleted_is_gone_until_it_comes_back() -> None:
    seen = observer(agent_body("a"), a_pod("a-0-1", "10.0.0.1"), a_node("node-1"))
    seen.cache.remove("Node", ("", "node-1"))
    assert agent_snapshot(seen).nodes == frozenset()
    seen.cache.upsert("Node", a_node("node-1"))
    assert (agent_snapshot(seen).nodes, seen.cache.gone_nodes) == ({"node-1"}, {})
