"""A refused pod: told once, in the apiserver's words, for as long as a pod is wanted that is not there."""

from dataclasses import replace
from typing import Any

import pytest

from mabeam.api.agent_status import AgentStatus
from mabeam.core.decision import Decision
from mabeam.core.passes.agent import decide
from mabeam.core.snapshot import AgentSnapshot, PodRefused
from mabeam.core.supervision.refusal import is_pod_quota_used_up
from support.builders import a_pod, an_agent, at, exited, stamp

NODES = frozenset({"node1"})
QUOTA = PodRefused('pods "a-1-1" is forbidden: exceeded quota: q', retry_in=5)
DEAD_WEBHOOK = PodRefused(
    'Internal error occurred: failed calling webhook "x": connection refused', 2, "a-0-1", of_server=True
)


def record(name: str, state: str = "Starting", **more: Any) -> dict[str, Any]:
    _, ordinal, incarnation = name.rsplit("-", 2)
    return {"name": name, "ordinal": int(ordinal), "incarnation": int(incarnation), "state": state, **more}


def snapshot(*records: dict[str, Any], refused: PodRefused = QUOTA, **spec: Any) -> AgentSnapshot:
    status = {"observedGeneration": 1, "state": "Running", "pods": list(records)}
    pods = tuple(a_pod(r["name"]) for r in records if r["state"] == "Running")
    return AgentSnapshot(an_agent(status=status, **spec), pods, nodes=NODES, refused=refused)


def conditions(decision: Decision[AgentStatus]) -> dict[str, tuple[str, str]]:
    return {c.type: (str(c.status), c.reason) for c in decision.status.conditions}


RUNS = record("a-0-1", "Running", node="node1", startTime=stamp(0))


def test_a_refusal_is_told_by_an_event_once_and_by_the_conditions_as_long_as_it_lasts() -> None:
    first = decide(snapshot(RUNS, record("a-1-1"), replicas=2), at(10))
    assert [(e.reason, e.type) for e in first.events] == [("PodRefused", "Warning")]
    assert "exceeded quota: q" in first.events[0].note
    told = snapshot(RUNS, record("a-1-1"), replicas=2)
    told = replace(told, agent=told.agent.model_copy(update={"status": first.status}))
    again = decide(told, at(11))
    assert (again.events, conditions(again)["Stalled"]) == ((), ("True", "PodRefused"))


@pytest.mark.parametrize(
    ("spec", "state"), [({"replicas": 1}, "Running"), ({"replicas": 1, "desired": "Stopped"}, "Stopping")]
)
def test_a_refusal_is_taken_back_when_no_pod_is_wanted_any_more(spec: dict[str, Any], state: str) -> None:
    decision = decide(snapshot(RUNS, record("a-1-1"), **spec), at(10))
    assert decision.status.state == state
    found = conditions(decision)
    assert (found["Accepted"], found["Stalled"][0]) == (("True", "Valid"), "False")


def test_a_server_that_fails_is_told_and_nobody_has_to_act() -> None:
    decision = decide(snapshot(record("a-0-1"), refused=DEAD_WEBHOOK), at(10))
    found = conditions(decision)
    assert found["Ready"] == ("False", "PodRefused")
    assert (found["Accepted"][0], found["Stalled"][0], found["Reconciling"][0]) == ("True", "False", "True")
    assert decision.events[0].note.startswith("the apiserver could not create the pod: Internal error occurred")
    assert decision.requeue_after == 2


def test_a_server_that_fails_for_one_pod_holds_up_no_other() -> None:
    decision = decide(snapshot(record("a-0-1"), record("a-1-1"), refused=DEAD_WEBHOOK, replicas=2), at(10))
    assert [(effect.verb, effect.name) for effect in decision.effects] == [("create", "a-1-1")]


def test_a_restart_that_the_server_cannot_make_says_so_and_no_time_that_is_over() -> None:
    waits = record("a-0-2", nextRestartTime=stamp(5))
    ready = next(
        c for c in decide(snapshot(waits, refused=DEAD_WEBHOOK), at(60)).status.conditions if c.type == "Ready"
    )
    assert (ready.reason, "connection refused" in ready.message) == ("PodRefused", True)


def test_an_ended_pod_is_kept_for_its_log_until_it_takes_the_room_of_the_next_one() -> None:
    restarted = snapshot(record("a-0-2"))
    kept = replace(restarted, pods=(a_pod("a-0-1", exited(3), marked_ended=True),))
    assert decide(kept, at(20)).effects == ()
    gives_way = decide(replace(kept, pod_quota_used_up=True), at(20)).effects
    assert [(e.verb, e.name, e.reason, e.can_wait) for e in gives_way] == [
        ("delete", "a-0-1", "gives-way-in-quota", False)
    ]


@pytest.mark.parametrize(
    ("words", "used_up"),
    [
        ("exceeded quota: q, requested: count/pods=1, used: count/pods=1, limited: count/pods=1", True),
        (
            "exceeded quota: q, requested: cpu=1,count/pods=1, used: cpu=1,count/pods=1, limited: cpu=1,count/pods=1",
            True,
        ),
        ("exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1", False),
        ("exceeded quota: count/pods=, requested: cpu=1, used: cpu=1, limited: cpu=1", False),
        ("admission webhook denied the request: count/pods=1", False),
    ],
)
def test_only_a_quota_on_objects_is_filled_by_ended_pods(words: str, used_up: bool) -> None:
    assert is_pod_quota_used_up(f'pods "a-0-2" is forbidden: {words}') is used_up
