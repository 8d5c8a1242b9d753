"""What is asked of Prometheus, and what is made of whatever it answers."""

from typing import Any

import pytest

from mabeam.core.reports.openmetrics import METRICS
from mabeam.core.reports.prometheus import DEFAULT_QUERY, NO_ANSWER, build_query, parse_query_answer, problem_report
from mabeam.core.reports.report import MAX_PROBLEM_LENGTH, MAX_SERIES, DirectiveRefusal, Report

PODS = ("a-0-1", "a-1-1")


def series(name: str | None, value: object = "1", /, **labels: object) -> dict[str, Any]:
    """One series of an instant vector."""
    named = {"__name__": name} if name else {}
    return {"metric": named | labels, "value": [1_767_225_600.5, value]}


def vector(*found: Any) -> dict[str, Any]:
    return {"status": "success", "data": {"resultType": "vector", "result": list(found)}}


def heard(*found: Any, pods: tuple[str, ...] = PODS) -> dict[str, Report]:
    return parse_query_answer(vector(*found), "team", pods)


# --- the query -------------------------------------------------------------------------------------------------------


def test_the_default_query_asks_for_the_contracts_names_of_the_agents_pods() -> None:
    asked = build_query(DEFAULT_QUERY, "team", "a", ["a-1-1", "a-0-2"])
    assert asked == f'{{__name__=~"{"|".join(METRICS)}", namespace="team", pod=~"a-0-2|a-1-1"}}'


def test_a_query_may_say_where_the_names_go_and_what_it_does_not_know_stays() -> None:
    query = 'avg by (pod) (score{ns="$namespace", who=\'$agent\', pod=~"$pod"}) + on() $pods + $other'
    asked = build_query(query, "team", "a", ["a-0-1"])
    assert asked == 'avg by (pod) (score{ns="team", who=\'a\', pod=~"a-0-1"}) + on() $pods + $other'


def test_a_name_cannot_end_the_string_that_it_stands_in() -> None:
    asked = build_query('x{n="$namespace", a=\'$agent\', p=~"$pod"}', 'n"} or up{\\', "a'$pod\n", ["p.*"])
    assert asked == 'x{n="n\\x22} or up{\\\\", a=\'a\\x27$pod\\n\', p=~"p\\\\.\\\\*"}'


# --- whose it is --------------------------------------------------------------------------------------------------------


def test_every_sample_of_the_contract_is_read_with_its_labels() -> None:
    common = {"pod": "a-0-1", "namespace": "team", "job": "team/agents", "instance": "10.0.0.1:9464"}
    found = heard(
        series("mabeam_performance", "0.9", **common),
        series("mabeam_performance", "2e-1", metric="loss", **common),
        series("mabeam_preference", "0.4", variable="temperature", **common),
        series("mabeam_preference", "0.5", variable="model", value="large", **common),
        series("mabeam_preference_weight", "2", variable="temperature", **common),
        series("mabeam_bid", "3", variable="temperature", **common),
        series("mabeam_vote", "1", proposal="temperature-3", choice="Yes", **common),
        series("mabeam_applied_generation", "7", **common),
        series("mabeam_refused", "1", variable="temperature", generation="7", reason="too hot", **common),
        series("mabeam_progress_total", "1.2e+01", **common),
        series("mabeam_waiting_until_seconds", "1.7e+09", **common),
        series("up", "1", **common),
    )
    assert found == {
        "a-0-1": Report(
            performance={"": 0.9, "loss": 0.2},
            numbers={"temperature": 0.4},
            choices={"model": {"large": 0.5}},
            weights={"temperature": 2},
            bids={"temperature": 3},
            votes={"temperature-3": "Yes"},
            applied_generation=7,
            refusals=(DirectiveRefusal("temperature", 7, "too hot"),),
            progress=12,
            waiting_until=1.7e9,
        )
    }


def test_a_series_is_its_pods_and_one_without_a_pod_is_everybodys() -> None:
    found = heard(
        series("mabeam_applied_generation", "3", pod="a-0-1"),
        series("mabeam_bid", "5", variable="t"),
    )
    assert found["a-0-1"] == Report(applied_generation=3, bids={"t": 5})
    assert found["a-1-1"] == Report(bids={"t": 5})


@pytest.mark.parametrize("labels", [{"pod": "b-0-1"}, {"pod": "a-0-1", "namespace": "other"}, {"namespace": "other"}])
def test_another_pods_or_another_namespaces_series_is_nobodys(labels: dict[str, object]) -> None:
    assert heard(series("mabeam_applied_generation", "3", **labels)) == {}


def test_a_pod_of_which_nothing_is_known_has_no_report() -> None:
    assert heard() == {}
    assert set(heard(series("mabeam_bid", variable="t", pod="a-1-1"))) == {"a-1-1"}


