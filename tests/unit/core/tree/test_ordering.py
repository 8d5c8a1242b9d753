"""The order of a tree: children start from the first to the last, and stop in reverse."""

from support.small_trees import a_nested_tree, a_team
from support.tree import Tree, child_body, supervisor_body


def test_children_start_from_the_first_to_the_last_each_when_the_one_before_is_ready() -> None:
    tree = a_team("c", "a", "b")
    assert tree.happened() == "+c +a +b"
    assert tree.ready("root") == ("True", "Running", "3/3 children ready")


def test_a_child_that_is_not_ready_holds_those_after_it() -> None:
    tree = Tree.of(supervisor_body("root", "a", "b"), child_body("a", "root"), child_body("b", "root"))
    tree.stubborn = {"a"}
    tree.settle()
    assert tree.running() == ["a"]
    assert tree.ready("root")[2] == "0/2 children ready; waiting for a to be ready"
    assert tree.agent("b").status.state == "Registered"
    assert [c.message for c in tree.agent("b").status.conditions if c.type == "Ready"] == [
        "waits to be started by Supervisor root"
    ]


def test_a_nested_supervisor_starts_in_its_place() -> None:
    tree = a_nested_tree()
    assert tree.happened() == "+first +x +y +last"
    assert tree.supervisor("inner").status.worst_case_restarts == 1
