"""Votes and selections on real agents: proposals reach their files, ballots come from their reports, and so do their scores."""

import json
from typing import Any

import pytest

from e2e.agents import decided, is_free, is_ready, listener, obeyed, reached, readiness, reads, running, say, variable
from support.kube import JsonDict, Kube, condition, until

WORDS: dict[str, JsonDict] = {
    "keen": {"vote": "Yes", "performance": 0.5},
    "meek": {"vote": "Yes", "performance": 0.52},
    "stern": {"vote": "No", "performance": 0.3},
    "silent": {},
}


@pytest.fixture(scope="module")
def council(kube: Kube) -> Kube:
    kube.apply(*(listener(name, words=words) for name, words in WORDS.items()))
    for name in WORDS:
        running(kube, name)
    return kube


def voted(kube: Kube, name: str, outcome: str, proposed: Any) -> JsonDict:
    """The variable's status, once the vote on that value came out so."""
    return decided(
        kube,
        name,
        f"{proposed} {outcome}",
        lambda s: (v := s.get("consensus") or {}).get("proposed") == proposed and v.get("outcome") == outcome,
    )


def dismiss(kube: Kube, *names: str) -> None:
    """Delete variables, and wait until nobody obeys them any more."""
    kube.run("delete", "mov", *names)
    for agent in WORDS:
        reached(kube, agent, "nobody tells it anything", is_free)


def test_a_change_is_what_most_agents_accept_and_nothing_else(council: Kube) -> None:
    three = ["keen", "meek", "stern"]
    council.apply(variable("heat", three, value=1, consensus={}))
    assert obeyed(council, "heat")["value"] == 1
    council.apply(variable("heat", three, value=2, consensus={}))
    seen = voted(council, "heat", "Accepted", 2)
    votes = {vote["agent"]: vote["choice"] for vote in seen["consensus"]["votes"]}
    assert (votes["keen"], votes["meek"], seen["value"]) == ("Yes", "Yes", 2)
    assert (obeyed(council, "heat")["value"], reads(council, "keen-0-1")["parameters"]) == (2, {"heat": 2})
    assert reads(council, "keen-0-1")["proposals"] == []
    council.apply(variable("heat", three, value=3, consensus={"protocol": "Unanimous"}))
    seen = voted(council, "heat", "Rejected", 3)
    assert {"agent": "stern", "choice": "No", "weight": 1} in seen["consensus"]["votes"]
    seen = obeyed(council, "heat")
    assert seen["value"] == 2
    assert condition({"status": seen}, "ConsensusReached")["reason"] == "ConsensusRejected"
    assert reads(council, "keen-0-1")["parameters"] == {"heat": 2}
    dismiss(council, "heat")


def test_a_vote_that_nobody_answers_ends_at_its_deadline_and_a_human_may_have_the_last_word(council: Kube) -> None:
    rules = {"deadlineSeconds": 4}
    council.apply(variable("pace", ["keen", "silent"], value=1, consensus=rules | {"quorum": 1}))
    obeyed(council, "pace")
    council.apply(variable("pace", ["keen", "silent"], value=2, consensus=rules | {"quorum": 1}))

    def proposed() -> Any:
        return reads(council, "silent-0-1")["proposals"]

    (proposal,) = until("the proposal is in the file", proposed)
    assert (proposal["variable"], proposal["proposed"]) == ("pace", 2)
    seen = voted(council, "pace", "Rejected", 2)
    assert (seen["value"], proposal["id"], proposal["deadline"]) == (
        1,
        seen["consensus"]["proposal"],
        seen["consensus"]["deadline"],
    )
    assert "quorum" in seen["consensus"]["reason"]
    # Another value, a ballot at last, and a human who is asked besides.
    say(council, "silent-0-1", json.dumps({"vote": "Yes"}))
    council.apply(variable("pace", ["keen", "silent"], value=3, consensus=rules | {"requireApproval": True}))
    seen = decided(council, "pace", "a human is awaited", lambda s: readiness(s).get("reason") == "AwaitingApproval")
    assert (seen["value"], len(seen["consensus"]["votes"])) == (1, 2)
    approval = (f"mabeam.dev/approve={seen['consensus']['proposal']}", "mabeam.dev/approver=ada")
    council.run("annotate", "mov", "pace", *approval)
    assert voted(council, "pace", "Accepted", 3)["consensus"]["approvedBy"] == "ada"
    assert obeyed(council, "pace")["value"] == 3
    until("it is told", lambda: reads(council, "silent-0-1")["parameters"] == {"pace": 3})
    dismiss(council, "pace")


def test_the_best_performer_is_active_and_only_a_clearly_better_one_takes_its_place(council: Kube) -> None:
    names, one = ["keen", "meek", "stern"], {"maxConcurrent": 1}

    def selection(name: str, policy: str = "Idle", **spec: Any) -> JsonDict:
        task = {"minPerformance": 0.2, "inactivePolicy": policy} | spec.pop("task", {})
        return variable(name, names, type="AgentSelection", taskRequirements=task, constraints=one, **spec)

    council.apply(selection("steady"), selection("nervous", task={"hysteresis": 0}, mode="Advise"))
    assert obeyed(council, "steady")["value"] == {"active": ["meek"]}
    assert [reads(council, f"{name}-0-1")["active"] for name in names] == [False, True, False]
    assert [council.get("mba", name)["status"].get("active", False) for name in names] == [False, True, False]
    # A little better: whoever has no inertia has changed its mind, so the report was heard.
    say(council, "keen-0-1", json.dumps({"performance": 0.55}))
    decided(council, "nervous", "keen", lambda s: s.get("value") == {"active": ["keen"]})
    assert council.get("mov", "steady")["status"]["value"] == {"active": ["meek"]}
    say(council, "keen-0-1", json.dumps({"performance": 0.9}))
    decided(council, "steady", "keen", lambda s: s.get("value") == {"active": ["keen"]})
    seen = obeyed(council, "steady")
    assert (seen["round"], seen["previousValue"]) == (2, {"active": ["meek"]})
    assert [reads(council, f"{name}-0-1")["active"] for name in names] == [True, False, False]
    council.apply(selection("steady", "Stop"))
    obeyed(council, "steady")
    assert [council.get("mba", name)["status"]["state"] for name in names] == ["Running", "Stopped", "Stopped"]
    dismiss(council, "steady", "nervous")
    for name in names:
        seen = reached(council, name, "it runs", lambda s: is_ready(s) and s["active"])
        assert (seen["restarts"], seen["pods"][0]["incarnation"]) == (0, 1 if name == "keen" else 2)
