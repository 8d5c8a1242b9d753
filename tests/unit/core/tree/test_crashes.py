"""A tree whose operator loses any one of its passes' writes, or sees each pass in any order, ends in the same place."""

import random

import pytest

from support.tree import Tree, child_body, supervisor_body


def a_tree() -> Tree:
    return Tree.of(
        supervisor_body("root", "first", "/inner", "last", strategy="RestForOne"),
        supervisor_body("inner", "x", "y", strategy="OneForAll", maxRestarts=1),
        child_body("first", "root"),
        child_body("last", "root", restart="Transient"),
        child_body("x", "inner"),
        child_body("y", "inner"),
    )


def play(tree: Tree, order: random.Random | None = None) -> Tree:
    """The tree's story: a group restart below, one that escalates, one at the top."""
    names = [*tree.supervisors, *tree.worlds]

    def settle() -> None:
        tree.settle(order.sample(names, len(names)) if order else None)

    settle()
    for seconds, victim, code in ((1, "x", 1), (1, "y", 1), (1, "first", 2), (100, "last", 0)):
        tree.wait(seconds)
        tree.end(victim, code)
        settle()
    return tree


def place(tree: Tree) -> object:
    """Where it ended: the lives of all, what runs, and what was counted."""
    supervisors = {name: tree.supervisor(name).status for name in tree.supervisors}
    return (
        {name: (tree.lives(name), status.total_restarts, status.state) for name, status in supervisors.items()},
        {name: sorted(world.pods) for name, world in tree.worlds.items()},
        tree.running(),
    )


@pytest.mark.parametrize("seed", range(20))
def test_the_order_of_the_passes_does_not_matter(seed: int) -> None:
    assert place(play(a_tree(), random.Random(seed))) == place(play(a_tree()))


@pytest.mark.parametrize("agent", ["first", "x", "y", "last"])
def test_an_agents_pass_that_dies_before_any_of_its_writes_changes_no_ending(agent: str) -> None:
    straight = play(a_tree())
    for number in range(len(straight.worlds[agent].writes)):
        broken = a_tree()
        broken.worlds[agent].crash_at = number
        play(broken)
        assert broken.worlds[agent].deaths == 1
        assert place(broken) == place(straight), f"died before write {number} of {agent}"


@pytest.mark.parametrize("lost", range(40))
def test_a_supervisors_write_that_is_lost_is_made_again(lost: int) -> None:
    straight, broken = play(a_tree()), a_tree()
    broken.lose = lost
    play(broken)
    assert place(broken) == place(straight)
