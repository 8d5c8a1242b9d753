"""When a round is held, what is recorded of it, and that an unchanged world costs nothing, for every type."""

import copy
import json
from itertools import pairwise
from typing import Any

import pytest

from mabeam.api.variable import OrchestrationType
from mabeam.api.variable_status import OrchestrationVariableStatus
from mabeam.core.coordination.strategies.interface import result_of_call
from mabeam.core.functions import FunctionCall, FunctionResult, Language
from mabeam.core.reports.report import Report
from mabeam.core.values import PARSERS, parse_value
from support.builders import START, agent_body, an_agent, stamp
from support.coordination import Team, a_round, prefers, variable_body

KINDS: dict[str, dict[str, Any]] = {
    "Parameter": {"negotiation": {}},
    "AdaptationRate": {"rate": {"schedule": {"type": "Linear", "start": 1, "end": 0}, "load": {}}},
    "Custom": {"function": {"cel": "x"}},
    "AgentSelection": {"constraints": {"maxConcurrent": 1}},
    "ResourceAllocation": {"budget": [{"resource": "tokens", "amount": "10"}]},
    "CommunicationTopology": {"topology": {"pattern": "Star"}},
    "CoordinationPattern": {"topology": {"pattern": "Ring"}},
    "PerformanceThreshold": {"threshold": {"below": 0.5, "forSeconds": 0, "onBreach": {"action": "ScaleUp"}}},
}
JUNK: list[Any] = [
    True, 0, -1, "x", [], [[1]], {}, {"a": []}, {"a": {"state": "Breached"}}, {"active": 5}, {"active": [[]]}, {"pattern": []},
    {"pattern": "Ring", "members": 5, "edges": 7, "hub": []}, {"directives": [1, None]}, {"a": {"cpu": 5}}, {"term": "x"},
]  # fmt: skip


def a_team(kind: str, **spec: Any) -> Team:
    """A team of two, one performing below and one above the bound, and a variable of that type."""
    body = variable_body("v", ("a", "b"), type=kind, **(copy.deepcopy(KINDS[kind]) | spec))
    agents = [agent_body(name, preferences=[prefers(want, "v", vote="Yes")]) for name, want in (("a", 0.2), ("b", 0.6))]
    said = {name: Report(performance={"": score}) for name, score in (("a", 0.1), ("b", 0.9))}
    team = Team.of(body, *agents, said=said)
    team.function = lambda ask: FunctionResult(0.5)
    return team


def everything(team: Team) -> tuple[Any, ...]:
    """What is in force: the value, and what each agent reads."""
    return team.variable("v").status.value, {name: held.document for name, held in team.maps.items()}


