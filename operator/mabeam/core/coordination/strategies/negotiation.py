"""Negotiation: one value from the agents' offers, by weighted consensus or by an auction.

The result does not depend on the order of the offers: they are sorted by agent and summed in decimals of 60 digits. An offer is
bounded by the domain before it counts, so a hostile agent can do no more than an honest one of the same weight at the edge of
the domain.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal, localcontext
from typing import Any, Final

from mabeam.api.names import Reason
from mabeam.api.variable import Aggregation, Domain, DomainType, Negotiation, Payment
from mabeam.api.variable_status import NegotiationStrategy, Offer
from mabeam.core.algorithms.domain import CONTEXT, empty_reason, fit, format_value, is_numeric, to_decimal
from mabeam.core.coordination.offers import GatheredOffers
from mabeam.core.coordination.strategies.interface import StrategyResult, failure
from mabeam.core.values import ParameterValue

# The share of the weight that TrimmedMean drops at each end.
TRIMMED_SHARE: Final = Decimal("0.1")
# With fewer offers TrimmedMean is the Mean: nothing would be left between the ends.
TRIMMED_LEAST: Final = 3


def negotiate(negotiation: Negotiation, domain: Domain, gathered: GatheredOffers) -> StrategyResult:
    """The `ParameterValue` that the gathered offers lead to, with the offers themselves; without one, the reason."""
    empty = empty_reason(domain)
    if empty is not None:
        result = failure(Reason.INVALID_CONFIGURATION, empty)
    elif not gathered.offers:
        bids = negotiation.strategy is NegotiationStrategy.AUCTION
        result = StrategyResult(Reason.NO_OFFERS, "no agent has made a bid" if bids else "no agent has an offer")
    else:
        with localcontext(CONTEXT):
            result = STRATEGIES[negotiation.strategy](negotiation, domain, gathered.offers)
    return replace(result, offers=gathered.offers, dropped=gathered.dropped)


# --- weighted consensus -----------------------------------------------------------------------------------------------

_Weighted = tuple[tuple[Decimal, Decimal], ...]
"""(value, weight) of each offer whose weight is above 0, sorted by value."""


def _consensus(negotiation: Negotiation, domain: Domain, offers: tuple[Offer, ...]) -> StrategyResult:
    total = sum((_decimal(offer.weight) for offer in offers), Decimal(0))
    if total == 0:
        text = "the offers' total weight is 0; give at least one agent a weight above 0"
        return failure(Reason.INVALID_CONFIGURATION, text)
    rule, value = AGGREGATORS[domain.type](negotiation, domain, offers)
    message = f"{format_value(value)} from {_count(offers, 'offer')}, total weight {format_value(total)}"
    return StrategyResult(rule, message, ParameterValue(value))


def _aggregate(negotiation: Negotiation, domain: Domain, offers: tuple[Offer, ...]) -> tuple[str, Any]:
    weighted = sorted((_decimal(o.value), _decimal(o.weight)) for o in offers if _decimal(o.weight) > 0)
    rule, value = AGGREGATIONS[negotiation.aggregation or Aggregation.MEAN](tuple(weighted), len(offers))
    return rule, fit(domain, value)


def _mean(weighted: _Weighted, count: int) -> tuple[str, Decimal]:
    """The weighted mean, which minimises the weighted squared distances; like all three within the range of the offers."""
    total = sum((weight for _, weight in weighted), Decimal(0))
    return "WeightedMean", sum((value * weight for value, weight in weighted), Decimal(0)) / total


def _median(weighted: _Weighted, count: int) -> tuple[str, Decimal]:
    """The lower weighted median: the least offer with at least half of the weight at or below it.

    It is always one of the offers, and agents with less than half of the weight cannot move it beyond the others' offers
    (breakdown point 1/2).
    """
    half = sum((weight for _, weight in weighted), Decimal(0)) / 2
    reached = Decimal(0)
    for value, weight in weighted:
        reached += weight
        if reached >= half:
            return "WeightedMedian", value
    return "WeightedMedian", weighted[-1][0]


def _trimmed_mean(weighted: _Weighted, count: int) -> tuple[str, Decimal]:
    """The mean without a tenth of the weight at each end; of fewer than 3 offers, the Mean.

    An offer across the cut keeps the part of its weight that is inside (Stigler 1973). With unit weights and a count that is a
    multiple of 10 this is the textbook's trimmed mean; it is continuous in every weight.
    """
    if count < TRIMMED_LEAST:
        return _mean(weighted, count)
    total = sum((weight for _, weight in weighted), Decimal(0))
    cut = total * TRIMMED_SHARE
    kept: list[tuple[Decimal, Decimal]] = []
    start = Decimal(0)
    for value, weight in weighted:
        inside = min(start + weight, total - cut) - max(start, cut)
        if inside > 0:
            kept.append((value, inside))
        start += weight
    return "TrimmedMean", _mean(tuple(kept), count)[1]


AGGREGATIONS: Final[Mapping[Aggregation, Callable[[_Weighted, int], tuple[str, Decimal]]]] = {
    Aggregation.MEAN: _mean,
    Aggregation.MEDIAN: _median,
    Aggregation.TRIMMED_MEAN: _trimmed_mean,
}


def _plurality(negotiation: Negotiation, domain: Domain, offers: tuple[Offer, ...]) -> tuple[str, Any]:
    """The choice with the greatest total weight; of equals the first in the domain's order (`max` keeps the first)."""
    weights = {choice: Decimal(0) for choice in domain.choices or ()}
    for offer in offers:
        weights[offer.value] += _decimal(offer.weight)
    return "WeightedPlurality", max(weights, key=lambda choice: weights[choice])


