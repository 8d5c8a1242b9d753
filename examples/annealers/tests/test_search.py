"""The annealers' search: the instance, the walk, the wish for a temperature, the last polish."""

import itertools
import math
import random

import elkai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from annealers.annealer import Annealer, Batch
from annealers.control import (
    FEWEST_STEPS,
    LARGEST_FACTOR,
    TARGET,
    UNCOUNTED_STEPS,
    AcceptanceWindow,
    wanted_temperature,
)
from annealers.polisher import two_opt
from annealers.tsp import BERLIN52, Instance, distance

# What the operator does with the wishes, by team.yaml.
STEP, MINIMUM, MAXIMUM = 1, 1, 200
STEPS_PER_ROUND = 9_000


def test_another_solver_confirms_the_optimum_of_berlin52() -> None:
    tour = elkai.DistanceMatrix([list(row) for row in BERLIN52.distances]).solve_tsp()[:-1]
    assert BERLIN52.is_tour(tour)
    assert BERLIN52.length(tour) == BERLIN52.optimum == 7542


def test_berlin52_has_52_places() -> None:
    assert len(BERLIN52.cities) == len(set(BERLIN52.cities)) == 52


def test_distances_are_rounded_as_tsplib_does() -> None:
    assert distance((0, 0), (3, 4)) == 5
    assert distance((0, 0), (1, 1)) == 1
    assert distance((0, 0), (2, 1)) == 2
    assert distance((565, 575), (25, 185)) == 666


@pytest.mark.parametrize(
    "candidate",
    [None, "a tour", {}, [], list(range(51)), list(range(53)), [0] * 52, [True, 0, *range(2, 52)],
     [float(n) for n in range(52)], list(range(1, 53)), [[], *range(1, 52)], [-1, *range(1, 52)]],
)  # fmt: skip
def test_what_misses_a_city_or_is_no_list_is_no_tour(candidate: object) -> None:
    assert not BERLIN52.is_tour(candidate)


def test_any_order_of_the_cities_is_a_tour() -> None:
    assert BERLIN52.is_tour(list(range(52)))
    assert BERLIN52.is_tour(tuple(reversed(range(52))))


@given(seed=st.integers(), size=st.integers(5, 12), temperature=st.floats(0.01, 1e6))
def test_after_any_walk_the_tour_is_a_tour_and_its_length_is_right(seed: int, size: int, temperature: float) -> None:
    places = random.Random(seed)
    cities = tuple((places.randrange(1000), places.randrange(1000)) for _ in range(size))
    instance = Instance("small", cities, optimum=1)
    annealer = Annealer(instance, seed=str(seed))
    annealer.run(200, temperature)
    assert instance.is_tour(annealer.tour)
    assert instance.length(annealer.tour) == annealer.length
    assert instance.is_tour(annealer.best)
    assert instance.length(annealer.best) == annealer.best_length <= annealer.length


def test_annealing_finds_a_short_tour_of_berlin52_within_60_000_steps() -> None:
    annealer = Annealer(BERLIN52, seed="executor-a:0:1")
    assert annealer.length > 20_000
    for temperature in (50.0, 25.0, 12.0):
        annealer.run(20_000, temperature)
    assert BERLIN52.is_tour(annealer.best)
    assert annealer.best_length < 8_500


def test_the_same_seed_walks_the_same_way_and_another_one_does_not() -> None:
    walks = [Annealer(BERLIN52, seed) for seed in ("a:0:1", "a:0:1", "a:0:2")]
    for walk in walks:
        walk.run(1_000, 50)
    assert walks[0].tour == walks[1].tour
    assert walks[0].tour != walks[2].tour


def test_no_turn_shortens_a_polished_tour() -> None:
    polished = two_opt(BERLIN52, range(52))
    assert BERLIN52.is_tour(polished)
    length = BERLIN52.length(polished)
    assert length < 9_000 < BERLIN52.length(range(52))
    for i, j in itertools.combinations(range(53), 2):
        assert BERLIN52.length(polished[:i] + polished[i:j][::-1] + polished[j:]) >= length


def test_at_the_target_the_wish_is_the_present_temperature() -> None:
    assert wanted_temperature(24, TARGET) == 24
    assert wanted_temperature(24, 1.4 * TARGET) == 24
    assert wanted_temperature(24, TARGET / 1.4) == 24


def test_too_few_acceptances_ask_for_heat_and_too_many_for_cold() -> None:
    assert 24 < wanted_temperature(24, TARGET / 2) < 24 * LARGEST_FACTOR
    assert 24 / LARGEST_FACTOR < wanted_temperature(24, TARGET * 2) < 24
    assert wanted_temperature(24, 0) == 24 * LARGEST_FACTOR
    assert wanted_temperature(24, 1) == 24 / LARGEST_FACTOR


@pytest.mark.parametrize("exponent", [1.3, 1.6, 1.9])
def test_the_law_leaves_at_most_a_third_of_the_error_and_never_overshoots(exponent: float) -> None:
    rest = 24.0
    for start in (14.0, 16.0, 36.0, 40.0):
        temperature = wanted_temperature(start, TARGET * (start / rest) ** exponent)
        before, after = math.log(start / rest), math.log(temperature / rest)
        assert -1e-9 <= after / before <= 0.35 + 1e-9


def test_acceptance_is_counted_only_after_the_walk_got_used_to_a_temperature() -> None:
    window = AcceptanceWindow()
    assert window.observe(Batch(UNCOUNTED_STEPS, UNCOUNTED_STEPS), 50) is None
    assert window.observe(Batch(FEWEST_STEPS - 1, 0), 50) is None
    assert window.observe(Batch(FEWEST_STEPS + 1, FEWEST_STEPS), 50) == 0.5
    assert window.observe(Batch(UNCOUNTED_STEPS, 0), 25) is None


@pytest.mark.parametrize("start", [100, 1])
def test_a_team_agrees_on_a_temperature_and_stays_there(start: int) -> None:
    """The team of team.yaml and the operator's weighted mean, without the operator."""
    team = [(Annealer(BERLIN52, f"executor-{name}:0:1"), AcceptanceWindow()) for name in "abc"]
    temperature, history = float(start), []
    for _ in range(22):
        wishes = []
        for annealer, window in team:
            acceptance = None
            for _ in range(STEPS_PER_ROUND // 300):
                acceptance = window.observe(annealer.run(300, temperature), temperature)
            assert acceptance is not None
            wishes.append(wanted_temperature(temperature, acceptance))
        mean = sum(wishes) / len(wishes)
        temperature = float(min(max(round(mean / STEP) * STEP, MINIMUM), MAXIMUM))
        history.append(temperature)
    settled = history[10:]
    assert all(15 <= value <= 35 for value in settled), history
    # It may still drift with the valley the walk is in; it does not swing.
    moves = [b - a for a, b in itertools.pairwise(settled) if a != b]
    assert len(moves) <= 4, history
    assert all(abs(move) <= 5 for move in moves), history
    assert min(annealer.best_length for annealer, _ in team) < 7_900
