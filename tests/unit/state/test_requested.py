"""What no object of a variable's own holds (a leader, nodes, others' pods, load) wakes those whose decision it changes."""

import time
from typing import Any

import pytest

from mabeam.api.base import JsonDict
from mabeam.core.snapshot import Key
from mabeam.state.cache import AGENT, NODE, POD, VARIABLE, Cache, OwnedPod, SharedInput
from mabeam.state.capacity import free
from mabeam.state.parse_objects import NodeFacts
from mabeam.state.wakeups import COALESCE_SECONDS, SHARED_SECONDS, affected_keys, variables_sharing
from support.builders import a_pod, agent_body, exited, stamp
from support.coordination import variable_body

ALLOTS, SELECTS, YIELDS = (Key(VARIABLE, "team", name) for name in ("allots", "selects", "yields"))


class Cluster:
    """A cache that is told of changes, and whom they wake."""

    def __init__(self, *bodies: JsonDict) -> None:
        self.cache, self.version = Cache(), 0
        for body in bodies:
            self.tell(body)

    def tell(self, body: JsonDict) -> dict[Key, float]:
        self.version += 1
        body["metadata"]["resourceVersion"] = str(self.version)
        change = self.cache.upsert(body["kind"], body)
        assert change is not None
        return dict(affected_keys(change, self.cache))

    def put_pod(self, name: str, **facts: Any) -> dict[Key, float]:
        change = self.cache.put(POD, ("team", name), OwnedPod(a_pod(name, **facts), "uid-of-a", name.rsplit("-", 2)[0]))
        return dict(affected_keys(change, self.cache))


def candidate(name: str, since: float, *, state: str = "Running", prefers: str = "hot", **spec: Any) -> JsonDict:
    record = {"ordinal": 0, "name": f"{name}-0-1", "incarnation": 1, "state": state, "startTime": stamp(since)}
    status = {"observedGeneration": 1, "state": state, "readyReplicas": 1, "pods": [record]}
    preferences = [{"variable": prefers, "value": 1, "weight": 5}]
    return agent_body(name, conflictResolution="LeaderElection", preferences=preferences, status=status, **spec)


@pytest.mark.parametrize(
    "change",
    [{"state": "Stopped"}, {"since": 30}, {"prefers": "cold"}],
    ids=["it stops", "it is restarted", "it prefers otherwise"],
)
def test_a_change_of_a_leader_wakes_those_that_obey_it(change: dict[str, Any]) -> None:
    plain = agent_body("c")  # obeys priorities, not a leader
    cluster = Cluster(variable_body("hot", ["a", "b", "c"]), candidate("a", 10), candidate("b", 1), plain)
    woken = cluster.tell(candidate("b", **{"since": 1, "generation": 2, **change}))
    assert woken[Key(AGENT, "team", "a")] == COALESCE_SECONDS
    assert Key(AGENT, "team", "c") not in woken


def test_a_leader_whose_candidacy_is_the_same_wakes_nobody() -> None:
    cluster = Cluster(variable_body("hot", ["a", "b"]), candidate("a", 10), candidate("b", 1))
    assert Key(AGENT, "team", "a") not in cluster.tell(candidate("b", 1, annotations={"note": "x"}))


def sharing() -> Cluster:
    return Cluster(
        agent_body("a"),
        variable_body("allots", ["a"], type="ResourceAllocation"),
        variable_body("budgeted", ["a"], type="ResourceAllocation", budget={"cpu": "4"}),
        variable_body("selects", ["a"], type="AgentSelection", resources={"requests": {"cpu": "1"}}),
        variable_body("yields", ["a"], type="AdaptationRate", value=0.8, rate={"load": {"target": 0.5}}),
    )


def node(name: str, cpu: str = "4", *, cordoned: bool = False) -> JsonDict:
    meta = {"name": name, "uid": f"uid-of-{name}"}
    return {
        "kind": NODE,
        "metadata": meta,
        "spec": {"unschedulable": cordoned},
        "status": {"allocatable": {"cpu": cpu}},
    }


def test_a_node_that_joins_grows_is_cordoned_or_leaves_wakes_those_who_divide_what_nodes_give() -> None:
    cluster = sharing()
    both = {ALLOTS: SHARED_SECONDS, SELECTS: SHARED_SECONDS}
    for body in (node("n1"), node("n1", "8"), node("n1", "8", cordoned=True), node("n1", "8")):
        assert cluster.tell(body) == both
    assert cluster.tell(node("n1", "8")) == {}  # a heartbeat
    change = cluster.cache.remove(NODE, ("", "n1"))
    assert change is not None
    assert dict(affected_keys(change, cluster.cache)) == both


def test_a_pod_that_takes_or_frees_capacity_wakes_the_selections_that_need_some() -> None:
    cluster = sharing()
    asks = {"requests": {"cpu": "2"}}
    assert cluster.put_pod("a-0-1", resources=asks)[SELECTS] == SHARED_SECONDS
    assert SELECTS not in cluster.put_pod("a-0-1", resources=asks, ready=False)
    assert cluster.put_pod("a-0-1", main=exited(0), resources=asks)[SELECTS] == SHARED_SECONDS


def test_variables_that_yield_to_load_are_known_until_they_do_not_or_are_gone() -> None:
    cluster = sharing()
    assert dict(variables_sharing(SharedInput.LOAD, cluster.cache)) == {YIELDS: SHARED_SECONDS}
    cluster.cache.remove(VARIABLE, ("team", "yields"))
    assert dict(variables_sharing(SharedInput.LOAD, cluster.cache)) == {}


def test_free_capacity_is_what_nodes_give_less_what_live_pods_request_and_costs_a_pass_nothing() -> None:
    cluster = sharing()
    for number in range(100):
        facts = NodeFacts(allocatable={"cpu": "64", "memory": "256Gi", "pods": "110"})
        cluster.cache.put(NODE, ("", f"n{number}"), facts)
    asks = {"requests": {"cpu": "250m", "memory": "512Mi"}}
    for number in range(2000):
        cluster.put_pod(f"a{number}-0-1", resources=asks)
    for number in range(0, 2000, 2):
        cluster.put_pod(f"a{number}-0-1", main=exited(0), resources=asks)
    assert free(cluster.cache) == {"cpu": "6150", "memory": "25100Gi"}
    started = time.perf_counter()
    for _ in range(20):
        free(cluster.cache)
    assert (time.perf_counter() - started) / 20 < 0.005
