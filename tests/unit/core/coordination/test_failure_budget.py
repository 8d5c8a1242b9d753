"""Failures of coordination: what counts, how it is tried again, and what too many of them lead to."""

from typing import Any

import pytest

from mabeam.api.variable_status import CoordinationFailure
from mabeam.core.coordination.failure_budget import retry_in
from mabeam.core.functions import FunctionResult
from mabeam.core.passes import variable as coordination
from mabeam.core.snapshot import VariableSnapshot
from support.builders import agent_body, at, stamp
from support.coordination import Team, a_variable, condition_of, told_agent, variable_body


class Shaky:
    """A variable whose function fails while it is `broken`, and counts how often it is asked."""

    def __init__(self, **tolerance: Any) -> None:
        self.broken, self.asked, self.ticks = True, 0, 0
        spec: dict[str, Any] = {"faultTolerance": tolerance} if tolerance else {}
        body = variable_body(agents=["a"], function={"cel": "x"}, **spec)
        self.team = Team.of(body, agent_body("a"))
        self.team.function = self._answer

    def _answer(self, ask: Any) -> FunctionResult:
        self.asked += 1
        return FunctionResult(error="no") if self.broken else FunctionResult(0.9)

    def run(self, seconds: float, step: float = 0.5) -> None:
        """Let it go on for so long."""
        for _ in range(int(seconds / step)):
            self.ticks += 1  # other inputs, else nothing new would be asked
            self.team.agents["a"]["metadata"]["labels"] = {"tick": str(self.ticks)}
            self.team.settle()
            self.team.wait(step)
        self.team.settle()

    def flap(self, times: int, apart: float = 20) -> None:
        """It fails and recovers so many times."""
        for _ in range(times):
            self.broken = True
            self.run(apart, 5)
            self.broken = False
            self.run(apart, 5)

    @property
    def status(self) -> Any:
        return self.team.variable().status

    @property
    def moments(self) -> list[float]:
        """The seconds at which failures were counted."""
        return [(failure.time - at(0)).total_seconds() for failure in self.status.failures]

    def edit(self, **words: Any) -> None:
        self.team.variables["temperature"]["spec"] |= words
        self.team.variables["temperature"]["metadata"]["generation"] += 1

    def release(self, word: str) -> None:
        self.team.variables["temperature"]["metadata"]["annotations"] = {"mabeam.dev/release": word}

    def told(self, reason: str) -> int:
        return sum(event.reason == reason for event in self.team.events)


def test_without_the_block_nothing_is_counted() -> None:
    shaky = Shaky()
    shaky.run(40)
    assert (shaky.status.failures, shaky.status.frozen_at, shaky.team.ready()[1]) == ((), None, "FunctionFailed")


def test_a_failure_that_lasts_counts_once() -> None:
    shaky = Shaky(maxFailures=1, escalationPolicy="Freeze")
    shaky.run(100, 5)
    assert (len(shaky.moments), shaky.status.frozen_at) == (1, None)


def test_a_failure_that_comes_back_counts_again_and_the_next_after_the_budget_freezes() -> None:
    shaky = Shaky(maxFailures=2, escalationPolicy="Freeze")
    shaky.flap(2)
    assert shaky.status.frozen_at is None
    shaky.flap(1)
    assert shaky.status.frozen_at is not None
    assert shaky.team.ready()[1] == "FailureBudgetExhausted"
    assert shaky.told("FailureBudgetExhausted") == 1


def test_the_window_slides() -> None:
    shaky = Shaky(maxFailures=2, failureWindowSeconds=60, escalationPolicy="Freeze")
    shaky.flap(6, apart=40)
    assert (shaky.status.frozen_at, len(shaky.moments)) == (None, 6)


