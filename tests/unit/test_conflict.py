"""Two variables tell one agent different things."""

from itertools import permutations
from typing import Any

from mabeam.api.agent import ConflictResolver
from mabeam.core.conflict import RESOLVERS, Claim, resolve
from support.builders import at


def claim(
    variable: str, priority: int = 0, created: float | None = 0, parameter: str = "t", value: Any = None
) -> Claim:
    """A claim; those of different variables want different things."""
    wanted = f"of {variable}" if value is None else value
    return Claim(variable, parameter, wanted, priority, None if created is None else at(created))


def winner(*claims: Claim) -> str:
    winners = {resolve(order, "PriorityBased").in_force[None, "t"].variable for order in permutations(claims)}
    assert len(winners) == 1, "the order in which variables are listed must not matter"
    return winners.pop()


def test_the_table_holds_the_resolvers_that_an_agent_may_ask_for() -> None:
    assert set(RESOLVERS) == set(ConflictResolver)


def test_the_higher_priority_wins() -> None:
    assert winner(claim("a", 1), claim("b", 10), claim("c", -5)) == "b"


def test_of_equal_priority_the_older_wins() -> None:
    assert winner(claim("a", 1, created=50), claim("b", 1, created=10)) == "b"


def test_of_equal_age_the_first_by_name_wins() -> None:
    assert winner(claim("b", 1), claim("a", 1)) == "a"


def test_a_variable_without_an_age_is_the_youngest() -> None:
    assert winner(claim("a", 1, created=None), claim("b", 1, created=1e6)) == "b"


def test_claims_on_different_parameters_do_not_conflict() -> None:
    resolved = resolve([claim("a"), claim("b", parameter="u")], "PriorityBased")
    assert {key[1]: c.variable for key, c in resolved.in_force.items()} == {"t": "a", "u": "b"}
    assert resolved.conflicts == ()


def test_every_loser_is_recorded_with_the_rule_that_decided() -> None:
    claims = [claim("a", 1), claim("b", 2), claim("c", 2, created=9), claim("d", 2)]
    conflicts = resolve(claims, "PriorityBased").conflicts
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
