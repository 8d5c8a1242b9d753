"""Deaths of children: whom the strategy takes along, one budget for all, significant children, escalation."""

import pytest

from support.builders import at, stamp
from support.small_trees import a_nested_tree, a_team
from support.tree import Tree, child_body, supervisor_body


@pytest.mark.parametrize(
    ("strategy", "story", "lives"),
    [
        ("OneForOne", "!b +b", {"a": 1, "b": 2, "c": 1}),
        ("RestForOne", "!b -c +b +c", {"a": 1, "b": 2, "c": 2}),
        ("OneForAll", "!b -c -a +a +b +c", {"a": 2, "b": 2, "c": 2}),
    ],
)
def test_a_death_takes_along_whom_the_strategy_says_stopped_in_reverse_and_started_in_order(
    strategy: str, story: str, lives: dict[str, int]
) -> None:
    tree = a_team("a", "b", "c", strategy=strategy)
    tree.happened()
    tree.end("b")
    tree.settle()
    assert tree.happened() == story
    assert tree.lives("root") == lives
    assert tree.ready("root")[0] == "True"
    [entry] = tree.supervisor("root").status.restarts
    assert entry.child == "b"


def test_a_group_restart_costs_one_and_the_next_one_too_many_stops_all_in_reverse() -> None:
    tree = a_team("a", "b", "c", strategy="OneForAll", maxRestarts=2, periodSeconds=10)
    for _ in range(2):
        tree.end("a")
        tree.settle()
    assert tree.ready("root")[0] == "True"
    tree.happened()
    tree.end("b")
    tree.settle()
    assert tree.happened() == "!b -c -a"
    assert tree.running() == []
    assert tree.ready("root")[1] == "RestartBudgetExhausted"
    assert tree.ready("root")[2].startswith("3 restarts in 10 s (allowed: 2). Last: b gave up")
    assert tree.supervisor("root").status.state == "Failed"


def test_the_window_slides_with_an_inclusive_edge() -> None:
    for pause, alive in ((10, False), (11, True)):
        tree = a_team("a", maxRestarts=1, periodSeconds=10)
        tree.end("a")
        tree.settle()
        tree.wait(pause)
        tree.end("a")
        tree.settle()
        assert (tree.running() == ["a"]) is alive


def test_no_restart_is_allowed_by_a_budget_of_none() -> None:
    tree = a_team("a", "b", maxRestarts=0)
    tree.end("a")
    tree.settle()
    assert tree.running() == []


def test_a_release_starts_everything_anew_with_an_empty_window() -> None:
    tree = a_team("a", "b", maxRestarts=0)
    tree.end("a")
    tree.settle()
    tree.happened()
    tree.supervisors["root"]["metadata"]["annotations"] = {"mabeam.dev/release": "1"}
    tree.settle()
    assert tree.happened() == "+a +b"
    assert tree.supervisor("root").status.restarts == ()
    tree.settle()
    assert tree.happened() == ""


def test_an_agents_own_budget_comes_first() -> None:
    tree = a_team("a", "b", strategy="OneForAll", children={"a": {"max_failures": 1}})
    tree.happened()
    tree.end("a")
    tree.settle()
    assert tree.happened() == "!a +a"
    tree.end("a")
    tree.settle()
    assert tree.happened() == "!a -b +a +b"
    assert tree.supervisor("root").status.total_restarts == 1


def test_an_agent_that_stops_at_its_budget_is_no_death_but_is_told() -> None:
    tree = a_team("a", "b", strategy="OneForAll", children={"a": {"escalation": "Stop"}})
    tree.end("a")
    tree.settle()
    assert tree.running() == ["b"]
    assert tree.ready("root") == ("False", "ChildFailed", "1/2 children ready; a is Failed")


