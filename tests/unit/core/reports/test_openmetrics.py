"""Reports of agents, sample by sample: what is read, and what of a broken or hostile one is dropped."""

import pytest

from mabeam.core.reports.openmetrics import METRICS, parse
from mabeam.core.reports.report import (
    MAX_PROBLEM_LENGTH,
    MAX_PROBLEMS,
    DirectiveRefusal,
    Report,
)


def test_every_sample_of_the_contract_is_read() -> None:
    report = parse(
        """# HELP mabeam_performance How well.
# TYPE mabeam_performance gauge
mabeam_performance 0.9
mabeam_performance{metric="loss"} 2e-1
mabeam_preference{variable="temperature"} 0.4
mabeam_preference{variable="model",value="small"} 1
mabeam_preference{value="large",variable="model"} 0.5 1700000000
mabeam_preference_weight{variable="temperature"} 2
mabeam_bid{variable="temperature"} 3
mabeam_vote{proposal="temperature-3",choice="Yes"} 1
mabeam_applied_generation 7
mabeam_refused{variable="temperature",generation="7",reason="too hot"} 1
mabeam_progress_total 12.0 # {trace_id="x"} 1
mabeam_waiting_until_seconds 1.7e9
# EOF
"""
    )
    assert report == Report(
        performance={"": 0.9, "loss": 0.2},
        numbers={"temperature": 0.4},
        choices={"model": {"small": 1, "large": 0.5}},
        weights={"temperature": 2},
        bids={"temperature": 3},
        votes={"temperature-3": "Yes"},
        applied_generation=7,
        refusals=(DirectiveRefusal("temperature", 7, "too hot"),),
        progress=12,
        waiting_until=1.7e9,
    )


def test_every_metric_of_the_contract_has_a_reader() -> None:
    assert set(METRICS) == {
        "mabeam_performance",
        "mabeam_preference",
        "mabeam_preference_weight",
        "mabeam_bid",
        "mabeam_vote",
        "mabeam_applied_generation",
        "mabeam_refused",
        "mabeam_progress_total",
        "mabeam_waiting_until_seconds",
    }


def test_names_that_are_none_of_ours_are_skipped_in_silence() -> None:
    assert parse('process_cpu_seconds_total 3\nmabeam_novelty{x="y"} NaN\nhttp_requests{garbage\n') == Report()


def test_escapes_in_label_values_are_undone() -> None:
    text = r'mabeam_refused{variable="t",generation="1",reason="a \"b\" \\ c\nd, e=} f"} 1'
    assert parse(text).refusals[0].reason == 'a "b" \\ c\nd, e=} f'


def test_bytes_that_are_no_text_cost_their_own_sample_only() -> None:
    report = parse(b'mabeam_bid{variable="x"} 1\n\xff\xfe 1\n')
    assert report.bids == {"x": 1}
    assert report.problems == ("line 2 is not a sample",)


def test_carriage_returns_and_blank_lines_are_no_trouble() -> None:
    assert parse("mabeam_applied_generation 3\r\n\r\n  \n").applied_generation == 3


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-inf", "Infinity", "1e999"])
def test_a_value_that_is_not_finite_is_dropped_and_told(value: str) -> None:
    report = parse(f'mabeam_preference{{variable="temperature"}} {value}\nmabeam_bid{{variable="temperature"}} 1')
    assert report.numbers == {}
    assert report.bids == {"temperature": 1}
    assert report.problems == ("mabeam_preference{variable='temperature'}: not a finite number",)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('mabeam_bid{variable="t"} -1', "mabeam_bid{variable='t'}: negative"),
        ('mabeam_preference_weight{variable="t"} -0.5', "mabeam_preference_weight{variable='t'}: negative"),
        ('mabeam_preference{variable="t",value="x"} -1', "mabeam_preference{variable='t'}: negative"),
        ("mabeam_bid 1", "mabeam_bid: label variable is missing, empty or too long"),
        ('mabeam_bid{variable=""} 1', "mabeam_bid{variable=''}: label variable is missing, empty or too long"),
        ('mabeam_bid{variable="t"', "mabeam_bid{variable='t'}: malformed labels"),
        ('mabeam_bid{variable="t",variable="u"} 1', "mabeam_bid{variable='t'}: malformed labels"),
        ("mabeam_bid{variable=t} 1", "mabeam_bid: malformed labels"),
        ('mabeam_bid{variable="t"}', "mabeam_bid{variable='t'}: malformed sample"),
        ('mabeam_bid{variable="t"} 1_000', "mabeam_bid{variable='t'}: malformed sample"),
        ('mabeam_bid{variable="t"} 1 2 3', "mabeam_bid{variable='t'}: malformed sample"),
        ("mabeam_applied_generation 1.5", "mabeam_applied_generation: not a whole number"),
        ("mabeam_applied_generation -1", "mabeam_applied_generation: not a whole number"),
        ("mabeam_progress_total -1", "mabeam_progress_total: negative"),
        (
            'mabeam_refused{variable="t",generation="x"} 1',
            "mabeam_refused{variable='t'}: label generation is not a whole number",
        ),
        (
            'mabeam_vote{proposal="p-1",choice="YES"} 1',
            "mabeam_vote{proposal='p-1'}: label choice must be Yes, No, Abstain, spelt like this",
        ),
        (
            'mabeam_vote{proposal="p-1",choice=""} 1',
            "mabeam_vote{proposal='p-1'}: label choice is missing, empty or too long",
        ),
        ("<html>", "line 1 is not a sample"),
    ],
)
def test_a_bad_sample_is_dropped_and_named(line: str, problem: str) -> None:
    report = parse(line)
    assert report == Report(problems=(problem,))


