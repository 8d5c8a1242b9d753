"""What agents offer a variable: static preferences, reports, and what is dropped or bounded of them."""

from typing import Any

import pytest

from mabeam.api.variable_status import Offer
from mabeam.core.coordination.offers import GatheredOffers, gather_offers
from mabeam.core.reports.report import Report
from support.builders import an_agent
from support.coordination import SIZES, a_variable, offering, prefers


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


def test_what_an_agent_says_without_a_preference_is_told() -> None:
    auction = a_variable(negotiation={"strategy": "Auction"})
    told = gather_offers(auction, [offering("a")], {"a": Report(bids={"temperature": 5})})
    assert told == GatheredOffers((), ("a: it reports a bid, but no preference to go with it",))
    told = gather_offers(a_variable(negotiation={}), [offering("a")], {"a": Report(weights={"temperature": 5})})
    assert told.dropped == ("a: it reports a weight, but no preference to go with it",)
    told = gather_offers(auction, [offering("a", 0.4)], {})
    assert told.dropped == ("a: it has a preference, but no bid, and an auction counts bids alone",)
    assert gather_offers(auction, [offering("a")], {"a": Report(bids={"other": 5})}) == GatheredOffers()
