"""A Supervisor: strategies, one budget, ordered start and stop, significance, escalation; from the first word to the last."""

import pytest

from support.builders import at, stamp
from support.tree import Tree, child_body, supervisor_body


def a_team(*names: str, children: dict[str, dict] | None = None, **spec: object) -> Tree:  # type: ignore[type-arg]
    """Agents under the Supervisor `root`, all started."""
    tree = Tree.of(
        supervisor_body("root", *names, **spec),
        *(child_body(name, "root", **(children or {}).get(name, {})) for name in names),
    )
    tree.settle()
    return tree


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
        "waits for Supervisor root to start it"
    ]


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


def test_who_gave_up_on_the_way_down_of_a_completed_tree_is_at_rest_too() -> None:
    tree = Tree.of(
        supervisor_body("root", {"name": "main", "significant": True}, "side", "last", autoShutdown="AnySignificant"),
        child_body("main", "root", restart="Transient"),
        child_body("side", "root"),
        child_body("last", "root"),
    )
    tree.settle()
    tree.lingering.add("last")
    tree.end("main", 0)
    tree.settle()
    tree.end("side", 3)
    tree.lingering.clear()
    tree.settle()
    assert tree.worlds["side"].status.parked_at is not None
    assert (tree.worlds["side"].state, *tree.worlds["side"].condition("Ready")[:2]) == ("Stopped", "True", "Stopped")


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


def a_nested_tree(**inner: object) -> Tree:
    tree = Tree.of(
        supervisor_body("root", "first", "/inner", "last", strategy="RestForOne", maxRestarts=1),
        supervisor_body("inner", "x", "y", strategy="OneForAll", **{"maxRestarts": 1, **inner}),
        child_body("first", "root"),
        child_body("last", "root"),
        child_body("x", "inner"),
        child_body("y", "inner"),
    )
    tree.settle()
    return tree


def test_a_nested_supervisor_starts_in_its_place() -> None:
    tree = a_nested_tree()
    assert tree.happened() == "+first +x +y +last"
    assert tree.supervisor("inner").status.worst_case_restarts == 1


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
        "a": "waits for Supervisor root, which does not list it as a child to start it",
        "b": "waits for Supervisor nobody, which does not exist to start it",
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


def ready_and_stalled(tree: Tree, agent: str) -> list[tuple[str, str]]:
    """Status and reason of an agent's conditions Ready and Stalled."""
    conditions = tree.agent(agent).status.conditions
    return [(str(c.status), c.reason) for c in conditions if c.type in ("Ready", "Stalled")]


@pytest.mark.parametrize("parent", ["deleted", "lists it no more"])
def test_who_gives_up_when_no_supervisor_hears_of_it_any_more_says_so_and_does_not_wait_for_ever(parent: str) -> None:
    tree = Tree.of(
        supervisor_body("root", "a", "/inner"),
        supervisor_body("inner", "x", supervisor="root", maxRestarts=0),
        child_body("a", "root"),
        child_body("x", "inner"),
    )
    tree.settle()
    if parent == "deleted":
        del tree.supervisors["root"]
    else:
        tree.supervisors["root"]["spec"]["children"] = []
    tree.settle()
    tree.end("a")
    tree.end("x")
    tree.settle()
    assert ready_and_stalled(tree, "a") == [("False", "RestartBudgetExhausted"), ("True", "RestartBudgetExhausted")]
    assert "kubectl annotate mba a" in tree.agent("a").status.conditions[1].message
    [stalled] = [c for c in tree.supervisor("inner").status.conditions if c.type == "Stalled"]
    assert (str(stalled.status), stalled.reason) == ("True", "RestartBudgetExhausted")
    assert "kubectl annotate msup inner" in tree.ready("inner")[2]


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


@pytest.mark.parametrize("whose", ["the agent's", "the Supervisor's"])
@pytest.mark.parametrize("token", [10**9, 10**9 + 1, 2**31 - 2, 2**31 - 1])
def test_a_life_that_nobody_honest_counted_ends_no_supervision(whose: str, token: int) -> None:
    tree = a_team("a", "b", maxRestarts=9)
    if whose == "the agent's":
        tree.worlds["a"].agent["status"]["supervision"]["token"] = token
    else:
        tree.supervisors["root"]["status"]["children"][0]["token"] = token
    tree.settle()
    for _ in range(3):
        tree.end("a")
        tree.settle()
        assert tree.running() == ["a", "b"]
        assert tree.ready("root")[0] == "True"
