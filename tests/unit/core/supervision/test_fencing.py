"""At most one live process per ordinal: pods of an earlier Agent, orphans, forged pods, and nodes that nobody has heard of."""

from dataclasses import replace
from typing import Any

import pytest

from mabeam.api.agent_status import AgentStatus
from mabeam.core.decision import Decision
from mabeam.core.passes.agent import decide
from mabeam.core.snapshot import AgentSnapshot, PodFacts
from mabeam.core.supervision.fencing import nodes_in_question
from mabeam.core.supervision.working_set import MAX_LEAP
from support.builders import a_pod, an_agent, at, exited, stamp, waiting

NODES = frozenset({"node1"})


def snapshot(*pods: PodFacts, status: dict[str, Any] | None = None, **spec: Any) -> AgentSnapshot:
    return AgentSnapshot(an_agent(status=status, **spec), pods, nodes=NODES)


def record(name: str, state: str = "Starting", **more: Any) -> dict[str, Any]:
    _, ordinal, incarnation = name.rsplit("-", 2)
    return {"name": name, "ordinal": int(ordinal), "incarnation": int(incarnation), "state": state, **more}


def stored(*records: dict[str, Any]) -> dict[str, Any]:
    return {"observedGeneration": 1, "state": "Running", "pods": list(records)}


def after(before: AgentSnapshot, decision: Decision[AgentStatus], *pods: PodFacts) -> AgentSnapshot:
    """What the next pass sees when the status is stored and these are the pods."""
    return replace(before, agent=before.agent.model_copy(update={"status": decision.status}), pods=pods)


def ready(decision: Decision[AgentStatus]) -> tuple[str, str]:
    return next((c.reason, c.message) for c in decision.status.conditions if c.type == "Ready")


def writes(decision: Decision[AgentStatus]) -> list[tuple[str, str]]:
    return [(effect.verb, effect.name) for effect in decision.effects]


# --- an Agent that was deleted and created anew -------------------------------------------------------------------------


@pytest.mark.parametrize("earlier", ["a-0-7", "a-0-1"])
def test_an_agent_made_anew_waits_for_the_running_pod_of_its_namesake_and_says_so(earlier: str) -> None:
    fresh = replace(snapshot(status=stored(record("a-0-1"))), namesake_pods=(a_pod(earlier),))
    waits = decide(fresh, at(5))
    assert waits.effects == ()
    assert ready(waits)[0] == "Fencing"
    assert f"waits until {earlier} is gone" in ready(waits)[1]
    assert writes(decide(replace(fresh, namesake_pods=()), at(6))) == [("create", "a-0-1")]


@pytest.mark.parametrize(
    "earlier",
    [a_pod("a-1-7"), a_pod("a-0-7", exited(0)), a_pod("a-0-7", node="gone")],
    ids=["other", "ended", "no node"],
)
def test_a_namesakes_pod_that_cannot_be_a_second_process_is_not_waited_for(earlier: PodFacts) -> None:
    fresh = replace(snapshot(status=stored(record("a-0-1"))), namesake_pods=(earlier,))
    assert writes(decide(fresh, at(5))) == [("create", "a-0-1")]


def test_an_ended_pod_of_a_namesake_is_waited_for_when_it_has_the_very_name() -> None:
    fresh = replace(snapshot(status=stored(record("a-0-1"))), namesake_pods=(a_pod("a-0-1", exited(0)),))
    assert decide(fresh, at(5)).effects == ()


# --- orphans --------------------------------------------------------------------------------------------------------------


def test_an_orphan_is_taken_over_and_runs_on() -> None:
    orphan = a_pod("a-0-7", orphaned=True)
    fresh = snapshot(orphan)
    decision = decide(fresh, at(5))
    assert writes(decision) == [("adopt", "a-0-7")]
    assert decision.effects[0].body["metadata"]["ownerReferences"][0]["uid"] == "uid-of-a"
    assert [(r.name, str(r.state)) for r in decision.status.pods] == [("a-0-7", "Running")]
    assert "PodAdopted" in [event.reason for event in decision.events]
    assert writes(decide(after(fresh, decision, replace(orphan, orphaned=False)), at(6))) == []


