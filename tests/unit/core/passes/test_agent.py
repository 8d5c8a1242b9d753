"""One whole pass over an Agent: what it writes, what it leaves alone, and when it has nothing to say."""

import pytest

from mabeam.api.agent import RestartStrategy
from mabeam.core.decision import pods_first
from mabeam.core.passes.agent import decide
from support.agent_ends import ENDS, crash, ended
from support.builders import agent_body, at, stamp
from support.world import ImpossibleState, World, up

STRATEGIES = [strategy.value for strategy in RestartStrategy]


def test_an_agent_that_is_created_stopped_never_starts() -> None:
    world = World(agent_body(desired="Stopped"))
    world.advance(1000)
    assert (world.state, world.made()) == ("Stopped", [])
    assert world.condition("Ready")[0] == "True"
    assert world.told("AgentRegistered") == ["accepted; it stays stopped, as desired"]


def test_an_agent_that_is_being_deleted_is_left_to_the_garbage_collector() -> None:
    world = up(agent_body())
    world.agent["metadata"]["deletionTimestamp"] = stamp(0)
    world.forget(["a-0-1"])
    writes = len(world.writes)
    world.settle()
    assert len(world.writes) == writes


def test_a_spec_that_cannot_be_read_leaves_its_pods_alone() -> None:
    world = up(agent_body())
    world.change(replicas="many")
    writes = len(world.writes)
    world.advance(100)
    assert [write.verb for write in world.writes[writes:]] == ["patch-status"]
    assert world.condition("Accepted")[:2] == ("False", "InvalidSpec")
    assert world.condition("Stalled")[0] == "True"
    assert world.live() == ["a-0-1"]
    world.change(replicas=1)
    world.settle()
    assert (world.condition("Accepted")[0], world.live()) == ("True", ["a-0-1"])


# --- thrift -----------------------------------------------------------------------------------------------------------


def test_a_start_takes_three_writes_and_a_deletion_none() -> None:
    world = World(agent_body(), prompt=False)
    world.settle()
    world.schedule("a-0-1")
    world.settle()
    world.start("a-0-1")  # without a readiness probe the kubelet tells of Running and Ready together
    world.settle()
    assert [write.verb for write in world.writes] == ["patch-status", "create", "patch-status"]
    world.agent["metadata"]["deletionTimestamp"] = stamp(9)
    world.settle()
    world.delete("a-0-1")
    world.settle()
    assert len(world.writes) == 3


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("restart", STRATEGIES)
def test_the_pass_after_a_settled_state_says_nothing(how: str, restart: str) -> None:
    world = ended(how, restart)
    snapshot = world.look()
    decision = decide(snapshot, at(500))
    assert decision.status.to_wire() == snapshot.agent.status.to_wire()
    assert (decision.effects, decision.events, decision.requeue_after) == ((), (), None)


def test_the_world_itself_refuses_two_live_pods_of_one_ordinal() -> None:
    world = up(agent_body())
    world.pods["a-0-9"] = {**world.pods["a-0-1"], "metadata": {**world.pods["a-0-1"]["metadata"], "name": "a-0-9"}}
    with pytest.raises(ImpossibleState, match="two live pods"):
        world._check()


def test_a_pass_that_others_wait_behind_makes_the_pod_first_and_tidies_up_in_a_later_one() -> None:
    world = World(agent_body())
    world.settle()
    for life in (1, 2):
        world.end(f"a-0-{life}")
        world.pass_once()
        if life == 1:
            world.settle()
    decided = decide(world.look(), world.now)
    assert [(effect.verb, effect.name) for effect in decided.effects] == [
        ("delete", "a-0-1"),
        ("create", "a-0-3"),
        ("patch", "a-0-2"),
    ]
    hurried = pods_first(decided)
    assert [(effect.verb, effect.name) for effect in hurried.effects] == [("create", "a-0-3")]
    assert (hurried.status, hurried.requeue_after) == (decided.status, 5.0)


def test_a_pass_that_makes_no_pod_tidies_up_whoever_waits() -> None:
    world = World(agent_body())
    world.settle()
    crash(world, "a-0-1")
    world.end("a-0-2")
    world.change(desiredState="Stopped")
    world.pass_once()
    decided = decide(world.look(), world.now)
    assert [(effect.verb, effect.name) for effect in decided.effects] == [("delete", "a-0-1"), ("patch", "a-0-2")]
    assert pods_first(decided) is decided
