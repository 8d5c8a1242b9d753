"""Variables on real agents: decided, delivered into the pods' own files, applied by processes, acknowledged or not."""

from typing import Any

import pytest

from e2e.agents import (
    PATIENCE,
    decided,
    is_converged,
    reached,
    readiness,
    reads,
    report,
    running,
    say,
    speaker,
    variable,
)
from support.kube import JsonDict, Kube, condition, until

UNIT = {"type": "Number", "minimum": 0, "maximum": 10}


def wants(name: str, value: float, **words: Any) -> JsonDict:
    return {"variable": name, "value": value, **words}


@pytest.fixture(scope="module")
def team(kube: Kube) -> Kube:
    kube.apply(
        speaker(
            "cool",
            preferences=[wants("shared", 0.4, weight=2), wants("first", 1.5, bid=5), wants("second", 1.5, bid=5)],
        ),
        speaker(
            "warm",
            preferences=[wants("shared", 1.0, weight=1), wants("first", 0.5, bid=3), wants("second", 0.5, bid=3)],
        ),
        speaker("torn"),
        speaker("proud", env={"REFUSE_ABOVE": "2"}),
        speaker("mute", env={"WORD": "silent"}),
        speaker("frank", env={"WORD": "0.8"}),
        speaker("garbled", env={"WORD": "0.3"}),
    )
    return kube


def converged(kube: Kube, name: str, value: Any) -> JsonDict:
    return decided(kube, name, f"converged on {value}", lambda s: s.get("value") == value and is_converged(s))


def directive(status: JsonDict, agent: str) -> JsonDict:
    return next(item for item in status["directives"]["items"] if item["agent"] == agent)


def test_a_negotiated_value_reaches_the_files_and_the_processes(team: Kube) -> None:
    for name in ("cool", "warm"):
        running(team, name)
    team.apply(variable("shared", ["cool", "warm"], parameter="temperature", domain=UNIT, negotiation={}))
    seen = converged(team, "shared", 0.6)
    assert seen["negotiation"]["reason"] == "WeightedMean"
    offers = {offer["agent"]: (offer["value"], offer["weight"]) for offer in seen["negotiation"]["offers"]}
    assert offers == {"cool": (0.4, 2), "warm": (1.0, 1)}
    assert (seen["directives"]["issued"], seen["directives"]["acknowledged"]) == (2, 2)
    for name in ("cool", "warm"):
        told = reads(team, f"{name}-0-1")
        assert told["parameters"] == {"temperature": 0.6}
        answer = report(team, f"{name}-0-1")
        assert "echo_temperature 0.6\n" in answer
        assert f"mabeam_applied_generation {told['generation']}\n" in answer
        assert team.get("mba", name)["status"]["directives"]["appliedGeneration"] == told["generation"]


@pytest.mark.parametrize(("name", "payment", "paid"), [("first", "FirstPrice", 5), ("second", "SecondPrice", 3)])
def test_the_highest_bid_wins_and_pays_its_price(team: Kube, name: str, payment: str, paid: float) -> None:
    team.apply(variable(name, ["cool", "warm"], domain=UNIT, negotiation={"strategy": "Auction", "payment": payment}))
    seen = converged(team, name, 1.5)
    assert seen["negotiation"]["winner"] == "cool"
    assert seen["negotiation"]["payment"] == paid
    assert reads(team, "warm-0-1")["parameters"][name] == 1.5


def test_of_two_variables_for_one_parameter_the_higher_priority_wins_and_the_loser_is_told(team: Kube) -> None:
    running(team, "torn")
    team.apply(
        variable("modest", ["torn"], parameter="temperature", priority=1, value=0.2),
        variable("urgent", ["torn"], parameter="temperature", priority=9, value=0.9),
    )
    converged(team, "urgent", 0.9)
    until("the process does as the winner says", lambda: "echo_temperature 0.9\n" in report(team, "torn-0-1"), PATIENCE)
    seen = reached(team, "torn", "the conflict", lambda s: s.get("directives", {}).get("conflicts"))
    (conflict,) = seen["directives"]["conflicts"]
    assert (conflict["parameter"], conflict["winner"], conflict["loser"]) == ("temperature", "urgent", "modest")
    assert conflict["resolver"] == "PriorityBased"
    loser = decided(team, "modest", "refused", lambda s: s.get("directives", {}).get("refused") == 1)
    assert directive(loser, "torn")["overruledBy"] == "urgent"
    # The winner goes: the loser's word counts.
    team.run("delete", "mov", "urgent")
    converged(team, "modest", 0.2)
    assert "echo_temperature 0.2\n" in report(team, "torn-0-1")


