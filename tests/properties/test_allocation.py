"""Allocation through real agents, held against weighted max-min as a sequence of linear programmes (scipy)."""

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from mabeam.core.coordination.strategies.allocation import allocate
from support.coordination import a_round, in_json, told_agent

Wants = dict[str, tuple[float, int, int | None, int]]
"""By name: weight, least, most, replicas."""


@st.composite
def wants(draw: st.DrawFn, replicas: int = 1) -> Wants:
    """A few agents with bounds for tokens."""
    names = draw(st.lists(st.sampled_from("abcdef"), min_size=1, unique=True))
    found: Wants = {}
    for name in names:
        least = draw(st.integers(0, 500))
        most = draw(st.none() | st.integers(least, 5000))
        found[name] = draw(st.sampled_from([0.5, 1.0, 2.0, 7.0])), least, most, draw(st.integers(1, replicas))
    return found


def agent(name: str, want: tuple[float, int, int | None, int]) -> Any:
    weight, least, most, replicas = want
    bounds = {
        "resource": "tokens",
        "weight": weight,
        "min": str(least),
        **({"max": str(most)} if most is not None else {}),
    }
    return told_agent(name, replicas=replicas, resources={"bounds": [bounds]})


def amounts(budget: int, those: Wants) -> dict[str, int] | None:
    """How many tokens each replica gets; None when there are too few."""
    agents = [agent(name, want) for name, want in those.items()]
    spec: dict[str, Any] = {"type": "ResourceAllocation", "budget": [{"resource": "tokens", "amount": str(budget)}]}
    value = in_json(allocate(a_round(*agents, **spec))).value
    if value is None:
        return None
    return {name: int(share["tokens"].replace("k", "000").replace("M", "000000")) for name, share in value.items()}


def fair(budget: int, those: Wants) -> dict[str, float]:
    """The lexicographic optimum: raise everyone's share for its weight together, fix whoever can rise no more, go on."""
    names = list(those)
    fixed: dict[str, float] = {}
    while len(fixed) < len(names):
        level, free = _raised(budget, those, fixed)
        if level is None:
            return fixed | {name: float(those[name][2] or 0) for name in free}
        stuck = {n: _at(those[n], level) for n in free if not _may_rise(budget, those, fixed, n, level)}
        fixed |= stuck
    return fixed


def _at(want: tuple[float, int, int | None, int], level: float) -> float:
    weight, least, most, _ = want
    return min(max(level * weight, least), most if most is not None else np.inf)


def _raised(budget: int, those: Wants, fixed: dict[str, float]) -> tuple[float | None, list[str]]:
    """The highest level that everyone not fixed can have together, bounded by their most and the budget."""
    free = [name for name in those if name not in fixed]
    # Variables: each free one's share, then the level. share >= level * weight unless its most is below that.
    count = len(free)
    capped = [name for name in free if those[name][2] is not None]
    cost = np.zeros(count + 1)
    cost[-1] = -1
    rows = [[*([0.0] * i), -1.0, *([0.0] * (count - i - 1)), those[name][0]] for i, name in enumerate(free)]
    rows.append([*([1.0] * count), 0.0])
    limits = [*([0.0] * count), budget - sum(fixed.values())]
    bounds = [(those[name][1], those[name][2]) for name in free]
    found = linprog(cost, A_ub=rows, b_ub=limits, bounds=[*bounds, (0, None)])
    if found.status == 3 and not capped:
        return None, free
    return float(found.x[-1]), free


def _may_rise(budget: int, those: Wants, fixed: dict[str, float], name: str, level: float) -> bool:
    """Whether it could have more while everyone else keeps that level."""
    most = those[name][2]
    others = sum(_at(those[other], level) for other in those if other != name and other not in fixed) + sum(
        fixed.values()
    )
    mine = _at(those[name], level)
    return bool((most is None or mine < most - 1e-6) and budget - others > mine + 1e-6)


@given(st.integers(0, 20_000), wants())
def test_every_share_is_that_of_the_reference_but_for_whole_units(budget: int, those: Wants) -> None:
    found = amounts(budget, those)
    owed = sum(least for _, least, _, _ in those.values())
    if found is None:
        assert owed > budget
        return
    reference = fair(budget, those)
    for name, share in found.items():
        assert abs(share - reference[name]) < 1 + 1e-4


@given(st.integers(0, 20_000), wants(replicas=4))
def test_it_conserves_the_budget_and_keeps_each_ones_bounds(budget: int, those: Wants) -> None:
    found = amounts(budget, those)
    if found is None:
        assert sum(least * replicas for _, least, _, replicas in those.values()) > budget
        return
    spent = sum(found[name] * want[3] for name, want in those.items())
    assert spent <= budget
    for name, (_, least, most, _) in those.items():
        assert least <= found[name]
        assert most is None or found[name] <= most
    able = [want[3] for name, want in those.items() if want[2] is None or found[name] < want[2]]
    assert budget - spent < min(able, default=budget + 1)  # what does not divide by anybody's replicas


@given(st.integers(0, 20_000), wants())
def test_nobody_envies_another_beyond_its_weight(budget: int, those: Wants) -> None:
    found = amounts(budget, those)
    for name, share in (found or {}).items():
        weight, _, most, _ = those[name]
        if most is not None and share + 1 > most:
            continue
        for other, theirs in (found or {}).items():
            if theirs > those[other][1]:
                assert (share + 1) / weight >= (theirs - 1) / those[other][0] - 1e-9


@given(st.integers(0, 20_000), st.integers(0, 5000), wants())
def test_a_larger_budget_takes_no_more_than_a_unit_from_anybody(budget: int, more: int, those: Wants) -> None:
    before, after = amounts(budget, those), amounts(budget + more, those)
    if before is not None:
        assert after is not None
        assert all(after[name] >= share - 1 for name, share in before.items())


@given(st.integers(0, 20_000), wants(replicas=3), st.randoms(use_true_random=False))
def test_the_order_of_the_agents_never_shows(budget: int, those: Wants, chance: Any) -> None:
    names = list(those)
    chance.shuffle(names)
    assert amounts(budget, {name: those[name] for name in names}) == amounts(budget, those)
