"""An allotment that the apiserver refuses: Refused with its words, asked for once, and never in the way of a new pod."""

from dataclasses import replace
from typing import Any

import pytest

from mabeam.api.agent_status import AgentStatus
from mabeam.core.decision import Decision
from mabeam.core.passes.agent import decide
from mabeam.core.snapshot import AgentSnapshot, PodFacts, PodRefused, ResizeRefused
from support.builders import a_pod, at, stamp
from support.coordination import ordering, told_agent

NODES = frozenset({"node1"})
DECLARED = {"requests": {"memory": "64Mi"}}
ALLOTTED = {"requests": {"memory": "200Mi"}}
LIMIT_RANGE = 'pods "a-0-1" is forbidden: maximum memory usage per Container is 128Mi, but request is 200Mi'
NODE_CAPACITY = 'pods "a-0-1" is forbidden: cpu requests exceed node allocatable'


def snapshot(*pods: PodFacts, refused: dict[str, ResizeRefused] | None = None, **more: Any) -> AgentSnapshot:
    """An agent of one replica, of which a variable allots 200Mi."""
    variable = ordering("shares", ("AllocateResources", {"memory": "200Mi"}))
    record = {
        "ordinal": 0,
        "name": "a-0-1",
        "incarnation": 1,
        "state": "Running",
        "node": "node1",
        "startTime": stamp(0),
    }
    agent = told_agent("a", status={"pods": [record]}, resources=DECLARED)
    return AgentSnapshot(agent, pods, variables=(variable,), nodes=NODES, refused_resizes=refused or {}, **more)


def after(before: AgentSnapshot, decision: Decision[AgentStatus], **changes: Any) -> AgentSnapshot:
    return replace(before, agent=before.agent.model_copy(update={"status": decision.status}), **changes)


def resizes(decision: Decision[AgentStatus]) -> list[Any]:
    return [
        effect.body["spec"]["containers"][0]["resources"]
        for effect in decision.effects
        if effect.subresource == "resize"
    ]


def the_pod(**more: Any) -> PodFacts:
    return a_pod("a-0-1", **{"resources": DECLARED, "main_name": "agent", **more})


def item(decision: Decision[AgentStatus]) -> tuple[str, str | None, str | None]:
    assert decision.status.directives is not None
    (found,) = decision.status.directives.items
    return str(found.state), found.reason, found.message


@pytest.mark.parametrize("message", [LIMIT_RANGE, NODE_CAPACITY], ids=["LimitRange", "node capacity, as of 1.36"])
def test_a_refused_resize_is_refused_with_the_servers_words_and_asked_for_once(message: str) -> None:
    seen = snapshot(the_pod())
    first = decide(seen, at(10))
    assert resizes(first) == [ALLOTTED]
    refused = {"a-0-1": ResizeRefused(ALLOTTED, message)}
    second = decide(after(seen, first, refused_resizes=refused), at(10))
    assert resizes(second) == []
    assert item(second) == ("Refused", "ResourceExhausted", f"not enough resources: {message}")
    assert [(e.reason, e.type) for e in second.events] == [("ResourceExhausted", "Warning")]
    assert message in second.events[0].note
    third = decide(after(seen, second, refused_resizes=refused), at(11))
    assert (resizes(third), third.events, item(third)[0]) == ([], (), "Refused")


def test_a_refused_allotment_enters_no_new_pod() -> None:
    seen = snapshot(the_pod())
    refused = {"a-0-1": ResizeRefused(ALLOTTED, LIMIT_RANGE)}
    told = decide(after(seen, decide(seen, at(10)), refused_resizes=refused), at(10))
    lost = decide(after(seen, told, pods=(), refused_resizes=refused), at(20))
    assert [r.name for r in lost.status.pods] == ["a-0-2"]
    (create,) = [e for e in decide(after(seen, lost, pods=(), refused_resizes={}), at(21)).effects if e.kind == "Pod"]
    assert create.body["spec"]["containers"][0]["resources"] == DECLARED


def test_a_pod_that_is_refused_with_its_allotment_is_created_as_declared() -> None:
    seen = snapshot()
    lost = decide(seen, at(20))
    again = after(seen, lost)
    with_share = [
        e.body["spec"]["containers"][0]["resources"] for e in decide(again, at(21)).effects if e.kind == "Pod"
    ]
    assert with_share == [ALLOTTED]
    refused = replace(again, refused=PodRefused(LIMIT_RANGE, 0.0, "a-0-2"))
    declared = [
        e.body["spec"]["containers"][0]["resources"] for e in decide(refused, at(21)).effects if e.kind == "Pod"
    ]
    assert declared == [DECLARED]


def test_a_refused_resize_is_asked_for_again_when_what_refused_it_has_changed() -> None:
    seen = snapshot(the_pod())
    refused = {"a-0-1": ResizeRefused(ALLOTTED, LIMIT_RANGE)}
    told = decide(after(seen, decide(seen, at(10)), refused_resizes=refused), at(10))
    due = {"a-0-1": replace(refused["a-0-1"], is_retry_due=True)}
    anew = decide(after(seen, told, refused_resizes=due), at(60))
    assert item(anew)[0] in ("Issued", "Delivered")
    assert resizes(decide(after(seen, anew, refused_resizes=due), at(60))) == [ALLOTTED]


def test_amounts_that_a_limit_range_adds_are_no_reason_to_resize() -> None:
    resized = {"requests": {"memory": "200Mi", "cpu": "100m"}, "limits": {"cpu": "1"}}
    assert resizes(decide(snapshot(the_pod(resources=resized, actual=resized)), at(10))) == []
