"""What a child is for its tree: finished, temporary, stopped by its user, or still there after its end."""

import pytest

from support.builders import stamp
from support.small_trees import a_nested_tree, a_team, ready_and_stalled
from support.tree import Tree, child_body, supervisor_body


def test_a_finished_transient_child_rests_and_starts_again_with_its_group() -> None:
    tree = a_team("a", "b", strategy="OneForAll", children={"a": {"restart": "Transient"}})
    tree.end("a", 0)
    tree.settle()
    assert tree.ready("root")[0] == "True"
    tree.happened()
    tree.end("b")
    tree.settle()
    assert tree.happened() == "!b +a +b"


def test_a_finished_child_stays_finished_if_the_user_says_so() -> None:
    tree = a_team("a", "b", strategy="OneForAll", restartFinished=False, children={"a": {"restart": "Transient"}})
    tree.end("a", 0)
    tree.settle()
    tree.happened()
    tree.end("b")
    tree.settle()
    assert tree.happened() == "!b +b"
    assert tree.ready("root")[0] == "True"


def test_a_temporary_child_that_a_sibling_takes_along_is_removed() -> None:
    tree = a_team("a", "b", strategy="OneForAll", children={"a": {"restart": "Temporary"}})
    tree.happened()
    tree.end("b")
    tree.settle()
    assert tree.happened() == "!b -a +b"
    assert tree.ready("root")[0] == "True"
    tree.end("b")
    tree.settle()
    assert tree.running() == ["b"]


def test_a_temporary_child_that_ended_is_not_restarted_with_its_group() -> None:
    tree = a_team("a", "b", strategy="OneForAll", children={"a": {"restart": "Temporary"}})
    tree.end("a", 3)
    tree.settle()
    tree.end("b")
    tree.settle()
    assert tree.running() == ["b"]
    assert tree.ready("root")[0] == "True"


@pytest.mark.parametrize("again", ["its spec changed", "made anew"])
def test_a_finished_child_that_its_user_starts_again_is_a_child_like_any_other(again: str) -> None:
    tree = a_team("a", "b", restartFinished=False, children={"a": {"restart": "Transient"}})
    tree.end("a", 0)
    tree.settle()
    if again == "made anew":
        del tree.worlds["a"]
        tree.settle()
        tree.add(child_body("a", "root", restart="Transient"))
    else:
        tree.worlds["a"].change(image="worker:2")
    tree.settle()
    tree.end("a")
    tree.settle()
    assert tree.running() == ["a", "b"]
    assert tree.supervisor("root").status.total_restarts == 1


@pytest.mark.parametrize(("code", "told"), [(0, ("True", "Completed")), (3, ("False", "Failed"))])
def test_a_temporary_child_that_ended_says_how_and_its_user_may_start_it_again(
    code: int, told: tuple[str, str]
) -> None:
    tree = a_team("a", "b", strategy="OneForAll", children={"a": {"restart": "Temporary"}})
    tree.end("a", code)
    tree.settle()
    assert ready_and_stalled(tree, "a")[0] == told
    tree.worlds["a"].annotate("mabeam.dev/release", "1")
    tree.settle()
    assert tree.running() == ["a", "b"]
    tree.happened()
    tree.end("b")
    tree.settle()
    assert tree.happened() == "!b -a +b"


@pytest.mark.parametrize("ended", ["by itself", "taken along"])
def test_a_temporary_child_that_was_removed_starts_when_it_is_made_anew(ended: str) -> None:
    tree = a_team("a", "b", strategy="OneForAll", children={"a": {"restart": "Temporary"}})
    tree.end("a" if ended == "by itself" else "b")
    tree.settle()
    assert tree.running() == ["b"]
    del tree.worlds["a"]
    tree.settle()
    tree.add(child_body("a", "root", restart="Temporary"))
    tree.settle()
    assert tree.running() == ["a", "b"]
    assert tree.ready("root")[0] == "True"


def test_a_temporary_child_whose_turn_has_not_come_is_not_removed_by_the_failed_start_of_one_before_it() -> None:
    tree = Tree.of(
        supervisor_body("root", "a", "b", strategy="RestForOne"),
        child_body("a", "root"),
        child_body("b", "root", restart="Temporary"),
    )
    tree.stubborn = {"a"}
    tree.settle()
    [pod] = tree.worlds["a"].live()
    tree.worlds["a"].start(pod, ready=False)
    tree.worlds["a"].end(pod)
    tree.stubborn = set()
    tree.settle()
    assert tree.running() == ["a", "b"]


def test_a_child_that_its_user_stopped_is_never_started_by_a_group() -> None:
    tree = a_team("a", "b", "c", strategy="OneForAll", children={"a": {"desired": "Stopped"}})
    assert tree.happened() == "+b +c"
    tree.end("b")
    tree.settle()
    assert tree.happened() == "!b -c +b +c"
    assert tree.ready("root")[0] == "True"


