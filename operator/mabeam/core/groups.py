"""Whom a failure takes along: OTP's supervisor strategies, over anything that stands in order."""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from mabeam.api.agent import SupervisionStrategy

# supervisor.erl restart/3: the failed one, it and those after it, all. Places are counted in start order.
_TAKES_ALONG: Final[Mapping[SupervisionStrategy, Callable[[int, int], bool]]] = {
    SupervisionStrategy.ONE_FOR_ONE: lambda failed, other: other == failed,
    SupervisionStrategy.REST_FOR_ONE: lambda failed, other: other >= failed,
    SupervisionStrategy.ONE_FOR_ALL: lambda _failed, _other: True,
}


def group(strategy: SupervisionStrategy, failed: int, places: Iterable[int]) -> tuple[int, ...]:
    """The places that are restarted when the one at `failed` is, in start order."""
    return tuple(sorted(place for place in places if _TAKES_ALONG[strategy](failed, place)))
