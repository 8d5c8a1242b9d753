"""What the cache believes: the newest word on the present bearer of a name, and owners proven by uid."""

from typing import Any

import pytest

from mabeam.api.base import JsonDict
from mabeam.api.names import API_VERSION, LABEL_AGENT
from mabeam.core.snapshot import Key
from mabeam.state.cache import AGENT, SUPERVISOR, VARIABLE, WATCHED_KINDS, Cache
from support.builders import agent_body
from support.coordination import variable_body
from support.tree import supervisor_body

HERE = ("team", "a")


def an_agent(version: int, uid: str = "uid-of-a", name: str = "a", **words: Any) -> JsonDict:
    body = agent_body(name, **words)
    body["metadata"] |= {"resourceVersion": str(version), "uid": uid}
    return body


def a_pod(
    version: int, uid: str = "pod-uid", owner: str | None = "uid-of-a", name: str = "a-0-1", label: str | None = "a"
) -> JsonDict:
    reference = {"apiVersion": API_VERSION, "kind": "Agent", "name": "a", "uid": owner, "controller": True}
    return {
        "metadata": {
            "name": name,
            "namespace": "team",
            "uid": uid,
            "resourceVersion": str(version),
            "labels": {LABEL_AGENT: label} if label else {},
            "ownerReferences": [reference] if owner else [],
        },
        "spec": {"nodeName": "node-1", "containers": [{"name": "agent"}]},
        "status": {"phase": "Running"},
    }


def pods_of_a(cache: Cache) -> list[str]:
    return [pod.name for pod in cache.pods_owned_by(cache.agents[HERE].agent)]


def test_a_newer_word_replaces_an_older_one_and_never_the_other_way_round() -> None:
    cache = Cache()
    assert cache.upsert(AGENT, an_agent(9, generation=2)) is not None
    assert cache.upsert(AGENT, an_agent(8, generation=1)) is None
    assert cache.agents[HERE].agent.metadata.generation == 2
    assert cache.upsert(AGENT, an_agent(10, generation=3)) is not None
    assert cache.agents[HERE].agent.metadata.generation == 3


def test_the_same_word_twice_changes_nothing() -> None:
    cache = Cache()
    assert cache.upsert(AGENT, an_agent(9)) is not None
    assert cache.upsert(AGENT, an_agent(9)) is None


def test_versions_are_compared_as_numbers() -> None:
    cache = Cache()
    cache.upsert(AGENT, an_agent(99, generation=1))
    assert cache.upsert(AGENT, an_agent(100, generation=2)) is not None


def test_a_version_that_is_no_number_never_blocks_a_newer_word() -> None:
    cache = Cache()
    body = an_agent(0)
    body["metadata"]["resourceVersion"] = "opaque"
    assert cache.upsert(AGENT, body) is not None
    assert cache.upsert(AGENT, an_agent(1, generation=2)) is not None


def test_a_name_with_a_new_bearer_is_the_new_bearers() -> None:
    cache = Cache()
    cache.upsert(AGENT, an_agent(5, uid="first"))
    change = cache.upsert(AGENT, an_agent(9, uid="second"))
    assert change is not None
    assert change.before is not None
    assert cache.agents[HERE].agent.metadata.uid == "second"


def test_a_late_word_on_the_former_bearer_is_not_heard() -> None:
    cache = Cache()
    cache.upsert(AGENT, an_agent(9, uid="second"))
    assert cache.upsert(AGENT, an_agent(7, uid="first")) is None
    assert cache.remove(AGENT, HERE, "first") is None
    assert cache.agents[HERE].agent.metadata.uid == "second"


def test_what_is_deleted_is_forgotten_once() -> None:
    cache = Cache()
    cache.upsert(AGENT, an_agent(9))
    change = cache.remove(AGENT, HERE, "uid-of-a")
    assert change is not None
    assert change.after is None
    assert cache.agents == {}
    assert cache.agents_in == {}
    assert cache.remove(AGENT, HERE, "uid-of-a") is None


@pytest.mark.parametrize("kind", WATCHED_KINDS)
def test_every_watched_kind_can_be_learned_and_forgotten_without_a_trace(kind: str) -> None:
    bodies: dict[str, JsonDict] = {
        AGENT: an_agent(1),
        VARIABLE: variable_body("v", ["a"]),
        SUPERVISOR: supervisor_body("s", "a"),
        "Pod": a_pod(1),
        "ConfigMap": {"metadata": {"name": "a-mabeam", "namespace": "team", "uid": "u", "resourceVersion": "1"}},
        "NetworkPolicy": {"metadata": {"name": "a-mabeam", "namespace": "team", "uid": "u", "resourceVersion": "1"}},
        "ResourceQuota": {"metadata": {"name": "quota", "namespace": "team", "uid": "u", "resourceVersion": "1"}},
        "Node": {"metadata": {"name": "node-1", "uid": "u", "resourceVersion": "1"}},
    }
    cache, body = Cache(), bodies[kind]
    where = (body["metadata"].get("namespace", ""), body["metadata"]["name"])
    learned = cache.upsert(kind, body)
    assert learned is not None
    assert (learned.before is None, learned.after is None) == (True, False)
    assert cache.remove(kind, where) is not None
    assert cache == Cache(gone_nodes={"node-1": None} if kind == "Node" else {})