def test_every_type_is_looked_at_here() -> None:
    assert set(KINDS) == set(OrchestrationType) == set(PARSERS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_stored_value_is_read_and_written_without_a_change(kind: str) -> None:
    team = a_team(kind)
    team.settle()
    stored = team.variable("v").status.value
    value = parse_value(OrchestrationType(kind), stored)
    assert value is not None
    assert value.to_json() == stored


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("consensus", [None, {}])
def test_a_pass_over_an_unchanged_world_writes_nothing(kind: str, consensus: Any) -> None:
    team = a_team(kind, **({"consensus": consensus} if consensus is not None else {}))
    team.settle()
    assert team.variable("v").status.value is not None
    before, effects = team.variable("v").status, len(team.effects)
    for _ in range(3):
        decision = team.pass_variable("v")
        assert (decision.status, decision.status_reason, decision.effects) == (before, "unchanged", ())
        assert [team.pass_agent(name).effects for name in "ab"] == [(), ()]
    assert len(team.effects) == effects


@pytest.mark.parametrize("kind", KINDS)
def test_a_status_is_the_same_after_its_json(kind: str) -> None:
    team = a_team(kind)
    team.now = team.now.replace(microsecond=123_456)
    for _ in range(3):
        status = team.pass_variable("v").status
        assert (
            OrchestrationVariableStatus.model_validate(json.loads(json.dumps(status.to_wire()))).to_wire()
            == status.to_wire()
        )
        for name in "ab":
            team.pass_agent(name)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lives", [0, 1, 2])
def test_an_operator_that_dies_between_its_writes_comes_to_the_same_end(kind: str, lives: int) -> None:
    steady, mortal = a_team(kind), a_team(kind)
    steady.settle()
    for _ in range(6):
        mortal.lives = lives
        mortal.pass_variable("v")
        for name in "ab":
            mortal.pass_agent(name)
        mortal.early_delivery.keys.clear()
        mortal.lives = None
    mortal.settle()
    assert everything(mortal) == everything(steady)


@pytest.mark.parametrize("kind", KINDS)
def test_advise_decides_and_writes_nothing_but_its_own_status(kind: str) -> None:
    team = a_team(kind, mode="Advise")
    team.settle()
    assert team.variable("v").status.value is not None
    assert team.ready("v")[1] == "Advised"
    assert (team.effects, team.maps) == ([], {})
    assert all("directives" not in team.agents[name]["status"] for name in "ab")


@pytest.mark.parametrize("kind", KINDS)
def test_paused_it_decides_nothing_and_agents_keep_what_they_hold(kind: str) -> None:
    team = a_team(kind)
    team.settle()
    before = everything(team)
    team.variables["v"]["spec"]["paused"] = True
    team.agents["b"]["status"] |= {"state": "Failed", "parkedAt": stamp(0), "readyReplicas": 0}
    team.said = {}
    team.wait(100)
    team.settle()
    assert everything(team) == before


@pytest.mark.parametrize("kind", KINDS)
def test_a_variable_that_goes_takes_all_its_directives_along(kind: str) -> None:
    team = a_team(kind)
    team.settle()
    del team.variables["v"]
    team.settle()
    for name in "ab":
        document = team.maps[f"{name}-mabeam"].document or {} if f"{name}-mabeam" in team.maps else {}
        assert (document.get("parameters", {}), document.get("peers", []), document.get("resources", {})) == (
            {},
            [],
            {},
        )
        assert document.get("active", True) is True
        assert document.get("role", "Executor") == "Executor"
        assert team.agents[name]["status"].get("directives", {}).get("items", []) == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("junk", JUNK, ids=str)
def test_a_status_that_somebody_edited_raises_nothing_and_is_put_right(kind: str, junk: Any) -> None:
    team = a_team(kind)
    team.settle()
    good = team.variable("v").status.value
    status = team.variables["v"]["status"]
    status |= {"value": copy.deepcopy(junk)}
    status |= {"watching": copy.deepcopy(junk)} if isinstance(junk, dict) else {}
    team.wait(20)
    team.settle()
    value = team.variable("v").status.value
    if kind in (
        "AdaptationRate",
        "Parameter",
        "Custom",
        "AgentSelection",
        "ResourceAllocation",
        "CommunicationTopology",
    ):
        assert value == good
    elif kind == "CoordinationPattern":
        assert (value["members"], value["coordinator"]) == (["a", "b"], "a")
    else:
        assert value["a"]["action"] == "ScaleUp"
    assert team.settle() == 0


def test_a_period_is_between_two_records_and_functions_are_heard_after_it() -> None:
    team = a_team("Custom")
    team.settle()
    team.function = lambda ask: FunctionResult(0.9)
    team.wait(14)
    team.settle()
    assert team.variable("v").status.value == 0.5
    team.wait(1)
    team.settle()
    assert team.variable("v").status.value == 0.9


def test_a_function_that_says_the_same_on_new_figures_is_asked_once_a_period() -> None:
    team = a_team("Custom")
    team.settle()
    before, asked = team.variable("v").status, []

    def function(ask: FunctionCall) -> FunctionResult:
        asked.append((team.now - START).total_seconds())
        return FunctionResult(before.value)

    team.function = function
    for second in range(60):
        team.said["b"] = Report(performance={"": second / 60})
        team.wait(1)
        team.settle()
    assert team.variable("v").status.last_decision == before.last_decision
    assert [round(later - earlier) for earlier, later in pairwise(asked)] == [15, 15, 15]


def test_a_round_that_came_to_the_same_is_not_recorded() -> None:
    team = a_team("AgentSelection")
    team.settle()
    before = team.variable("v").status.last_decision
    team.said["b"] = Report(performance={"": 0.95})
    team.settle()
    assert team.variable("v").status.last_decision == before


# --- questions under way --------------------------------------------------------------------------------------------------


def asking(value: Any = 1, text: str = "f", **inputs: Any) -> FunctionCall:
    return FunctionCall(Language.CEL, text, {"value": value, **inputs})


def test_the_answer_to_the_very_question_comes_first() -> None:
    ask, other = asking(metric=2), asking(metric=1)
    round_ = a_round(an_agent("a"), asked=[other], answers={ask.id: FunctionResult(5), other.id: FunctionResult(7)})
    assert result_of_call(round_, ask) == (ask, FunctionResult(5))


def test_a_question_about_the_same_that_is_under_way_is_waited_for() -> None:
    other = asking(metric=1)
    assert result_of_call(a_round(an_agent("a"), asked=[other]), asking(metric=2)) == (other, None)


def test_its_answer_is_good_enough_until_it_was_used() -> None:
    other = asking(metric=1)
    words: dict[str, Any] = {"asked": [other], "answers": {other.id: FunctionResult(7)}}
    assert result_of_call(a_round(an_agent("a"), **words), asking(metric=2)) == (other, FunctionResult(7))
    used = {"observedGeneration": 1, "lastDecision": {"time": stamp(0), "rule": "Function", "inputsHash": other.id}}
    fresh = asking(metric=2)
    assert result_of_call(a_round(an_agent("a"), status=used, **words), fresh) == (fresh, None)


@pytest.mark.parametrize("other", [asking(2), asking(text="g"), asking(proposal="v-1"), asking(closed=True)])
def test_a_question_about_something_else_is_no_answer(other: FunctionCall) -> None:
    ask = asking()
    round_ = a_round(an_agent("a"), asked=[other], answers={other.id: FunctionResult(7)})
    assert result_of_call(round_, ask) == (ask, None)


def test_reports_that_tick_do_not_keep_a_function_from_being_heard() -> None:
    """Every pass sees other metrics, so each would ask something new and never hear an answer."""
    team = a_team("Custom")
    held: list[FunctionCall] = []

    def slow(ask: FunctionCall) -> FunctionResult | None:
        held.append(ask)
        return FunctionResult(0.5) if len(held) > 3 else None

    team.function = slow
    for second in range(8):
        team.said["a"] = Report(performance={"": float(second)})
        team.pass_variable("v")
    assert team.variable("v").status.value == 0.5
    assert len({ask.id for ask in held[:4]}) == 1
