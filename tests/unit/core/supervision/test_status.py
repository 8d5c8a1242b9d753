"""The state word and the conditions: what people and their tools read."""

from collections.abc import Callable
from typing import Any

import pytest

from mabeam.api.agent_status import AgentState, Failure, FailureCause
from mabeam.core.passes.agent import decide
from mabeam.core.snapshot import AgentSnapshot, PodRefused
from mabeam.core.supervision.status import status_reason
from mabeam.core.supervision.summary import describe_failure
from support import kstatus
from support.builders import a_pod, agent_body, an_agent, at, stamp
from support.world import World, up


def settled(world: World) -> World:
    world.settle()
    return world


def fresh() -> World:
    return World(agent_body(), prompt=False)


def registered() -> World:
    world = fresh()
    world.pass_once()
    return world


def starting() -> World:
    return settled(fresh())


def unschedulable() -> World:
    world = starting()
    world.cannot_schedule("a-0-1")
    return settled(world)


def without_image() -> World:
    world = starting()
    world.cannot_start("a-0-1", "ImagePullBackOff", "no such image")
    return settled(world)


def backing_off() -> World:
    world = up(agent_body(backoff={"initialSeconds": 100, "maxSeconds": 100, "jitter": 0}))
    for number in (1, 2):
        world.tick(1)
        world.end(f"a-0-{number}", 1)
        world.settle()
    return world


def running() -> World:
    return up(agent_body(replicas=2))


def unready() -> World:
    world = running()
    world.unready("a-1-1")
    return settled(world)


def stopping() -> World:
    world = up(agent_body(), prompt=False)
    world.change(desiredState="Stopped")
    return settled(world)


def stopped() -> World:
    world = up(agent_body())
    world.change(desiredState="Stopped")
    return settled(world)


def scaled_to_zero() -> World:
    world = up(agent_body())
    world.change(replicas=0)
    return settled(world)


def ended(restart: str, code: int) -> World:
    world = up(agent_body(restart=restart))
    world.end("a-0-1", code)
    return settled(world)


def disrupted() -> World:
    world = up(agent_body(restart="Temporary"))
    world.evict("a-0-1")
    return settled(world)


def parked() -> World:
    world = up(agent_body(max_failures=0, replicas=2))
    world.end("a-0-1", 1)
    return settled(world)


def unreadable() -> World:
    world = running()
    world.change(replicas="many")
    return settled(world)


def changed() -> World:
    """The user changed the spec, and the operator has not looked yet."""
    world = running()
    world.change(image="worker:2")
    return world


def deleted() -> World:
    world = running()
    world.agent["metadata"]["deletionTimestamp"] = stamp(9)
    return settled(world)


# name: (how it comes to be, the state word, Ready's reason, kstatus's verdict)
STATES: dict[str, tuple[Callable[[], World], str | None, str | None, kstatus.Verdict]] = {
    "unseen": (fresh, None, None, "InProgress"),
    "registered": (registered, "Starting", "Starting", "InProgress"),
    "starting": (starting, "Starting", "Starting", "InProgress"),
    "unschedulable": (unschedulable, "Starting", "Unschedulable", "InProgress"),
    "without its image": (without_image, "Starting", "ImagePullBackOff", "InProgress"),
    "backing off": (backing_off, "Starting", "BackOff", "InProgress"),
    "running": (running, "Running", "Running", "Current"),
    "unready": (unready, "Running", "NotReady", "InProgress"),
    "stopping": (stopping, "Stopping", "Stopping", "InProgress"),
    "stopped": (stopped, "Stopped", "Stopped", "Current"),
    "scaled to zero": (scaled_to_zero, "Stopped", "Stopped", "Current"),
    "a completed Transient": (lambda: ended("Transient", 0), "Stopped", "Completed", "Current"),
    "a completed Temporary": (lambda: ended("Temporary", 0), "Stopped", "Completed", "Current"),
    "a disrupted Temporary": (disrupted, "Stopped", "Disrupted", "Current"),
    "a failed Temporary": (lambda: ended("Temporary", 1), "Failed", "Failed", "Failed"),
    "parked": (parked, "Failed", "RestartBudgetExhausted", "Failed"),
    "unreadable": (unreadable, "Running", "InvalidSpec", "Failed"),
    "changed and not looked at": (changed, "Running", "Running", "InProgress"),
    "being deleted": (deleted, "Running", "Running", "Terminating"),
}


@pytest.mark.parametrize("name", STATES)
def test_every_state_reads_alike_for_people_and_for_kstatus(name: str) -> None:
    make, state, reason, verdict = STATES[name]
    world = make()
    ready = next((c for c in world.status.conditions if c.type == "Ready"), None)
    assert (world.status.state, ready.reason if ready else None) == (state, reason)
    assert kstatus.compute(world.agent) == verdict