def test_frozen_nothing_is_decided_and_what_is_in_force_stays_with_its_agents() -> None:
    shaky = Shaky(maxFailures=0, escalationPolicy="Freeze", recoveryStrategy="KeepLast")
    shaky.broken = False
    shaky.run(1)
    shaky.broken = True
    shaky.run(20)
    shaky.broken, asked = False, shaky.asked
    shaky.team.function = lambda ask: FunctionResult(0.1)
    shaky.run(100, 5)
    assert (shaky.status.value, shaky.team.parameters("a"), shaky.asked) == (0.9, {"temperature": 0.9}, asked)


@pytest.mark.parametrize("policy", ["Freeze", "Pause"])
def test_it_is_released_by_the_annotation_once_for_each_word(policy: str) -> None:
    shaky = Shaky(maxFailures=0, escalationPolicy=policy)
    shaky.run(5)
    assert shaky.status.frozen_at is not None
    shaky.release("one")
    shaky.broken = False
    shaky.run(20)
    assert (shaky.status.frozen_at, shaky.status.value, shaky.status.released_by) == (None, 0.9, "one")
    assert all(failure.released for failure in shaky.status.failures)
    shaky.broken = True
    shaky.run(40)
    assert shaky.status.frozen_at is not None
    assert shaky.told("VariableReleased") == 1


def test_the_pass_that_releases_and_decides_does_not_say_that_all_is_as_decided() -> None:
    paused = {"maxFailures": 0, "escalationPolicy": "Pause"}
    frozen = {"observedGeneration": 1, "frozenAt": stamp(0), "value": {"a": {"tokens": "5"}}, "round": 1}
    kind: dict[str, Any] = {"type": "ResourceAllocation", "faultTolerance": paused, "status": frozen}
    variable = a_variable(generation=2, budget=[{"resource": "tokens", "amount": "9"}], **kind)
    decision = coordination.decide(VariableSnapshot(variable, (told_agent("a"),)), at(10))
    assert (decision.status.value, decision.status.frozen_at) == ({"a": {"tokens": "9"}}, None)
    # The agent's own pass, which delivers it, is still to come.
    assert decision.status.directives is not None
    assert decision.status.directives.issued == 1
    assert condition_of(decision.status, "Ready")[0] == "False"


def test_it_is_released_by_a_change_of_the_spec() -> None:
    shaky = Shaky(maxFailures=0, escalationPolicy="Freeze")
    shaky.run(5)
    shaky.broken = False
    shaky.edit(function={"cel": "better"})
    shaky.run(1)
    assert (shaky.status.frozen_at, shaky.status.value) == (None, 0.9)


def test_an_alert_goes_on_deciding_is_told_once_and_is_over_with_its_window() -> None:
    shaky = Shaky(maxFailures=1, failureWindowSeconds=100, escalationPolicy="Alert")
    shaky.flap(2)
    assert (shaky.status.frozen_at is not None, shaky.status.value) == (True, 0.9)
    assert shaky.team.ready()[1] == "Converged"
    shaky.run(120, 5)
    assert (shaky.status.frozen_at, shaky.told("FailureBudgetExhausted")) == (None, 1)


def test_paused_by_its_failures_it_leaves_agents_what_they_hold_and_tells_nothing_new() -> None:
    shaky = Shaky(maxFailures=0, escalationPolicy="Pause")
    shaky.broken = False
    shaky.run(1)
    shaky.broken = True
    shaky.run(20)
    shaky.team.agents["b"] = agent_body("b", status={"observedGeneration": 1, "state": "Running"})
    shaky.team.variables["temperature"]["spec"]["agents"]["names"] = ["a", "b"]
    shaky.team.settle()
    assert (shaky.team.parameters("a"), shaky.team.parameters("b")) == ({"temperature": 0.9}, {})


def test_retry_tries_again_after_one_two_four_seconds_and_counts_each_try() -> None:
    shaky = Shaky(maxFailures=9, recoveryStrategy="Retry")
    shaky.run(14.5)
    assert shaky.moments == [0, 1, 3, 7]
    assert shaky.asked == 4


