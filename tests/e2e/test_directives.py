"""What a variable can tell an agent to do, each on a real pod: done, acknowledged, and taken back when the variable goes."""

import json
from typing import Any

import pytest

from e2e.agents import (
    decided,
    failures,
    is_free,
    is_ready,
    listener,
    obeyed,
    orders,
    reached,
    reads,
    renewed,
    running,
    say,
    variable,
)
from support.kube import JsonDict, Kube, until

BREACH = {"metric": "performance", "below": 0.5, "forSeconds": 1, "cooldownSeconds": 0}


def tell(agent: str, action: str, **parameters: Any) -> JsonDict:
    return {"agent": agent, "action": action, "parameters": parameters}


def effective(kube: Kube, name: str) -> JsonDict:
    return dict(kube.get("mba", name)["status"]["effective"])


def node_of(kube: Kube, pod: str) -> str:
    return str(kube.get("pod", pod)["spec"]["nodeName"])


@pytest.fixture(scope="module")
def team(kube: Kube) -> Kube:
    kube.apply(
        listener("worker"),
        listener("clerk", words={"performance": 0.9}),
        listener("twins", replicas=2),
        listener("sleeper", desiredState="Stopped"),
    )
    for name in ("worker", "clerk"):
        running(kube, name)
    reached(kube, "twins", "two ready", lambda s: s.get("readyReplicas") == 2)
    return kube


def test_a_stop_and_a_start_hold_as_long_as_the_variable_that_orders_them(team: Kube) -> None:
    before = team.get("mba", "worker")
    team.apply(orders("shift", tell("worker", "Stop"), tell("sleeper", "Start")))
    obeyed(team, "shift")
    assert effective(team, "worker")["desiredState"] == "Stopped"
    assert team.get("mba", "worker")["status"]["state"] == "Stopped"
    until("its pod is gone", lambda: not team.list("pod", "mabeam.dev/agent=worker"))
    assert is_ready(team.get("mba", "sleeper")["status"])
    for name, wanted in (("worker", None), ("sleeper", "Stopped")):
        assert team.get("mba", name)["spec"].get("desiredState") == wanted
    assert team.get("mba", "worker")["metadata"]["generation"] == before["metadata"]["generation"]
    team.run("delete", "mov", "shift")
    seen = reached(team, "worker", "it runs anew", renewed(2))
    assert (seen["restarts"], failures(seen), is_free(seen)) == (0, [], True)
    seen = reached(team, "sleeper", "it sleeps again", lambda s: s["state"] == "Stopped")
    assert (seen["restarts"], failures(seen), is_free(seen)) == (0, [], True)


def test_a_reconfigured_agent_starts_anew_with_its_parameters_and_nothing_is_counted(team: Kube) -> None:
    team.apply(orders("tuned", tell("clerk", "Reconfigure", batch=64, mode="fast")))
    obeyed(team, "tuned")
    seen = reached(team, "clerk", "it runs anew", renewed(2))
    assert (seen["restarts"], failures(seen)) == (0, [])
    assert reads(team, "clerk-0-2")["parameters"] == {"batch": 64, "mode": "fast"}
    team.run("delete", "mov", "tuned")
    seen = reached(team, "clerk", "nobody tells it anything", is_free)
    until("the file tells nothing any more", lambda: reads(team, "clerk-0-2")["parameters"] == {})
    assert renewed(2)(seen)


def test_an_agent_that_is_ordered_to_migrate_runs_on_another_node(team: Kube) -> None:
    (record,) = running(team, "clerk")["pods"]
    team.apply(orders("moved", tell("clerk", "Migrate")))
    obeyed(team, "moved")
    (there,) = team.get("mba", "clerk")["status"]["pods"]
    assert there["incarnation"] == record["incarnation"] + 1
    assert node_of(team, there["name"]) != record["node"]
    team.run("delete", "mov", "moved")
    seen = reached(team, "clerk", "nobody tells it anything", is_free)
    assert (seen["pods"], seen["restarts"], seen["migrations"]) == ([there], 0, 1)


