"""Who is whose child: missing children, cycles, two parents, and agents that name a Supervisor that does not list them."""

from support.small_trees import a_team
from support.tree import Tree, child_body, supervisor_body


def test_a_missing_child_is_named_and_those_after_it_wait() -> None:
    tree = Tree.of(supervisor_body("root", "ghost", "b"), child_body("b", "root"))
    tree.settle()
    assert tree.running() == []
    assert tree.ready("root") == (
        "False",
        "ChildrenMissing",
        "0/2 children ready; Agent ghost does not exist",
    )
    tree.add(child_body("ghost", "root"))
    tree.settle()
    assert tree.running() == ["b", "ghost"]


def test_a_cycle_is_told_by_all_that_are_on_it() -> None:
    tree = Tree.of(supervisor_body("p", "/q"), supervisor_body("q", "/p", "a"), child_body("a", "q"))
    tree.settle()
    assert tree.ready("p")[1] == tree.ready("q")[1] == "InvalidTree"
    assert tree.ready("p")[2].startswith("a cycle of Supervisors: p → q → p")


def test_a_cycle_that_comes_later_stops_nobody_and_leaves_no_trace_when_it_is_gone() -> None:
    tree = Tree.of(
        supervisor_body("p", "/q", "b"), supervisor_body("q", "a"), child_body("a", "q"), child_body("b", "p")
    )
    tree.settle()
    tree.happened()
    children = tree.supervisors["q"]["spec"]["children"]
    tree.supervisors["q"]["spec"]["children"] = [{"kind": "Supervisor", "name": "p"}, *children]
    tree.settle()
    assert tree.ready("p")[1] == tree.ready("q")[1] == "InvalidTree"
    tree.supervisors["q"]["spec"]["children"] = children
    tree.settle()
    assert tree.ready("p")[0] == tree.ready("q")[0] == "True"
    assert tree.happened() == ""
    tree.end("a")
    tree.settle()
    assert tree.happened() == "!a +a"


def test_a_child_of_two_parents_belongs_to_the_older_one() -> None:
    tree = Tree.of(
        supervisor_body("young", "/inner", created=5),
        supervisor_body("old", "/inner"),
        supervisor_body("inner", "a"),
        child_body("a", "inner"),
    )
    tree.settle()
    assert tree.ready("old")[0] == "True"
    assert "is under another Supervisor, old" in tree.ready("young")[2]


def test_an_agent_that_names_nobodys_list_waits_and_says_so() -> None:
    tree = Tree.of(supervisor_body("root"), child_body("a", "root"), child_body("b", "nobody"))
    tree.settle()
    told = {
        name: next(c.message for c in tree.agent(name).status.conditions if c.type == "Ready") for name in ("a", "b")
    }
    assert told == {
        "a": "waits to be started by Supervisor root, which does not list it as a child",
        "b": "waits to be started by Supervisor nobody, which does not exist",
    }


def test_a_supervisor_that_is_deleted_leaves_its_children_running_on_their_own() -> None:
    tree = a_team("a", "b")
    del tree.supervisors["root"]
    tree.settle()
    assert tree.running() == ["a", "b"]
    tree.end("a")
    tree.settle()
    assert tree.agent("a").status.state == "Failed"
    tree.add(supervisor_body("root", "a", "b"))
    tree.settle()
    assert tree.running() == ["a", "b"]
