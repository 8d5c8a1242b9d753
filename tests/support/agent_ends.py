"""Every way in which an agent's pod can end, for tests of what follows."""

from collections.abc import Callable

from support.builders import agent_body
from support.world import World, up


def crash(world: World, name: str, code: int = 1, after: float = 1) -> None:
    """The pod runs for a while, crashes, and the operator takes notice."""
    world.tick(after)
    world.end(name, code)
    world.settle()


ENDS: dict[str, Callable[[World], None]] = {
    "exit code 0": lambda world: world.end("a-0-1", 0),
    "a code listed as normal": lambda world: world.end("a-0-1", 42),
    "another code": lambda world: world.end("a-0-1", 3),
    "out of memory": lambda world: world.end("a-0-1", 137, "OOMKilled"),
    "deleted by a stranger": lambda world: world.delete("a-0-1"),
    "gone unseen": lambda world: world.forget(["a-0-1"]),
    "evicted by the kubelet": lambda world: world.evict("a-0-1"),
    "drained": lambda world: world.drain("a-0-1"),
    "preempted": lambda world: world.drain("a-0-1", "PreemptionByScheduler"),
    "taken by the taint manager": lambda world: world.drain("a-0-1", "DeletionByTaintManager"),
}


def ended(how: str, restart: str) -> World:
    world = up(agent_body(restart=restart, normalExitCodes=[42]))
    world.tick(10)
    ENDS[how](world)
    world.settle()
    return world
