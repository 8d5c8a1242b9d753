"""Selection held against its rules: bounded, qualified, blind to order, inert against noise, monotone."""

from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from mabeam.core.coordination.strategies.selection import select
from support.coordination import a_round, in_json, performing, told_agent

NAMES = "abcdefg"
SCORES = st.dictionaries(st.sampled_from(NAMES), st.floats(0, 100, allow_nan=False), max_size=7)
READY = {name: told_agent(name) for name in NAMES}
DOWN = {name: told_agent(name, status={"state": "Failed", "readyReplicas": 0}) for name in NAMES}


def chosen(
    scores: dict[str, float],
    seats: int,
    active: frozenset[str] = frozenset(),
    down: frozenset[str] = frozenset(),
    **wanted: Any,
) -> frozenset[str] | None:
    """Who is active of those seven; None when nobody qualifies."""
    agents = [(DOWN if name in down else READY)[name] for name in NAMES]
    spec: dict[str, Any] = {
        "type": "AgentSelection",
        "constraints": {"maxConcurrent": seats},
        "taskRequirements": wanted,
    }
    status = {"observedGeneration": 1, "value": {"active": sorted(active)}}
    value = in_json(select(a_round(*agents, reports=performing(**scores), status=status, **spec))).value
    return None if value is None else frozenset(value["active"])


SOME = st.frozensets(st.sampled_from(NAMES))


@given(SCORES, st.integers(1, 9), SOME, SOME, st.floats(0, 100))
def test_never_more_than_there_are_places_for_and_all_of_them_qualify(
    scores: dict[str, float], seats: int, active: frozenset[str], down: frozenset[str], least: float
) -> None:
    found = chosen(scores, seats, active, down, minPerformance=least, hysteresis=0)
    able = {name for name in NAMES if name not in down and scores.get(name, -1) >= least}
    if found is None:
        assert not able
    else:
        assert found <= able
        assert len(found) == min(seats, len(able))


@given(SCORES, st.integers(1, 7), SOME)
def test_it_is_at_rest_once_it_is_decided(scores: dict[str, float], seats: int, active: frozenset[str]) -> None:
    once = chosen(scores, seats, active)
    assert once is not None
    assert chosen(scores, seats, once) == once


@given(SCORES, st.integers(1, 7), SOME, st.permutations(NAMES))
def test_the_order_of_reports_and_of_names_never_shows(
    scores: dict[str, float], seats: int, active: frozenset[str], order: list[str]
) -> None:
    shuffled = {name: scores[name] for name in order if name in scores}
    assert chosen(shuffled, seats, active) == chosen(scores, seats, active)


@given(st.fixed_dictionaries({name: st.floats(1, 100) for name in NAMES}), st.integers(1, 7), st.data())
def test_noise_within_the_hysteresis_flaps_nobody(scores: dict[str, float], seats: int, data: st.DataObject) -> None:
    """With a margin of a tenth, five hundredths up for the one and down for the other are within it."""
    active = chosen(scores, seats)
    assert active is not None
    noisy = {name: score * data.draw(st.floats(0.955, 1.045)) for name, score in scores.items()}
    assert chosen(noisy, seats, active) == active


@given(
    SCORES, st.integers(1, 7), SOME, st.sampled_from(NAMES), st.floats(0, 100), st.sampled_from([0.0, 0.1, 1.0, 3.0])
)
def test_a_higher_score_never_costs_an_active_agent_its_place(
    scores: dict[str, float], seats: int, active: frozenset[str], who: str, gain: float, hysteresis: float
) -> None:
    before = chosen(scores, seats, active, hysteresis=hysteresis)
    assume(before is not None and who in before and who in active)
    better = scores | {who: scores.get(who, 0) + gain}
    after = chosen(better, seats, active, hysteresis=hysteresis)
    assert after is not None
    assert who in after


@given(SCORES, st.integers(1, 6), SOME)
def test_without_a_margin_it_is_the_ranking_itself(
    scores: dict[str, float], seats: int, active: frozenset[str]
) -> None:
    """Nobody outside is strictly better than anybody inside."""
    found = chosen(scores, seats, active, hysteresis=0)
    assert found is not None
    worst = min(scores.get(name, -1) for name in found)
    assert all(scores.get(name, -1) <= worst for name in NAMES if name not in found)
