"""The vote on a value from its proposal to its end, whatever happens meanwhile."""

from typing import Any

import pytest

from mabeam.core.functions import FunctionResult
from mabeam.core.reports.report import Report
from support.builders import agent_body, at, stamp
from support.coordination import Team, prefers, variable_body

APPROVE, REJECT = "mabeam.dev/approve", "mabeam.dev/reject"


def voting(*wants: tuple[float, str | None], rules: Any = None, **spec: Any) -> Team:
    """A team of one agent per want: its preference and its static ballot, if any."""
    agents = [
        agent_body(f"a{i}", preferences=[prefers(value, **({"vote": vote} if vote else {}))])
        for i, (value, vote) in enumerate(wants)
    ]
    names = [agent["metadata"]["name"] for agent in agents]
    spec = {"negotiation": {}, **spec}
    return Team.of(variable_body(agents=names, consensus=rules or {}, **spec), *agents)


def vote(team: Team) -> Any:
    return team.variable().status.consensus


def value(team: Team) -> Any:
    return team.variable().status.value


def edit(team: Team, **spec: Any) -> None:
    team.variables["temperature"]["spec"] |= spec
    team.variables["temperature"]["metadata"]["generation"] += 1


def want(team: Team, number: float, name: str = "a0", ballot: str | None = None) -> None:
    team.agents[name]["spec"]["preferences"] = [prefers(number, **({"vote": ballot} if ballot else {}))]


def say(team: Team, **choices: str) -> None:
    """Agents report their ballots on the present proposal."""
    team.said = {name: Report(votes={vote(team).proposal: choice}) for name, choice in choices.items()}


def annotate(team: Team, key: str, text: str) -> None:
    team.variables["temperature"]["metadata"]["annotations"] = {key: text}


def test_static_ballots_decide_in_one_pass() -> None:
    team = voting((0.2, "Yes"), (0.4, "Yes"), (0.6, None))
    team.settle()
    assert (value(team), vote(team).outcome, vote(team).votes[0].choice) == (pytest.approx(0.4), "Accepted", "Yes")
    assert team.settle() == 0


def test_until_ballots_come_the_proposal_is_told_and_nothing_else() -> None:
    team = voting((0.2, None), (0.4, None))
    team.settle()
    assert team.ready() == ("False", "Voting", "0.3: 0 of 2 have voted")
    document = team.maps["a0-mabeam"].document or {}
    assert document["parameters"] == {}
    assert document["proposals"] == [
        {"id": "temperature-1", "variable": "temperature", "proposed": pytest.approx(0.3), "deadline": stamp(30)}
    ]
    say(team, a0="Yes", a1="Yes")
    team.settle()
    assert (team.maps["a0-mabeam"].document or {})["proposals"] == []
    assert team.parameters("a0") == {"temperature": pytest.approx(0.3)}


def test_a_reported_ballot_overrules_the_static_one_and_nonsense_does_not() -> None:
    team = voting((0.2, "Yes"), (0.4, None), (0.4, None))
    team.settle()
    say(team, a0="No", a1="Maybe", a2="Yes")
    team.settle()
    assert [(v.agent, v.choice) for v in vote(team).votes] == [("a0", "No"), ("a2", "Yes")]
    say(team, a0="Aye", a2="Yes")
    team.settle()
    assert (vote(team).outcome, [v.choice for v in vote(team).votes]) == ("Accepted", ["Yes", "Yes"])


def test_at_the_deadline_it_is_over_and_asks_to_be_looked_at_just_then() -> None:
    team = voting((0.2, None), (0.4, None))
    team.wait(0.5)
    assert team.pass_variable().requeue_after == 30.5
    team.wait(30.4)
    team.settle()
    assert vote(team).outcome == "Pending"
    team.wait(0.1)
    team.settle()
    assert (vote(team).outcome, vote(team).reason) == ("Rejected", "0 of 2 have voted; the quorum is 0.5")
    assert team.ready()[1] == "ConsensusRejected"


