"""The operator's idea of the present: the apiserver's, whatever this machine's own clock says, and however it is stepped."""

from datetime import UTC, datetime
from email.utils import formatdate

import pytest

from mabeam.shell.kube.server_time import ServerClock

TRUE = 1_800_000_000.25  # the apiserver's time when the tests' monotonic clock shows 0


class Machine:
    """A machine whose wall clock is wrong by so much."""

    def __init__(self, wrong: float = 0.0) -> None:
        self.wrong = wrong
        self.elapsed = 0.0

    def clock(self) -> ServerClock:
        return ServerClock(lambda: TRUE + self.elapsed + self.wrong, lambda: self.elapsed)

    def ask(self, clock: ServerClock, seconds: float = 0.02, server: float = 0.0) -> None:
        """A request half of whose time is its way there; the answer's date is that of an apiserver ahead by `server`."""
        asked, self.elapsed = self.elapsed, self.elapsed + seconds
        clock.observe_date(formatdate(TRUE + asked + seconds / 2 + server, usegmt=True), asked, self.elapsed)

    def off(self, clock: ServerClock) -> float:
        """By how much the clock's present is ahead of the apiserver's."""
        return clock.now().timestamp() - (TRUE + self.elapsed)


def test_a_machine_whose_clock_is_right_keeps_its_precision() -> None:
    machine = Machine()
    clock = machine.clock()
    for _ in range(20):
        machine.ask(clock)
        machine.elapsed += 0.37
        assert abs(machine.off(clock)) < 1e-6


@pytest.mark.parametrize("wrong", [3600.0, -3600.0, 5.0, -5.0])
def test_a_machine_whose_clock_is_wrong_is_told_the_time_by_the_first_answer(wrong: float) -> None:
    machine = Machine(wrong)
    clock = machine.clock()
    assert abs(machine.off(clock)) == pytest.approx(abs(wrong))
    machine.ask(clock)
    assert abs(machine.off(clock)) <= 1.02


def test_further_answers_only_come_nearer() -> None:
    machine = Machine(3600)
    clock = machine.clock()
    errors = []
    for _ in range(40):
        machine.ask(clock)
        machine.elapsed += 0.7771
        errors.append(round(abs(machine.off(clock)), 3))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.3


def test_a_clock_that_is_stepped_moves_nothing() -> None:
    machine = Machine()
    clock = machine.clock()
    machine.ask(clock)
    before = clock.now()
    for wrong in (3600, -3600, 5, -5, 0):
        machine.wrong = wrong
        assert clock.now() == before
    machine.elapsed += 4
    assert (clock.now() - before).total_seconds() == pytest.approx(4)


def test_an_apiserver_whose_own_clock_moves_is_followed() -> None:
    machine = Machine()
    clock = machine.clock()
    machine.ask(clock)
    machine.elapsed += 10
    machine.ask(clock, server=30.0)
    assert machine.off(clock) == pytest.approx(30, abs=1.02)
    machine.elapsed += 10
    machine.ask(clock)
    assert abs(machine.off(clock)) <= 1.02


@pytest.mark.parametrize("date", [None, "", "yesterday", "Wed, 99 Foo 2026 00:00:00 GMT"])
def test_what_is_no_date_changes_nothing(date: str | None) -> None:
    machine = Machine()
    clock = machine.clock()
    clock.observe_date(date, 0.0, 0.1)
    assert clock.now() == datetime.fromtimestamp(TRUE, UTC)
