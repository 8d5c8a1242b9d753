"""From offers to one value: aggregations, auctions and prices."""

from typing import Any

import pytest

from mabeam.api.names import Reason
from mabeam.api.variable import Aggregation, Domain, DomainType, Negotiation, Payment
from mabeam.api.variable_status import NegotiationStrategy, Offer
from mabeam.core.algorithms import domain as domains
from mabeam.core.coordination.offers import READERS, GatheredOffers
from mabeam.core.coordination.strategies.negotiation import (
    AGGREGATIONS,
    PAYMENTS,
    STRATEGIES,
    StrategyResult,
    negotiate,
)
from support.coordination import SIZES, UNIT, a_domain, an_offer, in_json

NUMBER = Domain()


def outcome(*offers: Offer, domain: Domain = NUMBER, **negotiation: Any) -> Any:
    return in_json(negotiate(Negotiation.model_validate(negotiation), domain, GatheredOffers(offers)))


def auction(*bids: tuple[str, Any, float], domain: Domain = NUMBER, **words: Any) -> StrategyResult:
    offers = (an_offer(agent, value, None, bid) for agent, value, bid in bids)
    return outcome(*offers, domain=domain, strategy="Auction", **words)


def test_each_table_covers_its_enum() -> None:
    assert set(STRATEGIES) == set(NegotiationStrategy)
    assert set(AGGREGATIONS) == set(Aggregation)
    assert set(PAYMENTS) == set(Payment)
    assert set(READERS) == set(domains.CHECKS) == set(DomainType)


# --- weighted consensus -----------------------------------------------------------------------------------------------


def test_the_weighted_mean_of_the_design() -> None:
    result = outcome(an_offer("coder", 0.4, 2), an_offer("reviewer", 1.0, 1), domain=a_domain(minimum=0, maximum=2))
    assert (result.value, result.rule) == (0.6, "WeightedMean")
    assert result.message == "0.6 from 2 offers, total weight 3"


def test_decimal_noise_never_shows() -> None:
    tenths = [an_offer(name, 0.1) for name in "abcdefghij"] + [an_offer("k", 0.2)]
    assert outcome(an_offer("a", 0.1), an_offer("b", 0.2)).value == 0.15
    assert outcome(*tenths, domain=a_domain(minimum=0, step=0.1)).value == 0.1
    assert repr(outcome(an_offer("a", 0.7), an_offer("b", 0.7), an_offer("c", 0.7)).value) == "0.7"


def test_the_median_is_the_least_offer_with_half_of_the_weight_at_or_below_it() -> None:
    def median(*offers: Offer) -> Any:
        return outcome(*offers, aggregation="Median").value

    assert median(an_offer("a", 1), an_offer("b", 2), an_offer("c", 9)) == 2
    assert median(an_offer("a", 1), an_offer("b", 2)) == 1
    assert median(an_offer("a", 1, 1), an_offer("b", 2, 1.5), an_offer("c", 3, 2)) == 2
    assert median(an_offer("a", 1, 0), an_offer("b", 5, 1)) == 5


def test_the_trimmed_mean_drops_a_tenth_of_the_weight_at_either_end() -> None:
    offers = [an_offer(f"a{i}", value) for i, value in enumerate([0, 5, 5, 5, 5, 5, 5, 5, 5, 100])]
    result = outcome(*offers, aggregation="TrimmedMean")
    assert (result.value, result.rule) == (5, "TrimmedMean")


def test_an_offer_that_straddles_the_cut_keeps_the_rest_of_its_weight() -> None:
    offers = [an_offer("a", 0), an_offer("b", 3), an_offer("c", 9)]
    # 0.3 of each end is cut: (0 * 0.7 + 3 * 1 + 9 * 0.7) / 2.4
    assert outcome(*offers, aggregation="TrimmedMean").value == 3.875