@pytest.mark.parametrize(
    ("rules", "outcome"),
    [
        ({"quorum": 0}, "Rejected"),
        ({"quorum": 0, "absent": "Yes"}, "Accepted"),
        ({"quorum": 0, "absent": "No"}, "Rejected"),
        ({"quorum": 1, "absent": "Yes"}, "Rejected"),
    ],
)
def test_what_silence_comes_to_at_the_deadline(rules: Any, outcome: str) -> None:
    team = voting((0.2, None), (0.4, None), rules=rules)
    team.settle()
    team.wait(31)
    team.settle()
    assert vote(team).outcome == outcome


def test_an_outcome_that_silence_decides_either_way_is_still_waited_for() -> None:
    """With quorum 0 and absent Yes a No could still come: the vote is open until its deadline."""
    team = voting((0.2, None), (0.4, None), rules={"quorum": 0, "absent": "Yes"})
    team.settle()
    assert vote(team).outcome == "Pending"


def test_a_rejected_value_is_not_proposed_again_until_it_differs() -> None:
    team = voting((0.2, "No"))
    team.settle()
    first = vote(team).proposal
    for _ in range(3):
        team.wait(60)
        team.settle()
    assert (vote(team).proposal, vote(team).outcome, value(team)) == (first, "Rejected", None)
    want(team, 0.3, ballot="Yes")
    team.settle()
    assert (vote(team).proposal != first, value(team)) == (True, 0.3)


def test_a_rejected_value_is_proposed_again_when_the_spec_changes() -> None:
    team = voting((0.2, "No"), (0.2, "Yes"), (0.2, "Yes"), rules={"protocol": "Unanimous"})
    team.settle()
    edit(team, consensus={"protocol": "SimpleMajority"})
    team.settle()
    assert (vote(team).outcome, value(team)) == ("Accepted", 0.2)


def test_the_last_value_stays_in_force_while_another_is_voted_on_and_when_it_is_rejected() -> None:
    team = voting((0.2, "Yes"))
    team.settle()
    want(team, 0.9)
    team.settle()
    assert (vote(team).outcome, value(team), team.parameters("a0")) == ("Pending", 0.2, {"temperature": 0.2})
    team.wait(31)
    team.settle()
    assert (vote(team).outcome, value(team)) == ("Rejected", 0.2)
    assert team.ready() == ("True", "Converged", "1/1 applied; temperature-2 was rejected")


def test_the_start_is_in_force_while_the_first_vote_is_under_way_and_when_it_is_lost() -> None:
    team = voting((0.2, None), value=0.7)
    team.settle()
    assert (vote(team).proposed, value(team), team.parameters("a0")) == (0.2, 0.7, {"temperature": 0.7})
    team.wait(31)
    team.settle()
    assert (vote(team).outcome, value(team)) == ("Rejected", 0.7)


def test_a_start_from_the_spec_needs_no_vote_but_its_change_does() -> None:
    team = voting((0.2, None), negotiation=None, value=0.7)
    del team.variables["temperature"]["spec"]["negotiation"]
    team.settle()
    assert (vote(team), value(team)) == (None, 0.7)
    edit(team, value=0.8)
    team.settle()
    assert (vote(team).proposed, value(team)) == (0.8, 0.7)


def test_a_proposal_that_is_not_wanted_any_more_is_superseded() -> None:
    team = voting((0.2, "Yes"))
    team.settle()
    want(team, 0.9)
    team.settle()
    want(team, 0.2)
    team.settle()
    assert (vote(team).outcome, vote(team).reason, value(team)) == ("Rejected", "superseded", 0.2)


def test_another_value_starts_another_vote() -> None:
    team = voting((0.2, None))
    team.settle()
    want(team, 0.9)
    team.settle()
    assert (vote(team).proposal, vote(team).proposed, vote(team).outcome) == ("temperature-2", 0.9, "Pending")


