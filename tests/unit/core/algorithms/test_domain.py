"""Domains: which values a variable may have, and the nearest one to any other."""

from typing import Any

import pytest

from mabeam.api.variable import Domain, Negotiation
from mabeam.api.variable_status import Offer
from mabeam.core.algorithms import domain as domains
from mabeam.core.coordination.offers import GatheredOffers, gather_offers
from mabeam.core.coordination.strategies.negotiation import (
    negotiate,
)
from support.coordination import SIZES, UNIT, a_domain, a_variable, an_offer, in_json, offering

NUMBER = Domain()


def outcome(*offers: Offer, domain: Domain = NUMBER, **negotiation: Any) -> Any:
    return in_json(negotiate(Negotiation.model_validate(negotiation), domain, GatheredOffers(offers)))


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
