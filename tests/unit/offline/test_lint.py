"""`mabeam lint`: trees that do not close, budgets that multiply, and ends that never come are told before they are applied."""

from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from mabeam.cli import app
from support.coordination import variable_body
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
        [
            "note: Agent/team/a: budgets of root 4 × inner 5 × a 3 = 60: at most 119 restarts before the root gives up",
            "note: Agent/team/a: a pod that cannot start (its image cannot be pulled, for example) is retried for ever: it"
            " fails after `startTimeoutSeconds` 300, at most 1 times in `failureWindowSeconds` 60, and `maxFailures` is 3",
        ],
    )
    _, [told, *_] = lint(*tree, child_body("a", "inner", max_failures=10))
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


# --- agents and variables ---------------------------------------------------------------------------------------------


def agent_body(name: str = "a", **spec: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "team"}
    return {
        "apiVersion": "mabeam.dev/v1alpha1",
        "kind": "Agent",
        "metadata": metadata,
        "spec": {"module": "team.work:Worker", **spec},
    }


def tolerance(failures: int, window: int, **backoff: float) -> dict[str, Any]:
    return {"maxFailures": failures, "failureWindowSeconds": window, "backoff": backoff}


def warned(*documents: dict[str, Any]) -> list[str]:
    return [line for line in lint(*documents)[1] if not line.startswith("note:")]


@pytest.mark.parametrize(
    ("spec", "most"),
    [
        ({"faultTolerance": tolerance(10, 60)}, 8),
        ({"faultTolerance": tolerance(3, 10, initialSeconds=10, factor=1, jitter=0)}, 3),
        ({"faultTolerance": tolerance(2, 9, initialSeconds=10, factor=1, jitter=0)}, 2),
        ({"faultTolerance": tolerance(2, 9, initialSeconds=10, factor=1, jitter=0.2)}, None),
        ({"faultTolerance": tolerance(3, 9, initialSeconds=10, factor=1, jitter=0), "replicas": 2}, None),
        ({"faultTolerance": tolerance(10, 60), "restartStrategy": "Temporary"}, None),
        ({"faultTolerance": tolerance(0, 1, initialSeconds=60)}, None),
        ({}, None),
    ],
)
def test_a_budget_that_the_backoff_keeps_out_of_reach_is_told(spec: dict[str, Any], most: int | None) -> None:
    told = warned(agent_body(**spec))
    assert len(told) == (0 if most is None else 1), told
    if most is not None:
        assert f"let at most {most} failures into `failureWindowSeconds`" in told[0]


def test_a_budget_that_no_failing_start_exhausts_is_told_and_one_that_it_does_is_not() -> None:
    assert "a pod that cannot start" in lint(agent_body())[1][0]
    assert lint(agent_body(startTimeoutSeconds=15)) == (0, [])


@pytest.mark.parametrize(
    "spec",
    [
        {"resources": {"requests": {"memory": "128Mi"}, "limits": {"memory": "64Mi"}}},
        {
            "module": None,
            "template": {
                "spec": {
                    "containers": [
                        {"name": "a", "resources": {"requests": {"memory": "1Gi"}, "limits": {"memory": "1000M"}}}
                    ]
                }
            },
        },
    ],
)
def test_a_request_above_its_limit_is_an_error(spec: dict[str, Any]) -> None:
    body = agent_body(startTimeoutSeconds=15, **spec)
    body["spec"] = {field: value for field, value in body["spec"].items() if value is not None}
    code, told = lint(body)
    assert code == 1
    assert "resources.requests.memory`" in told[0]
    assert "is above its limit" in told[0]


def test_a_function_that_does_not_compile_is_an_error() -> None:
    body = variable_body("bad", ["a"], value=1, function={"cel": "agents.size("})
    code, told = lint(agent_body(startTimeoutSeconds=15), body)
    assert (code, len(told)) == (1, 1)
    assert told[0].startswith("error: OrchestrationVariable/team/bad: bad = 1 by FunctionFailed")


def test_a_selector_that_matches_nothing_is_told() -> None:
    body = variable_body("v", [], value=1)
    body["spec"]["agents"] = {"selector": {"matchLabels": {"team": "nobody"}}}
    finding = (
        "OrchestrationVariable/team/v: v = 1 by AgentUnavailable: 1 from spec.value: the selector matches no agent"
    )
    assert lint(agent_body(startTimeoutSeconds=15), body) == (0, [f"warning: {finding}"])
    assert lint(body) == (0, [f"note: {finding}"])  # the agents may be in another file


def test_two_variables_of_one_parameter_and_priority_are_told_once() -> None:
    one = variable_body("one", ["a"], value=1, parameter="temperature")
    other = variable_body("other", ["a"], value=2, parameter="temperature")
    apart = variable_body("apart", ["a"], value=2, parameter="temperature", priority=5)
    told = warned(agent_body(), one, other, apart)
    assert len(told) == 1
    assert told[0].startswith(
        "warning: OrchestrationVariable/team/one: other sets temperature of a too, with the same priority 0"
    )


def test_what_a_cluster_says_of_the_objects_today_is_no_finding() -> None:
    body = variable_body("v", ["a"], value=1)
    assert warned(agent_body(), body) == []
