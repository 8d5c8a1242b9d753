"""For how long a progress counter has stood still, by the reports that were read."""

from mabeam.core.reports.reading import Standstill, UnreadableReport
from support.builders import at


def test_a_counter_that_stands_still_has_done_so_since_it_was_first_read() -> None:
    stands = Standstill(7, at(0)).read_again(7, at(5), 6).read_again(7, at(10), 6)
    assert (stands.seconds, stands.since, stands.read_at) == (10, at(0), at(10))


def test_a_counter_that_moves_begins_anew() -> None:
    stands = Standstill(7, at(0)).read_again(7, at(5), 6).read_again(8, at(10), 6)
    assert (stands.count, stands.seconds, stands.since) == (8, 0, at(10))


def test_a_long_gap_between_two_reports_counts_as_one_period_only() -> None:
    stands = Standstill(7, at(0)).read_again(7, at(3600), 6)
    assert (stands.seconds, stands.since) == (6, at(3594))


def test_a_clock_that_was_set_back_adds_nothing() -> None:
    assert Standstill(7, at(100)).read_again(7, at(50), 6).seconds == 0


def test_an_unreadable_report_is_a_phrase_with_its_address_where_it_has_one() -> None:
    assert str(UnreadableReport("http://10.0.0.7:9464/metrics", "HTTP 404")) == "http://10.0.0.7:9464/metrics: HTTP 404"
    assert str(UnreadableReport("", "it has no address")) == "it has no address"
