"""`mabeam simulate`: the operator's own decisions in virtual time; the same bytes every time, and figures that add up."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from mabeam.cli import app
from support.coordination import variable_body
from support.tree import child_body, supervisor_body


def a_scenario(**words: Any) -> dict[str, Any]:
    return {"apiVersion": "mabeam.dev/simulate", "kind": "Scenario", "metadata": {"name": "s"}, **words}


def agent(name: str = "a", **words: Any) -> dict[str, Any]:
    return child_body(name, None, escalation="Stop", max_failures=words.pop("max_failures", 3), **words)


def module_agent(name: str) -> dict[str, Any]:
    """An agent whose process speaks the contract, so that it acknowledges directives."""
    return {
        **(body := agent(name)),
        "spec": {k: v for k, v in body["spec"].items() if k != "template"} | {"module": "m:W"},
    }


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
        "mostInWindow": 1,
        "budgetHeadroom": 2,
        "exhausted": 0,
        "parkedAt": None,
    }
    started = [one["note"] for one in found["timeline"] if one["what"] in ("start", "restart")]
    assert [note.split()[0] for note in started] == ["a-0-1", "b-0-1", "a-0-2", "b-0-2"]


def test_the_same_seed_gives_the_same_bytes_and_another_one_others() -> None:
    world = (agent(), a_scenario(rates=[{"meanSeconds": 60}]))
    once, again, other = (simulate(*world, seed=seed).stdout for seed in (7, 7, 8))
    assert once == again != other


def test_the_bytes_are_the_same_in_every_process() -> None:
    rates = a_scenario(rates=[{"meanSeconds": 90}, {"meanSeconds": 300, "kind": "Evict"}])
    tree = [supervisor_body("root", "a", "b", strategy="OneForAll"), child_body("a", "root"), child_body("b", "root")]
    text = yaml.safe_dump_all([{k: v for k, v in one.items() if k != "status"} for one in (*tree, rates)])
    printed = {
        subprocess.run(
            [sys.executable, "-m", "mabeam", "simulate", "-f", "-", "-o", "json", *more],
            input=text.encode(),
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed, more in (("1", []), ("2", []))
    }
    assert len(printed) == 1
    assert len(json.loads(printed.pop())["timeline"]) > 50


def test_one_agent_more_changes_no_chance_of_the_others() -> None:
    rates = a_scenario(rates=[{"meanSeconds": 60}])
    alone = played(agent("a", max_failures=100), rates)
    beside = played(agent("a", max_failures=100), agent("b", max_failures=100), rates)
    assert alone["summary"]["agents"]["team/a"] == beside["summary"]["agents"]["team/a"]


@pytest.mark.parametrize(
    ("kind", "cause"),
    [
        ("OOM", "OOM"),
        ("Evict", "Evicted"),
        ("Preempt", "Preempted"),
        ("Delete", "DeletedByOther"),
        ("Report", "Reported"),
        ("Exit", "Crash"),
    ],
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


def test_a_hang_is_seen_when_progress_stood_still_for_too_long() -> None:
    watched = agent()
    watched["spec"]["faultTolerance"]["progressTimeoutSeconds"] = 30
    found = played(watched, a_scenario(faults=[{"at": 50, "agent": "a", "kind": "Hang"}]))
    assert [(one["at"], one["what"]) for one in found["timeline"]][2:4] == [(50, "fault"), (80, "failure")]
    assert found["summary"]["agents"]["team/a"]["failures"] == {"Hang": 1}


def test_what_is_stopped_by_a_supervisor_that_gave_up_is_not_available() -> None:
    found = played(
        supervisor_body("root", "a", "b", maxRestarts=0),
        child_body("a", "root"),
        child_body("b", "root"),
        a_scenario(startSeconds=0, stopSeconds=0, faults=[{"at": 300, "agent": "a"}]),
    )
    told = [one["what"] for one in found["timeline"] if one["what"] != "stop"]
    assert told[-3:] == ["fault", "escalation", "park"]
    figures = found["summary"]["agents"]
    assert (figures["team/b"]["state"], figures["team/b"]["availability"]) == ("Stopped", 0.5)
    assert figures["team/a"]["availability"] == 0.5


def test_what_has_done_its_work_is_not_missed() -> None:
    ends = a_scenario(startSeconds=0, faults=[{"at": 300, "agent": "a", "exitCode": 0}])
    alone = played(agent(restart="Transient"), ends)["summary"]["agents"]["team/a"]
    assert (alone["state"], alone["availability"]) == ("Stopped", 1)
    root = supervisor_body("root", {"name": "a", "significant": True}, "b", autoShutdown="AnySignificant")
    found = played(root, child_body("a", "root", restart="Transient"), child_body("b", "root"), ends)
    assert found["summary"]["supervisors"]["team/root"]["state"] == "Stopped"
    assert found["summary"]["agents"]["team/b"]["availability"] == 1


def test_each_agent_may_take_its_own_time_to_start_and_to_stop() -> None:
    own = a_scenario(startSeconds=6, timings=[{"agent": "b", "startSeconds": 60}])
    found = played(agent("a"), agent("b"), own)["summary"]["agents"]
    assert [found[f"team/{name}"]["availability"] for name in "ab"] == [0.99, 0.9]


def test_a_stop_takes_no_longer_than_the_grace_of_the_pod() -> None:
    patient = agent(replicas=2, supervisionStrategy="OneForAll")
    patient["spec"]["shutdown"] = {"policy": "Graceful", "timeoutSeconds": 5}
    slow = a_scenario(startSeconds=2, stopSeconds=100, faults=[{"at": 10, "agent": "a"}])
    timeline = played(patient, slow)["timeline"]
    assert next(one["at"] for one in timeline if one["note"].startswith("a-0-2 runs")) == 17  # 10 + 5 + 2


def test_a_scripted_fault_that_finds_nobody_is_told() -> None:
    found = played(agent(), a_scenario(startSeconds=60, faults=[{"at": 30, "agent": "a"}]))
    assert [one["note"] for one in found["timeline"] if one["what"] == "fault"] == [
        "Exit 1: finds no running process, nothing happens"
    ]


def test_a_world_taken_from_a_cluster_begins_as_if_it_was_just_applied() -> None:
    used = agent()
    used["status"] = {"state": "Failed", "parkedAt": "2025-01-01T00:00:00Z", "restarts": 9}
    result = CliRunner().invoke(app, ["simulate", "-f", "-", "-o", "json"], input=yaml.safe_dump(used))
    assert (
        json.loads(result.stdout)["summary"]["agents"]["team/a"]
        == played(agent(), until="3600s")["summary"]["agents"]["team/a"]
    )


@pytest.mark.parametrize(("until", "seconds"), [("90", 90), ("90s", 90), ("1.5m", 90), ("2h", 7200), ("1d", 86_400)])
def test_times_may_be_told_in_units(until: str, seconds: int) -> None:
    assert played(agent(), until=until)["summary"]["seconds"] == seconds


def test_the_speed_is_told_beside_the_result_and_never_in_it() -> None:
    result = simulate(agent(), a_scenario(rates=[{"meanSeconds": 60}]))
    assert "decisions in" in result.stderr
    assert "of CPU" not in result.stdout


def test_many_runs_tell_how_the_figures_are_spread() -> None:
    found = played(agent(max_failures=1), a_scenario(rates=[{"meanSeconds": 120}]), runs=50)["spread"]
    told = found["agents"]["team/a"]
    assert found["runs"] == 50
    assert 0 < told["parked"] == told["exhausted"] < 1
    assert told["budgetHeadroom"]["p1"] == -1
    assert told["budgetHeadroom"]["p99"] >= 0
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
        ({"rates": [{"meanSeconds": 1e-300}]}, "rates.0.meanSeconds: must be greater than or equal to 0.001"),
        ({"stopSeconds": "5"}, "stopSeconds: must be a valid number"),
        ({"start_seconds": 5}, "is not a field here; allowed:"),
        (
            {"rates": [{"meanSeconds": 9, "kind": "NodeLost"}]},
            "rates.0: `kind` must be a fault of a pod, not of a node",
        ),
        ({"timings": [{"agent": "z"}]}, "timings.0.agent: 'z' is not in the world; allowed: a"),
        (
            {"faults": [{"at": 1, "agent": "a", "ordinal": 1}]},
            "faults.0.ordinal: a has 1 replicas, counted from 0 (found 1)",
        ),
        (
            {"faults": [{"at": 1, "node": "n", "kind": "NodeLost"}]},
            "faults.0.node: 'n' is not in the world; allowed: none",
        ),
        (
            {"rates": [{"meanSeconds": 9, "kind": "Hang"}]},
            "rates.0.kind: Hang is seen only with `progressTimeoutSeconds`",
        ),
        ({"speed": 3}, "is not a field here; allowed:"),
    ],
)
def test_what_cannot_be_played_is_told_with_its_field(scenario: dict[str, Any], words: str) -> None:
    result = simulate(agent(), a_scenario(**scenario))
    assert result.exit_code == 2
    assert words in result.stderr


def test_more_faults_than_a_run_can_play_are_refused_with_the_rate() -> None:
    result = simulate(agent(), a_scenario(rates=[{"meanSeconds": 60}, {"meanSeconds": 0.001}]), until="1h")
    assert result.exit_code == 2
    assert "rates.1.meanSeconds: about 3.6e+06 faults in 3600 s for 1 replicas; at most 1,000,000" in result.stderr


def test_a_time_that_is_none_is_told() -> None:
    result = simulate(agent(), until="soon")
    assert (result.exit_code, "--until must be a time such as 3600" in result.stderr) == (2, True)


def test_a_world_without_agents_is_told() -> None:
    result = simulate(supervisor_body("root"), a_scenario())
    assert (result.exit_code, "the world has no Agent" in result.stderr) == (2, True)


def test_what_can_be_played_and_is_hardly_meant_is_told_beside_the_result() -> None:
    lost = child_body("lost", "nobody")
    result = simulate(agent(), lost, a_scenario(faults=[{"at": 700, "agent": "a"}]), until="600s", runs=2)
    told = result.stderr.splitlines()
    assert result.exit_code == 0
    assert (
        "mabeam simulate: error: Agent/team/lost: its Supervisor nobody does not exist: it would wait for ever" in told
    )
    assert "mabeam simulate: 1 of the faults come after the end (600 s), the first at 700 s: see --until" in told
    assert any("nothing is left to chance" in line for line in told)


def test_the_worst_case_that_lint_tells_is_what_happens_when_everything_crashes() -> None:
    tree = (
        supervisor_body("root", "/inner", maxRestarts=2, periodSeconds=3600),
        supervisor_body("inner", "a", maxRestarts=1, periodSeconds=3600),
        child_body("a", "inner", max_failures=1, window=3600),
    )
    crashes = a_scenario(startSeconds=1, stopSeconds=0, faults=[{"at": at, "agent": "a"} for at in range(10, 600, 10)])
    found = played(*tree, crashes, until="700s")["summary"]
    assert found["agents"]["team/a"]["failures"] == {"Crash": (2 + 1) * (1 + 1) * (1 + 1)}
    assert found["supervisors"]["team/root"]["state"] == "Failed"


def test_what_a_rule_parks_has_not_exhausted_its_budget() -> None:
    body = agent()
    body["spec"]["faultTolerance"]["exitCodeRules"] = [{"codes": [78], "action": "Park"}]
    found = played(body, a_scenario(faults=[{"at": 100, "agent": "a", "exitCode": 78}]))["summary"]["agents"]["team/a"]
    assert (found["exhausted"], found["parkedAt"], found["budgetHeadroom"]) == (0, 100, 2)


def test_a_temporary_child_that_is_removed_is_not_said_to_restart() -> None:
    tree = (
        supervisor_body("root", "a", "once", "b", strategy="OneForAll"),
        *(child_body(name, "root") for name in "ab"),
        child_body("once", "root", restart="Temporary"),
    )
    timeline = played(*tree, a_scenario(faults=[{"at": 100, "agent": "b"}]))["timeline"]
    [note] = [one["note"] for one in timeline if one["what"] == "group restart"]
    assert note == "b gave up; restart 1 of 3 in 60 s, with a; once removed, as a Temporary agent is"


# --- variables ----------------------------------------------------------------------------------------------------------


def test_a_variable_is_decided_and_its_directive_is_applied_by_the_process_that_runs() -> None:
    temperature = variable_body("temperature", ["a"], value=0.4)
    found = played(module_agent("a"), temperature, until="60s")
    assert found["summary"]["variables"] == {"team/temperature": {"value": 0.4, "round": 1, "ready": "Converged"}}


def test_an_agent_that_a_directive_stops_is_not_missed() -> None:
    text = '{"directives": [{"agent": "b", "action": "Stop", "parameters": {}}]}'
    order = variable_body("order", ["a", "b"], type="Custom", function={"cel": text})
    found = played(module_agent("a"), module_agent("b"), order)["summary"]["agents"]
    assert (found["team/a"]["state"], found["team/b"]["state"]) == ("Running", "Stopped")
    assert found["team/b"]["availability"] in (None, 1.0)


def test_a_reports_scores_decide_who_is_selected() -> None:
    crew = variable_body("crew", ["a", "b"], type="AgentSelection", constraints={"maxConcurrent": 1})
    report = {"apiVersion": "mabeam.dev/plan", "kind": "Report", "metadata": {"name": "b", "namespace": "team"}}
    found = played(
        module_agent("a"), module_agent("b"), crew, report | {"openmetrics": "mabeam_performance 0.9\n# EOF\n"}
    )
    assert found["summary"]["variables"]["team/crew"]["value"] == {"active": ["b"]}


def test_a_threshold_scales_an_agent_up_after_its_time() -> None:
    slow = variable_body(
        "slow",
        ["a"],
        type="PerformanceThreshold",
        threshold={
            "metric": "performance",
            "below": 0.5,
            "forSeconds": 30,
            "onBreach": {"action": "ScaleUp", "parameters": {"by": 1, "max": 3}},
        },
    )
    report = {"apiVersion": "mabeam.dev/plan", "kind": "Report", "metadata": {"name": "a", "namespace": "team"}}
    found = played(module_agent("a"), slow, report | {"openmetrics": "mabeam_performance 0.2\n# EOF\n"})
    starts = [(one["at"], one["note"]) for one in found["timeline"] if one["what"] == "start"]
    assert [note.partition(" ")[0] for _, note in starts][:2] == ["a-0-1", "a-1-1"]
    assert starts[1][0] >= 30


def test_a_function_is_evaluated_and_a_webhook_is_not_called() -> None:
    sums = variable_body("sums", ["a"], function={"cel": "1.0 + 1.0"})
    asks = variable_body("asks", ["a"], function={"webhook": {"url": "https://example.org/"}})
    found = played(module_agent("a"), sums, asks, until="60s")["summary"]["variables"]
    assert (found["team/sums"]["value"], found["team/asks"]["value"]) == (2, None)


def test_a_cordoned_node_takes_no_pods_and_without_another_they_wait() -> None:
    nodes = [
        {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"}, "spec": {"unschedulable": True}},
        {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-2"}},
    ]
    both = played(agent(), *nodes)["timeline"]
    assert [one["note"] for one in both if one["what"] == "start"] == ["a-0-1 runs on node-2"]
    assert played(agent(), nodes[0])["summary"]["agents"]["team/a"]["state"] == "Starting"


def test_the_table_has_the_variables_too() -> None:
    shown = simulate(module_agent("a"), variable_body("temperature", ["a"], value=0.4), output="table").stdout
    assert "team/temperature  Converged  1      0.4" in shown