def test_a_pod_that_loses_its_owner_is_no_loss_and_gets_no_second_process() -> None:
    runs = stored(record("a-0-1", "Running", node="node1", startTime=stamp(0)))
    decision = decide(snapshot(a_pod("a-0-1", orphaned=True), status=runs), at(5))
    assert (writes(decision), decision.status.failures) == ([("adopt", "a-0-1")], ())


def test_an_orphan_that_is_being_deleted_is_waited_for() -> None:
    going = a_pod("a-0-1", orphaned=True, deleting=True, deletion_requested_at=at(4))
    runs = stored(record("a-0-2"))
    assert decide(snapshot(going, status=runs), at(5)).effects == ()


# --- forged pods ------------------------------------------------------------------------------------------------------------


def test_a_forged_pod_of_a_far_number_hides_no_pod_of_the_agents_own() -> None:
    runs = stored(record("a-0-1", "Running", node="node1", startTime=stamp(0)))
    seen = snapshot(a_pod("a-0-1"), a_pod(f"a-0-{10**9}", exited(1, 5)), status=runs)
    decision = decide(seen, at(10))
    assert [(r.name, str(r.state)) for r in decision.status.pods] == [("a-0-1", "Running")]
    assert (decision.effects, decision.status.ready_replicas) == ((), 1)


def test_the_pods_of_a_status_from_a_backup_are_believed_and_so_are_their_successors() -> None:
    runs = stored(record("a-0-1", "Running", node="node1", startTime=stamp(0)))
    newest = MAX_LEAP + 1
    seen = snapshot(a_pod(f"a-0-{newest}", exited(1, 5)), status=runs)
    decision = decide(seen, at(10))
    assert [r.incarnation for r in decision.status.pods] == [newest + 1]
    mine = a_pod(f"a-0-{newest + 1}")
    assert decide(after(seen, decision, *seen.pods, mine), at(11)).status.ready_replicas == 1


def test_forged_ordinals_do_not_push_the_status_past_what_the_crd_takes() -> None:
    runs = stored(record("a-0-1", "Running", node="node1", startTime=stamp(0)))
    forged = [a_pod(f"a-{ordinal}-1") for ordinal in range(1, 251)]
    assert len(decide(snapshot(a_pod("a-0-1"), *forged, status=runs), at(9)).status.pods) <= 200


# --- pods that were gone before anybody saw them end ------------------------------------------------------------------------


@pytest.mark.parametrize(("restart", "state"), [("Temporary", "Failed"), ("Transient", "Starting")])
def test_a_pod_that_was_seen_and_is_gone_has_ended_though_nobody_saw_it_run(restart: str, state: str) -> None:
    fresh = snapshot(
        a_pod("a-0-1", waiting("ContainerCreating"), ready=False), status=stored(record("a-0-1")), restart=restart
    )
    seen = decide(fresh, at(5))
    assert [(r.created, r.node) for r in seen.status.pods] == [(True, "node1")]
    gone = decide(after(fresh, seen), at(300))
    assert [str(r.state) for r in gone.status.pods] == [state]
    assert [f.cause for f in gone.status.failures] == ["DeletedByOther"]


@pytest.mark.parametrize("restart", ["Permanent", "Transient", "Temporary"])
def test_a_pod_that_was_never_created_is_created(restart: str) -> None:
    assert writes(decide(snapshot(status=stored(record("a-0-1")), restart=restart), at(5))) == [("create", "a-0-1")]


# --- nodes --------------------------------------------------------------------------------------------------------------------


def test_only_the_nodes_that_a_decision_depends_on_are_in_question() -> None:
    runs = stored(
        record("a-0-1", "Running", node="node1", startTime=stamp(0)),
        record("a-1-1", "Running", node="lost", startTime=stamp(0)),
    )
    going = a_pod("a-0-1", node="new", deleting=True, deletion_requested_at=at(4))
    assert nodes_in_question(snapshot(going, status=runs, replicas=2)) == {"new", "lost"}
    assert nodes_in_question(snapshot(a_pod("a-0-1"), a_pod("a-1-1", node="lost"), status=runs)) == frozenset()
