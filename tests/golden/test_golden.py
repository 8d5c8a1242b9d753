"""The contract, by example: worlds in, plans out, to the letter. `--update-golden` writes what the plans are now; read them.

`<case>/world.yaml` begins with a sentence on what it shows; `now.txt` is the time of the pass; `plan.json` the plan, one flat
object per line. The bodies of writes are there for the cases in WITH_BODIES; elsewhere a digest stands for each.
"""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mabeam.api.agent import RestartStrategy
from mabeam.cli import app
from mabeam.offline.plan_summary import failures
from support.compact_json import dumps

HERE = Path(__file__).parent
CASES = sorted(path.parent.name for path in HERE.glob("*/world.yaml"))
ROWS = ("normal", "abnormal", "stopped", "disruption")
# The cases that are about what is written: every kind of object, and directives of every type of variable.
WITH_BODIES = frozenset(
    {
        "allocation-weighted",
        "auction-second-price",
        "conflict-leader",
        "consensus-proposed",
        "consensus-veto",
        "custom-directives",
        "drained-node-gone",
        "fallback",
        "function-cel",
        "negotiation-weighted-mean",
        "object-majority",
        "pattern-successor",
        "peer-that-terminates",
        "rate-cosine",
        "ring-without-the-parked",
        "rule-broken",
        "second-pass",
        "selection-better-challenger",
        "selection-ranked",
        "threshold-breach",
        "topology-star",
    }
)


def arguments(case: str) -> list[str]:
    now = (HERE / case / "now.txt").read_text().strip()
    return ["plan", "-f", str(HERE / case / "world.yaml"), "--now", now, "-o", "json"]


def plan(case: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((HERE / case / "plan.json").read_text())
    return found


@pytest.mark.parametrize("case", CASES)
def test_the_plan_is_the_one_that_was_agreed_on(case: str, request: pytest.FixtureRequest) -> None:
    result = CliRunner().invoke(app, arguments(case))
    found = json.loads(result.stdout)
    assert (result.exit_code, result.stderr) == (1 if failures(found) else 0, "")
    assert result.stdout == json.dumps(found, indent=2) + "\n"
    text = dumps(found if case in WITH_BODIES else with_digests(found))
    agreed = HERE / case / "plan.json"
    if request.config.getoption("--update-golden"):
        agreed.write_text(text)
    assert text == agreed.read_text()


def with_digests(found: dict[str, Any]) -> dict[str, Any]:
    """The plan, each body of a write as the start of its SHA-256: another body still makes another plan."""
    return {**found, "writes": [{**write, "body": digest(write["body"])} for write in found["writes"]]}


def digest(body: Any) -> Any:
    """`sha256:` and 16 hex digits of the body as JSON; an empty body stays as it is."""
    return f"sha256:{hashlib.sha256(json.dumps(body).encode()).hexdigest()[:16]}" if body else body


def test_the_body_of_every_kind_of_write_is_shown_in_some_case() -> None:
    kinds = {(write["verb"], write["kind"]) for case in CASES for write in plan(case)["writes"] if write["body"]}
    shown = {
        (write["verb"], write["kind"])
        for case in WITH_BODIES
        for write in plan(case)["writes"]
        if isinstance(write["body"], dict) and write["body"]
    }
    assert kinds <= shown


@pytest.mark.parametrize("case", CASES)
def test_every_world_says_first_what_it_shows(case: str) -> None:
    first = (HERE / case / "world.yaml").read_text().splitlines()[0]
    assert first.startswith("# ")
    assert first.endswith(".")


def test_no_case_is_left_without_its_world() -> None:
    assert {path.parent.name for path in HERE.glob("*/plan.json")} == set(CASES)


def test_every_row_of_the_exit_table_has_its_case_for_every_restart_strategy() -> None:
    wanted = {f"exit-{row}-{strategy.lower()}" for row in ROWS for strategy in RestartStrategy}
    assert wanted <= set(CASES)


def test_the_command_line_prints_the_same_in_a_process_of_its_own() -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "mabeam", *arguments("design-example")],
        cwd=HERE.parents[1] / "operator", capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(answer.stdout) == plan("design-example")
    assert answer.stderr == ""


# --- what the cases are about, for those who do not read JSON ----------------------------------------------------------

OUTCOMES = {
    "exit-normal-permanent": ("Starting", 2, [True]),
    "exit-normal-transient": ("Stopped", 1, []),
    "exit-normal-temporary": ("Stopped", 1, []),
    "exit-abnormal-permanent": ("Starting", 2, [True]),
    "exit-abnormal-transient": ("Starting", 2, [True]),
    "exit-abnormal-temporary": ("Failed", 1, [False]),
    "exit-stopped-permanent": ("Stopped", 1, []),
    "exit-stopped-transient": ("Stopped", 1, []),
    "exit-stopped-temporary": ("Stopped", 1, []),
    "exit-disruption-permanent": ("Starting", 2, [False]),
    "exit-disruption-transient": ("Starting", 2, [False]),
    "exit-disruption-temporary": ("Stopped", 1, [False]),
}


@pytest.mark.parametrize("case", OUTCOMES)
def test_the_exit_table(case: str) -> None:
    state, incarnation, counted = OUTCOMES[case]
    agent = plan(case)["agents"]["team/a"]
    assert (agent["state"], agent["pods"][0]["incarnation"]) == (state, incarnation)
    assert [failure["counted"] for failure in agent["failures"]] == counted
    assert [write["verb"] for write in plan(case)["writes"]] == ["patch-status"]


def test_the_example_of_the_design_is_as_the_design_prints_it() -> None:
    found = plan("design-example")
    agent = found["agents"]["team/a"]
    assert (agent["state"], agent["parkedAt"]) == ("Failed", "2026-01-01T00:01:00Z")
    assert [failure["counted"] for failure in agent["failures"]] == [True, True]
    stalled = next(c for c in agent["conditions"] if c["type"] == "Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", "RestartBudgetExhausted")
    assert stalled["message"] == (
        "2 failures in 60 s (allowed: 1). Last: exit code 2. Fix it, then change the spec or: "
        'kubectl annotate mba a -n team --overwrite mabeam.dev/release="$(date +%s)"'
    )
    assert found["variables"] == {}
    assert found["writes"] == [
        {"verb": "patch-status", "kind": "Agent", "namespace": "team", "name": "a", "reason": "parked", "body": {}}
    ]
    assert found["events"] == [
        {
            "reason": "RestartBudgetExhausted",
            "type": "Warning",
            "regarding": "Agent/team/a",
            "note": stalled["message"],
        }
    ]
    assert found["requeueAfterSeconds"] is None


def test_the_weighted_mean_of_0_4_twice_and_1_once_is_0_6() -> None:
    assert plan("negotiation-weighted-mean")["variables"]["team/temperature"]["value"] == 0.6


def test_the_status_that_is_fed_back_has_the_pod_created() -> None:
    created = [write["name"] for write in plan("second-pass")["writes"] if write["verb"] == "create"]
    assert created == ["coder-0-1"]