def test_a_pod_belongs_to_the_uid_in_its_owner_reference_whatever_its_labels_say() -> None:
    cache = Cache()
    cache.upsert(AGENT, an_agent(1))
    cache.upsert("Pod", a_pod(2, uid="mine", name="a-0-1"))
    cache.upsert("Pod", a_pod(3, uid="forged", name="a-1-1", owner="uid-of-another"))
    cache.upsert("Pod", a_pod(4, uid="ownerless", name="a-2-1", owner=None))
    assert pods_of_a(cache) == ["a-0-1"]


def test_a_pod_of_an_agents_former_namesake_is_not_the_new_ones() -> None:
    cache = Cache()
    cache.upsert(AGENT, an_agent(1, uid="first"))
    cache.upsert("Pod", a_pod(2, owner="first"))
    assert pods_of_a(cache) == ["a-0-1"]
    cache.upsert(AGENT, an_agent(5, uid="second"))
    assert pods_of_a(cache) == []


def test_a_reference_that_is_not_the_controllers_proves_nothing() -> None:
    cache = Cache()
    cache.upsert(AGENT, an_agent(1))
    body = a_pod(2)
    body["metadata"]["ownerReferences"][0]["controller"] = False
    cache.upsert("Pod", body)
    assert pods_of_a(cache) == []


def test_a_pod_that_changes_its_owner_leaves_the_old_one() -> None:
    cache = Cache()
    cache.upsert(AGENT, an_agent(1))
    cache.upsert("Pod", a_pod(2))
    cache.upsert("Pod", a_pod(3, owner="uid-of-another"))
    assert pods_of_a(cache) == []


@pytest.mark.parametrize("name", ["a", "a-0", "a-x-1", "a-0-y", "b-0-1"])
def test_a_pod_whose_name_is_no_incarnation_of_its_agent_is_not_believed(name: str) -> None:
    cache = Cache()
    cache.upsert(AGENT, an_agent(1))
    cache.upsert("Pod", a_pod(2, name=name))
    assert pods_of_a(cache) == []


def test_a_variable_selects_by_name_and_by_label_in_its_own_namespace_only() -> None:
    cache = Cache()
    labelled = an_agent(2, uid="b", name="b")
    labelled["metadata"]["labels"] = {"team": "alpha"}
    stranger = an_agent(3, uid="c", name="a")
    stranger["metadata"]["namespace"] = "elsewhere"
    for body in (an_agent(1), labelled, stranger):
        cache.upsert(AGENT, body)
    cache.upsert(VARIABLE, variable_body("v", ["a", "missing"], labels={"team": "alpha"}))
    variable = cache.variables["team", "v"].variable
    chosen = cache.agents_of(variable)
    assert [(p.agent.metadata.namespace, p.agent.metadata.name) for p in chosen] == [("team", "a"), ("team", "b")]
    assert [v.metadata.name for v in cache.variables_of(chosen[1].agent)] == ["v"]
    assert cache.variables_of(cache.agents["elsewhere", "a"].agent) == ()


def test_there_is_a_key_for_each_agent_and_each_variable() -> None:
    cache = Cache()
    cache.upsert(AGENT, an_agent(1))
    cache.upsert(VARIABLE, variable_body("v", ["a"]))
    cache.upsert("Pod", a_pod(2))
    assert cache.all_keys() == [Key(AGENT, "team", "a"), Key(VARIABLE, "team", "v")]


def test_an_object_that_cannot_be_read_is_passed_over_until_it_changes(caplog: pytest.LogCaptureFixture) -> None:
    cache = Cache()
    cache.upsert(AGENT, an_agent(1))
    cache.upsert("Pod", a_pod(2))
    poison = a_pod(3)
    poison["spec"]["containers"] = ["no container"]
    change = cache.upsert("Pod", poison)
    assert change is not None
    assert change.after is None
    assert pods_of_a(cache) == []
    assert "Pod team/a-0-1 cannot be read" in caplog.text
    assert cache.upsert("Pod", poison) is None
    cache.upsert("Pod", a_pod(4))
    assert pods_of_a(cache) == ["a-0-1"]


@pytest.mark.parametrize("text", ["²", "٣", "-1", "9" * 5000, "", "7 "])
def test_a_generation_that_a_stranger_wrote_on_a_pod_is_read_as_none(text: str) -> None:
    cache = Cache()
    cache.upsert(AGENT, an_agent(1))
    body = a_pod(2)
    body["metadata"]["annotations"] = {"mabeam.dev/directives-generation": text}
    cache.upsert("Pod", body)
    assert [pod.generation for pod in cache.pods_owned_by(cache.agents[HERE].agent)] == [0]


def test_a_kind_that_is_not_watched_is_an_error_and_never_taken_for_another_kind() -> None:
    with pytest.raises(KeyError):
        Cache().upsert("Secret", {"metadata": {"name": "s", "namespace": "team", "uid": "u", "resourceVersion": "1"}})


def test_facts_that_were_already_read_are_put_and_indexed_like_those_of_a_body() -> None:
    read, put = Cache(), Cache()
    for body in (an_agent(1), a_pod(2)):
        kind = AGENT if "spec" in body and "module" in str(body["spec"]) else "Pod"
        read.upsert(kind, body)
    put.put(AGENT, HERE, read.agents[HERE])
    put.put("Pod", ("team", "a-0-1"), read.pods["team", "a-0-1"])
    assert pods_of_a(put) == pods_of_a(read) == ["a-0-1"]
    assert (put.agents_in, put.pods_of) == (read.agents_in, read.pods_of)