def test_every_state_word_of_an_agent_whose_pods_are_taken_is_reached_but_migrating() -> None:
    reached = {AgentState(state) for _, state, _, _ in STATES.values() if state}
    assert reached == set(AgentState) - {AgentState.MIGRATING, AgentState.REGISTERED}


@pytest.mark.parametrize("name", [name for name in STATES if name != "unseen"])
def test_ready_reconciling_and_stalled_exclude_each_other(name: str) -> None:
    world = STATES[name][0]()
    holding = [type_ for type_ in ("Ready", "Reconciling", "Stalled") if world.condition(type_)[0] == "True"]
    assert len(holding) == 1


@pytest.mark.parametrize("name", [name for name in STATES if name not in ("unseen", "changed and not looked at")])
def test_every_condition_says_which_generation_it_judged(name: str) -> None:
    world = STATES[name][0]()
    generation = world.agent["metadata"]["generation"]
    assert {c.observed_generation for c in world.status.conditions} == {generation}
    assert world.status.observed_generation == generation


# --- what is said -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (running, "2/2 ready"),
        (unready, "1/2 ready; waiting for a-1-1"),
        (starting, "a-0-1 is starting"),
        (unschedulable, "a-0-1 cannot be scheduled: 0/3 nodes are available: insufficient memory"),
        (without_image, "a-0-1 cannot start: no such image"),
        (stopping, "waiting for a-0-1 to stop"),
        (stopped, "stopped, as desired"),
        (lambda: ended("Transient", 0), "completed; a spec change or a release starts it again"),
        (lambda: ended("Temporary", 7), "a-0-1 ended with exit code 7; Temporary agents are not restarted"),
    ],
)
def test_the_message_says_it_in_a_sentence(make: Callable[[], World], message: str) -> None:
    assert make().condition("Ready")[2] == message


def test_a_wait_names_the_failure_and_is_said_once() -> None:
    world = backing_off()
    assert world.condition("Ready")[2] == "a-0-3 starts at 00:01:42 UTC after exit code 1"
    assert reasons(world) == ["registered", "running", "failed", "running", "failed"]


def test_a_wait_that_is_over_gives_way_to_the_trouble_of_the_new_pod() -> None:
    world = backing_off()
    world.prompt = False
    world.advance(100)
    world.cannot_start("a-0-3", "ImagePullBackOff", "gone")
    world.settle()
    assert world.condition("Ready")[1:] == ("ImagePullBackOff", "a-0-3 cannot start: gone")


def test_the_trouble_of_one_pod_is_not_told_of_another() -> None:
    world = World(agent_body(replicas=2), prompt=False)
    world.settle()
    for name in ("a-0-1", "a-1-1"):
        world.cannot_start(name, "ImagePullBackOff", "no such image")
    world.settle()
    world.start("a-0-1")
    world.settle()
    assert world.condition("Ready")[2] == "a-1-1 cannot start: no such image"


def test_many_names_are_cut_short() -> None:
    world = up(agent_body(replicas=5), prompt=False)
    world.change(desiredState="Stopped")
    world.settle()
    assert world.condition("Ready")[2] == "waiting for a-0-1, a-1-1, a-2-1 and 2 more to stop"


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"cause": "Crash", "exit_code": 2, "reason": "Error"}, "exit code 2"),
        ({"cause": "Crash", "exit_code": 1, "message": "ValueError: no such model"}, "exit code 1: ValueError: no such model"),
        ({"cause": "Crash", "exit_code": 1, "message": "x" * 1024}, "exit code 1: " + "x" * 256),
        ({"cause": "NormalExit", "exit_code": 0}, "exit code 0"),
        ({"cause": "OOM", "exit_code": 137, "reason": "OOMKilled"}, "out of memory (OOMKilled)"),
        ({"cause": "ImageError", "reason": "ErrImagePull"}, "its image could not be pulled in time (ErrImagePull)"),
        ({"cause": "ConfigError", "reason": "R", "message": "no key"}, "it could not be started in time (no key)"),
        ({"cause": "DeletedByOther"}, "its pod was deleted by someone else"),
        ({"cause": "Hang"}, "it made no progress"),
    ],
)  # fmt: skip
def test_a_ledger_entry_in_words(facts: dict[str, Any], words: str) -> None:
    assert describe_failure(Failure(time=at(0), **facts)) == words


def test_every_cause_can_be_described() -> None:
    assert all(describe_failure(Failure(time=at(0), cause=cause)) for cause in FailureCause)


# --- what the shell reports ---------------------------------------------------------------------------------------------


