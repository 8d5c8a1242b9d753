"""Two variables tell one agent different things."""

from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest

from mabeam.api.agent import ConflictResolver
from mabeam.api.directive import DirectiveAction
from mabeam.core.directives.conflicts import (
    RESOLVERS,
    ConflictContext,
    DesiredSetting,
    Leader,
    ResolvedSettings,
    resolve,
)
from mabeam.core.functions import FunctionResult
from support.builders import agent_body, at
from support.coordination import Team, a_domain, variable_body


def setting(
    variable: str, priority: int = 0, created: float | None = 0, parameter: str = "t", value: Any = None
) -> DesiredSetting:
    """A claim; those of different variables want different things."""
    wanted = f"of {variable}" if value is None else value
    return DesiredSetting(variable, parameter, wanted, priority, None if created is None else at(created))


def winner(*settings: DesiredSetting) -> str:
    winners = {resolve(order, "PriorityBased").in_force[None, "t"].variable for order in permutations(settings)}
    assert len(winners) == 1, "the order in which variables are listed must not matter"
    return winners.pop()


def test_the_table_holds_the_resolvers_that_an_agent_may_ask_for() -> None:
    assert set(RESOLVERS) == set(ConflictResolver)


def test_the_higher_priority_wins() -> None:
    assert winner(setting("a", 1), setting("b", 10), setting("c", -5)) == "b"


def test_of_equal_priority_the_older_wins() -> None:
    assert winner(setting("a", 1, created=50), setting("b", 1, created=10)) == "b"


def test_of_equal_age_the_first_by_name_wins() -> None:
    assert winner(setting("b", 1), setting("a", 1)) == "a"


def test_a_variable_without_an_age_is_the_youngest() -> None:
    assert winner(setting("a", 1, created=None), setting("b", 1, created=1e6)) == "b"


def test_claims_on_different_parameters_do_not_conflict() -> None:
    resolved = resolve([setting("a"), setting("b", parameter="u")], "PriorityBased")
    assert {key[1]: c.variable for key, c in resolved.in_force.items()} == {"t": "a", "u": "b"}
    assert resolved.conflicts == ()


def test_every_loser_is_recorded_with_the_rule_that_decided() -> None:
    settings = [setting("a", 1), setting("b", 2), setting("c", 2, created=9), setting("d", 2)]
    conflicts = resolve(settings, "PriorityBased").conflicts
    assert [(c.winner, c.loser, c.parameter, c.resolver) for c in conflicts] == [
        ("b", "d", "t", "PriorityBased"),
        ("b", "c", "t", "PriorityBased"),
        ("b", "a", "t", "PriorityBased"),
    ]
    assert [c.message for c in conflicts] == [
        "variable b sets t: the same priority and age, but it is first by name",
        "variable b sets t: the same priority, but it is older (2026-01-01T00:00:00Z against 2026-01-01T00:00:09Z)",
        "variable b sets t: its priority 2 is above 1",
    ]


# --- Compromise ---------------------------------------------------------------------------------------------------------


def settled(*settings: DesiredSetting, resolver: str = "Compromise", context: ConflictContext | None = None) -> Any:
    """What is in force for `t`, whatever the order of the claims."""
    found = [resolve(order, resolver, context or ConflictContext()) for order in permutations(settings)]
    assert all(one == found[0] for one in found)
    return found[0].in_force[None, "t"].value


def test_numbers_come_to_their_mean_by_priority() -> None:
    assert settled(setting("a", 3, value=1.0), setting("b", 1, value=0.0)) == 0.75


def test_without_a_priority_above_zero_every_head_counts_the_same() -> None:
    assert settled(setting("a", 0, value=1.0), setting("b", -5, value=0.0)) == 0.5


def test_whoever_has_no_priority_has_no_say_beside_one_that_has() -> None:
    assert settled(setting("a", 2, value=1.0), setting("b", -5, value=0.0)) == 1.0


def test_the_mean_is_fitted_to_the_domain_of_the_one_that_would_have_won() -> None:
    steps = a_domain(type="Number", minimum=0, maximum=10, step=4)
    whole = a_domain(type="Integer")
    assert (
        settled(replace(setting("a", 2, value=8.0), domain=steps), replace(setting("b", 1, value=3.0), domain=whole))
        == 8
    )
    assert (
        settled(replace(setting("a", 1, value=8.0), domain=steps), replace(setting("b", 2, value=3.0), domain=whole))
        == 5
    )


def test_nobody_loses_a_compromise_and_everyone_reads_what_it_came_to() -> None:
    conflicts = resolve([setting("a", 3, value=1.0), setting("b", 1, value=0.0)], "Compromise").conflicts
    assert [(c.winner, c.loser, c.value) for c in conflicts] == [("a", "b", 0.75)]
    assert conflicts[0].message == "t = 0.75, the mean by priority of 1 of a (3), 0 of b (1)"