def test_a_series_given_twice_keeps_its_first_value_and_is_told() -> None:
    report = parse('mabeam_bid{variable="t"} 1\nmabeam_bid{variable="t"} 100')
    assert report.bids == {"t": 1}
    assert report.problems == ("mabeam_bid{variable='t'}: given twice",)


def test_a_report_that_is_too_large_is_dropped_whole() -> None:
    line = 'mabeam_bid{variable="t"} 1\n'
    fits = line + "#" * (65_536 - len(line))
    assert parse(fits).bids == {"t": 1}
    assert parse(fits + "#") == Report(problems=("report larger than 64 KiB",))
    assert parse("é" * 40_000) == Report(problems=("report larger than 64 KiB",))


def test_series_beyond_the_bound_are_dropped_and_told() -> None:
    text = "\n".join(f'mabeam_bid{{variable="v{i}"}} 1' for i in range(600))
    report = parse(text)
    assert len(report.bids) == 512
    assert report.problems == ("more than 512 series: the rest is dropped",)


def test_problems_are_few_and_short_whatever_an_agent_sends() -> None:
    text = "\n".join(f'mabeam_bid{{variable="{"v" * 200}{i}"}} -{i}' for i in range(1, 200))
    text += "\n" + "\n".join(f'mabeam_bid{{variable="\\n{i}"}} -1' for i in range(1, 200))
    report = parse(text)
    assert len(report.problems) <= MAX_PROBLEMS
    assert all(len(problem) <= MAX_PROBLEM_LENGTH and problem.isprintable() for problem in report.problems)


def test_a_problem_never_tells_the_value_so_that_a_status_does_not_tick() -> None:
    assert parse('mabeam_bid{variable="t"} -1.25').problems == parse('mabeam_bid{variable="t"} -1.75').problems


def test_a_line_full_of_quotes_and_braces_is_read_in_linear_time() -> None:
    for hostile in (
        'mabeam_bid{variable="' + '\\"' * 30_000,
        "mabeam_bid" + "{" * 60_000,
        "mabeam_bid " + "1 " * 30_000,
    ):
        assert len(parse(hostile).problems) == 1


def test_nothing_is_an_amount_too() -> None:
    report = parse('mabeam_bid{variable="t"} 0\nmabeam_preference_weight{variable="t"} 0\nmabeam_applied_generation 0')
    assert (report.bids, report.weights, report.applied_generation) == ({"t": 0}, {"t": 0}, 0)


def test_a_refusal_whose_sample_is_zero_was_taken_back() -> None:
    assert parse('mabeam_refused{variable="t",generation="1",reason="no"} 0').refusals == ()


def test_labels_may_be_as_long_as_the_sdk_lets_them_be() -> None:
    assert parse(f'mabeam_bid{{variable="{"v" * 256}"}} 1').problems == ()
    assert len(parse(f'mabeam_bid{{variable="{"v" * 257}"}} 1').problems) == 1
