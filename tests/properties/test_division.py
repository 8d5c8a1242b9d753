"""Fair division held against its axioms: exact shares by bisection, rounded by the largest remainder."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from mabeam.core.algorithms.fair_division import Demand, divide

WEIGHTS = st.sampled_from([Fraction(0), Fraction(1, 3), Fraction(1), Fraction(3, 2), Fraction(7), Fraction(50)])
BUDGETS = st.integers(0, 200)


@st.composite
def claims(draw: st.DrawFn, lots: int = 1) -> dict[str, Demand]:
    """A few claimants, some of them with bounds, and each with lots of up to `lots` units."""
    names = draw(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=8, unique=True))
    found = {}
    for name in names:
        least, lot = draw(st.integers(0, 12)), draw(st.integers(1, lots))
        most = draw(st.none() | st.integers(least, 40))
        found[name] = Demand(least * lot, None if most is None else most * lot, draw(WEIGHTS), lot)
    return found


def poured(budget: int, those: dict[str, Demand]) -> dict[str, float]:
    """The exact shares: everyone's at the level, amount over weight, at which the budget is spent (found by bisection)."""

    def at(level: float) -> dict[str, float]:
        wanted = {name: max(claim.minimum, level * float(claim.weight)) for name, claim in those.items()}
        return {n: w if (most := those[n].maximum) is None else min(w, most) for n, w in wanted.items()}

    low, high = 0.0, 3.0 * budget + 100
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (low, middle) if sum(at(middle).values()) > budget else (middle, high)
    return at(low)


@given(BUDGETS, claims())
def test_every_share_is_its_exact_one_rounded_down_or_up(budget: int, those: dict[str, Demand]) -> None:
    division = divide(budget, those)
    owed = sum(claim.minimum for claim in those.values())
    if owed > budget:
        assert (division.shares, division.short) == ({}, owed - budget)
        return
    exact = poured(budget, those)
    assert all(abs(share - exact[name]) < 1 + 1e-6 for name, share in division.shares.items())


@given(BUDGETS, claims())
def test_the_largest_remainders_are_rounded_up(budget: int, those: dict[str, Demand]) -> None:
    shares, exact = divide(budget, those).shares, poured(budget, those)
    up = [exact[name] % 1 for name, share in shares.items() if share > exact[name] + 1e-6]
    down = [exact[name] % 1 for name, share in shares.items() if share < exact[name] - 1e-6]
    assert min(up, default=1.0) >= max(down, default=0.0) - 1e-6


@given(BUDGETS, claims(lots=5))
def test_it_conserves_the_total_respects_bounds_and_leaves_nothing_that_anybody_can_use(
    budget: int, those: dict[str, Demand]
) -> None:
    division = divide(budget, those)
    if division.short:
        return
    assert sum(division.shares.values()) + division.left == budget
    for name, claim in those.items():
        share = division.shares[name]
        assert claim.minimum <= share
        assert share % claim.lot == 0
        assert claim.maximum is None or share <= claim.maximum
        assert claim.weight == 0 or share == claim.maximum or claim.lot > division.left


@given(BUDGETS, claims())
def test_nobody_envies_beyond_the_weights(budget: int, those: dict[str, Demand]) -> None:
    """Whoever may have more has at least as much for its weight as any other that has more than its least, up to a unit each."""
    shares = divide(budget, those).shares
    for name, share in shares.items():
        mine = those[name]
        if mine.weight == 0 or (mine.maximum is not None and share >= mine.maximum):
            continue
        for other, theirs in shares.items():
            if theirs > those[other].minimum and those[other].weight > 0:
                assert (share + 1) / mine.weight > (theirs - 1) / those[other].weight


@given(BUDGETS, claims(), st.sampled_from([2, 3, 10]), st.data())
def test_a_larger_weight_never_gives_less(budget: int, those: dict[str, Demand], by: int, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(those)))
    claim = those[name]
    heavier = those | {name: Demand(claim.minimum, claim.maximum, claim.weight * by, claim.lot)}
    before, after = divide(budget, those), divide(budget, heavier)
    if not before.short:
        assert after.shares[name] >= before.shares[name]


@given(BUDGETS, st.integers(0, 50), claims())
def test_a_larger_budget_takes_no_more_than_a_unit_from_anybody(
    budget: int, more: int, those: dict[str, Demand]
) -> None:
    """Hamilton's method may take one (the Alabama paradox); a method that takes none does not round every share."""
    before, after = divide(budget, those), divide(budget + more, those)
    if not before.short:
        assert all(after.shares[name] >= share - 1 for name, share in before.shares.items())


@given(BUDGETS, claims(lots=3), st.randoms())
def test_the_order_of_the_claims_never_shows(budget: int, those: dict[str, Demand], chance: st.DataObject) -> None:
    names = list(those)
    chance.shuffle(names)  # type: ignore[attr-defined]
    assert divide(budget, {name: those[name] for name in names}) == divide(budget, those)


def test_a_heavy_claimant_does_not_take_what_the_light_ones_shares_are_rounded_down_by() -> None:
    light = {f"l{number:02}": Demand() for number in range(50)}
    shares = divide(50, light | {"heavy": Demand(weight=Fraction(50))}).shares
    assert (shares["heavy"], sum(shares[name] for name in light)) == (25, 25)
    assert divide(3, {"a": Demand(), "b": Demand(), "c": Demand(weight=Fraction(5))}).shares == {"a": 1, "b": 0, "c": 2}
    uneven = {f"l{number:02}": Demand(weight=Fraction(1, 2)) for number in range(50)}
    assert divide(50, uneven | {"heavy": Demand(weight=Fraction(50))}).shares["heavy"] in (33, 34)


def test_what_does_not_divide_by_one_claimants_lots_goes_to_the_others() -> None:
    assert divide(5, {"a": Demand(weight=Fraction(3), lot=3), "b": Demand()}).shares == {"a": 3, "b": 2}
    assert divide(8, {"a": Demand(weight=Fraction(3), lot=3), "b": Demand(weight=Fraction(2), lot=2)}).left == 0
    assert divide(5, {"a": Demand(weight=Fraction(3), lot=3)}).left == 2


def test_a_budget_of_gigabytes_costs_no_more_than_one_of_units() -> None:
    division = divide(
        2 * 2**30, {"a": Demand(weight=Fraction(2)), "b": Demand(maximum=2**28), "c": Demand(minimum=2**20)}
    )
    assert division.shares == {"a": 1252698795, "b": 268435456, "c": 626349397}
    assert division.left == 0
