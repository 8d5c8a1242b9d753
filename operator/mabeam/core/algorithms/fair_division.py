"""Weighted max-min fair division of one resource, in whole units, within each claimant's minimum and maximum.

Water filling (Bertsekas and Gallager, Data Networks, 6.5.2): the level of all claimants, amount over weight, rises together
until the budget is spent; a claimant at its maximum stays there, one with a minimum starts there and waits for the level. In
whole units that is the divisor method of Jefferson and d'Hondt, which is house monotone (Balinski and Young 1982): a larger
budget takes a unit from nobody, as the method of the largest remainder would.
"""

import heapq
import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True, slots=True)
class Demand:
    """What one claimant needs and may get, in whole units."""

    minimum: int = 0
    maximum: int | None = None  # None: unbounded
    weight: Fraction = Fraction(1)  # relative to the others; 0: it gets no more than its minimum


@dataclass(frozen=True, slots=True)
class Division:
    """The units of each claimant."""

    shares: Mapping[str, int]  # claimant → units; empty when `short` is not 0
    left: int = 0  # units that nobody may have
    short: int = 0  # units that the budget lacks for all minimums


def divide(budget: int, demands: Mapping[str, Demand]) -> Division:
    """The division of `budget` units; without shares when the budget does not cover all minimums.

    The whole budget is given as long as a claimant with a weight may have more. The order of the demands never matters: equal
    priorities for a last unit are decided by name. Θ(n log n) for n claimants, whatever the budget.
    """
    needed = sum(demand.minimum for demand in demands.values())
    if needed > budget:
        return Division({}, short=needed - budget)
    level = _water_level(budget, demands)
    shares = {name: _share_at(demand, level) for name, demand in demands.items()}
    left = budget - sum(shares.values())
    if left == 0:
        return Division(dict(sorted(shares.items())))
    # Fewer units than claimants are left: each share was rounded down by less than one.
    queue = [
        (-_priority(demand, shares[name]), name) for name, demand in demands.items() if _may_have(demand, shares[name])
    ]
    heapq.heapify(queue)
    while left and queue:
        _, name = heapq.heappop(queue)
        shares[name] += 1
        left -= 1
        if _may_have(demands[name], shares[name]):
            heapq.heappush(queue, (-_priority(demands[name], shares[name]), name))
    return Division(dict(sorted(shares.items())), left=left)


def _may_have(demand: Demand, share: int) -> bool:
    return demand.weight > 0 and (demand.maximum is None or share < demand.maximum)


def _priority(demand: Demand, share: int) -> Fraction:
    """The priority for the next unit, which goes to the highest: the weight over the share with that unit."""
    return demand.weight / (share + 1)


def _share_at(demand: Demand, level: Fraction | None) -> int:
    """The claimant's share at that water level, rounded down; None is a level above all maximums."""
    if demand.weight == 0:
        return demand.minimum
    share = demand.minimum
    if level is not None:
        weight = demand.weight
        share = max(share, level.numerator * weight.numerator // (level.denominator * weight.denominator))
    if demand.maximum is None:
        return share
    return demand.maximum if level is None else min(share, demand.maximum)


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