# --- what an expression leaves ------------------------------------------------------------------------------------------------


def test_a_number_without_a_name_is_the_performance() -> None:
    assert heard(series(None, "0.7")) == dict.fromkeys(PODS, Report(performance={"": 0.7}))
    assert heard(series(None, "0.7", pod="a-0-1"), series(None, "0.9", pod="a-1-1")) == {
        "a-0-1": Report(performance={"": 0.7}),
        "a-1-1": Report(performance={"": 0.9}),
    }
    assert heard(series(None, "0.7", metric="loss"))["a-0-1"] == Report(performance={"loss": 0.7})


def test_a_scalar_is_the_performance_of_every_pod() -> None:
    answer = {"status": "success", "data": {"resultType": "scalar", "result": [1.5, "0.25"]}}
    assert parse_query_answer(answer, "team", PODS) == dict.fromkeys(PODS, Report(performance={"": 0.25}))


def test_several_numbers_without_a_name_are_told_and_the_same_one_counts_in_any_order() -> None:
    several = [series(None, "1", job="x"), series(None, "2", job="y")]
    once, again = heard(*several, pods=("a-0-1",)), heard(*reversed(several), pods=("a-0-1",))
    assert once == again == {"a-0-1": Report(performance={"": 1}, problems=("mabeam_performance: given twice",))}


# --- what is wrong --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf"])
def test_a_stale_or_infinite_sample_is_dropped_and_told(value: str) -> None:
    found = heard(series("mabeam_bid", value, variable="t", pod="a-0-1"))
    assert found == {"a-0-1": Report(problems=("mabeam_bid{variable='t'}: not a finite number",))}


def test_a_histogram_is_no_number() -> None:
    one = {"metric": {"__name__": "mabeam_performance", "pod": "a-0-1"}, "histogram": [1.5, {"count": "3"}]}
    assert heard(one) == {"a-0-1": Report(problems=("mabeam_performance: malformed sample",))}


def test_series_beyond_the_bound_are_dropped_and_told_for_each_pod() -> None:
    mine = [series("mabeam_bid", variable=f"v{i}", pod="a-0-1") for i in range(MAX_SERIES + 90)]
    ours = [series("mabeam_bid", variable=f"w{i}") for i in range(MAX_SERIES)]
    found = heard(*mine)["a-0-1"]
    assert (len(found.bids), found.problems) == (MAX_SERIES, (f"more than {MAX_SERIES} series: the rest is dropped",))
    both = heard(*mine, *ours)
    assert {pod: len(report.bids) for pod, report in both.items()} == dict.fromkeys(PODS, MAX_SERIES)
    assert (len(both["a-0-1"].problems), both["a-1-1"].problems) == (1, ())


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (
            {"status": "success", "data": {"resultType": "matrix", "result": []}},
            "the query gives a matrix; an instant vector or a scalar is needed",
        ),
        (
            {"status": "success", "data": {"resultType": "string", "result": [1, "x"]}},
            "the query gives a string; an instant vector or a scalar is needed",
        ),
        (
            {"status": "error", "errorType": "bad_data", "error": "1:3: parse error: unexpected end"},
            "Prometheus refuses the query: 1:3: parse error: unexpected end",
        ),
        ({"status": "success"}, NO_ANSWER),
        ({"status": "success", "data": {"resultType": "vector", "result": [7]}}, NO_ANSWER),
        ({"status": "success", "data": {"resultType": "vector", "result": [{"metric": []}]}}, NO_ANSWER),
        ({"status": "success", "data": {"resultType": "scalar", "result": [1, 2, 3]}}, NO_ANSWER),
        ([], NO_ANSWER),
        (None, NO_ANSWER),
        ("success", NO_ANSWER),
    ],
)
def test_an_answer_that_is_none_is_told_of_every_pod(answer: object, problem: str) -> None:
    assert parse_query_answer(answer, "team", PODS) == dict.fromkeys(PODS, Report(problems=(problem,)))


def test_what_prometheus_complains_of_is_kept_short() -> None:
    found = parse_query_answer({"status": "error", "error": "x" * 5000}, "team", PODS)
    assert len(found["a-0-1"].problems[0]) == MAX_PROBLEM_LENGTH
    assert problem_report("y" * 5000).problems == ("y" * MAX_PROBLEM_LENGTH,)


def test_labels_that_are_no_text_are_left_out() -> None:
    found = heard(series("mabeam_bid", variable=7, pod="a-0-1"), series("mabeam_progress_total", pod=["a-1-1"]))
    assert found["a-0-1"].bids == {}
    assert found["a-1-1"].progress == 1
