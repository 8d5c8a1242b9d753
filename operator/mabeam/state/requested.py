"""What live pods request and what nodes give, kept as running sums: a pass over a variable must not add up ten thousand pods."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache

from mabeam.core.algorithms import quantity
from mabeam.core.pods.lifecycle import is_live
from mabeam.core.pods.resources import RESIZABLE
from mabeam.core.snapshot import PodFacts

Amounts = Mapping[str, str]  # resource → quantity


@dataclass
class RequestedAmounts:
    """The sum of the cpu and memory that live pods request; exact, so it never drifts."""

    sums: dict[str, Fraction] = field(default_factory=dict)

    def replace(self, before: PodFacts | None, after: PodFacts | None) -> None:
        """Take the pod's former requests off, and add its present ones."""
        was, now = requests_of(before), requests_of(after)
        if was == now:
            return
        for requests, sign in ((was, -1), (now, 1)):
            for resource in RESIZABLE:
                amount = parse_amount(str(requests[resource])) if resource in requests else None
                if amount is not None:
                    self.sums[resource] = self.sums.get(resource, Fraction(0)) + sign * amount


def requests_of(pod: PodFacts | None) -> Amounts:
    """What a live pod requests; nothing for one that ended or does not exist."""
    if pod is None or not is_live(pod):
        return {}
    found: Amounts = (pod.resources or {}).get("requests") or {}
    return found


def sum_amounts(several: Iterable[Amounts]) -> dict[str, Fraction]:
    """The sum of each resource; what is no quantity is ignored."""
    sums: dict[str, Fraction] = {}
    for amounts in several:
        for resource, amount in amounts.items():
            parsed = parse_amount(str(amount))
            if parsed is not None:
                sums[resource] = sums.get(resource, Fraction(0)) + parsed
    return sums


def write_amounts(sums: Mapping[str, Fraction]) -> Amounts:
    """The sums as quantities, rounded down to the units in which they are divided."""
    units = {resource: quantity.unit_of(resource) for resource in sums}
    return {resource: units[resource].write(units[resource].floor(total)) for resource, total in sums.items()}


@lru_cache(maxsize=4096)
def parse_amount(text: str) -> Fraction | None:
    """The number that a quantity stands for; None when it is none."""
    try:
        return quantity.parse(text)
    except ValueError:
        return None
