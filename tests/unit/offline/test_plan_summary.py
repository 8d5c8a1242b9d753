"""`mabeam plan -o summary`: a line for each object, and an exit code that a script can use."""

from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from mabeam.cli import app
from support.coordination import variable_body

AGENT: dict[str, Any] = {
    "apiVersion": "mabeam.dev/v1alpha1",
    "kind": "Agent",
    "metadata": {"name": "a", "namespace": "team"},
    "spec": {"module": "team.work:Worker"},
}


def plan(*documents: dict[str, Any], output: str = "summary") -> Result:
    text = yaml.safe_dump_all([{k: v for k, v in one.items() if k != "status"} for one in documents])
    return CliRunner().invoke(app, ["plan", "-f", "-", "--now", "2026-01-01T00:00:00Z", "-o", output], input=text)


def test_the_summary_has_a_line_for_each_object_write_and_event() -> None:
    result = plan(AGENT, variable_body("v", ["a"], value=1))
    lines = result.stdout.splitlines()
    assert result.exit_code == 0
    assert "Agent/team/a: Starting, not ready (Starting: a-0-1 is starting)" in lines
    assert any(
        line.startswith("OrchestrationVariable/team/v: not ready (Delivering") and line.endswith("; value 1")
        for line in lines
    )
    assert "  patch-status Agent team/a: registered" in lines
    assert any(line.startswith("  Normal AgentRegistered Agent/team/a: ") for line in lines)


@pytest.mark.parametrize("output", ["summary", "yaml", "json"])
def test_a_function_that_fails_is_exit_code_1_in_every_form(output: str) -> None:
    result = plan(AGENT, variable_body("v", ["a"], value=1, function={"cel": "1 +"}), output=output)
    assert result.exit_code == 1
    assert "FunctionFailed" in result.stdout


@pytest.mark.parametrize("spec", [{"value": 1}, {"value": None}], ids=["with a value", "without one"])
def test_a_function_that_fails_is_listed_last(spec: dict[str, Any]) -> None:
    body = variable_body("v", ["a"], function={"cel": "nobody"}, **spec)
    body["spec"] = {field: value for field, value in body["spec"].items() if value is not None}
    result = plan(AGENT, body)
    assert result.exit_code == 1
    assert "\nfails:\n  OrchestrationVariable/team/v: FunctionFailed: " in result.stdout


def test_a_function_that_fails_where_the_author_has_named_a_fallback_is_no_failure_of_the_plan() -> None:
    tolerance = {"recoveryStrategy": "Fallback", "fallbackValue": 3}
    result = plan(AGENT, variable_body("v", ["a"], value=1, function={"cel": "nobody"}, faultTolerance=tolerance))
    assert (result.exit_code, "fails:" in result.stdout) == (0, False)


def test_input_that_cannot_be_used_is_exit_code_2() -> None:
    assert plan({**AGENT, "kind": "Agents"}).exit_code == 2
