"""What stays of a report when the next one is silent about it."""

from mabeam.core.reports.openmetrics import parse
from mabeam.core.reports.report import (
    DirectiveRefusal,
    RememberedReport,
    Report,
    remember,
)
from support.builders import at


def test_the_strongest_vote_counts_and_equals_go_by_name() -> None:
    text = 'mabeam_vote{proposal="p",choice="Yes"} 1\nmabeam_vote{proposal="p",choice="No"} 1\n'
    assert parse(text).votes == {"p": "No"}
    assert parse(text + 'mabeam_vote{proposal="q",choice="Yes"} 0').votes == {"p": "No"}


def _heard(*reports: tuple[float, Report | None], period: float = 5) -> RememberedReport:
    memory: RememberedReport | None = None
    for seconds, report in reports:
        memory = remember(memory, report, at(seconds), period)
    assert memory is not None
    return memory


def test_a_missing_sample_keeps_its_last_good_value_for_three_periods() -> None:
    memory = _heard((0, Report(numbers={"t": 0.4})), (5, Report()), (10, None))
    assert memory.at(at(15)).numbers == {"t": 0.4}
    assert memory.at(at(15.1)).numbers == {}


def test_a_fresh_sample_replaces_the_remembered_one() -> None:
    memory = _heard((0, Report(numbers={"t": 0.4}, weights={"t": 2})), (5, Report(numbers={"t": 0.8})))
    assert memory.at(at(6)).numbers == {"t": 0.8}
    assert memory.at(at(6)).weights == {"t": 2}


def test_an_agent_that_changes_its_choice_is_not_held_to_the_old_one() -> None:
    memory = _heard((0, Report(choices={"m": {"small": 1}})), (5, Report(choices={"m": {"large": 1}})))
    assert memory.at(at(6)).choices == {"m": {"large": 1}}


def test_acknowledgement_refusals_and_problems_are_those_of_the_newest_report() -> None:
    refusal = DirectiveRefusal("t", 3, "no")
    memory = _heard((0, Report(applied_generation=3, refusals=(refusal,), problems=("bad",))), (5, Report()))
    assert memory.at(at(5)).applied_generation is None
    assert memory.at(at(5)).refusals == ()
    assert memory.at(at(5)).problems == ()


def test_a_scrape_that_failed_leaves_the_newest_report_standing() -> None:
    memory = _heard((0, Report(applied_generation=3)), (5, None))
    assert memory.at(at(5)).applied_generation == 3


def test_what_is_forgotten_is_forgotten_for_good() -> None:
    memory = _heard((0, Report(bids={"t": 1})), (60, None))
    assert memory.samples == {}


def test_progress_and_waits_are_remembered_too() -> None:
    memory = _heard((0, Report(progress=3, waiting_until=9)), (5, None))
    assert (memory.at(at(6)).progress, memory.at(at(6)).waiting_until) == (3, 9)


def test_that_the_rest_was_dropped_is_told_even_after_many_other_problems() -> None:
    bad = [f'mabeam_bid{{variable="v{i}"}} -1' for i in range(600)]
    assert parse("\n".join(bad)).problems[-1] == "more than 512 series: the rest is dropped"