def test_an_agent_may_refuse_and_its_reason_is_kept(team: Kube) -> None:
    running(team, "proud")
    team.apply(variable("heat", ["proud"], parameter="temperature", value=1.5))
    converged(team, "heat", 1.5)
    team.apply(variable("heat", ["proud"], parameter="temperature", value=3.5))
    seen = decided(team, "heat", "refused", lambda s: s.get("value") == 3.5 and readiness(s).get("reason") == "Refused")
    assert readiness(seen)["status"] == "False"
    assert directive(seen, "proud")["state"] == "Refused"
    refused = directive(seen, "proud")
    assert (refused["reason"], refused["message"]) == ("RefusedByAgent", "too hot for me")
    assert "echo_temperature 1.5\n" in report(team, "proud-0-1")
    team.apply(variable("heat", ["proud"], parameter="temperature", value=1.8))
    converged(team, "heat", 1.8)


def test_a_directive_that_nobody_answers_expires_and_a_late_answer_still_counts(team: Kube) -> None:
    running(team, "mute")
    team.apply(variable("unheard", ["mute"], parameter="temperature", value=0.5, constraints={"timeoutSeconds": 3}))
    seen = decided(team, "unheard", "Timeout", lambda s: readiness(s).get("reason") == "Timeout")
    assert readiness(seen)["status"] == "False"
    assert directive(seen, "mute")["state"] == "Expired"
    assert seen["directives"]["expired"] == 1
    say(team, "mute-0-1", "0")
    converged(team, "unheard", 0.5)


def test_agents_decide_by_what_they_report(team: Kube) -> None:
    running(team, "frank")
    team.apply(variable("told", ["frank"], parameter="temperature", domain=UNIT, negotiation={"periodSeconds": 1}))
    # The preference is reported for `temperature`; a variable of that name hears it.
    team.apply(variable("temperature", ["frank"], domain=UNIT, priority=5, negotiation={"periodSeconds": 1}))
    seen = converged(team, "temperature", 0.8)
    assert seen["negotiation"]["offers"][0]["source"] == "Report"
    say(team, "frank-0-1", "2.5")
    converged(team, "temperature", 2.5)
    assert "echo_temperature 2.5\n" in report(team, "frank-0-1")
    # Beyond the domain it counts as its bound, and is marked.
    say(team, "frank-0-1", "99")
    seen = converged(team, "temperature", 10)
    assert seen["negotiation"]["offers"][0]["clamped"] is True


@pytest.mark.parametrize("word", ["malformed", "oversized"])
def test_a_bad_report_is_told_and_the_last_good_value_stays(team: Kube, word: str) -> None:
    running(team, "garbled")
    say(team, "garbled-0-1", "0.3")
    mine = variable("temperature", ["frank", "garbled"], domain=UNIT, priority=5, negotiation={"periodSeconds": 1})
    team.apply(mine)
    decided(
        team,
        "temperature",
        "heard",
        lambda s: any(o["agent"] == "garbled" for o in s.get("negotiation", {}).get("offers", [])),
    )
    valid = "ReportsValid"
    say(team, "garbled-0-1", word)
    seen = reached(team, "garbled", "a bad report", lambda s: condition({"status": s}, valid).get("status") == "False")
    assert condition({"status": seen}, valid)["reason"] == "BadReport"
    offers = {o["agent"]: o["value"] for o in team.get("mov", "temperature")["status"]["negotiation"]["offers"]}
    assert offers["garbled"] == 0.3
    say(team, "garbled-0-1", "0.3")
    reached(team, "garbled", "a good report", lambda s: condition({"status": s}, valid).get("status") == "True")
