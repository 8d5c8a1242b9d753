"""Whom a change wakes: every watched kind has its row, and nobody is woken for nothing."""

from typing import Any

import pytest

from mabeam.api.base import JsonDict
from mabeam.api.names import API_VERSION, LABEL_AGENT
from mabeam.core.snapshot import Key
from mabeam.shell.kube.kopf_watch import KOPF_KINDS
from mabeam.shell.kube.resources import RESOURCES
from mabeam.shell.process import REFLECTED_KINDS
from mabeam.state import wakeups
from mabeam.state.cache import AGENT, SUPERVISOR, VARIABLE, WATCHED_KINDS, Cache
from mabeam.state.wakeups import COALESCE_SECONDS, STARTING_SECONDS, affected_keys
from support.builders import agent_body, stamp
from support.coordination import an_item, variable_body
from support.tree import supervisor_body

A, B = Key(AGENT, "team", "a"), Key(AGENT, "team", "b")
V = Key(VARIABLE, "team", "v")


class Town:
    """A cache that is told of changes and says whom they wake."""

    def __init__(self, *bodies: JsonDict) -> None:
        self.cache = Cache()
        self.version = 0
        for body in bodies:
            self.tell(body)

    def tell(self, body: JsonDict, kind: str | None = None) -> dict[Key, float]:
        self.version += 1
        body["metadata"] |= {"resourceVersion": str(self.version)}
        change = self.cache.upsert(kind or body["kind"], body)
        assert change is not None
        return dict(affected_keys(change, self.cache))

    def lose(self, kind: str, name: str, namespace: str = "team") -> dict[Key, float]:
        change = self.cache.remove(kind, (namespace, name))
        assert change is not None
        return dict(affected_keys(change, self.cache))


def a_pod(name: str = "a-0-1", node: str = "node-1") -> JsonDict:
    owner = {"apiVersion": API_VERSION, "kind": "Agent", "name": "a", "uid": "uid-of-a", "controller": True}
    return {
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "team",
            "uid": f"uid-of-{name}",
            "labels": {LABEL_AGENT: name.rsplit("-", 2)[0]},
            "ownerReferences": [owner],
        },
        "spec": {"nodeName": node, "containers": [{"name": "agent"}]},
        "status": {"phase": "Running"},
    }


def a_node(name: str) -> JsonDict:
    return {"kind": "Node", "metadata": {"name": name, "uid": f"uid-of-{name}"}}


def a_config_map(name: str) -> JsonDict:
    return {"kind": "ConfigMap", "metadata": {"name": name, "namespace": "team", "uid": f"uid-of-{name}"}}


def with_status(**status: Any) -> JsonDict:
    return agent_body(status={"observedGeneration": 1, **status})


def test_every_watched_kind_has_a_row_a_doorbell_and_a_place_at_the_apiserver() -> None:
    assert set(wakeups._BY_KIND) == set(WATCHED_KINDS)
    assert sorted([*KOPF_KINDS, *REFLECTED_KINDS]) == sorted(WATCHED_KINDS)
    assert set(WATCHED_KINDS) <= set(RESOURCES)


def test_a_new_agent_wakes_itself_and_the_variables_that_select_it() -> None:
    town = Town(variable_body("v", ["a"]), variable_body("w", ["b"]))
    assert town.tell(agent_body()) == {A: 0, V: 0}


def test_an_agent_that_goes_wakes_the_variables_that_selected_it() -> None:
    town = Town(variable_body("v", ["a"]), agent_body())
    assert town.lose(AGENT, "a") == {A: 0, V: 0}


def test_an_agent_that_leaves_a_variables_selector_wakes_it_a_last_time() -> None:
    member = agent_body()
    member["metadata"]["labels"] = {"team": "alpha"}
    town = Town(variable_body("v", [], labels={"team": "alpha"}), member)
    assert town.tell(agent_body()) == {A: 0, V: 0}
    assert town.tell(agent_body(generation=2)) == {A: 0}


def test_a_changed_preference_wakes_the_variable_at_once() -> None:
    town = Town(variable_body("v", ["a"]), agent_body())
    changed = agent_body(preferences=[{"variable": "v", "value": 0.3}])
    changed["metadata"]["generation"] = 2
    assert town.tell(changed) == {A: 0, V: 0}


def test_an_acknowledgement_may_wait_for_its_siblings() -> None:
    told = {"directives": {"generation": 1, "items": [an_item("v", "Issued")]}}
    done = {"directives": {"generation": 1, "items": [an_item("v", "Acknowledged")]}}
    town = Town(variable_body("v", ["a"]), with_status(**told))
    assert town.tell(with_status(**done)) == {A: 0, V: COALESCE_SECONDS}


