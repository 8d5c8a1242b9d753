"""All that one agent is told: what the operator refuses of it, what conflicts leave, and in what order."""

from typing import Any

import pytest

from mabeam.api.directive import DirectiveAction
from mabeam.core.directives.effective import MAX_ITEMS, SUBJECTS, EffectiveSet, effective_set
from support.builders import agent_body, an_agent
from support.coordination import Team, a_decided, a_variable, ordering, variable_body


def told(*variables: Any, before: Any = (), **agent: Any) -> EffectiveSet:
    return effective_set(an_agent("a", **agent), variables, before)


def test_every_action_has_a_subject() -> None:
    assert set(SUBJECTS) == set(DirectiveAction)


@pytest.mark.parametrize(
    ("told_first", "told_second", "field", "value"),
    [
        (("Start", {}), ("Stop", {}), "desired_state", "Stopped"),
        (("ScaleUp", {"replicas": 3}), ("ScaleDown", {"replicas": 1}), "replicas", 1),
        (("ScaleUp", {"replicas": 3}), ("ScaleUp", {"replicas": 5}), "replicas", 5),
        (("Activate", {"active": True}), ("Activate", {"active": False}), "active", False),
        (("ChangeRole", {"role": "x"}), ("ChangeRole", {"role": "y", "term": 3}), "role", "y"),
        (("AllocateResources", {"tokens": "1"}), ("AllocateResources", {"tokens": "2"}), "resources", {"tokens": "2"}),
    ],
)
def test_two_that_differ_over_one_thing_conflict_and_the_higher_priority_wins(
    told_first: Any, told_second: Any, field: str, value: Any
) -> None:
    found = told(ordering("low", told_first), ordering("high", told_second, priority=5), replicas=2)
    assert getattr(found, field) == value
    assert [(c.winner, c.loser) for c in found.conflicts] == [("high", "low")]
    [(index, lost)] = found.set_aside.items()
    assert (index, lost.reason, lost.overruled_by) == (1, "Overruled", "high")


def test_those_who_say_the_same_do_not_conflict() -> None:
    found = told(ordering("a", ("Stop", {})), ordering("b", ("Stop", {}), priority=5))
    assert (found.desired_state, found.conflicts) == ("Stopped", ())


def test_scaling_up_never_means_less_than_the_user_asks_for_nor_scaling_down_more() -> None:
    assert told(ordering("v", ("ScaleUp", {"replicas": 2})), replicas=5).replicas == 5
    assert told(ordering("v", ("ScaleDown", {"replicas": 9})), replicas=5).replicas == 5


def test_what_is_refused_makes_room_for_the_claim_of_another() -> None:
    found = told(
        ordering("high", ("ChangeRole", {"role": 5}), priority=9), ordering("low", ("ChangeRole", {"role": "x"}))
    )
    assert (found.role, found.conflicts) == ("x", ())


@pytest.mark.parametrize("quiet", [{"paused": True}, {"mode": "Advise"}])
def test_a_quiet_variable_leaves_what_it_told(quiet: Any) -> None:
    before = told(ordering("v", ("Stop", {}))).items
    assert told(ordering("v", ("Start", {}), **quiet), before=before).items == before
    assert told(ordering("v", ("Start", {}), **quiet)).items == ()


def test_one_paused_by_its_failures_is_as_quiet() -> None:
    tolerance = {"escalationPolicy": "Pause"}
    escalated = ordering("v", ("Start", {}), faultTolerance=tolerance)
    frozen = escalated.model_copy(
        update={"status": escalated.status.model_copy(update={"frozen_at": escalated.metadata.creation_timestamp})}
    )
    assert told(frozen).items == ()
    assert len(told(escalated).items) == 1


def test_allocations_of_several_variables_add_up_by_resource() -> None:
    found = told(ordering("a", ("AllocateResources", {"x": "1"})), ordering("b", ("AllocateResources", {"y": "2"})))
    assert dict(found.resources) == {"x": "1", "y": "2"}


