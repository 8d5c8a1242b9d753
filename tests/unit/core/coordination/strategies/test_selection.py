"""AgentSelection: who qualifies, who ranks, and who keeps a place."""

from typing import Any

import pytest

from mabeam.core.coordination.strategies.selection import select
from mabeam.core.functions import FunctionCall, FunctionResult
from mabeam.core.snapshot import SystemContext
from support.builders import agent_body, an_agent
from support.coordination import Team, a_round, an_item, in_json, performing, told_agent, variable_body

NAMES = ("a", "b", "c")


def selecting(
    seats: int | None = 2, active: Any = None, *agents: Any, scores: Any = None, wanted: Any = None, **words: Any
) -> Any:
    """The outcome of a selection among these agents (three that run, unless told), of whom some are active already."""
    spec: dict[str, Any] = {"type": "AgentSelection"}
    if seats is not None:
        spec["constraints"] = {"maxConcurrent": seats}
    if wanted is not None:
        spec["taskRequirements"] = wanted
    team = agents or tuple(told_agent(name) for name in NAMES)
    status = {"observedGeneration": 1, "value": active} if active is not None else None
    return in_json(select(a_round(*team, reports=performing(**(scores or {})), status=status, **spec, **words)))


def chosen(*args: Any, **words: Any) -> list[str]:
    """Who is active then."""
    return list(selecting(*args, **words).value["active"])


def lacking(agent: Any, wanted: Any = None, **words: Any) -> str:
    """What that agent lacks to be selected."""
    outcome = selecting(1, None, agent, wanted=wanted, **words)
    assert outcome.value is None
    assert outcome.rule == "AgentUnavailable"
    return str(outcome.candidates[0].reason)


def test_the_best_are_active_and_ties_go_by_name() -> None:
    assert chosen(scores={"a": 0.1, "b": 0.9, "c": 0.5}) == ["b", "c"]
    assert chosen(scores={"a": 0.5, "b": 0.5, "c": 0.5}) == ["a", "b"]


def test_who_reports_nothing_ranks_last() -> None:
    assert chosen(scores={"c": -5.0}) == ["a", "c"]


def test_without_a_bound_everyone_who_qualifies_is_active() -> None:
    assert chosen(None) == ["a", "b", "c"]


@pytest.mark.parametrize(("challenger", "active"), [(0.54, ["a"]), (0.55, ["a"]), (0.56, ["b"])])
def test_a_challenger_has_to_be_better_by_more_than_the_hysteresis(challenger: float, active: list[str]) -> None:
    assert chosen(1, {"active": ["a"]}, scores={"a": 0.5, "b": challenger}) == active


@pytest.mark.parametrize("challenger", [0.01, 0.0, -0.005, 0.04])
def test_noise_around_zero_replaces_nobody(challenger: float) -> None:
    assert chosen(1, {"active": ["a"]}, scores={"a": -0.01, "b": challenger}) == ["a"]
    assert chosen(1, {"active": ["b"]}, scores={"a": -0.01, "b": challenger - 0.02}) == ["b"]


def test_a_clear_lead_near_zero_replaces_the_active_one() -> None:
    assert chosen(1, {"active": ["a"]}, scores={"a": 0.0, "b": 0.06}) == ["b"]
    assert chosen(1, {"active": ["a"]}, scores={"a": 0.0, "b": 0.001}, wanted={"hysteresis": 0}) == ["b"]


def test_any_score_beats_an_active_agent_that_reports_none() -> None:
    assert chosen(1, {"active": ["a"]}, scores={"b": 0.0}) == ["b"]


def test_fewer_places_unseat_the_weakest() -> None:
    assert chosen(1, {"active": ["a", "b"]}, scores={"a": 0.5, "b": 0.51, "c": 0.52}) == ["b"]


def test_two_challengers_take_two_places() -> None:
    assert chosen(2, {"active": ["a", "b"]}, *map(told_agent, "abcd"), scores={"a": 1, "b": 1, "c": 2, "d": 3}) == [
        "c",
        "d",
    ]


@pytest.mark.parametrize("active", [None, 5, "ab", [], {"active": 7}, {"active": [[], {"x": 1}, "zz"]}])
def test_a_stored_value_of_any_shape_holds_nobodys_place(active: Any) -> None:
    assert chosen(1, active, scores={"b": 1.0}) == ["b"]


@pytest.mark.parametrize(
    ("agent", "wanted", "says"),
    [
        (told_agent(role="Monitor"), {"roles": ["Executor", "Evaluator"]}, "is Monitor, not Executor or Evaluator"),
        (told_agent(capabilities=["x"]), {"capabilities": ["x", "y", "z"]}, "cannot y, z"),
        (told_agent(), {"matchLabels": {"team": "red"}}, "has no label team=red"),
        (told_agent(status={"state": "Starting"}), {}, "is not ready (Starting)"),
        (told_agent(status={"state": "Failed", "parkedAt": "2026-01-01T00:00:00Z"}), {}, "is parked"),
        (told_agent(), {"minPerformance": 0.5}, "reports no performance"),
    ],
)
def test_what_an_agent_lacks_is_told(agent: Any, wanted: Any, says: str) -> None:
    assert lacking(agent, wanted) == says