def test_agents_that_come_and_go_are_counted_and_the_vote_on_the_same_value_goes_on() -> None:
    team = voting((0.2, None), (0.2, None))
    team.settle()
    say(team, a0="Yes")
    team.settle()
    team.wait(10)
    team.variables["temperature"]["spec"]["agents"]["names"] += ["a2"]
    team.agents["a2"] = agent_body(
        "a2", preferences=[prefers(0.2)], status={"observedGeneration": 1, "state": "Running"}
    )
    team.settle()
    assert (vote(team).proposal, vote(team).eligible, [v.agent for v in vote(team).votes]) == (
        "temperature-1",
        3,
        ["a0"],
    )
    assert vote(team).deadline == at(30)
    del team.agents["a1"], team.agents["a2"]
    team.settle()
    assert (vote(team).proposal, vote(team).outcome, value(team)) == ("temperature-1", "Accepted", 0.2)


def test_an_offer_that_flickers_does_not_keep_a_vote_from_its_end() -> None:
    team = voting((0.2, None), (0.2, None))
    team.settle()
    for second in range(31):
        want(team, 0.2, "a1") if second % 2 else team.agents["a1"]["spec"].update(preferences=[])
        team.wait(1)
        team.settle()
    assert (vote(team).proposal, vote(team).outcome) == ("temperature-1", "Rejected")


def test_other_rules_start_the_vote_anew() -> None:
    team = voting((0.2, None), (0.2, "Yes"))
    team.settle()
    edit(team, consensus={"protocol": "WeightedVoting", "deadlineSeconds": 5})
    team.settle()
    assert (vote(team).proposal, vote(team).protocol, vote(team).deadline) == (
        "temperature-2",
        "WeightedVoting",
        team.now.replace(second=5),
    )


def test_without_the_block_the_value_is_taken_and_the_vote_is_gone() -> None:
    team = voting((0.2, None))
    team.settle()
    del team.variables["temperature"]["spec"]["consensus"]
    edit(team)
    team.settle()
    assert (vote(team), value(team)) == (None, 0.2)


def test_a_paused_variable_neither_counts_nor_closes_and_tells_of_no_proposal() -> None:
    team = voting((0.2, None))
    team.settle()
    edit(team, paused=True)
    team.wait(100)
    team.settle()
    assert (vote(team).outcome, (team.maps["a0-mabeam"].document or {})["proposals"]) == ("Pending", [])


# --- weights and vetoes -------------------------------------------------------------------------------------------------


def test_a_reported_weight_is_capped_and_a_static_one_is_not() -> None:
    team = voting((0.2, "No"), (0.2, "Yes"), rules={"protocol": "WeightedVoting"}, negotiation={"maxWeight": 2})
    team.agents["a1"]["spec"]["preferences"][0]["weight"] = 3
    team.said = {"a0": Report(weights={"temperature": 1e9})}
    team.settle()
    assert [v.weight for v in vote(team).votes] == [2, 3]
    assert vote(team).outcome == "Accepted"


def test_a_veto_outweighs_everyone() -> None:
    team = voting((0.2, "Yes"), (0.2, "Yes"), (0.2, "No"), rules={"vetoRoles": ["Evaluator"]})
    team.agents["a2"]["spec"]["role"] = "Evaluator"
    team.settle()
    assert (vote(team).outcome, vote(team).reason) == ("Rejected", "a2 has a veto (Evaluator) and says No")


# --- a human's word -----------------------------------------------------------------------------------------------------


def awaiting(**rules: Any) -> Team:
    """A team that agrees, and waits for a human."""
    team = voting((0.2, "Yes"), rules={"requireApproval": True, **rules})
    team.settle()
    return team