def test_what_no_variable_hears_of_an_agent_wakes_the_agent_alone() -> None:
    town = Town(variable_body("v", ["a"]), with_status())
    assert town.tell(with_status(restarts=1)) == {A: 0}


def test_a_decided_value_wakes_every_agent_the_variable_selects() -> None:
    town = Town(agent_body(), agent_body("b"), agent_body("c"), variable_body("v", ["a", "b"]))
    status = {"observedGeneration": 1, "value": 0.6, "round": 1}
    assert town.tell(variable_body("v", ["a", "b"], status=status)) == {V: 0, A: 0, B: 0}


def test_a_variable_that_tells_its_agents_nothing_new_does_not_wake_them() -> None:
    status = {"observedGeneration": 1, "value": 0.6, "round": 1}
    town = Town(agent_body(), variable_body("v", ["a"], status=status))
    counted = status | {"directives": {"issued": 1, "acknowledged": 1}}
    assert town.tell(variable_body("v", ["a"], status=counted)) == {V: 0}


def test_an_agent_that_a_variable_selects_no_more_is_woken_to_take_its_word_back() -> None:
    town = Town(agent_body(), agent_body("b"), variable_body("v", ["a"]))
    assert town.tell(variable_body("v", ["b"], generation=2)) == {V: 0, A: 0, B: 0}


def test_a_deleted_variable_wakes_whom_it_told() -> None:
    town = Town(agent_body(), variable_body("v", ["a"]))
    assert town.lose(VARIABLE, "v")[A] == 0


def test_a_pod_wakes_its_agent_when_it_comes_changes_and_goes() -> None:
    town = Town(agent_body())
    assert town.tell(a_pod()) == {A: 0}
    assert town.tell(a_pod()) == {A: 0}
    assert town.lose("Pod", "a-0-1") == {A: 0}


@pytest.mark.parametrize(("name", "woken"), [("a-mabeam", {A: 0}), ("v-mabeam-directives", {V: 0}), ("else", {})])
def test_a_config_map_wakes_the_one_it_was_written_for(name: str, woken: dict[Key, float]) -> None:
    town = Town(agent_body(), variable_body("v", ["a"]))
    assert town.tell(a_config_map(name)) == woken
    assert town.lose("ConfigMap", name) == woken


def test_a_lost_node_wakes_the_agents_whose_pods_it_took_and_a_new_one_wakes_nobody() -> None:
    town = Town(agent_body(), agent_body("b"), a_pod("a-0-1", "node-1"), a_pod("b-0-1", "node-2"))
    assert town.tell(a_node("node-1")) == {}
    assert town.tell(a_node("node-3")) == {}
    assert town.lose("Node", "node-1", "") == {A: 0}
    assert town.lose("Node", "node-3", "") == {}


def test_the_time_in_a_status_wakes_no_variable() -> None:
    town = Town(variable_body("v", ["a"]), with_status(parkedAt=stamp(0)))
    assert town.tell(with_status(parkedAt=stamp(5))) == {A: 0}


def test_a_pod_on_its_way_up_may_wait_for_the_news_that_it_runs() -> None:
    town = Town(agent_body())
    assert town.tell(a_pod() | {"status": {"phase": "Pending"}}) == {A: STARTING_SECONDS}
    assert town.tell(a_pod()) == {A: 0}


def test_a_pod_of_an_agent_that_is_gone_wakes_nobody() -> None:
    assert Town().tell(a_pod()) == {}


def test_a_changed_product_of_budgets_wakes_the_supervisors_below() -> None:
    parent = supervisor_body("p", "/q")
    town = Town(parent, supervisor_body("q", "a"))
    parent["status"] |= {"worstCaseRestarts": 9}
    assert Key(SUPERVISOR, "team", "q") in town.tell(parent)


def test_a_tree_that_has_completed_wakes_everyone_below_once() -> None:
    town = Town(supervisor_body("root", "a", "/inner"), supervisor_body("inner", "b", "/root"))
    over = supervisor_body("root", "a", "/inner") | {"status": {"observedGeneration": 1, "shutDownAt": stamp(5)}}
    woken = town.tell(over)
    inner, root = Key(SUPERVISOR, "team", "inner"), Key(SUPERVISOR, "team", "root")
    assert woken == {root: 0.0, inner: 0.0, A: 0.0, B: 0.0}


@pytest.mark.parametrize(
    "change",
    [
        {"role": "Evaluator"},
        {"capabilities": ["python"]},
        {"resources": {"bounds": [{"resource": "memory", "weight": 3}]}},
    ],
)
def test_what_a_selection_or_an_allocation_goes_by_wakes_it(change: JsonDict) -> None:
    town = Town(agent_body("a"), variable_body("v", ["a"]))
    assert V not in town.tell(agent_body("a"))
    assert town.tell(agent_body("a", generation=2, **change))[V] == 0.0
