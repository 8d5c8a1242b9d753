"""Pods that are kept for their logs: labelled, so that the scale subresource's selector counts live pods only."""

import pytest

from mabeam.api.names import LABEL_ENDED
from support.builders import agent_body
from support.world import World


@pytest.mark.parametrize("code", [0, 3], ids=["Succeeded", "Failed"])
def test_a_pod_that_is_kept_for_its_log_is_labelled_once(code: int) -> None:
    world = World(agent_body(max_failures=9))
    world.settle()
    world.end("a-0-1", code)
    world.settle()
    assert world.live() == ["a-0-2"]
    assert world.pods["a-0-1"]["metadata"]["labels"][LABEL_ENDED] == "true"
    assert LABEL_ENDED not in world.pods["a-0-2"]["metadata"]["labels"]
    assert [(write.name, write.reason) for write in world.writes if write.verb == "patch"] == [("a-0-1", "ended")]


def test_the_selector_of_the_scale_subresource_leaves_ended_pods_out() -> None:
    world = World(agent_body())
    world.settle()
    assert world.status.selector == "mabeam.dev/agent=a,!mabeam.dev/ended"


def test_the_next_pod_is_created_before_the_ended_one_is_labelled() -> None:
    world = World(agent_body(max_failures=9))
    world.settle()
    begun = len(world.writes)
    world.end("a-0-1", 3)
    world.settle()
    assert [(write.verb, write.name) for write in world.writes[begun:] if write.kind == "Pod"] == [
        ("create", "a-0-2"),
        ("patch", "a-0-1"),
    ]