def test_a_pod_that_the_apiserver_refuses_stalls_the_agent_in_the_apiservers_words() -> None:
    world = registered()
    snapshot = AgentSnapshot(world.look().agent, refused=PodRefused("spec.containers: Required value"))
    decision = decide(snapshot, at(1))
    body = world.agent | {"status": decision.status.to_wire()}
    accepted = next(c for c in decision.status.conditions if c.type == "Accepted")
    assert (accepted.status, accepted.reason) == ("False", "PodRefused")
    assert accepted.message == "the apiserver refused the pod: spec.containers: Required value"
    assert (decision.effects, decision.status.state, kstatus.compute(body)) == ((), "Registered", "Failed")


def test_a_refused_pod_is_created_again_when_its_retry_is_due() -> None:
    world = registered()
    snapshot = AgentSnapshot(world.look().agent, refused=PodRefused("no", retry_in=0))
    assert [effect.verb for effect in decide(snapshot, at(1)).effects] == ["create"]


def test_the_next_pass_over_a_refused_pod_is_when_its_retry_is_due() -> None:
    world = registered()
    snapshot = AgentSnapshot(world.look().agent, refused=PodRefused("no", retry_in=15))
    decision = decide(snapshot, at(1))
    assert (decision.effects, decision.requeue_after) == ((), 15)


def test_a_name_that_belongs_to_someone_else_is_told() -> None:
    world = registered()
    snapshot = AgentSnapshot(world.look().agent, name_taken="a-0-1")
    ready = next(c for c in decide(snapshot, at(1)).status.conditions if c.type == "Ready")
    assert (ready.reason, ready.message) == (
        "NameTaken",
        "a pod named a-0-1 belongs to another owner; waiting until it is deleted",
    )


def test_an_unreadable_spec_is_told_once_and_leaves_the_status_as_it_was() -> None:
    agent = an_agent(status={"observedGeneration": 1, "state": "Running", "restarts": 4}, generation=2)
    first = decide(AgentSnapshot(agent, (a_pod(),), invalid="spec.replicas: no number"), at(0))
    assert (first.status.state, first.status.restarts, first.effects) == ("Running", 4, ())
    assert [event.note for event in first.events] == ["spec.replicas: no number"]
    again = decide(
        AgentSnapshot(
            agent.model_copy(update={"status": first.status}), (a_pod(),), invalid="spec.replicas: no number"
        ),
        at(10),
    )
    assert (again.status, again.events) == (first.status, ())


# --- why a status is written ----------------------------------------------------------------------------------------------


def reasons(world: World) -> list[str]:
    return [write.reason for write in world.writes if write.verb == "patch-status"]


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (registered, ["registered"]),
        (running, ["registered", "running"]),
        (without_image, ["registered", "observed"]),
        (parked, ["registered", "running", "parked", "observed"]),
        (stopped, ["registered", "running", "stopping", "stopped"]),
        (lambda: ended("Transient", 0), ["registered", "running", "stopped"]),
        (lambda: ended("Temporary", 1), ["registered", "running", "failed"]),
    ],
)
def test_every_write_says_in_a_word_why(make: Callable[[], World], why: list[str]) -> None:
    assert reasons(make()) == why


def test_a_release_and_a_disruption_are_called_so() -> None:
    world = parked()
    world.change(image="worker:2")
    world.pass_once()
    assert reasons(world)[-1] == "released"
    assert reasons(disrupted())[-1] == "disrupted"


def test_a_failed_agent_is_nowhere_called_as_desired() -> None:
    for make in (parked, lambda: ended("Temporary", 1), unreadable):
        world = make()
        assert "AsDesired" not in {world.condition(type_)[1] for type_ in ("Ready", "Reconciling", "Stalled")}


def test_a_replacement_is_an_incarnation() -> None:
    world = changed()
    world.pass_once()
    assert reasons(world)[-1] == "incarnated"


def test_the_same_status_needs_no_reason() -> None:
    status = running().status
    assert status_reason(status, status) == "unchanged"


def test_a_parked_agent_that_exited_normally_hears_of_transient() -> None:
    world = up(agent_body(max_failures=0))
    world.end("a-0-1", 0)
    world.settle()
    assert "with restartStrategy: Transient its work is done" in world.condition("Stalled")[2]


def test_an_exit_by_a_signal_from_outside_mentions_the_probe() -> None:
    world = up(agent_body(max_failures=0))
    world.end("a-0-1", 137)
    world.settle()
    assert "exit code 137 (SIGKILL from outside: a failing liveness probe, perhaps)" in world.condition("Stalled")[2]


def test_a_restart_policy_of_the_template_is_reported_once_and_stays_in_the_condition() -> None:
    template = {"spec": {"restartPolicy": "Always", "containers": [{"name": "agent", "image": "x"}]}}
    world = up(agent_body(template=template))
    world.advance(600)
    assert len(world.told("TemplateAdjusted")) == 1
    assert "`restartPolicy: Always`" in world.condition("Accepted")[2]
    world.change(template={"spec": {"containers": [{"name": "agent", "image": "x"}]}})
    world.settle()
    assert world.condition("Accepted")[2] == ""
