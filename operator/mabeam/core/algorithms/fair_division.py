"""Weighted max-min fair division of one resource, in whole units, within each claimant's minimum and maximum.

Water filling (Bertsekas and Gallager, Data Networks, 6.5.2): the level of all claimants, amount over weight, rises together
until the budget is spent; a claimant at its maximum stays there, one with a minimum starts there and waits for the level. Whole
units are given by the largest remainder (Hamilton), so that each share is its exact one rounded down or up: a divisor method can
give the heaviest claimant all that the light ones' shares are rounded down by (Balinski and Young 1982;
docs/design/0020-whole-units.md).
"""

import heapq
import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True, slots=True)
class Demand:
    """What one claimant needs and may get, in whole units."""

    minimum: int = 0  # a multiple of `lot`, and so is the maximum
    maximum: int | None = None  # None: unbounded
    weight: Fraction = Fraction(1)  # relative to the others; 0: it gets no more than its minimum
    lot: int = 1  # it can use whole lots of so many units only: one unit for each of its replicas


@dataclass(frozen=True, slots=True)
class Division:
    """The units of each claimant."""

    shares: Mapping[str, int]  # claimant → units; empty when `short` is not 0
    left: int = 0  # units that nobody may have
    short: int = 0  # units that the budget lacks for all minimums


def divide(budget: int, demands: Mapping[str, Demand]) -> Division:
    """The division of `budget` units; without shares when the budget does not cover all minimums.

    The whole budget is given as long as a claimant with a weight may have another lot of it. The order of the demands never
    matters: equal remainders are decided by the larger lot, then by name. Θ(n log n) for n claimants, whatever the budget.
    """
    needed = sum(demand.minimum for demand in demands.values())
    if needed > budget:
        return Division({}, short=needed - budget)
    level = _water_level(budget, demands)
    exact = {name: _exact_share(demand, level) for name, demand in demands.items()}
    shares = {name: math.floor(exact[name] / demand.lot) * demand.lot for name, demand in demands.items()}
    left = budget - sum(shares.values())
    # Fewer units than all lots together are left: each share was rounded down by less than one lot.
    queue = [_claim(name, demand, exact[name], shares[name]) for name, demand in demands.items()] if left else []
    heapq.heapify(queue)
    while left and queue:
        *_, name = heapq.heappop(queue)
        demand = demands[name]
        if not _may_have(demand, shares[name], left):
            continue  # for good: neither what is left nor its room grows
        shares[name] += demand.lot
        left -= demand.lot
        heapq.heappush(queue, _claim(name, demand, exact[name], shares[name]))
    return Division(dict(sorted(shares.items())), left=left)


def _may_have(demand: Demand, share: int, left: int) -> bool:
    is_below = demand.maximum is None or share < demand.maximum
    return demand.weight > 0 and is_below and demand.lot <= left


def _claim(name: str, demand: Demand, exact: Fraction, share: int) -> tuple[Fraction, int, str]:
    """The sort key of the claim on the next lot: the largest remainder first, in lots; it is negative above the exact share."""
    return (share - exact) / demand.lot, -demand.lot, name


def _exact_share(demand: Demand, level: Fraction | None) -> Fraction:
    """The claimant's share at that water level; None is a level above all maximums."""
    if demand.weight == 0:
        return Fraction(demand.minimum)
    if level is None:
        return Fraction(demand.minimum if demand.maximum is None else demand.maximum)
    share = max(Fraction(demand.minimum), level * demand.weight)
    return share if demand.maximum is None else min(share, Fraction(demand.maximum))


def _water_level(budget: int, demands: Mapping[str, Demand]) -> Fraction | None:
    """The highest water level that the budget reaches; None when it fills every claimant to its maximum.

    The amount given is piecewise linear in the level: a claimant rises from minimum/weight to maximum/weight. Levels are whole
    multiples of a common measure of all bends: integers are added and sorted ten times as fast as fractions.
    """
    rising = [demand for demand in demands.values() if demand.weight > 0]
    whole = math.lcm(*{demand.weight.denominator for demand in rising})
    weights = [demand.weight.numerator * (whole // demand.weight.denominator) for demand in rising]
    measure = math.lcm(*set(weights))
    bends = [(demand.minimum * (measure // weight), weight) for demand, weight in zip(rising, weights, strict=True)]
    bends += [
        (demand.maximum * (measure // weight), -weight)
        for demand, weight in zip(rising, weights, strict=True)
        if demand.maximum is not None
    ]
    given, available = sum(demand.minimum for demand in demands.values()) * measure, budget * measure
    level = slope = 0
    for bend, change in sorted(bends):
        if given + slope * (bend - level) > available:
            break
        given += slope * (bend - level)
        level, slope = bend, slope + change
    return Fraction(level * slope + available - given, slope * measure) * whole if slope > 0 else None