def test_what_the_agents_accept_waits_for_a_human_beyond_the_deadline() -> None:
    team = awaiting()
    team.wait(1000)
    team.settle()
    assert (vote(team).outcome, vote(team).awaits_approval, value(team)) == ("Pending", True, None)
    assert team.ready()[1] == "AwaitingApproval"
    assert (team.maps.get("a0-mabeam")) is None


def test_approval_of_this_very_proposal_puts_it_in_force() -> None:
    team = awaiting()
    annotate(team, APPROVE, "temperature-0")
    team.settle()
    assert value(team) is None
    annotate(team, APPROVE, vote(team).proposal)
    team.settle()
    assert (value(team), vote(team).awaits_approval, vote(team).approved_by) == (0.2, None, None)


def test_the_approver_is_a_person() -> None:
    team = awaiting()
    team.variables["temperature"]["metadata"]["annotations"] = {
        APPROVE: vote(team).proposal,
        "mabeam.dev/approver": "carol@example.org",
    }
    team.settle()
    assert vote(team).approved_by == "carol@example.org"
    assert "approved by carol@example.org" in vote(team).reason


def test_it_says_that_a_human_is_awaited_and_how_to_answer() -> None:
    team = awaiting()
    proposal = vote(team).proposal
    command = f"kubectl annotate mov temperature -n team --overwrite mabeam.dev/approve={proposal}"
    assert f"0.2 ({proposal}) awaits the approval of a human: {command}" in team.ready()[2]
    assert [command in e.note for e in team.events if e.reason == "AwaitingApproval"] == [True]


def test_a_wrong_id_is_answered_once() -> None:
    team = awaiting()
    annotate(team, APPROVE, "temperature-99")
    team.settle()
    answer = f"{APPROVE}=temperature-99 has no effect: the open proposal is {vote(team).proposal}"
    assert answer in team.ready()[2]
    assert [e.note for e in team.events if e.reason == "ApprovalUnmatched"] == [answer]
    annotate(team, APPROVE, vote(team).proposal)
    team.settle()
    assert (value(team), "has no effect" in team.ready()[2]) == (0.2, False)


def test_an_old_approval_fits_no_new_proposal() -> None:
    team = awaiting()
    annotate(team, APPROVE, vote(team).proposal)
    team.settle()
    assert value(team) == 0.2
    team.variables["temperature"]["status"] = {"observedGeneration": -1}
    team.settle()
    assert (vote(team).awaits_approval, value(team)) == (True, None)
    assert vote(team).proposal == "temperature-2"
    annotate(team, APPROVE, "temperature-999999999999")
    assert vote(team).proposal == "temperature-2"


def test_what_was_in_force_before_a_rejection_keeps_its_origin() -> None:
    team = awaiting()
    annotate(team, APPROVE, vote(team).proposal)
    team.settle()
    origin = team.variable().status.value_origin
    assert origin is not None
    assert "0.2 is accepted" in origin.message
    agents = team.agents["a0"]["spec"]["preferences"]
    agents[0]["value"] = 0.9
    team.settle()
    annotate(team, REJECT, vote(team).proposal)
    team.settle()
    status = team.variable().status
    assert (status.value, status.value_origin) == (0.2, origin)
    assert status.last_decision is not None
    assert "0.9" in status.last_decision.message


def test_approval_and_then_rejection_changes_nothing_any_more() -> None:
    team = awaiting()
    annotate(team, APPROVE, vote(team).proposal)
    team.settle()
    annotate(team, REJECT, vote(team).proposal)
    team.settle()
    assert (value(team), vote(team).outcome) == (0.2, "Accepted")


def test_refusal_beats_approval_and_what_was_refused_is_not_proposed_again() -> None:
    team = awaiting()
    first = vote(team).proposal
    team.variables["temperature"]["metadata"]["annotations"] = {APPROVE: first, REJECT: first}
    team.settle()
    team.wait(100)
    team.settle()
    assert (value(team), vote(team).outcome, vote(team).proposal, vote(team).approved_by) == (
        None,
        "Rejected",
        first,
        None,
    )


