"""Conditions: who says what since when."""

from mabeam.api.base import Condition, ConditionStatus
from mabeam.api.names import ConditionType
from mabeam.core.conventions.conditions import condition, find_condition, merge_conditions, new_problem
from support.builders import at


def test_a_condition_holds_does_not_or_is_unknown() -> None:
    assert [condition(ConditionType.READY, holds, "R").status for holds in (True, False, None)] == [
        ConditionStatus.TRUE,
        ConditionStatus.FALSE,
        ConditionStatus.UNKNOWN,
    ]


def test_the_time_of_a_condition_moves_only_with_its_status() -> None:
    first = merge_conditions((), [condition(ConditionType.READY, False, "Starting")], 1, at(0))
    same = merge_conditions(first, [condition(ConditionType.READY, False, "BackOff", "later")], 2, at(10))
    turned = merge_conditions(same, [condition(ConditionType.READY, True, "Running")], 2, at(20))
    assert [c[0].last_transition_time for c in (first, same, turned)] == [at(0), at(0), at(20)]
    assert (same[0].reason, same[0].message, same[0].observed_generation) == ("BackOff", "later", 2)


def test_a_condition_without_a_time_gets_one() -> None:
    bare = [condition(ConditionType.READY, True, "Running")]
    assert merge_conditions(bare, bare, 1, at(5))[0].last_transition_time == at(5)


def test_conditions_nobody_wants_any_more_are_left_out() -> None:
    before = merge_conditions((), [condition(ConditionType.PAUSED, True, "Paused")], 1, at(0))
    assert [c.type for c in merge_conditions(before, [condition(ConditionType.READY, True, "R")], 1, at(1))] == [
        "Ready"
    ]


def test_a_message_is_cut_to_what_a_condition_can_hold() -> None:
    assert len(condition(ConditionType.READY, True, "R", "x" * 9999).message) == 2048


def test_a_condition_of_a_type_that_this_version_does_not_know_stays() -> None:
    newer = Condition(type="GpuHealthy", status=ConditionStatus.TRUE, reason="Warm")
    merged = merge_conditions([newer], [condition(ConditionType.READY, True, "Running")], 1, at(1))
    assert [c.type for c in merged] == ["Ready", "GpuHealthy"]
    assert merged[1] is newer


def test_conditions_of_strangers_give_way_when_there_is_no_room() -> None:
    many = [Condition(type=f"x{n}", status=ConditionStatus.TRUE) for n in range(16)]
    merged = merge_conditions(many, [condition(ConditionType.READY, True, "Running")], 1, at(1))
    assert (len(merged), merged[0].type) == (16, "Ready")


def test_a_problem_is_new_when_it_begins_and_when_its_message_changes() -> None:
    type_ = ConditionType.RECORDED
    none, over = (), (condition(type_, True, "RecordsStored"),)
    one, other = ((condition(type_, False, "RecordsRefused", text),) for text in ("quota", "size"))
    assert [new_problem(before, one, type_) for before in (none, over, other, one)] == [*one, *one, *one, None]
    assert [new_problem(one, after, type_) for after in (none, over)] == [None, None]
    assert find_condition(one, ConditionType.READY) is None
