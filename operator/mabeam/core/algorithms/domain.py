"""The allowed values of a variable: bounds, steps and choices, in decimal arithmetic on each number's shortest text.

0.1 is a tenth here, not the nearest binary fraction, so no decision ever shows 0.30000000000000004.
"""

import json
import math
from collections.abc import Callable, Mapping
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal, localcontext
from typing import Any, Final

from mabeam.api.base import MAGNITUDE
from mabeam.api.variable import Domain, DomainType

# Exact for every sum and product of numbers up to 1e12 with the 17 digits a float can show.
CONTEXT: Final = Context(prec=60)
# The most characters of an object that a message shows.
SHOWN: Final = 120
_HALF: Final = Decimal("0.5")
_LIMIT: Final = Decimal(repr(MAGNITUDE))


def to_decimal(value: object) -> Decimal | None:
    """The number by its shortest text; None when the value is no finite number (booleans are none)."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return Decimal(value)
    if isinstance(value, float) and math.isfinite(value):
        return Decimal(repr(value))
    return None


def format_value(value: Any) -> str:
    """The value for messages, in the fewest characters: 0.6, 3, small."""
    if isinstance(value, Decimal):
        value = float(value)
    if isinstance(value, dict | list):
        text = json.dumps(value, sort_keys=True, separators=(",", ":"))
        return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def is_numeric(domain: Domain) -> bool:
    """Whether the domain's values are numbers."""
    return domain.type in (DomainType.NUMBER, DomainType.INTEGER)


def bounds(domain: Domain) -> tuple[Decimal, Decimal]:
    """The lowest and the highest number of the domain. An open side ends at 1e12, so that every sum stays finite.

    Those of an Integer domain are whole; the first is above the second when no whole number lies between.
    """
    low = -_LIMIT if domain.minimum is None else Decimal(repr(domain.minimum))
    high = _LIMIT if domain.maximum is None else Decimal(repr(domain.maximum))
    if domain.type is DomainType.INTEGER:
        return low.to_integral_value(ROUND_CEILING), high.to_integral_value(ROUND_FLOOR)
    return low, high


def clamp(domain: Domain, value: Decimal) -> Decimal:
    """The number of the domain nearest to the value, whatever its step: an offer may lie between two steps."""
    low, high = bounds(domain)
    # Bounds first: a number of a thousand digits can be bounded exactly, but not rounded exactly.
    value = min(max(value, low), high)
    return _whole(value) if domain.type is DomainType.INTEGER else value


def fit(domain: Domain, value: Decimal) -> float | int:
    """The value of the domain nearest to `value`: on a step counted from `minimum` (else 0), ties up, within the bounds.

    Where the nearest step exceeds the maximum, the value is the maximum.
    """
    low, high = bounds(domain)
    whole = domain.type is DomainType.INTEGER
    with localcontext(CONTEXT):
        value = min(max(value, low), high)
        if domain.step is not None:
            origin = low if domain.minimum is not None else Decimal(0)
            step = Decimal(repr(domain.step))
            value = origin + _whole((value - origin) / step) * step
        if whole:
            value = _whole(value)
        value = min(max(value, low), high)
    return int(value) if whole else float(value) + 0.0  # + 0.0: never -0.0


def _whole(value: Decimal) -> Decimal:
    """The nearest whole number, ties up (toward plus infinity: -0.5 becomes 0)."""
    return (value + _HALF).to_integral_value(ROUND_FLOOR)


def fit_or_none(domain: Domain, value: Any) -> Any:
    """The value fitted to the domain; None when no value of the domain corresponds to it."""
    if domain.type is DomainType.OBJECT:
        return _fit_object(domain, value)
    if not is_numeric(domain):
        return value if value in (domain.choices or ()) else None
    wanted = to_decimal(value)
    return None if wanted is None or empty_reason(domain) else fit(domain, wanted)


def _fit_object(domain: Domain, value: Any) -> Any:
    """The object with each entry fitted to its own domain; None when it is no object, or an entry cannot be fitted."""
    if not isinstance(value, dict) or not domain.properties:
        return value if isinstance(value, dict) else None
    fitted = {
        name: fit_or_none(entry_domain(domain, name), item) for name, item in value.items() if name in domain.properties
    }
    return None if len(fitted) < len(value) or any(item is None for item in fitted.values()) else fitted


def entry_domain(domain: Domain, name: str) -> Domain:
    """The domain of one entry of an Object domain."""
    return Domain.model_construct(**dict(domain.properties[name]), properties={})


def empty_reason(domain: Domain) -> str | None:
    """Why the domain is empty, for messages; None when it has values."""
    if not is_numeric(domain):
        return None
    low, high = bounds(domain)
    if low <= high:
        return None
    return f"no whole number lies between {format_value(domain.minimum)} and {format_value(domain.maximum)}"


def _check_number(domain: Domain, value: Any) -> str | None:
    wanted = to_decimal(value)
    if wanted is None:
        return f"must be a number{_range(domain)}"
    low, high = bounds(domain)
    return None if low <= wanted <= high else f"must lie in the domain: a number{_range(domain)}"


def _check_integer(domain: Domain, value: Any) -> str | None:
    wanted = to_decimal(value)
    if wanted is None or wanted != wanted.to_integral_value():
        return f"must be a whole number{_range(domain)}"
    low, high = bounds(domain)
    return None if low <= wanted <= high else f"must lie in the domain: a whole number{_range(domain)}"


def _check_choice(domain: Domain, value: Any) -> str | None:
    choices = domain.choices or ()
    if isinstance(value, str) and value in choices:
        return None
    shown = ", ".join(choices[:10]) + (f" and {len(choices) - 10} more" if len(choices) > 10 else "")
    return f"must be one of: {shown}"


def _range(domain: Domain) -> str:
    low = "" if domain.minimum is None else f" from {format_value(domain.minimum)}"
    return low if domain.maximum is None else f"{low} up to {format_value(domain.maximum)}"


def _check_object(domain: Domain, value: Any) -> str | None:
    if not isinstance(value, dict):
        return "must be an object"
    if not domain.properties:
        return None
    listed = ", ".join(sorted(domain.properties))
    for name, item in sorted(value.items()):
        if name not in domain.properties:
            return f"has an entry {name!r:.40}; allowed: {listed}"
        wrong = check(entry_domain(domain, name), item)
        if wrong is not None:
            return f"has an entry {name} that {wrong}"
    return None


CHECKS: Final[Mapping[DomainType, Callable[[Domain, Any], str | None]]] = {
    DomainType.NUMBER: _check_number,
    DomainType.INTEGER: _check_integer,
    DomainType.CHOICE: _check_choice,
    DomainType.OBJECT: _check_object,
}


def check(domain: Domain, value: Any) -> str | None:
    """Why the value is not in the domain and what is allowed, as a verb phrase for messages; None when it is."""
    return CHECKS[domain.type](domain, value)
