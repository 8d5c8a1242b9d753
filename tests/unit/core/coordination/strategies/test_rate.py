"""AdaptationRate: by schedule, by load, or as any other value comes about."""

from typing import Any

import pytest

from mabeam.core.coordination.strategies.rate import rate
from mabeam.core.functions import FunctionResult
from mabeam.core.snapshot import SystemContext
from support.builders import START, agent_body, an_agent, at, stamp
from support.coordination import Team, a_round, in_json, offering, variable_body


def rated(seconds: float = 0, load: float | None = None, *agents: Any, **spec: Any) -> Any:
    """The rate so long after the variable's creation, under this load."""
    context = SystemContext(load=load, load_source="cpu")
    return in_json(
        rate(a_round(*(agents or (an_agent("a"),)), now=at(seconds), context=context, type="AdaptationRate", **spec))
    )


def scheduled(kind: str, seconds: float, **words: Any) -> float:
    schedule = {"type": kind, "start": 1, "end": 0.25, "overSeconds": 100, "steps": 4, **words}
    return float(rated(seconds, rate={"schedule": schedule}).value)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("Linear", [1, 1, 0.8125, 0.625, 0.4375, 0.25, 0.25]),
        ("Exponential", [1, 1, 0.707106781187, 0.5, 0.353553390593, 0.25, 0.25]),
        ("Cosine", [1, 1, 0.890165042945, 0.625, 0.359834957055, 0.25, 0.25]),
    ],
)
def test_a_schedule_goes_in_steps_from_its_start_to_its_end(kind: str, values: list[float]) -> None:
    assert [scheduled(kind, seconds) for seconds in (0, 24.9, 25, 50, 75, 100, 1e6)] == values


def test_it_asks_to_be_looked_at_again_for_its_next_step_and_no_more_after_the_last() -> None:
    schedule = {"type": "Linear", "start": 1, "end": 0, "overSeconds": 100, "steps": 4}
    assert [rated(s, rate={"schedule": schedule}).follow_up.after_seconds for s in (0, 10, 25, 99, 100)] == [
        25,
        15,
        25,
        1,
        None,
    ]
    assert rated(5, rate={"schedule": {"start": 1}}).follow_up.after_seconds is None


def test_before_its_creation_and_without_one_a_schedule_is_at_its_start() -> None:
    assert scheduled("Linear", -50) == 1
    assert rated(500, created=None, rate={"schedule": {"type": "Linear", "start": 1, "end": 0}}).value == 1


@pytest.mark.parametrize("ends", [(1e-300, 1e12), (1e12, 1e-300), (1e-15, 1e-12)])
def test_a_schedule_never_leaves_its_ends_however_far_they_are_apart(ends: tuple[float, float]) -> None:
    start, end = ends
    found = [scheduled("Exponential", s, start=start, end=end) for s in (0, 25, 50, 75, 100)]
    assert all(min(ends) * (1 - 1e-9) <= value <= max(ends) for value in found)


@pytest.mark.parametrize(
    ("load", "value"),
    [(None, 1), (0.0, 1), (0.7, 1), (0.74, 1), (0.76, 0.7), (0.85, 0.7), (1.0, 0.1), (7.0, 0.1), (-1.0, 1)],
)
def test_it_yields_to_load_in_tenths_down_to_its_floor(load: float | None, value: float) -> None:
    assert rated(0, load, value=1, rate={"load": {}}).value == pytest.approx(value)


def test_what_it_yields_is_explained() -> None:
    assert (
        rated(0, 1.0, value=0.5, rate={"load": {"floor": 0.5}}).message
        == "0.5 from spec.value, times 0.5 (load 1.0, cpu)"
    )


def test_without_rules_of_its_own_it_comes_about_as_a_parameter_does() -> None:
    assert rated(value=0.25).value == 0.25
    agents = [offering("a"), offering("b")]
    negotiated = [a.model_copy(update={"spec": a.spec.model_copy(update={"preferences": ()})}) for a in agents]
    assert rated(0, None, *negotiated, negotiation={}, rate={"load": {}}).rule == "NoOffers"


def test_a_functions_answer_yields_to_load_too() -> None:
    [ask] = rated(0, 1.0, function={"cel": "1"}, rate={"load": {}}).follow_up.function_calls
    outcome = rated(0, 1.0, function={"cel": "1"}, rate={"load": {}}, answers={ask.id: FunctionResult(2)})
    assert outcome.value == pytest.approx(0.2)


def test_the_domain_has_the_last_word() -> None:
    domain = {"type": "Number", "minimum": 0, "maximum": 1, "step": 0.25}
    assert rated(0, None, domain=domain, rate={"schedule": {"start": 0.4}}).value == 0.5
    assert rated(0, None, domain=domain, rate={"schedule": {"start": 7}}).value == 1


def test_a_rate_is_no_word() -> None:
    with pytest.raises(ValueError, match=r"`domain\.type` must be Number or Integer with the type AdaptationRate"):
        rated(0, None, domain={"type": "Choice", "choices": ["a"]}, rate={"schedule": {"start": 1}})


def test_a_domain_without_a_number_for_the_rate_is_misconfigured() -> None:
    domain = {"type": "Integer", "minimum": 0.2, "maximum": 0.8}
    assert rated(0, None, domain=domain, rate={"schedule": {"start": 1}}).error == "InvalidConfiguration"


def test_each_step_is_one_decision_and_in_between_nothing_is_written() -> None:
    schedule = {"type": "Linear", "start": 1, "end": 0, "overSeconds": 40, "steps": 4}
    variable = variable_body("rate", ("a",), created=stamp(0), type="AdaptationRate", rate={"schedule": schedule})
    team = Team.of(variable, agent_body("a"), now=START)
    team.settle()
    values, busy = [], []
    for second in range(60):
        writes = team.status_writes
        team.settle()
        values.append(team.parameters("a")["rate"])
        busy += [second] if team.status_writes > writes else []
        team.wait(1)
    assert values == [1] * 10 + [0.75] * 10 + [0.5] * 10 + [0.25] * 10 + [0] * 20
    assert team.variable("rate").status.round == 5
    assert busy == [10, 20, 30, 40]