def test_who_is_stopped_for_good_is_as_desired_and_nobody_waits_for_it() -> None:
    tree = Tree.of(
        supervisor_body("root", {"name": "main", "significant": True}, "side", "/inner", autoShutdown="AnySignificant"),
        supervisor_body("inner", "x", supervisor="root"),
        child_body("main", "root", restart="Transient"),
        child_body("side", "root"),
        child_body("x", "inner"),
    )
    tree.settle()
    tree.end("main", 0)
    tree.settle()
    assert tree.running() == []
    for name, reason in (("main", "Completed"), ("side", "Stopped"), ("x", "Stopped")):
        world = tree.worlds[name]
        assert (world.state, *world.condition("Ready")[:2]) == ("Stopped", "True", reason)
        assert world.condition("Reconciling")[0] == "False"
    told = "stopped for good: Supervisor root has completed; releasing it starts all children again"
    assert tree.ready("inner") == ("True", "Stopped", told)
    tree.supervisors["root"]["metadata"]["annotations"] = {"mabeam.dev/release": "1"}
    tree.settle()
    assert tree.running() == ["main", "side", "x"]
    assert tree.ready("root")[0] == "True"


def test_a_temporary_child_that_failed_stays_failed_when_its_tree_has_completed() -> None:
    tree = Tree.of(
        supervisor_body("root", {"name": "job", "significant": True}, "side", autoShutdown="AnySignificant"),
        child_body("job", "root", restart="Temporary"),
        child_body("side", "root"),
    )
    tree.settle()
    tree.end("job", 3)
    tree.settle()
    assert (tree.worlds["job"].state, *tree.worlds["job"].condition("Stalled")[:2]) == ("Failed", "True", "Failed")
    assert (tree.worlds["side"].state, tree.worlds["side"].condition("Ready")[0]) == ("Stopped", "True")


def test_a_removed_temporary_child_says_that_it_is_over() -> None:
    tree = a_team("a", "b", strategy="OneForAll", children={"a": {"restart": "Temporary"}})
    tree.end("b")
    tree.settle()
    assert tree.worlds["a"].condition("Ready")[:2] == ("True", "Stopped")
    tree.add(child_body("a", "root", restart="Temporary"))
    tree.pass_agent("a")
    assert tree.worlds["a"].condition("Ready")[:2] == ("False", "Held")


def test_a_child_that_gave_up_is_down_only_when_its_process_is_gone() -> None:
    tree = a_team("a", "b", strategy="OneForAll")
    tree.lingering.add("b")
    [pod] = tree.worlds["b"].live()
    tree.worlds["b"].report_failed(pod, "answers nobody")
    tree.settle()
    assert (tree.worlds["b"].state, tree.worlds["b"].record().terminating) == ("Failed", True)
    assert tree.running() == ["a", "b"]
    tree.lingering.clear()
    tree.settle()
    assert tree.happened().split()[-4:] == ["-b", "-a", "+a", "+b"]


def test_nobody_waits_for_a_child_that_lingers_where_each_stands_for_itself() -> None:
    tree = a_team("a", "z")
    tree.lingering.add("z")
    [pod] = tree.worlds["z"].live()
    tree.worlds["z"].report_failed(pod, "answers nobody")
    tree.settle()
    tree.happened()
    tree.end("a")
    tree.settle()
    assert tree.happened() == "!a +a"
    assert len(tree.worlds["z"].live()) == 1
    tree.lingering.clear()
    tree.settle()
    assert tree.happened() == "-z +z"


def test_a_temporary_child_whose_process_lingers_ends_once() -> None:
    tree = a_team("a", "b", autoShutdown="Never", children={"b": {"restart": "Temporary"}})
    tree.lingering.add("b")
    [pod] = tree.worlds["b"].live()
    tree.worlds["b"].report_failed(pod, "answers nobody")
    tree.settle()
    assert tree.supervisor("root").status.children[1].end is None
    assert tree.ready("root") == ("False", "Progressing", "1/2 children ready; waiting for b to stop")
    tree.lingering.clear()
    tree.settle()
    assert tree.supervisor("root").status.children[1].end == "Finished"


def test_a_nested_supervisor_that_cannot_be_read_is_not_waited_for() -> None:
    tree = a_nested_tree()
    tree.happened()
    stalled = {
        "type": "Accepted",
        "status": "False",
        "reason": "InvalidSpec",
        "message": "spec.strategy: no such strategy",
    }
    tree.supervisors["inner"]["status"]["conditions"] = [stalled | {"lastTransitionTime": stamp(0)}]
    tree.end("first")
    order = [name for name in [*tree.supervisors, *tree.worlds] if name not in ("inner", "x", "y")]
    tree.settle(order)
    assert tree.happened() == "!first -last +first"