@pytest.mark.parametrize(
    ("auto", "ended", "over"),
    [
        ("AnySignificant", ("a",), True),
        ("AllSignificant", ("a",), False),
        ("AllSignificant", ("a", "b"), True),
        ("AnySignificant", ("c",), False),
    ],
)
def test_significant_children_that_end_normally_shut_the_supervisor_down(
    auto: str, ended: tuple[str, ...], over: bool
) -> None:
    significant = [{"name": "a", "significant": True}, {"name": "b", "significant": True}, "c"]
    tree = Tree.of(
        supervisor_body("root", *significant, autoShutdown=auto),  # type: ignore[arg-type]
        *(child_body(name, "root", restart="Transient") for name in "abc"),
    )
    tree.settle()
    for name in ended:
        tree.end(name, 0)
        tree.settle()
    assert (tree.running() == []) is over
    assert (tree.ready("root")[1] == "Completed") is over


def test_a_significant_child_that_its_user_stopped_is_not_waited_for() -> None:
    tree = Tree.of(
        supervisor_body(
            "root",
            {"name": "a", "significant": True},
            {"name": "b", "significant": True},
            "c",
            autoShutdown="AllSignificant",
        ),
        child_body("a", "root", restart="Transient"),
        child_body("b", "root", restart="Transient", desired="Stopped"),
        child_body("c", "root"),
    )
    tree.settle()
    assert tree.running() == ["a", "c"]
    tree.end("a", 0)
    tree.settle()
    assert tree.running() == []
    assert tree.ready("root")[1] == "Completed"


def test_an_exhausted_supervisor_is_a_death_for_its_parent_and_begins_with_an_empty_window() -> None:
    tree = a_nested_tree()
    tree.end("x")
    tree.settle()
    tree.happened()
    tree.end("x")
    tree.settle()
    assert tree.happened() == "!x -last -y +x +y +last" or tree.happened() == ""
    assert tree.ready("root")[0] == tree.ready("inner")[0] == "True"
    assert tree.supervisor("inner").status.restarts == ()
    assert tree.supervisor("root").status.total_restarts == 1


def test_at_the_root_there_is_nobody_left_to_tell() -> None:
    tree = a_nested_tree()
    for _ in range(4):
        tree.end("y")
        tree.settle()
    assert tree.running() == []
    assert [c.status for c in tree.supervisor("root").status.conditions if c.type == "Stalled"] == ["True"]
    assert tree.ready("inner")[1] == "Held" or tree.ready("inner")[1] == "RestartBudgetExhausted"


def test_a_supervisor_that_lost_its_status_restarts_nobody() -> None:
    tree = a_team("a", "b", strategy="OneForAll")
    tree.end("a")
    tree.settle()
    tree.happened()
    tree.supervisors["root"]["status"] = {"observedGeneration": -1}
    tree.settle()
    assert tree.happened() == ""
    assert tree.lives("root") == {"a": 2, "b": 2}
    assert tree.ready("root")[0] == "True"


def test_two_deaths_at_once_cost_two_unless_one_takes_the_other_along() -> None:
    for strategy, cost in (("OneForOne", 2), ("OneForAll", 1), ("RestForOne", 1)):
        tree = a_team("a", "b", strategy=strategy)
        tree.end("a")
        tree.end("b")
        for name in ("a", "b"):
            tree.pass_agent(name)
            tree.pass_agent(name)
        tree.settle()
        assert tree.supervisor("root").status.total_restarts == cost, strategy
        assert tree.running() == ["a", "b"]


def test_the_time_of_a_death_is_when_the_child_gave_up() -> None:
    tree = a_team("a")
    tree.wait(7)
    tree.end("a")
    tree.settle()
    [entry] = tree.supervisor("root").status.restarts
    assert entry.time.isoformat() == stamp(7).replace("Z", "+00:00")


def test_deaths_that_an_operator_finds_together_are_no_burst() -> None:
    tree = a_team("a", "b", "c", maxRestarts=1, periodSeconds=10)
    for name in ("a", "b", "c"):
        tree.wait(20)
        tree.end(name)
    tree.wait(20)
    tree.settle()
    assert tree.running() == ["a", "b", "c"]
    assert [one.time for one in tree.supervisor("root").status.restarts] == [at(20), at(40), at(60)]