def test_fewer_than_three_offers_are_not_trimmed() -> None:
    result = outcome(an_offer("a", 0), an_offer("b", 1), aggregation="TrimmedMean")
    assert (result.value, result.rule) == (0.5, "WeightedMean")


def test_the_plurality_is_weighted_and_ties_go_by_the_domains_order() -> None:
    sizes = a_domain(**SIZES)
    result = outcome(an_offer("a", "small", 1), an_offer("b", "large", 2), an_offer("c", "small", 0.5), domain=sizes)
    assert (result.value, result.rule) == ("large", "WeightedPlurality")
    tied = outcome(an_offer("a", "large", 1), an_offer("b", "medium", 1), domain=sizes)
    assert tied.value == "medium"


@pytest.mark.parametrize("domain", [a_domain(**UNIT), a_domain(**SIZES)])
def test_a_total_weight_of_zero_is_an_invalid_configuration_and_says_what_to_do(domain: Domain) -> None:
    value = "small" if domain.choices else 1
    result = outcome(an_offer("a", value, 0), an_offer("b", value, 0), domain=domain)
    assert (result.value, result.error, result.rule) == (
        None,
        Reason.INVALID_CONFIGURATION,
        "InvalidConfiguration",
    )
    assert result.message == "the offers' total weight is 0; give at least one agent a weight above 0"


def test_no_offers_are_no_outcome() -> None:
    assert outcome() == StrategyResult("NoOffers", "no agent has an offer")


def test_a_domain_without_any_value_is_an_invalid_configuration() -> None:
    result = outcome(an_offer("a", 1), domain=a_domain(type="Integer", minimum=0.2, maximum=0.8))
    assert (result.error, result.message) == (
        Reason.INVALID_CONFIGURATION,
        "no whole number lies between 0.2 and 0.8",
    )


# --- auction ----------------------------------------------------------------------------------------------------------


def test_the_highest_bid_wins_and_pays_its_own_price() -> None:
    result = auction(("a", 0.2, 3), ("b", 0.9, 5), ("c", 0.4, 4))
    assert (result.value, result.winner, result.payment, result.rule) == (0.9, "b", 5, "FirstPrice")
    assert result.message == "0.9 won by b, who pays 5, among 3 qualifying bids"


def test_in_a_second_price_auction_the_winner_pays_the_second_bid() -> None:
    result = auction(("a", 0.2, 3), ("b", 0.9, 5), ("c", 0.4, 4), payment="SecondPrice")
    assert (result.winner, result.payment, result.rule) == ("b", 4, "SecondPrice")


def test_the_second_price_is_at_least_the_reserve() -> None:
    result = auction(("a", 0.2, 3), ("b", 0.9, 5), payment="SecondPrice", reservePrice=4)
    assert (result.winner, result.payment) == ("b", 4)
    alone = auction(("b", 0.9, 5), payment="SecondPrice", reservePrice=4)
    assert (alone.winner, alone.payment) == ("b", 4)
    assert auction(("b", 0.9, 5), payment="SecondPrice").payment == 0


def test_a_bid_at_the_reserve_qualifies() -> None:
    assert auction(("a", 0.2, 4), reservePrice=4).winner == "a"


def test_equal_bids_are_won_by_name() -> None:
    result = auction(("b", 0.9, 5), ("a", 0.2, 5), payment="SecondPrice")
    assert (result.winner, result.payment) == ("a", 5)


def test_without_a_qualifying_bid_there_is_no_winner() -> None:
    result = auction(("a", 0.2, 3), ("b", 0.9, 3.5), reservePrice=4)
    assert (result.value, result.winner, result.rule, result.error) == (None, None, "ReserveNotMet", None)
    assert result.message == "no bid reached the reserve of 4"


def test_the_winners_value_is_fitted_to_the_domain() -> None:
    assert auction(("a", 0.62, 1), domain=a_domain(minimum=0, step=0.05)).value == 0.6
    assert auction(("a", "large", 1), domain=a_domain(**SIZES)).value == "large"