def test_scaling_changes_what_is_in_effect_and_yields_to_an_autoscaler(team: Kube) -> None:
    running(team, "clerk")
    team.apply(orders("sized", tell("clerk", "ScaleUp", by=1), tell("twins", "ScaleDown", replicas=1)))
    obeyed(team, "sized")
    assert (effective(team, "clerk")["replicas"], effective(team, "twins")["replicas"]) == (2, 1)
    assert (team.get("mba", "clerk")["spec"]["replicas"], team.get("mba", "twins")["spec"]["replicas"]) == (1, 2)

    def pods() -> list[int]:
        return [len(team.list("pod", f"mabeam.dev/agent={name}")) for name in ("clerk", "twins")]

    until("two pods of clerk, one of twins", lambda: pods() == [2, 1])
    # What an autoscaler writes is written through the scale subresource by the controller manager.
    scale = ("--subresource=scale", "--field-manager=kube-controller-manager", "--type=merge")
    team.run("patch", "mba", "twins", *scale, "-p", json.dumps({"spec": {"replicas": 3}}))
    seen = decided(team, "sized", "refused", lambda s: s.get("directives", {}).get("refused") == 1)
    assert "kube-controller-manager" in next(i["message"] for i in seen["directives"]["items"] if i["agent"] == "twins")
    reached(team, "twins", "as the autoscaler has it", lambda s: s.get("readyReplicas") == 3)
    team.run("delete", "mov", "sized")
    seen = reached(team, "clerk", "one left", lambda s: [r["ordinal"] for r in s["pods"]] == [0] and is_ready(s))
    assert (is_free(seen), seen["restarts"], failures(seen)) == (True, 0, [])
    assert effective(team, "clerk")["replicas"] == 1


def test_role_activity_and_parameters_reach_the_file_and_the_status(team: Kube) -> None:
    running(team, "worker")
    team.apply(
        orders(
            "cast",
            tell("worker", "ChangeRole", role="Evaluator", term=3),
            tell("worker", "Activate", active=False),
            tell("worker", "AdjustParameters", heat=0.3),
        )
    )
    assert obeyed(team, "cast")["directives"]["issued"] == 3
    read = reads(team, "worker-0-2")
    assert (read["role"], read["term"], read["active"], read["parameters"]) == ("Evaluator", 3, False, {"heat": 0.3})
    status = team.get("mba", "worker")["status"]
    assert (status["role"], status.get("active", False)) == ("Evaluator", False)
    team.apply(orders("cast", tell("worker", "Activate")))
    obeyed(team, "cast")
    read = reads(team, "worker-0-2")
    assert (read["role"], read.get("term"), read["active"], read["parameters"]) == ("Executor", None, True, {})
    team.run("delete", "mov", "cast")
    seen = reached(team, "worker", "nobody tells it anything", is_free)
    assert (seen["role"], seen["active"], seen["pods"][0]["incarnation"]) == ("Executor", True, 2)


def test_a_crossed_threshold_leads_to_its_action_and_recovery_takes_it_back(team: Kube) -> None:
    (record,) = running(team, "clerk")["pods"]
    onwards = {"onBreach": {"action": "AdjustParameters", "parameters": {"effort": "high"}}}
    team.apply(variable("watch", ["clerk"], type="PerformanceThreshold", threshold=BREACH | onwards))
    decided(team, "watch", "looked at", lambda s: s.get("value") == {})
    say(team, record["name"], json.dumps({"performance": 0.2}))
    seen = obeyed(team, "watch")
    assert (seen["value"]["clerk"]["state"], seen["lastDecision"]["candidates"][0]["score"]) == ("Breached", 0.2)
    assert reads(team, record["name"])["parameters"] == {"effort": "high"}
    say(team, record["name"], json.dumps({"performance": 0.8}))
    decided(team, "watch", "recovered", lambda s: s.get("value") == {})
    reached(team, "clerk", "nobody tells it anything", is_free)
    until("the file tells nothing any more", lambda: reads(team, record["name"])["parameters"] == {})


def test_functions_and_rules_are_evaluated_in_the_operators_own_pod(team: Kube) -> None:
    rules = [{"cel": "value < 10.0", "message": "single digits only"}]
    told = {"function": {"cel": "double(agents.size()) * 2.5"}, "constraints": {"rules": rules}}
    team.apply(variable("reckoned", ["worker", "clerk"], **told))
    assert obeyed(team, "reckoned")["value"] == 5
    team.apply(variable("reckoned", ["worker", "clerk"], **told | {"function": {"cel": "double(agents.size()) * 7.0"}}))
    broken = decided(team, "reckoned", "kept by the rule", lambda s: s["lastDecision"]["rule"] == "ConstraintViolation")
    assert (broken["value"], "single digits only" in broken["lastDecision"]["message"]) == (5, True)
    # What never ends is ended, and only its own variable hears of it.
    endless = "[1,2,3,4,5,6,7,8,9,10]"
    for name in "abcdefgh":
        endless = f"[1,2,3,4,5,6,7,8,9,10].map({name}, {endless})"
    team.apply(variable("reckoned", ["worker", "clerk"], function={"cel": endless}))
    failed = decided(team, "reckoned", "given up", lambda s: s["lastDecision"]["rule"] in ("Timeout", "FunctionFailed"))
    assert failed["value"] == 5
    team.run("delete", "mov", "reckoned")
    for name in ("worker", "clerk"):
        reached(team, name, "nobody tells it anything", is_free)