def test_the_bandwidth_is_told_with_the_allocation_and_nonsense_is_read_past() -> None:
    assert told(ordering("v", ("AllocateResources", {"networkPriority": "High"}))).network_priority == "High"
    assert told(ordering("v", ("AllocateResources", {"networkPriority": "Odd"}))).network_priority is None


def test_of_many_conflicts_a_status_carries_the_one_by_which_each_directive_lost() -> None:
    many = {f"p{number:02}": number for number in range(60)}
    other = {name: value + 1 for name, value in many.items()}
    variables = [ordering(f"v{n}", ("AdjustParameters", other if n else many), priority=9 - n) for n in range(3)]
    found = told(*variables)
    assert len(found.conflicts) == 120
    assert len(found.listed) == MAX_ITEMS
    assert {conflict.loser for conflict in found.listed} == {"v1", "v2"}
    few = told(*variables[:2])
    assert few.listed == few.conflicts


def test_conflicts_beyond_what_a_status_carries_make_nothing_tick() -> None:
    def wanting(name: str, value: int, priority: int) -> dict[str, Any]:
        parameters = {f"p{number:02}": value for number in range(60)}
        body = variable_body(name, ("a",), type="Custom", function={"cel": name}, priority=priority)
        directives = [{"agent": "a", "action": "AdjustParameters", "parameters": parameters}]
        return body | {
            "status": {"observedGeneration": 1, "value": {"directives": directives}, "round": 1},
            "spec": body["spec"] | {"paused": False},
        }

    team = Team.of(wanting("one", 1, 3), agent_body("a"))
    team.variables |= {"two": wanting("two", 2, 2), "three": wanting("three", 3, 1)}
    for _ in range(6):
        team.pass_agent("a")
        team.wait(1)
    writes = team.status_writes
    for _ in range(3):
        team.pass_agent("a")
        team.wait(1)
    assert team.status_writes == writes


def guarding(name: str = "guard", value: Any = 0.5, **spec: Any) -> Any:
    """A variable of `pace` that needs approval; without a value it still awaits the first one."""
    status = {"observedGeneration": 1, "round": 1, **({} if value is None else {"value": value})}
    consensus = {"requireApproval": True}
    return a_variable(name, parameter="pace", value=0.5, consensus=consensus, status=status, **spec)


@pytest.mark.parametrize("resolver", ["PriorityBased", "Compromise", "LeaderElection", "a-plug-in"])
@pytest.mark.parametrize("value", [0.5, None])
def test_what_needs_approval_is_changed_by_no_variable_that_does_not(resolver: str, value: float | None) -> None:
    mine = a_decided("mine", 0.99, parameter="pace", priority=100)
    found = told(guarding(value=value), mine, conflictResolution=resolver)
    assert found.parameters == ({} if value is None else {"pace": value})
    assert [(c.winner, c.loser, c.resolver) for c in found.conflicts] == [("guard", "mine", "Approval")]
    lost = next(found.set_aside[index] for index, item in enumerate(found.items) if item.variable == "mine")
    assert (lost.reason, lost.overruled_by) == ("Overruled", "guard")
    assert "set `consensus.requireApproval` on it" in lost.message


def test_a_guard_that_only_advises_still_guards() -> None:
    mine = a_decided("mine", 0.99, parameter="pace", priority=100)
    assert told(guarding(mode="Advise"), mine).parameters == {}


def test_a_guard_leaves_other_parameters_alone_and_two_guards_decide_by_priority() -> None:
    other = a_decided("other", 0.99, parameter="depth")
    assert told(guarding(), other).parameters == {"pace": 0.5, "depth": 0.99}
    assert told(guarding(), guarding("stronger", 0.8, priority=5)).parameters == {"pace": 0.8}
    assert told(guarding(), a_decided("same", 0.5, parameter="pace")).conflicts == ()


def test_what_a_guard_of_another_type_directs_is_guarded_too() -> None:
    guard = ordering("guard", ("Start", {}), consensus={"requireApproval": True})
    found = told(guard, ordering("mine", ("Stop", {}), priority=100))
    assert found.desired_state == "Running"
