"""`mabeam lint`: trees that do not close, budgets that multiply, and ends that never come are told before they are applied."""

from typing import Any

import yaml
from typer.testing import CliRunner

from mabeam.cli import app
from support.tree import child_body, supervisor_body


def lint(*documents: dict[str, Any]) -> tuple[int, list[str]]:
    text = yaml.safe_dump_all([{k: v for k, v in one.items() if k != "status"} for one in documents])
    result = CliRunner().invoke(app, ["lint", "-f", "-"], input=text)
    assert result.exit_code in (0, 1), result.output
    return result.exit_code, result.stdout.splitlines()


def test_the_budgets_along_a_path_multiply() -> None:
    tree = (supervisor_body("root", "/inner", maxRestarts=4), supervisor_body("inner", "a", maxRestarts=5))
    assert lint(*tree, child_body("a", "inner", max_failures=3)) == (
        0,
        ["note: Agent/team/a: budgets of root 4 × inner 5 × a 3 = 60: at most 119 restarts before the root gives up"],
    )
    _, [told] = lint(*tree, child_body("a", "inner", max_failures=10))
    assert told.startswith("warning: Agent/team/a: budgets of root 4 × inner 5 × a 10 = 200")


def test_a_temporary_child_has_no_budget_to_tell_of() -> None:
    assert lint(supervisor_body("root", "a"), child_body("a", "root", restart="Temporary")) == (
        0,
        [],
    )


def test_a_tree_that_does_not_close_is_wrong() -> None:
    code, told = lint(
        supervisor_body("p", "/q", "ghost"),
        supervisor_body("q", "/p"),
        child_body("a", "nobody"),
        child_body("b", "p"),
    )
    assert code == 1
    assert "error: Supervisor/team/p: a cycle: p → q → p" in told
    assert "error: Supervisor/team/p: Agent ghost does not exist" in told
    assert "error: Agent/team/a: its Supervisor nobody does not exist: it would wait for ever" in told
    assert "error: Agent/team/b: its Supervisor p does not list it: it would wait for ever" in told


def test_ends_that_never_come_or_come_again_and_again() -> None:
    _, told = lint(
        supervisor_body("root", "/inner"),
        supervisor_body("inner", {"name": "a", "significant": True}, autoShutdown="AnySignificant"),
        child_body("a", "inner"),
    )
    assert "error: Supervisor/team/inner: a is significant, but a Permanent agent never ends by itself" in told
    assert any(line.startswith("warning: Supervisor/team/inner: it ends by `autoShutdown`") for line in told)


def test_an_escalation_to_nobody_is_told() -> None:
    code, [told] = lint(child_body("a", None))
    assert (code, told.startswith("warning: Agent/team/a: `escalationPolicy: Escalate` has nobody to tell")) == (
        0,
        True,
    )
