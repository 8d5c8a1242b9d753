"""Offers → one value."""

from typing import Any

import pytest

from mabeam.api.names import Reason
from mabeam.api.variable import Aggregation, Domain, DomainType, Negotiation, Payment
from mabeam.api.variable_status import NegotiationStrategy, Offer
from mabeam.core.algorithms import domain as domains
from mabeam.core.coordination.offers import READERS, GatheredOffers, gather_offers
from mabeam.core.coordination.strategies.negotiation import (
    AGGREGATIONS,
    PAYMENTS,
    STRATEGIES,
    StrategyResult,
    negotiate,
)
from mabeam.core.reports.report import Report
from support.builders import an_agent
from support.coordination import SIZES, UNIT, a_domain, a_variable, an_offer, in_json, offering, prefers

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


# --- gathering --------------------------------------------------------------------------------------------------------


def test_a_static_preference_is_an_offer_of_weight_one() -> None:
    gathered = gather_offers(a_variable(negotiation={}), [offering("a", 0.4)], {})
    assert gathered.offers == (Offer(agent="a", value=0.4, weight=1, source="Spec"),)


def test_a_report_overrules_the_static_preference_field_by_field() -> None:
    agents = [offering("a", 0.4, weight=3)]
    [offer] = gather_offers(a_variable(negotiation={}), agents, {"a": Report(numbers={"temperature": 0.9})}).offers
    assert (offer.value, offer.weight, offer.source) == (0.9, 3, "Report")
    [offer] = gather_offers(a_variable(negotiation={}), agents, {"a": Report(weights={"temperature": 5})}).offers
    assert (offer.value, offer.weight, offer.source) == (0.4, 5, "Spec")


def test_reported_weights_and_bids_are_capped_and_static_ones_are_not() -> None:
    variable = a_variable(negotiation={"maxWeight": 10})
    [offer] = gather_offers(variable, [offering("a", 1, weight=2)], {"a": Report(weights={"temperature": 1e9})}).offers
    assert offer.weight == 10
    [offer] = gather_offers(variable, [offering("a", 1, weight=1000)], {}).offers
    assert offer.weight == 1000
    bidding = a_variable(negotiation={"strategy": "Auction", "maxBid": 50})
    [offer] = gather_offers(bidding, [offering("a", 1)], {"a": Report(bids={"temperature": 1e300})}).offers
    assert offer.bid == 50


def test_offers_outside_the_domain_are_clamped_and_marked() -> None:
    variable = a_variable(negotiation={}, domain={"minimum": 0, "maximum": 2})
    offers = gather_offers(variable, [offering("a", 1_000_000), offering("b", -3), offering("c", 2)], {}).offers
    assert [(o.value, o.clamped) for o in offers] == [(2, True), (0, True), (2, None)]


def test_an_open_domain_still_bounds_what_can_be_offered() -> None:
    [offer] = gather_offers(
        a_variable(negotiation={}), [offering("a")], {"a": Report(numbers={"temperature": 1e300})}
    ).offers
    assert (offer.value, offer.clamped) == (1e12, True)


def test_an_integer_domain_takes_the_nearest_whole_number_of_an_offer() -> None:
    variable = a_variable(negotiation={}, domain={"type": "Integer", "minimum": 0.5, "maximum": 7.9})
    offers = gather_offers(variable, [offering("a", 2.5), offering("b", 0), offering("c", 10**400)], {}).offers
    assert [(o.value, o.clamped) for o in offers] == [(3, True), (1, True), (7, True)]
    assert all(isinstance(o.value, int) for o in offers)


@pytest.mark.parametrize("value", ["hot", True, {"x": 1}, [1]])
def test_a_preference_that_is_no_number_is_dropped_and_told(value: Any) -> None:
    gathered = gather_offers(a_variable(negotiation={}), [offering("a", value)], {})
    assert gathered.offers == ()
    assert gathered.dropped == (f"a: its preference {value!r} is not a number",)


def test_a_choice_outside_the_domain_is_dropped_and_told() -> None:
    variable = a_variable(negotiation={}, domain=SIZES)
    gathered = gather_offers(variable, [offering("a", "huge"), offering("b", "small")], {})
    assert [offer.agent for offer in gathered.offers] == ["b"]
    assert gathered.dropped == ("a: its choice 'huge' is not in the domain",)


def test_a_reported_choice_outside_the_domain_leaves_the_static_one() -> None:
    variable = a_variable(negotiation={}, domain=SIZES)
    gathered = gather_offers(variable, [offering("a", "small")], {"a": Report(choices={"temperature": {"huge": 1}})})
    assert [(o.value, o.source) for o in gathered.offers] == [("small", "Spec")]
    assert gathered.dropped == ("a: its choice 'huge' is not in the domain",)


def test_the_strongest_choice_counts_and_equals_go_by_the_domains_order() -> None:
    variable = a_variable(negotiation={}, domain=SIZES)

    def choice(**strengths: float) -> list[Any]:
        return [
            o.value
            for o in gather_offers(variable, [an_agent("a")], {"a": Report(choices={"temperature": strengths})}).offers
        ]

    assert choice(small=0.2, large=0.9) == ["large"]
    assert choice(large=1, small=1) == ["small"]
    assert choice(small=0) == []


