"""PerformanceThreshold: a bound, for how long, which action; clocks that step; scaling that goes on and is absolute."""

import json
from typing import Any

import pytest

from mabeam.core.coordination.strategies.threshold import check_thresholds
from mabeam.core.reports.report import Report
from support.builders import agent_body, at, stamp
from support.coordination import Team, a_round, in_json, told_agent, variable_body

BELOW_HALF = {"below": 0.5, "forSeconds": 30, "cooldownSeconds": 60, "onBreach": {"action": "Migrate"}}
SCALING = {**BELOW_HALF, "forSeconds": 0, "onBreach": {"action": "ScaleUp", "parameters": {"by": 2, "max": 6}}}


class Watched:
    """One agent `a` under a threshold, looked at again and again."""

    def __init__(self, value: Any = None, memory: Any = None, agent: Any = None, **threshold: Any) -> None:
        self.value, self.memory = value, memory
        self.agent = agent or told_agent("a")
        self.threshold = {**BELOW_HALF, **threshold}

    def look(self, seconds: float, metric: float | None, name: str = "") -> Any:
        """The outcome at this moment; stored, as an apiserver would."""
        status = {"observedGeneration": 1, "value": self.value, "watching": self.memory}
        reports = {"a": Report(performance={name: metric})} if metric is not None else {}
        spec = {"type": "PerformanceThreshold", "threshold": self.threshold}
        outcome = in_json(
            check_thresholds(a_round(self.agent, reports=reports, status=status, now=at(seconds), **spec))
        )
        self.value, self.memory = json.loads(json.dumps([outcome.value, outcome.follow_up.memory]))
        return outcome

    @property
    def state(self) -> str:
        return str((self.value or {}).get("a", {}).get("state", ""))


def test_a_breach_counts_once_it_has_lasted() -> None:
    watched = Watched()
    assert (watched.look(0, 0.4).follow_up.after_seconds, watched.state) == (30, "")
    assert (watched.look(29, 0.4).follow_up.after_seconds, watched.state) == (1, "")
    watched.look(30, 0.4)
    assert watched.value == {"a": {"state": "Breached", "action": "Migrate", "parameters": {}, "since": stamp(30)}}
    assert watched.memory == {}


def test_one_good_moment_starts_the_time_anew() -> None:
    watched = Watched()
    for seconds, metric in ((0, 0.4), (20, 0.6), (25, 0.4), (54, 0.4)):
        watched.look(seconds, metric)
    assert watched.state == ""
    watched.look(55, 0.4)
    assert watched.state == "Breached"


def test_an_agent_that_does_not_report_stays_as_it_is() -> None:
    watched = Watched({"a": {"state": "Breached", "action": "Migrate", "parameters": {}, "since": stamp(0)}})
    outcome = watched.look(1000, None)
    assert watched.state == "Breached"
    assert outcome.candidates[0].reason == "does not report performance"


def test_a_name_of_a_metric_may_be_as_long_as_the_api_allows() -> None:
    assert len(Watched(metric="m" * 253).look(0, None).candidates[0].reason) == 256


@pytest.mark.parametrize(("metric", "breach"), [(0.5, False), (0.49, True), (2.0, False), (2.01, True), (1e300, True)])
def test_the_bounds_themselves_are_no_breach(metric: float, breach: bool) -> None:
    watched = Watched(above=2.0, forSeconds=0)
    watched.look(0, metric)
    assert (watched.state == "Breached") is breach


def test_recovery_waits_out_the_cooldown_and_takes_back_what_was_told() -> None:
    watched = Watched(forSeconds=10)
    watched.look(0, 0.4)
    watched.look(10, 0.4)
    assert watched.look(20, 0.9).follow_up.after_seconds == 50
    watched.look(69, 0.9)
    assert watched.state == "Breached"
    watched.look(70, 0.9)
    assert watched.value == {}


def test_recovery_tells_its_own_action_where_it_has_one() -> None:
    watched = Watched(
        forSeconds=0, cooldownSeconds=0, onRecovery={"action": "AdjustParameters", "parameters": {"calm": 1}}
    )
    watched.look(0, 0.4)
    watched.look(1, 0.9)
    assert watched.value["a"] == {
        "state": "Recovered",
        "action": "AdjustParameters",
        "parameters": {"calm": 1},
        "since": stamp(1),
    }