def test_a_retry_whose_answer_is_not_there_yet_is_neither_counted_nor_hurried() -> None:
    shaky = Shaky(maxFailures=9, recoveryStrategy="Retry")
    shaky.run(0.5)
    shaky.team.function = lambda ask: None
    shaky.team.wait(10)
    for _ in range(5):
        decision = shaky.team.pass_variable()
        assert decision.requeue_after is None or decision.requeue_after > 0
        shaky.team.wait(1)
    assert shaky.moments == [0]


def test_a_retry_that_succeeds_is_in_force_without_waiting_for_the_period() -> None:
    shaky = Shaky(maxFailures=9, recoveryStrategy="Retry")
    shaky.run(0.5)
    shaky.broken = False
    shaky.run(1.5)
    assert shaky.status.value == 0.9


def test_an_agent_that_refuses_is_no_decision_to_be_tried_again() -> None:
    body = variable_body(agents=["a"], value=0.5, faultTolerance={"recoveryStrategy": "Retry", "maxFailures": 9})
    team = Team.of(body, agent_body("a"))
    team.settle()
    item = team.agents["a"]["status"]["directives"]["items"][0]
    item |= {"state": "Refused", "reason": "no"}
    for _ in range(30):
        decision = team.pass_variable()
        assert decision.requeue_after is None
        team.wait(1)
    assert [failure.error for failure in team.variable().status.failures] == ["Refused"]


def test_agents_that_are_not_there_are_waited_for_and_spend_one_failure() -> None:
    body = variable_body(
        agents=["a"], value=0.5, faultTolerance={"recoveryStrategy": "Retry", "escalationPolicy": "Freeze"}
    )
    team = Team({"temperature": body}, {})
    for _ in range(30):
        team.pass_variable()
        team.wait(1)
    assert len(team.variable().status.failures) == 1


def test_fallback_is_in_force_while_it_fails_and_over_when_it_works() -> None:
    shaky = Shaky(recoveryStrategy="Fallback", fallbackValue=0.3)
    shaky.run(1)
    assert (shaky.status.value, shaky.team.ready()[2]) == (0.3, "0.3 by fallbackValue: the function: no")
    shaky.broken = False
    shaky.run(20)
    assert shaky.team.parameters("a") == {"temperature": 0.9}
    shaky.broken = True
    shaky.run(20)
    assert shaky.team.parameters("a") == {"temperature": 0.3}


def test_fallback_without_a_value_of_its_own_is_that_of_the_spec() -> None:
    shaky = Shaky(recoveryStrategy="Fallback")
    shaky.edit(value=0.4)
    shaky.run(1)
    assert shaky.status.value == 0.4


def test_the_ledger_is_bounded() -> None:
    shaky = Shaky(maxFailures=1000, failureWindowSeconds=1, recoveryStrategy="Retry")
    shaky.run(400, 1)
    assert len(shaky.status.failures) == 64


def failures(*moments: float) -> tuple[CoordinationFailure, ...]:
    return tuple(CoordinationFailure(time=at(moment), error="x") for moment in moments)


@pytest.mark.parametrize(
    ("moments", "now", "left"),
    [((), 5, 1), ((0,), 0, 1), ((0,), 0.4, 0.6), ((0, 1), 1, 2), ((0, 1, 3), 3, 4), (tuple(range(20)), 19, 60),
     ((0,), 1000, 0), ((500,), 0, 1), ((0, 1, 2), -50_000, 4)],
)  # fmt: skip
def test_the_next_try_comes_after_a_growing_delay_and_no_stepped_clock_makes_it_longer(
    moments: Any, now: float, left: float
) -> None:
    tolerance = a_variable(faultTolerance={"maxFailures": 3}).spec.fault_tolerance
    assert tolerance is not None
    assert retry_in(failures(*moments), tolerance, at(now)) == pytest.approx(left)
