"""Weighted max-min fair division of one resource, in whole units, within each claimant's least and most.

Water filling (Bertsekas and Gallager, Data Networks, 6.5.2): everyone's level, amount over weight, rises together until the
budget is spent; whoever reaches its most stays there, whoever is owed its least waits there. In whole units that is the divisor
method of Jefferson and d'Hondt, which is house monotone (Balinski and Young 1982): a larger budget takes a unit from nobody, as
the method of the largest remainder would.
"""

import heapq
import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True, slots=True)
class Demand:
    """What one claimant may get, in whole units: at least `least`, at most `most`, by `weight` against the others."""

    minimum: int = 0
    maximum: int | None = None
    weight: Fraction = Fraction(1)


@dataclass(frozen=True, slots=True)
class Division:
    """How many units each claimant gets, and how many are left because nobody may have more.

    `short` is what the budget lacks for everyone's least; then there are no shares.
    """

    shares: Mapping[str, int]
    left: int = 0
    short: int = 0


def divide(budget: int, claims: Mapping[str, Demand]) -> Division:
    """The division of `budget` units; no shares when it does not suffice for everyone's least.

    The whole budget is given as long as somebody with a weight may have more. Order of the claims never matters; equal claims
    on a last unit go by name. Θ(n log n) for n claimants, whatever the budget.
    """
    owed = sum(claim.minimum for claim in claims.values())
    if owed > budget:
        return Division({}, short=owed - budget)
    level = _level(budget, claims)
    shares = {name: _at(claim, level) for name, claim in claims.items()}
    left = budget - sum(shares.values())
    if left == 0:
        return Division(dict(sorted(shares.items())))
    # Fewer units than claimants: each went without less than one for being rounded down.
    line = [(-_priority(claim, shares[name]), name) for name, claim in claims.items() if _may_have(claim, shares[name])]
    heapq.heapify(line)
    while left and line:
        _, name = heapq.heappop(line)
        shares[name] += 1
        left -= 1
        if _may_have(claims[name], shares[name]):
            heapq.heappush(line, (-_priority(claims[name], shares[name]), name))
    return Division(dict(sorted(shares.items())), left=left)


def _may_have(claim: Demand, share: int) -> bool:
    return claim.weight > 0 and (claim.maximum is None or share < claim.maximum)


def _priority(claim: Demand, share: int) -> Fraction:
    """Who gets the next unit: the highest weight over what it would then have."""
    return claim.weight / (share + 1)


def _at(claim: Demand, level: Fraction | None) -> int:
    """The claimant's share at that level of the water; None is a level above all."""
    if claim.weight == 0:
        return claim.minimum
    share = claim.minimum
    if level is not None:
        weight = claim.weight
        share = max(share, level.numerator * weight.numerator // (level.denominator * weight.denominator))
    if claim.maximum is None:
        return share
    return claim.maximum if level is None else min(share, claim.maximum)


def _level(budget: int, claims: Mapping[str, Demand]) -> Fraction | None:
    """The highest level at which no more than the budget is poured out; None when the budget fills everyone to the most.

    What is poured out is piecewise linear in the level: claimants begin to rise at least/weight and stop at most/weight. All of
    it in whole numbers of a measure that goes into every bend: they are added and sorted ten times as fast as fractions.
    """
    rising = [claim for claim in claims.values() if claim.weight > 0]
    whole = math.lcm(*{claim.weight.denominator for claim in rising})
    weights = [claim.weight.numerator * (whole // claim.weight.denominator) for claim in rising]
    measure = math.lcm(*set(weights))
    bends = [(claim.minimum * (measure // weight), weight) for claim, weight in zip(rising, weights, strict=True)]
    bends += [
        (claim.maximum * (measure // weight), -weight)
        for claim, weight in zip(rising, weights, strict=True)
        if claim.maximum is not None
    ]
    poured, most = sum(claim.minimum for claim in claims.values()) * measure, budget * measure
    level = slope = 0
    for bend, change in sorted(bends):
        if poured + slope * (bend - level) > most:
            break
        poured += slope * (bend - level)
        level, slope = bend, slope + change
    return Fraction(level * slope + most - poured, slope * measure) * whole if slope > 0 else None
