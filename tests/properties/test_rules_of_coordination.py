"""Budgets of failures, schedules and conflicts, each held against its definition said in the plainest way."""

import itertools
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mabeam.core.algorithms import quantity
from mabeam.core.coordination.strategies.rate import rate
from mabeam.core.directives.conflicts import RESOLVERS, ConflictContext, DesiredSetting, Leader, resolve
from mabeam.core.functions import FunctionResult
from support.builders import agent_body, an_agent, at
from support.coordination import Team, a_domain, a_round, in_json, variable_body

# --- the window of failures ---------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.booleans(), st.integers(16, 90)), max_size=14), st.integers(0, 3), st.integers(30, 200))
def test_the_budget_is_spent_exactly_when_a_recount_says_so(
    history: list[tuple[bool, int]], most: int, window: int
) -> None:
    """Each look after the period is a fresh answer, good or bad; what counts is each change from good to bad."""
    tolerance = {"maxFailures": most, "failureWindowSeconds": window, "escalationPolicy": "Freeze"}
    team = Team.of(variable_body(agents=["a"], function={"cel": "x"}, faultTolerance=tolerance), agent_body("a"))
    broken = False
    team.function = lambda ask: FunctionResult(error="no") if broken else FunctionResult(0.9)
    counted: list[Any] = []
    frozen = was_broken = False
    for number, (now_broken, pause) in enumerate(history):
        team.agents["a"]["metadata"]["labels"] = {"look": str(number)}
        broken = now_broken
        team.settle()
        if not frozen and broken and not was_broken:
            counted.append(team.now)
            inside = [moment for moment in counted if team.now - moment <= timedelta(seconds=window)]
            frozen = len(inside) > most
        was_broken = broken
        status = team.variable().status
        assert (status.frozen_at is not None) is frozen
        assert [failure.time for failure in status.failures] == counted
        team.wait(pause)


# --- schedules ----------------------------------------------------------------------------------------------------------


ENDS = st.floats(1e-12, 1e6) | st.floats(1e-300, 1e12)


@given(
    st.sampled_from(["Linear", "Exponential", "Cosine"]),
    ENDS,
    ENDS,
    st.integers(1, 20),
    st.integers(1, 10_000),
    st.data(),
)
def test_a_schedule_stays_between_its_ends_and_never_turns_round(
    kind: str, start: float, end: float, steps: int, over: int, data: st.DataObject
) -> None:
    schedule = {"type": kind, "start": start, "end": end, "overSeconds": over, "steps": steps}
    moments = sorted(data.draw(st.lists(st.floats(-10, 2.0 * over), min_size=2, max_size=6)))
    found = [
        float(
            in_json(rate(a_round(an_agent("a"), now=at(m), type="AdaptationRate", rate={"schedule": schedule}))).value
        )
        for m in moments
    ]
    low, high = sorted((float(f"{start:.12g}"), float(f"{end:.12g}")))
    assert all(low <= value <= high for value in found)
    assert found == sorted(found, reverse=end < start)


# --- conflicts ----------------------------------------------------------------------------------------------------------

SETTINGS = st.lists(
    st.builds(
        DesiredSetting,
        variable=st.sampled_from("abcdef"),
        parameter=st.sampled_from(["t", "u"]),
        value=st.floats(-1e6, 1e6) | st.integers(-5, 5) | st.sampled_from(["x", True, None]),
        priority=st.integers(-3, 10),
        created_at=st.none() | st.integers(0, 5).map(at),
    ),
    unique_by=lambda setting: (setting.variable, setting.parameter),
    max_size=6,
)
CONTEXTS = st.dictionaries(st.sampled_from("abcdef"), st.floats(0, 10)).map(
    lambda weights: ConflictContext(lambda _: Leader("boss", weights))
)


@given(SETTINGS, st.sampled_from(sorted(RESOLVERS)), CONTEXTS, st.randoms(use_true_random=False))
def test_conflicts_are_resolved_alike_in_any_order_and_none_stays_open(
    settings: list[DesiredSetting], resolver: str, context: ConflictContext, chance: Any
) -> None:
    found = resolve(settings, resolver, context)
    shuffled = list(settings)
    chance.shuffle(shuffled)
    assert resolve(shuffled, resolver, context) == found
    assert set(found.in_force) == {setting.subject for setting in settings}
    assert (found.problems, found.function_calls) == ((), ())
    for conflict in found.conflicts:
        assert conflict.winner == found.in_force[conflict.action, conflict.parameter].variable != conflict.loser


@given(SETTINGS.filter(bool), st.sampled_from([None, 0.25, 3.0]))
def test_a_compromise_of_numbers_lies_between_them(settings: list[DesiredSetting], step: float | None) -> None:
    domain = a_domain(type="Number", **({"step": step} if step else {}))
    numbers = [replace(setting, value=float(place), domain=domain) for place, setting in enumerate(settings)]
    for subject, winner in resolve(numbers, "Compromise").in_force.items():
        own = [setting.value for setting in numbers if setting.subject == subject]
        slack = 0 if step is None or len(own) == 1 else step / 2
        assert min(own) - slack <= winner.value <= max(own) + slack


@given(st.lists(st.integers(1, 9), min_size=2, max_size=5), st.lists(st.integers(-100, 100), min_size=5, max_size=5))
def test_a_compromise_is_the_mean_weighted_by_priority(weights: list[int], values: list[int]) -> None:
    settings = [
        DesiredSetting(f"v{n}", "t", value, weight)
        for n, (weight, value) in enumerate(zip(weights, values, strict=False))
    ]
    wanted = Fraction(sum(c.priority * c.value for c in settings), sum(c.priority for c in settings))
    assert resolve(settings, "Compromise").in_force[None, "t"].value == float(wanted)


@given(SETTINGS.filter(bool))
def test_priority_is_a_total_order(settings: list[DesiredSetting]) -> None:
    """Whoever beats everyone in pairs beats them all together."""
    own = [setting for setting in settings if setting.parameter == settings[0].parameter]
    champion = resolve(own, "PriorityBased").in_force[None, settings[0].parameter]
    for one, other in itertools.combinations(own, 2):
        if champion.variable in (one.variable, other.variable):
            assert (
                resolve([one, other], "PriorityBased").in_force[None, champion.parameter].variable == champion.variable
            )


# --- quantities ---------------------------------------------------------------------------------------------------------


@given(st.sampled_from(["cpu", "memory", "tokens", "ephemeral-storage"]), st.integers(0, 10**9))
def test_what_is_written_reads_as_the_same(resource: str, units: int) -> None:
    unit = quantity.unit_of(resource)
    text = unit.write(units)
    assert quantity.parse(text) == units * unit.size
    assert len(text) <= 32


@given(st.decimals(0, 10**12, places=6), st.sampled_from(["cpu", "memory", "tokens"]))
def test_whole_units_bracket_the_amount(amount: Decimal, resource: str) -> None:
    unit, exact = quantity.unit_of(resource), quantity.parse(str(amount))
    assert unit.floor(exact) * unit.size <= exact <= unit.ceil(exact) * unit.size
    assert unit.ceil(exact) - unit.floor(exact) <= 1


@given(st.text("0123456789.+-eEkKMGimnu/_ ", max_size=20))
def test_any_text_is_a_quantity_or_is_refused(text: str) -> None:
    try:
        amount = quantity.parse(text)
    except ValueError:
        return
    assert abs(amount) <= 2**63 - 1
    assert any(digit in text for digit in "0123456789")