def test_a_lasting_breach_scales_on_after_each_cooldown_up_to_its_bound() -> None:
    steps = []
    watched = Watched(**SCALING)
    replicas = 1
    for seconds in range(0, 400, 20):
        watched.agent = told_agent("a", status={"effective": {"replicas": replicas, "desiredState": "Running"}})
        watched.look(seconds, 0.1)
        wanted = watched.value["a"]["parameters"]["replicas"]
        if wanted != replicas:
            steps.append((seconds, wanted))
        replicas = wanted
    assert steps == [(0, 3), (60, 5), (120, 6)]


def test_an_order_that_is_not_carried_out_is_not_repeated() -> None:
    watched = Watched(**SCALING)
    watched.look(0, 0.1)
    first = watched.value
    watched.look(60, 0.1)
    watched.look(120, 0.1)
    assert watched.value == first


def test_an_absolute_number_is_ordered_once() -> None:
    watched = Watched(forSeconds=0, onBreach={"action": "ScaleUp", "parameters": {"replicas": 4}})
    watched.look(0, 0.1)
    assert watched.look(500, 0.1).follow_up.after_seconds is None
    assert watched.value["a"]["parameters"] == {"replicas": 4}


@pytest.mark.parametrize("back", [20, 100_000])
def test_a_clock_that_is_set_back_makes_a_crossing_last_no_longer_than_it_says(back: float) -> None:
    watched = Watched()
    watched.look(0, 0.4)
    watched.look(-back, 0.4)
    assert watched.memory == {"a": stamp(-back)}
    watched.look(-back + 30, 0.4)
    assert watched.state == "Breached"


@pytest.mark.parametrize(("back", "wait"), [(10, 60), (59, 60), (61, 0), (100_000, 0)])
def test_a_clock_that_is_set_back_holds_an_action_no_longer_than_twice_the_cooldown(back: float, wait: float) -> None:
    told = {"state": "Breached", "action": "ScaleUp", "parameters": {"replicas": 3}, "since": stamp(0)}
    watched = Watched({"a": told}, agent=told_agent("a", replicas=3), **SCALING)
    outcome = watched.look(-back, 0.1)
    assert outcome.follow_up.after_seconds == (wait or 60)
    assert watched.value["a"]["parameters"] == {"replicas": 3 if wait else 5}


@pytest.mark.parametrize(
    "junk",
    [None, 5, "x", [], {"state": "Breached"}, {"state": []}, {"state": "x" * 500, "action": "Migrate"},
     {"state": "Breached", "action": [], "parameters": {}}, {"state": "Breached", "action": "Fly"}],
)  # fmt: skip
def test_an_entry_that_somebody_else_wrote_counts_for_nothing(junk: Any) -> None:
    watched = Watched({"a": junk}, forSeconds=0)
    watched.look(0, 0.9)
    assert watched.value == {}
    watched.look(1, 0.4)
    assert watched.state == "Breached"


@pytest.mark.parametrize(
    "junk", [None, 7, [], {}, "", "soon", "2026-01-01", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59Z"]
)
def test_a_memory_that_somebody_else_wrote_is_begun_anew(junk: Any) -> None:
    watched = Watched(memory={"a": junk, "gone": junk})
    watched.look(0, 0.4)
    assert watched.memory == {"a": stamp(0)}


def test_who_is_no_member_any_more_is_forgotten() -> None:
    told = {"state": "Breached", "action": "Migrate", "parameters": {}, "since": stamp(0)}
    watched = Watched({"gone": told}, {"gone": stamp(0)})
    watched.look(0, 0.9)
    assert (watched.value, watched.memory) == ({}, {})


def test_looking_costs_one_write_for_a_crossing_and_none_while_it_lasts() -> None:
    variable = variable_body("watch", ("a",), type="PerformanceThreshold", threshold=BELOW_HALF)
    team = Team.of(variable, agent_body("a"), said={"a": Report(performance={"": 0.4})})
    team.settle()
    writes = team.status_writes
    for _ in range(29):
        team.wait(1)
        team.pass_variable("watch")
    assert team.status_writes == writes
    team.wait(1)
    team.settle()
    held = team.agent("a").status.directives
    assert held is not None
    assert [(item.action, item.variable) for item in held.items] == [("Migrate", "watch")]


def test_parameters_that_no_directive_could_carry_are_refused_at_the_door() -> None:
    for parameters in ({f"p{number}": 1 for number in range(65)}, {"p" * 254: 1}):
        threshold = {**BELOW_HALF, "onBreach": {"action": "AdjustParameters", "parameters": parameters}}
        with pytest.raises(ValueError, match="parameters"):
            Watched(**threshold).look(0, 0.4)