def test_approval_before_the_agents_agree_counts_once_they_do() -> None:
    team = voting((0.2, None), rules={"requireApproval": True})
    team.settle()
    annotate(team, APPROVE, vote(team).proposal)
    team.settle()
    assert value(team) is None
    say(team, a0="Yes")
    team.settle()
    assert value(team) == 0.2


def test_an_approval_that_is_no_longer_asked_for_is_not_waited_for() -> None:
    team = awaiting()
    edit(team, consensus={"requireApproval": False})
    team.settle()
    assert value(team) == 0.2


# --- a plug-in's word ---------------------------------------------------------------------------------------------------


def by_plugin(answer: Any) -> Team:
    """A team whose protocol is a plug-in that says this."""
    team = voting((0.2, None), (0.2, None), rules={"protocol": "elders"})
    team.function = lambda ask: answer(ask.inputs) if callable(answer) else answer
    team.settle()
    return team


@pytest.mark.parametrize(
    ("said", "outcome"), [(True, "Accepted"), (False, "Rejected"), (None, "Pending"), (1, "Pending"), ([], "Pending")]
)
def test_a_plugin_accepts_rejects_or_leaves_it_open(said: Any, outcome: str) -> None:
    assert vote(by_plugin(FunctionResult(said))).outcome == outcome


def test_a_plugin_that_leaves_it_open_is_asked_again_when_ballots_come() -> None:
    team = by_plugin(lambda told: FunctionResult(True if len(told["ballots"]) == 2 else None))
    assert vote(team).outcome == "Pending"
    say(team, a0="Yes")
    team.settle()
    assert vote(team).outcome == "Pending"
    say(team, a0="Yes", a1="No")
    team.settle()
    assert vote(team).outcome == "Accepted"


@pytest.mark.parametrize("answer", [FunctionResult(None), FunctionResult(error="broken"), FunctionResult("yes")])
def test_a_plugin_without_a_verdict_in_time_rejects(answer: FunctionResult) -> None:
    team = by_plugin(lambda told: answer if told["closed"] or answer.error is None else None)
    team.wait(31)
    for _ in range(3):
        team.pass_variable()
    assert vote(team).outcome == "Rejected"


def test_the_answer_about_one_proposal_is_none_about_the_next() -> None:
    team = by_plugin(None)
    asked = team.asked["temperature"]
    edit(team, consensus={"protocol": "elders", "quorum": 1})
    team.pass_variable()
    assert {ask.inputs["proposal"] for ask in asked} == {"temperature-1"}
    assert team.asked["temperature"][-1].inputs["proposal"] == "temperature-2"


# --- statuses of any shape ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("junk", [None, True, 7, "x", [], {}, [[1]], {"directives": [1]}])
def test_a_proposal_that_somebody_else_wrote_ends_and_the_agents_decide_again(junk: Any) -> None:
    team = voting((0.2, "Yes"))
    team.settle()
    stored = team.variables["temperature"]["status"]
    stored["consensus"] = {"proposal": "zz", "proposed": junk, "outcome": "Pending", "protocol": "none"}
    for _ in range(3):
        team.settle()
        team.wait(100)
    assert value(team) == 0.2


def test_a_failure_that_is_over_is_not_told_for_ever_because_the_value_was_rejected() -> None:
    team = voting((0.2, "No"), negotiation=None, function={"cel": "x"})
    del team.variables["temperature"]["spec"]["negotiation"]
    broken = False
    team.function = lambda ask: FunctionResult(error="no") if broken else FunctionResult(0.5)
    team.settle()
    assert team.ready()[1] == "ConsensusRejected"
    broken = True
    team.wait(16)
    team.settle()
    assert team.ready()[1] == "FunctionFailed"
    broken = False
    team.wait(16)
    team.settle()
    assert team.ready()[1] == "ConsensusRejected"
