"""Worlds that once made a pass fail or never end, each as small as it could be made (found by the fault campaign, R8)."""

import json
from typing import Any

import pytest

from faults.in_memory_specs import built
from mabeam.api.agent_status import AgentStatus
from mabeam.api.base import format_time
from mabeam.core.pods.body import PodRequest, pod_body
from support.builders import agent_body, an_agent

WORKER = {"module": "team.work:Worker"}
ABOUT_A = {"agents": {"names": ["a"]}, "value": 0.5}
OWNERS = [{"apiVersion": "mabeam.dev/v1alpha1", "kind": "Agent", "name": "a", "uid": "uid-of-a", "controller": True}]
EVICTED = {"phase": "Failed", "reason": "Evicted"}


def pod(name: str, status: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"name": name, "uid": name, "ownerReferences": OWNERS}, "status": status}


@pytest.mark.parametrize(
    "world",
    [
        pytest.param(
            {"agentStatus": {"restarts": 2**31 - 1}, "pods": [pod("a-0-1", {"phase": "Failed"})]}, id="restarts"
        ),
        pytest.param({"agentStatus": {"disruptions": 2**31 - 1}, "pods": [pod("a-0-1", EVICTED)]}, id="disruptions"),
        pytest.param({"agentStatus": {"directives": {"generation": 2**53}}}, id="generation in the status"),
        pytest.param({"variableStatus": {"round": 2**53}}, id="round"),
        pytest.param({"agentStatus": {"parkedAt": "0001-01-01T00:00:00Z"}}, id="the year 1"),
        pytest.param({"agentStatus": {"parkedAt": "9999-12-31T23:59:59-12:00"}}, id="the year 10000"),
        pytest.param({"agentStatus": {"probedAt": "9999-12-31T23:59:59Z"}}, id="a try at the calendar's end"),
        pytest.param(
            {
                "agent": WORKER | {"faultTolerance": {"probeAfterSeconds": 60}},
                "agentStatus": {"parkedAt": "9999-12-31T23:59:59Z"},
            },
            id="a try after the calendar's end",
        ),
        pytest.param(
            {
                "variable": {"agents": {"names": ["a"]}, "negotiation": {}},
                "variableStatus": {
                    "negotiation": {"id": "t-1", "state": "Failed", "strategy": "Auction", "reason": "?"}
                },
            },
            id="a reason that is none",
        ),
        pytest.param(
            {
                "agentStatus": {
                    "parkedAt": "2100-02-28T00:00:00Z",
                    "failures": [{"cause": "Preempted", "time": "0001-01-01T00:00:00Z"}],
                }
            },
            id="a failure in the year 1",
        ),
        pytest.param({"variableStatus": {"previousValue": -1e300}}, id="a whole number that no 64 bits hold"),
        pytest.param({"variable": {"agents": {"names": ["a"]}, "value": 1e300}}, id="a value that no 64 bits hold"),
    ],
)
def test_a_status_at_the_edge_of_its_schema_stays_one_that_the_apiserver_takes(world: dict[str, Any]) -> None:
    built({"agent": WORKER, "variable": ABOUT_A} | world).settle()


@pytest.mark.parametrize("generation", [2**53, 2**60, -1, True])
def test_a_config_map_with_an_impossible_generation_is_put_right(generation: int) -> None:
    document = json.dumps({"generation": generation, "role": "Executor", "parameters": {}})
    meta = {"name": "a-mabeam", "namespace": "team", "uid": "c", "resourceVersion": "7", "ownerReferences": OWNERS}
    world = built(
        {"agent": WORKER, "variable": ABOUT_A, "configMap": {"metadata": meta, "data": {"directives.json": document}}}
    )
    world.settle()
    held = json.loads(world.config_maps["a-mabeam"]["data"]["directives.json"])
    assert held["parameters"] == {"t": 0.5}
    assert 1 <= held["generation"] <= 3


@pytest.mark.parametrize("incarnation", [10**9, 10**9 + 1, 2**31 - 2, 2**31 - 1])
def test_a_forged_pod_of_the_last_incarnation_keeps_nobody_busy(incarnation: int) -> None:
    world = built({"agent": WORKER, "variable": ABOUT_A, "pods": [pod(f"a-0-{incarnation}", EVICTED)]})
    world.settle()
    assert world.conditions_of("Agent", "a")["Accepted"][0] == "True"


NONSENSE: list[dict[str, Any]] = [
    {"volumes": "x"},
    {"volumes": [1]},
    {"containers": [{"name": "c", "env": 5}]},
    {"containers": [{"name": "c", "env": [{"name": {}}]}]},
    {"containers": [{"name": "c", "ports": [None]}]},
    {"containers": [{"name": "c", "resources": []}]},
    {"containers": [{"name": "c", "resources": {"requests": 1}}]},
    {"containers": [{"name": ["c"]}]},
]


@pytest.mark.parametrize("nonsense", NONSENSE, ids=str)
def test_a_template_that_is_no_pod_is_refused_with_a_word_to_its_writer(nonsense: dict[str, Any]) -> None:
    template = {"spec": {"containers": [{"name": "c", "image": "i"}], **nonsense}}
    world = built({"agent": {"template": template, "resources": {"requests": {"cpu": 1}}}, "variable": ABOUT_A})
    world.settle()
    status, _, message = world.conditions_of("Agent", "a")["Accepted"]
    assert status == "False"
    assert "must be a PodSpec" in message
    assert world.pods == {}


def test_a_null_where_a_list_was_empty_is_an_empty_list() -> None:
    container = {"name": "c", "image": "i", "env": None, "ports": None, "volumeMounts": None, "resources": None}
    template = {"spec": {"containers": [container], "volumes": None}}
    agent = an_agent(template=template, resources={"requests": {"cpu": "1"}})
    made = pod_body(PodRequest(agent=agent, ordinal=0, incarnation=1))["spec"]
    (equipped,) = made["containers"]
    assert equipped["resources"] == {"requests": {"cpu": "1"}}
    assert [mount["name"] for mount in equipped["volumeMounts"]] == [volume["name"] for volume in made["volumes"]]
    assert template["spec"]["volumes"] is None


def test_a_time_is_written_with_four_digits_of_a_year() -> None:
    status = AgentStatus.model_validate(agent_body(status={"parkedAt": "0001-01-01T00:00:00Z"})["status"])
    assert status.parked_at is not None
    assert format_time(status.parked_at) == "0001-01-01T00:00:00Z"