def test_an_active_agent_may_fall_below_the_least_performance_by_the_hysteresis() -> None:
    wanted = {"minPerformance": 0.5}
    assert chosen(1, {"active": ["a"]}, told_agent(), scores={"a": 0.46}, wanted=wanted) == ["a"]
    assert selecting(1, {"active": ["a"]}, told_agent(), scores={"a": 0.44}, wanted=wanted).value is None
    assert selecting(1, None, told_agent(), scores={"a": 0.46}, wanted=wanted).value is None
    assert chosen(1, {"active": ["a"]}, told_agent(), scores={"a": -0.04}, wanted={"minPerformance": 0}) == ["a"]


def test_whoever_was_stopped_by_this_very_variable_may_be_selected_again() -> None:
    resting = told_agent(
        "a", an_item("v", action="Stop", parameters={}), status={"state": "Stopped", "readyReplicas": 0}
    )
    assert chosen(1, None, resting, wanted={"minPerformance": 0.5, "inactivePolicy": "Stop"}) == ["a"]


@pytest.mark.parametrize(
    ("resources", "free", "says"),
    [
        ({"limits": {"memory": "64Mi"}}, {}, "has 64Mi memory, not 128Mi"),
        ({}, {"memory": "1Mi"}, "has 1Mi memory, not 128Mi"),
    ],
)
def test_what_an_agent_may_use_has_to_suffice(resources: Any, free: Any, says: str) -> None:
    asked = {"requests": {"memory": "128Mi"}}
    assert lacking(told_agent(resources=resources), resources=asked, context=SystemContext(free=free)) == says


def test_a_resource_that_nobody_knows_of_is_lacking_but_cpu_and_memory_are_the_schedulers_business() -> None:
    assert lacking(told_agent(), resources={"requests": {"gpu": "1"}}) == "has no gpu"
    assert chosen(1, None, told_agent(), resources={"requests": {"cpu": "64"}}) == ["a"]


def test_a_template_with_an_amount_that_is_none_costs_nobody_else_the_selection() -> None:
    junk = {"spec": {"containers": [{"name": "agent", "resources": {"limits": {"memory": "lots"}}}]}}
    asked = {"requests": {"memory": "1Mi"}}
    agents = (told_agent("a"), told_agent("b", template=junk))
    assert chosen(None, None, *agents, resources=asked, context=SystemContext(free={"memory": "2Mi"})) == ["a", "b"]


def test_a_score_beyond_every_bound_is_told_as_far_as_a_status_can() -> None:
    outcome = selecting(1, None, scores={"a": 1e300, "b": -1e300})
    assert [(c.name, c.score, c.chosen) for c in outcome.candidates] == [
        ("a", 1e12, True), ("b", -1e12, False), ("c", None, False),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "value", "says"),
    [
        (["b", "a", "b"], {"active": ["a", "b"]}, ""),
        ({"active": ["c"]}, {"active": ["c"]}, ""),
        ([], {"active": []}, ""),
        (["a", "b", "c"], None, "the function named 3 agents; `constraints.maxConcurrent` is 2"),
        (["x", "a"], None, "the function named x, which are not among its agents"),
        *(
            (junk, None, "the function must return a list of agent names")
            for junk in (None, 5, "a", [1], [[]], {}, {"active": 5})
        ),
    ],
)
def test_a_function_names_the_active_ones_or_is_told_what_it_did_wrong(answer: Any, value: Any, says: str) -> None:
    def told(known: Any = None) -> Any:
        words = {"answers": known} if known else {}
        return selecting(2, None, function={"cel": "x"}, **words)

    [ask] = told().follow_up.function_calls
    outcome = told({ask.id: FunctionResult(answer)})
    assert outcome.value == value
    if says:
        assert (outcome.rule, outcome.message) == ("FunctionFailed", says)


def test_the_others_idle_or_stop_as_the_policy_has_it_and_everything_comes_to_rest() -> None:
    for policy, other in (("Idle", ("Activate", {"active": False})), ("Stop", ("Stop", {}))):
        variable = variable_body(
            "pick",
            NAMES,
            type="AgentSelection",
            constraints={"maxConcurrent": 1},
            taskRequirements={"inactivePolicy": policy},
        )
        team = Team.of(variable, *(agent_body(name) for name in NAMES), said=performing(b=1.0))
        team.settle()
        told = {name: team.agent(name).status.directives for name in NAMES}
        items = {n: [(i.action, i.parameters) for i in d.items] for n, d in told.items() if d is not None}
        assert items == {"a": [other], "b": [("Activate", {"active": True})], "c": [other]}
        assert team.settle() == 0


def test_a_restarted_operator_listens_to_the_active_ones_before_it_unseats_them() -> None:
    variable = variable_body("pick", NAMES, type="AgentSelection", constraints={"maxConcurrent": 1})
    team = Team.of(variable, *(agent_body(name) for name in NAMES), said=performing(a=0.1, b=0.9, c=0.2))
    team.settle()
    team.said = performing(c=0.2)
    assert team.pass_variable("pick").requeue_after == 1
    assert team.variable("pick").status.value == {"active": ["b"]}


def test_an_ask_carries_what_the_agents_are() -> None:
    [ask] = selecting(2, None, function={"plugin": {"name": "p"}}, scores={"a": 0.5}).follow_up.function_calls
    assert isinstance(ask, FunctionCall)
    assert [agent.get("performance") for agent in ask.inputs["agents"]] == [0.5, None, None]


def test_an_agent_of_which_nothing_was_seen_yet_is_taken_at_its_word() -> None:
    assert chosen(1, None, an_agent("a")) == ["a"]
