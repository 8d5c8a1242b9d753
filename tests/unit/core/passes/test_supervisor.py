"""One whole pass over a Supervisor: trees that complete, give up, or have statuses that lie."""

import pytest

from support.small_trees import a_team, ready_and_stalled
from support.tree import Tree, child_body, supervisor_body


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


@pytest.mark.parametrize("whose", ["the agent's", "the Supervisor's"])
@pytest.mark.parametrize("token", [10**9, 10**9 + 1, 2**31 - 2, 2**31 - 1])
def test_a_token_that_was_never_issued_ends_no_supervision(whose: str, token: int) -> None:
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
