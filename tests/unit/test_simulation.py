"""`mabeam simulate`: the operator's own decisions in virtual time; the same bytes every time, and figures that add up."""

import json
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from mabeam.cli import app
from support.tree import child_body, supervisor_body


def a_scenario(**words: Any) -> dict[str, Any]:
    return {"apiVersion": "mabeam.dev/simulate", "kind": "Scenario", "metadata": {"name": "s"}, **words}


def agent(name: str = "a", **words: Any) -> dict[str, Any]:
    return child_body(name, None, escalation="Stop", max_failures=words.pop("max_failures", 3), **words)


def simulate(
    *documents: dict[str, Any], until: str = "600s", seed: int = 7, runs: int = 1, output: str = "json"
) -> Result:
    text = yaml.safe_dump_all([{k: v for k, v in one.items() if k != "status"} for one in documents])
    options = ["--until", until, "--seed", str(seed), "--runs", str(runs), "-o", output]
    return CliRunner().invoke(app, ["simulate", "-f", "-", *options], input=text)


def played(*documents: dict[str, Any], **words: Any) -> dict[str, Any]:
    result = simulate(*documents, **words)
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_a_quiet_world_is_available_but_for_its_start() -> None:
    found = played(agent(), a_scenario(startSeconds=6))["summary"]["agents"]["team/a"]
    assert (found["availability"], found["restarts"], found["budgetHeadroom"]) == (0.99, 0, 3)


def test_a_scripted_crash_costs_what_the_start_costs_and_is_told() -> None:
    found = played(agent(), a_scenario(startSeconds=6, faults=[{"at": 100, "agent": "a", "exitCode": 3}]))
    told = found["summary"]["agents"]["team/a"]
    assert (told["availability"], told["restarts"], told["failures"]) == (0.98, 1, {"Crash": 1})
    assert told["recoverySeconds"] == 6
    assert [(one["at"], one["what"]) for one in found["timeline"]] == [
        (0, "registered"),
        (6, "start"),
        (100, "fault"),
        (100, "failure"),
        (106, "restart"),
    ]


def test_the_budget_parks_an_agent_and_the_rest_of_the_time_is_lost() -> None:
    faults = [{"at": at, "agent": "a"} for at in (100, 200)]
    found = played(agent(max_failures=0), a_scenario(startSeconds=0, faults=faults))["summary"]["agents"]["team/a"]
    assert (found["state"], found["parkedAt"], found["budgetHeadroom"]) == ("Failed", 100, -1)
    assert found["availability"] == pytest.approx(1 / 6, abs=1e-6)


def test_a_death_takes_its_group_along() -> None:
    found = played(
        supervisor_body("root", "a", "b", strategy="OneForAll"),
        child_body("a", "root"),
        child_body("b", "root"),
        a_scenario(faults=[{"at": 100, "agent": "a"}]),
    )
    assert found["summary"]["supervisors"]["team/root"] == {
        "state": "Running",
        "restarts": 1,
        "budgetHeadroom": 2,
        "parks": 0,
        "parkedAt": None,
    }
    started = [one["note"] for one in found["timeline"] if one["what"] in ("start", "restart")]
    assert [note.split()[0] for note in started] == ["a-0-1", "b-0-1", "a-0-2", "b-0-2"]


def test_the_same_seed_gives_the_same_bytes_and_another_one_others() -> None:
    world = (agent(), a_scenario(rates=[{"meanSeconds": 60}]))
    once, again, other = (simulate(*world, seed=seed).stdout for seed in (7, 7, 8))
    assert once == again != other


def test_one_agent_more_changes_no_chance_of_the_others() -> None:
    rates = a_scenario(rates=[{"meanSeconds": 60}])
    alone = played(agent("a", max_failures=100), rates)
    beside = played(agent("a", max_failures=100), agent("b", max_failures=100), rates)
    assert alone["summary"]["agents"]["team/a"] == beside["summary"]["agents"]["team/a"]


@pytest.mark.parametrize(
    ("kind", "cause"),
    [("OOM", "OOM"), ("Evict", "Evicted"), ("Delete", "DeletedByOther"), ("Report", "Reported"), ("Exit", "Crash")],
)
def test_each_kind_of_fault_has_its_cause(kind: str, cause: str) -> None:
    found = played(agent(), a_scenario(faults=[{"at": 50, "agent": "a", "kind": kind}]))
    assert found["summary"]["agents"]["team/a"]["failures"] == {cause: 1}


def test_a_lost_node_is_a_disruption_and_its_pods_go_elsewhere() -> None:
    nodes = [{"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}} for name in ("n1", "n2")]
    lost = [{"at": 50, "node": "n1", "kind": "NodeLost"}, {"at": 60, "node": "n2", "kind": "NodeLost"}]
    found = played(agent(), *nodes, a_scenario(faults=lost))["summary"]["agents"]["team/a"]
    assert (found["restarts"], found["disruptions"]) == (0, found["failures"]["NodeLost"])
    assert found["failures"]["NodeLost"] >= 1


def test_many_runs_tell_how_the_figures_are_spread() -> None:
    found = played(agent(max_failures=1), a_scenario(rates=[{"meanSeconds": 120}]), runs=50)["spread"]
    told = found["agents"]["team/a"]
    assert found["runs"] == 50
    assert 0 < told["parked"] < 1
    assert told["availability"]["p5"] <= told["availability"]["p50"] <= told["availability"]["p95"]


def test_the_table_is_for_people() -> None:
    text = simulate(agent(), a_scenario(faults=[{"at": 50, "agent": "a"}]), output="table").stdout
    assert "AVAILABLE" in text
    assert "exit code 1; restart 1 of 3 in 60 s, now" in text


@pytest.mark.parametrize(
    ("scenario", "words"),
    [
        ({"faults": [{"at": 1, "agent": "z"}]}, "faults.0.agent: 'z' is not in the world; allowed: a"),
        ({"faults": [{"at": 1}]}, "exactly one of `agent` and `node`"),
        ({"faults": [{"at": -1, "agent": "a"}]}, "faults.0.at"),
        ({"rates": [{"meanSeconds": 0}]}, "rates.0.meanSeconds"),
        ({"speed": 3}, "is not a field here; allowed:"),
    ],
)
def test_what_cannot_be_played_is_told_with_its_field(scenario: dict[str, Any], words: str) -> None:
    result = simulate(agent(), a_scenario(**scenario))
    assert result.exit_code == 2
    assert words in result.stderr


def test_a_time_that_is_none_is_told() -> None:
    result = simulate(agent(), until="soon")
    assert (result.exit_code, "--until must be a time such as 3600" in result.stderr) == (2, True)
