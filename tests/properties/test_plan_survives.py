"""Any world at all gets a plan or one sentence: a valid one, one leaf of which was replaced by something else."""

import copy
import json
from typing import Any

import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from mabeam.offline.documents import InvalidWorld
from mabeam.offline.plan import plan
from mabeam.offline.world import read_world
from support.builders import WITH_SIDECAR, agent_body, at, stamp

WORLD: list[dict[str, Any]] = [
    agent_body(
        replicas=2,
        template=WITH_SIDECAR,
        annotations={"mabeam.dev/release": "x"},
        preferences=[{"variable": "t", "value": 0.4, "weight": 2, "bid": 3}],
        reports={"port": 9464},
        resources={"requests": {"cpu": "100m"}},
        communication={"interfaces": [{"name": "http", "port": 8080}]},
        status={
            "observedGeneration": 1,
            "state": "Running",
            "parkedAt": None,
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": stamp(0), "reason": "Running"}],
            "pods": [
                {
                    "ordinal": 0,
                    "name": "a-0-1",
                    "incarnation": 1,
                    "state": "Running",
                    "startTime": stamp(1),
                    "nextRestartTime": stamp(2),
                }
            ],
            "failures": [{"time": stamp(5), "ordinal": 0, "cause": "Crash", "exitCode": 1, "counted": True}],
            "directives": {
                "generation": 2,
                "appliedGeneration": 1,
                "items": [
                    {
                        "variable": "t",
                        "action": "AdjustParameters",
                        "parameters": {"t": 0.6},
                        "issuedAt": stamp(3),
                        "timeoutSeconds": 30,
                        "generation": 2,
                    }
                ],
            },
        },
    ),
    {
        "apiVersion": "mabeam.dev/v1alpha1",
        "kind": "OrchestrationVariable",
        "metadata": {"name": "t", "namespace": "team", "generation": 1, "creationTimestamp": stamp(0)},
        "spec": {
            "agents": {"names": ["a"], "selector": {"matchLabels": {"x": "y"}}},
            "value": 0.5,
            "priority": 3,
            "domain": {"type": "Number", "minimum": 0, "maximum": 2, "step": 0.05},
            "negotiation": {"strategy": "WeightedConsensus", "periodSeconds": 15},
        },
        "status": {"observedGeneration": 1, "value": 0.4, "round": 2, "lastDecision": {"time": stamp(1), "rule": "R"}},
    },
    {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "a-0-1",
            "namespace": "team",
            "uid": "p",
            "labels": {"mabeam.dev/agent": "a"},
            "annotations": {"mabeam.dev/directives-generation": "1"},
            "creationTimestamp": stamp(0),
            "deletionTimestamp": stamp(40),
            "deletionGracePeriodSeconds": 30,
            "ownerReferences": [
                {"apiVersion": "mabeam.dev/v1alpha1", "kind": "Agent", "name": "a", "uid": "uid-of-a", "controller": True}
            ],
        },
        "spec": {"nodeName": "node1", "containers": [{"name": "proxy"}, {"name": "agent"}]},
        "status": {
            "phase": "Running",
            "startTime": stamp(0),
            "conditions": [{"type": "DisruptionTarget", "status": "False", "lastTransitionTime": stamp(2)}],
            "containerStatuses": [
                {
                    "name": "agent",
                    "ready": False,
                    "state": {"terminated": {"exitCode": 1, "finishedAt": stamp(9), "startedAt": stamp(1)}},
                }
            ],
        },
    },
    {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "a-mabeam", "namespace": "team", "uid": "c", "resourceVersion": "7"},
        "data": {"directives.json": json.dumps({"generation": 1, "role": "Executor", "parameters": {"t": 0.4}})},
    },
    {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node1"}},
    {
        "apiVersion": "mabeam.dev/plan",
        "kind": "Report",
        "metadata": {"name": "a", "namespace": "team"},
        "openmetrics": 'mabeam_preference{variable="t"} 0.7\nmabeam_applied_generation 1\n',
    },
]  # fmt: skip

Path = tuple[str | int, ...]


def paths(value: Any, here: Path = ()) -> list[Path]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [here, *(path for key, item in items for path in paths(item, (*here, key)))]


EVERYWHERE = [path for path in paths(WORLD) if path]
JUNK = st.one_of(
    st.sampled_from(
        [
            None, True, "", "a", "0", "²", "x" * 3000, 0, -1, 1, 2**31 - 1, 2**31, 2**62, 2**70, 0.5, 1e300, -1e300,
            float("nan"), float("inf"), [], {}, [[]], [None], {"a": None}, ["a", "a"], {"directives.json": "[]"},
            "0001-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "9000-12-31T23:59:59Z", "9999-12-31T23:59:59Z",
            "Running", "Failed", "Stopped", "True", "Unknown", "Permanent", "Temporary", "Transient", "{", "\x00", "\ud800",
        ]
    ),
    st.text(max_size=5),
    st.integers(),
    st.floats(),
)  # fmt: skip


def with_junk(path: Path, junk: Any) -> list[Any]:
    world = copy.deepcopy(WORLD)
    where: Any = world
    for step in path[:-1]:
        where = where[step]
    where[path[-1]] = junk
    return world


@given(path=st.sampled_from(EVERYWHERE), junk=JUNK)
@example(path=(0, "status", "failures", 0, "time"), junk="9999-12-31T23:59:59Z")
@example(path=(0, "status", "pods", 0, "incarnation"), junk=2**31 - 1)
@example(path=(0, "status", "pods", 0, "nextRestartTime"), junk="9999-12-31T23:59:59Z")
@example(path=(0, "status", "directives", "items", 0, "issuedAt"), junk="9999-12-31T23:59:59Z")
@example(path=(1, "status", "lastDecision", "time"), junk="9999-12-31T23:59:59Z")
@example(path=(2, "metadata", "deletionTimestamp"), junk="\n")
@example(path=(2, "metadata", "deletionGracePeriodSeconds"), junk=2**31 - 1)
@example(path=(2, "status", "containerStatuses", 0, "state", "terminated", "exitCode"), junk=2**70)
def test_any_leaf_may_be_anything(path: Path, junk: Any) -> None:
    try:
        text = yaml.safe_dump_all(with_junk(path, junk), allow_unicode=True)
    except UnicodeEncodeError:
        return
    refusal: str | None = None
    found: dict[str, Any] = {}
    try:
        found = plan(read_world([("-", text)]), at(60))
    except InvalidWorld as problem:
        refusal = str(problem)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert refusal is None or (refusal.startswith("-: ") and "\n" not in refusal)


def test_the_world_itself_is_a_good_one() -> None:
    found = plan(read_world([("-", yaml.safe_dump_all(WORLD))]), at(60))
    assert set(found["agents"]) == {"team/a"}
    assert set(found["variables"]) == {"team/t"}
    assert any(event["reason"] == "AgentFailed" for event in found["events"])
