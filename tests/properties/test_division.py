"""Fair division held against its axioms, and against a reference that pours one unit after the other."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from mabeam.core.algorithms.fair_division import Demand, divide

WEIGHTS = st.sampled_from([Fraction(0), Fraction(1, 3), Fraction(1), Fraction(3, 2), Fraction(7)])


@st.composite
def claims(draw: st.DrawFn, size: int = 8) -> dict[str, Demand]:
    """A few claimants, some of them with bounds."""
    names = draw(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=size, unique=True))
    found = {}
    for name in names:
        least = draw(st.integers(0, 12))
        most = draw(st.none() | st.integers(least, 40))
        found[name] = Demand(least, most, draw(WEIGHTS))
    return found


def poured(budget: int, those: dict[str, Demand]) -> dict[str, int]:
    """The literal rule: each unit goes to the highest weight over what it would then have, of equals the first by name."""
    shares = {name: claim.minimum for name, claim in those.items()}
    for _ in range(budget - sum(shares.values())):
        able = [n for n, c in those.items() if c.weight > 0 and (c.maximum is None or shares[n] < c.maximum)]
        if not able:
            break
        shares[min(able, key=lambda n: (-those[n].weight / (shares[n] + 1), n))] += 1
    return shares


@given(st.integers(0, 200), claims())
def test_the_division_is_that_of_one_unit_after_the_other(budget: int, those: dict[str, Demand]) -> None:
    owed = sum(claim.minimum for claim in those.values())
    division = divide(budget, those)
    if owed > budget:
        assert (division.shares, division.short) == ({}, owed - budget)
    else:
        assert division.shares == poured(budget, those)


@given(st.integers(0, 200), claims())
def test_it_conserves_the_total_and_respects_bounds(budget: int, those: dict[str, Demand]) -> None:
    division = divide(budget, those)
    if division.short:
        return
    assert sum(division.shares.values()) + division.left == budget
    for name, claim in those.items():
        assert claim.minimum <= division.shares[name]
        assert claim.maximum is None or division.shares[name] <= claim.maximum
    if division.left:
        assert all(c.weight == 0 or division.shares[name] == c.maximum for name, c in those.items())


@given(st.integers(0, 200), claims())
def test_nobody_envies_beyond_the_weights(budget: int, those: dict[str, Demand]) -> None:
    """Whoever may have more has at least as much for its weight as any other that has more than its least, up to a unit."""
    shares = divide(budget, those).shares
    for name, share in shares.items():
        mine = those[name]
        if mine.weight == 0 or (mine.maximum is not None and share >= mine.maximum):
            continue
        for other, theirs in shares.items():
            if theirs > those[other].minimum and those[other].weight > 0:
                assert (share + 1) / mine.weight >= theirs / those[other].weight


@given(st.integers(0, 200), st.integers(0, 50), claims())
def test_a_larger_budget_takes_from_nobody(budget: int, more: int, those: dict[str, Demand]) -> None:
    before, after = divide(budget, those), divide(budget + more, those)
    if not before.short:
        assert all(after.shares[name] >= share for name, share in before.shares.items())


@given(st.integers(0, 200), claims(), st.randoms())
def test_the_order_of_the_claims_never_shows(budget: int, those: dict[str, Demand], chance: st.DataObject) -> None:
    names = list(those)
    chance.shuffle(names)  # type: ignore[attr-defined]
    assert divide(budget, {name: those[name] for name in names}) == divide(budget, those)


def test_a_budget_of_gigabytes_costs_no_more_than_one_of_units() -> None:
    division = divide(
        2 * 2**30, {"a": Demand(weight=Fraction(2)), "b": Demand(maximum=2**28), "c": Demand(minimum=2**20)}
    )
    assert division.shares == {"a": 1252698795, "b": 268435456, "c": 626349397}
    assert division.left == 0