@pytest.mark.parametrize("value", [True, "x", None, [], {"a": 1}, float("inf")])
def test_what_is_no_number_is_ruled_by_priority(value: Any) -> None:
    settings = [setting("a", 1, value=0.5), replace(setting("b", 2), value=value)]
    assert resolve(settings, "Compromise").in_force[None, "t"].variable == "b"


def test_orders_about_pods_are_never_averaged() -> None:
    up = [
        replace(setting(name, p, value=n), action=DirectiveAction.SCALE_UP) for name, p, n in (("a", 1, 2), ("b", 2, 4))
    ]
    assert resolve(up, "Compromise").in_force[DirectiveAction.SCALE_UP, "t"].value == 4


# --- LeaderElection -----------------------------------------------------------------------------------------------------


def test_what_matters_most_to_the_leader_wins_and_ties_go_by_priority() -> None:
    settings = (setting("a", 9), setting("b", 1), setting("c", 2))
    leader = ConflictContext(lambda _: Leader("boss", {"b": 5, "c": 1}))
    assert settled(*settings, resolver="LeaderElection", context=leader) == "of b"
    tied = ConflictContext(lambda _: Leader("boss", {"b": 5, "c": 5}))
    assert settled(*settings, resolver="LeaderElection", context=tied) == "of c"


@pytest.mark.parametrize("leader", [None, Leader("boss"), Leader("boss", {"a": 0, "b": 0}), Leader("boss", {"z": 9})])
def test_without_a_leader_that_cares_it_is_priority(leader: Leader | None) -> None:
    context = ConflictContext(lambda _: leader)
    assert settled(setting("a", 1), setting("b", 2), resolver="LeaderElection", context=context) == "of b"


# --- plug-ins -----------------------------------------------------------------------------------------------------------


def ruled(answer: FunctionResult | None, good: Any = 7) -> ResolvedSettings:
    """Two claims, and a plug-in that says this; before that another value was in force."""
    settings = [setting("a", 1, value=1), setting("b", 2, value=2)]
    last = {"t": good} if good is not None else {}
    [ask] = resolve(settings, "elders", ConflictContext(last_good=last)).function_calls
    return resolve(settings, "elders", ConflictContext(last_good=last, answers={ask.id: answer} if answer else {}))


@pytest.mark.parametrize("answer", ["a", {"winner": "a"}])
def test_a_plugin_names_the_variable_that_wins(answer: Any) -> None:
    resolved = ruled(FunctionResult(answer))
    assert resolved.in_force[None, "t"].value == 1
    assert [(c.winner, c.loser, c.message) for c in resolved.conflicts] == [("a", "b", "the plug-in elders chose a")]


@pytest.mark.parametrize(
    "answer",
    [
        None,
        FunctionResult(None),
        FunctionResult([]),
        FunctionResult({}),
        FunctionResult("z"),
        FunctionResult({"winner": []}),
        FunctionResult(error="no"),
    ],
)
def test_while_and_where_it_names_nobody_the_last_good_stays_and_everyone_is_told(
    answer: FunctionResult | None,
) -> None:
    resolved = ruled(answer)
    assert resolved.in_force[None, "t"].value == 7
    assert [c.loser for c in resolved.conflicts] == ["a", "b"]
    for conflict in resolved.conflicts:
        assert conflict.message.startswith("not resolved: the last good value stays")
        # Whoever misspelt a resolver learns which there are.
        built_in = "built in are PriorityBased, Compromise, LeaderElection"
        assert ("spec.conflictResolution elders" in conflict.message) == (answer is not None)
        assert (built_in in conflict.message) == (answer is not None)
    assert len(resolved.problems) == (answer is not None)
    without = ruled(answer, good=None)
    assert without.in_force == {}
    assert all(c.message.startswith("not resolved: none of them is in force") for c in without.conflicts)


def test_an_unresolved_conflict_leaves_the_last_good_in_force_however_many_passes_it_takes() -> None:
    first = variable_body("one", ("a",), parameter="t", value=1)
    team = Team.of(first, agent_body("a", conflictResolution="elders"))
    team.settle()
    team.variables["two"] = variable_body("two", ("a",), parameter="t", value=2)
    for _ in range(5):
        team.settle()
        team.wait(5)
    assert team.parameters("a") == {"t": 1}
    held = team.agent("a").status.directives
    assert held is not None
    assert [item.state for item in held.items] == ["Refused", "Refused"]
    del team.variables["two"]
    team.settle()
    assert team.parameters("a") == {"t": 1}
    assert team.ready("one")[1] == "Converged"