def _plurality_of_objects(negotiation: Negotiation, domain: Domain, offers: tuple[Offer, ...]) -> tuple[str, Any]:
    """The object with the greatest total weight, taken as a whole: entries of two objects are not mixed. Ties by JSON text."""
    weights: dict[str, Decimal] = {}
    for offer in offers:
        text = json.dumps(offer.value, sort_keys=True)
        weights[text] = weights.get(text, Decimal(0)) + _decimal(offer.weight)
    return "WeightedPlurality", json.loads(min(weights, key=lambda text: (-weights[text], text)))


AGGREGATORS: Final[Mapping[DomainType, Callable[[Negotiation, Domain, tuple[Offer, ...]], tuple[str, Any]]]] = {
    DomainType.NUMBER: _aggregate,
    DomainType.INTEGER: _aggregate,
    DomainType.CHOICE: _plurality,
    DomainType.OBJECT: _plurality_of_objects,
}


# --- auction ----------------------------------------------------------------------------------------------------------


def _auction(negotiation: Negotiation, domain: Domain, offers: tuple[Offer, ...]) -> StrategyResult:
    reserve = _decimal(negotiation.reserve_price)
    ranked = sorted(offers, key=lambda offer: (-_decimal(offer.bid), offer.agent))
    qualified = [offer for offer in ranked if _decimal(offer.bid) >= reserve]
    if not qualified:
        return StrategyResult(Reason.RESERVE_NOT_MET, f"no bid reached the reserve of {format_value(reserve)}")
    winner = qualified[0]
    second = _decimal(qualified[1].bid) if len(qualified) > 1 else reserve
    payment = negotiation.payment or Payment.FIRST_PRICE
    pays = PAYMENTS[payment](_decimal(winner.bid), second, reserve)
    value = fit(domain, _decimal(winner.value)) if is_numeric(domain) else winner.value
    among = _count(qualified, "qualifying bid")
    message = f"{format_value(value)} won by {winner.agent}, who pays {format_value(pays)}, among {among}"
    return StrategyResult(payment, message, ParameterValue(value), winner=winner.agent, payment=float(pays))


def _first_price(own: Decimal, second: Decimal, reserve: Decimal) -> Decimal:
    return own


def _second_price(own: Decimal, second: Decimal, reserve: Decimal) -> Decimal:
    """The second highest bid, at least the reserve: no bid sets its own payment, so bidding the true worth is dominant.

    Source: Vickrey 1961.
    """
    return max(second, reserve)


PAYMENTS: Final[Mapping[Payment, Callable[[Decimal, Decimal, Decimal], Decimal]]] = {
    Payment.FIRST_PRICE: _first_price,
    Payment.SECOND_PRICE: _second_price,
}

STRATEGIES: Final[Mapping[NegotiationStrategy, Callable[[Negotiation, Domain, tuple[Offer, ...]], StrategyResult]]] = {
    NegotiationStrategy.WEIGHTED_CONSENSUS: _consensus,
    NegotiationStrategy.AUCTION: _auction,
}


def _decimal(value: float | None) -> Decimal:
    return to_decimal(value) or Decimal(0)


def _count(things: Sequence[object], noun: str) -> str:
    return f"{len(things)} {noun}" if len(things) == 1 else f"{len(things)} {noun}s"