def test_a_report_of_the_wrong_shape_is_told() -> None:
    sizes = a_variable(negotiation={}, domain=SIZES)
    gathered = gather_offers(sizes, [an_agent("a")], {"a": Report(numbers={"temperature": 3})})
    assert gathered == GatheredOffers((), ("a: it reports a number, but the domain wants a choice",))
    gathered = gather_offers(
        a_variable(negotiation={}), [an_agent("a")], {"a": Report(choices={"temperature": {"x": 1}})}
    )
    assert gathered == GatheredOffers((), ("a: it reports a choice, but the domain wants a number",))


def test_preferences_for_other_variables_are_none_of_this_ones_business() -> None:
    agent = an_agent("a", preferences=[prefers(0.4, "top-p")])
    assert gather_offers(a_variable(negotiation={}), [agent], {"a": Report(numbers={"top-p": 1})}) == GatheredOffers()


def test_in_an_auction_only_those_who_bid_take_part() -> None:
    variable = a_variable(negotiation={"strategy": "Auction"})
    agents = [offering("a", 1), offering("b", 2, bid=3), an_agent("c", preferences=[prefers(bid=9)])]
    [offer] = gather_offers(variable, agents, {}).offers
    assert (offer.agent, offer.bid, offer.weight) == ("b", 3, None)


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


# --- the domain -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "domain", "expected"),
    [
        (0.62, {"step": 0.05}, 0.6),
        (0.625, {"step": 0.05}, 0.65),  # ties up
        (-0.625, {"step": 0.05}, -0.6),  # up, not away from zero
        (0.8, {"minimum": 0.1, "step": 0.5}, 0.6),  # counted from the minimum
        (0.85, {"minimum": 0.1, "step": 0.5}, 1.1),
        (1.0, {"minimum": 0, "maximum": 1, "step": 0.4}, 1.0),  # the grid overshoots: the bound wins
        (0.3, {"step": 0.1}, 0.3),
        (7, {"maximum": 5}, 5),
        (2.5, {"type": "Integer"}, 3),
        (-2.5, {"type": "Integer"}, -2),
        (7.4, {"type": "Integer", "minimum": 1, "step": 3}, 7),
        (1e12, {"step": 1e-9}, 1e12),
        (-0.0, {}, 0.0),
    ],
)
def test_a_value_is_fitted_to_its_domain(value: float, domain: dict[str, Any], expected: float) -> None:
    fitted = outcome(an_offer("a", value), domain=a_domain(**domain)).value
    assert repr(fitted) == repr(type(fitted)(expected))
    assert isinstance(fitted, int) == (domain.get("type") == "Integer")


@pytest.mark.parametrize(
    ("value", "domain", "complaint"),
    [
        (0.5, UNIT, None),
        (0, UNIT, None),
        (1, UNIT, None),
        (3, {"minimum": 3, "maximum": 3}, None),
        (1, {"type": "Integer", "minimum": 1, "maximum": 2}, None),
        (2, {"type": "Integer", "minimum": 1, "maximum": 2}, None),
        (1.5, UNIT, "must lie in the domain: a number from 0 up to 1"),
        ("hot", UNIT, "must be a number from 0 up to 1"),
        (True, {}, "must be a number"),
        (float("nan"), {}, "must be a number"),
        (2.0, {"type": "Integer"}, None),
        (2.5, {"type": "Integer", "minimum": 1}, "must be a whole number from 1"),
        (0, {"type": "Integer", "minimum": 1}, "must lie in the domain: a whole number from 1"),
        ("small", SIZES, None),
        ("huge", SIZES, "must be one of: small, medium, large"),
        (3, SIZES, "must be one of: small, medium, large"),
    ],
)
def test_a_value_somebody_wrote_is_checked(value: Any, domain: dict[str, Any], complaint: str | None) -> None:
    assert domains.check(a_domain(**domain), value) == complaint


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


# --- what stays -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "domain", "adopted"),
    [
        (0.62, {"step": 0.05}, 0.6),
        (9, UNIT, 1),
        ("hot", UNIT, None),
        ("small", SIZES, "small"),
        ("huge", SIZES, None),
        (3, SIZES, None),
        (0.5, {"type": "Integer", "minimum": 0.2, "maximum": 0.8}, None),
        (7, {"minimum": 3, "maximum": 3}, 3),
    ],
)
def test_a_value_of_before_is_adopted_when_the_domain_has_one_for_it(
    value: Any, domain: dict[str, Any], adopted: Any
) -> None:
    assert domains.fit_or_none(a_domain(**domain), value) == adopted


def test_a_choice_is_never_marked_as_clamped() -> None:
    [offer] = gather_offers(a_variable(negotiation={}, domain=SIZES), [offering("a", "small")], {}).offers
    assert offer.clamped is None
