"""Offers → one value. Pure arithmetic: the same offers in any order give the same outcome.

Offers are sorted by agent and summed in decimals of 60 digits. An offer is bounded by the domain before it counts, so
the worst a hostile agent can do is what an honest one with its weight could do at the edge of the domain.
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
from mabeam.core.coordination.strategies.interface import StrategyResult

# The share of the weight that TrimmedMean drops at either end.
TRIMMED_SHARE: Final = Decimal("0.1")
# With fewer offers there is no middle to keep.
TRIMMED_LEAST: Final = 3


def negotiate(negotiation: Negotiation, domain: Domain, gathered: GatheredOffers) -> StrategyResult:
    """The outcome of one round over the gathered offers."""
    impossible = empty_reason(domain)
    if impossible is not None:
        outcome = StrategyResult(Reason.INVALID_CONFIGURATION, impossible, error=Reason.INVALID_CONFIGURATION)
    elif not gathered.offers:
        bids = negotiation.strategy is NegotiationStrategy.AUCTION
        outcome = StrategyResult(Reason.NO_OFFERS, "no agent has made a bid" if bids else "no agent has an offer")
    else:
        with localcontext(CONTEXT):
            outcome = STRATEGIES[negotiation.strategy](negotiation, domain, gathered.offers)
    return replace(outcome, offers=gathered.offers, dropped=gathered.dropped)


# --- weighted consensus -----------------------------------------------------------------------------------------------

_Weighted = tuple[tuple[Decimal, Decimal], ...]
"""Value and weight of each offer that has weight, in order of value."""


def _consensus(negotiation: Negotiation, domain: Domain, offers: tuple[Offer, ...]) -> StrategyResult:
    total = sum((_decimal(offer.weight) for offer in offers), Decimal(0))
    if total == 0:
        text = "the offers' total weight is 0; give at least one agent a weight above 0"
        return StrategyResult(Reason.INVALID_CONFIGURATION, text, error=Reason.INVALID_CONFIGURATION)
    decide = AGGREGATORS[domain.type]
    rule, value = decide(negotiation, domain, offers)
    return StrategyResult(
        rule, f"{format_value(value)} from {_count(offers, 'offer')}, total weight {format_value(total)}", value
    )


def _aggregate(negotiation: Negotiation, domain: Domain, offers: tuple[Offer, ...]) -> tuple[str, Any]:
    weighted = sorted((_decimal(o.value), _decimal(o.weight)) for o in offers if _decimal(o.weight) > 0)
    rule, value = AGGREGATIONS[negotiation.aggregation or Aggregation.MEAN](tuple(weighted), len(offers))
    return rule, fit(domain, value)


def _mean(weighted: _Weighted, count: int) -> tuple[str, Decimal]:
    """The minimiser of the weighted squared distances; between the least and the greatest offer, like all three."""
    total = sum((weight for _, weight in weighted), Decimal(0))
    return "WeightedMean", sum((value * weight for value, weight in weighted), Decimal(0)) / total


def _median(weighted: _Weighted, count: int) -> tuple[str, Decimal]:
    """The lower weighted median: the least offer with at least half of the weight at or below it.

    Always somebody's offer, and out of reach of any group with less than half of the weight (breakdown point 1/2).
    """
    half = sum((weight for _, weight in weighted), Decimal(0)) / 2
    reached = Decimal(0)
    for value, weight in weighted:
        reached += weight
        if reached >= half:
            return "WeightedMedian", value
    return "WeightedMedian", weighted[-1][0]


def _trimmed_mean(weighted: _Weighted, count: int) -> tuple[str, Decimal]:
    """The mean of what remains when a tenth of the weight is dropped at either end; the Mean of fewer than 3 offers.

    An offer that straddles the cut keeps the part of its weight inside (Stigler 1973): with unit weights and a count
    that 10 divides this is the textbook's trimmed mean, and it never jumps when a weight grows.
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
    """The choice with the most weight behind it; of equals the first in the domain's order (`max` keeps the first)."""
    behind = {choice: Decimal(0) for choice in domain.choices or ()}
    for offer in offers:
        behind[offer.value] += _decimal(offer.weight)
    return "WeightedPlurality", max(behind, key=lambda choice: behind[choice])


def _plurality_of_objects(negotiation: Negotiation, domain: Domain, offers: tuple[Offer, ...]) -> tuple[str, Any]:
    """The object with the most weight behind it, whole: settings that belong together are not mixed. Ties by their text."""
    behind: dict[str, Decimal] = {}
    for offer in offers:
        text = json.dumps(offer.value, sort_keys=True)
        behind[text] = behind.get(text, Decimal(0)) + _decimal(offer.weight)
    return "WeightedPlurality", json.loads(min(behind, key=lambda text: (-behind[text], text)))


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
    told = f"{format_value(value)} won by {winner.agent}, who pays {format_value(pays)}, among {among}"
    return StrategyResult(payment, told, value, winner.agent, float(pays))


def _first_price(own: Decimal, second: Decimal, reserve: Decimal) -> Decimal:
    return own


def _second_price(own: Decimal, second: Decimal, reserve: Decimal) -> Decimal:
    """Vickrey 1961: what the winner pays does not depend on its own bid, so bidding the true worth is dominant."""
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
