"""Kubernetes quantities as exact numbers, and back in the fewest characters (apimachinery resource.Quantity)."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Final

_SUFFIXES: Final[Mapping[str, Fraction]] = {
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 1000),
    "": Fraction(1),
    **{letter: Fraction(1000) ** power for power, letter in enumerate("kMGTPE", start=1)},
    **{f"{letter}i": Fraction(1024) ** power for power, letter in enumerate("KMGTPE", start=1)},
}
_MEBI: Final = 1024**2
_QUANTITY: Final = re.compile(
    r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))(?:[eE]([+-]?[0-9]+)|([KMGTPE]i|[numkMGTPE]|))", re.ASCII
)
_LONGEST: Final = 64
# Kubernetes' own bounds: larger numbers count as the largest, and finer ones are rounded up to a nano.
_LARGEST: Final = Fraction(2**63 - 1)
_FINEST: Final = Fraction(1, 10**9)
_EXPONENTS: Final = 2 * _LONGEST + 32


# Most agents request the same few amounts.
@lru_cache(maxsize=4096)
def parse(text: str) -> Fraction:
    """The exact number of a quantity; raises ValueError when the text is none.

    As in Kubernetes no number is above 2^63 - 1 or has more than nine decimals, so `1e999999999` costs nothing to parse.
    """
    found = _QUANTITY.fullmatch(text.strip()) if len(text) <= _LONGEST else None
    if found is None:
        raise ValueError(f"{text!r:.80} is not a quantity")
    digits, exponent, suffix = found.groups()
    # With at most 64 digits, a larger exponent is beyond the bounds either way.
    power = max(-_EXPONENTS, min(int(exponent or 0), _EXPONENTS))
    amount = Fraction(digits) * _SUFFIXES[suffix or ""] * Fraction(10) ** power
    whole, rest = divmod(abs(amount), _FINEST)
    size = min((whole + (1 if rest else 0)) * _FINEST, _LARGEST)
    return -size if amount < 0 else size


@dataclass(frozen=True, slots=True)
class Unit:
    """The smallest amount of a resource that is divided."""

    size: Fraction
    suffixes: tuple[str, ...]  # with which amounts are written, the largest first

    def floor(self, amount: Fraction) -> int:
        """The whole units in the amount, rounded down."""
        return math.floor(amount / self.size)

    def ceil(self, amount: Fraction) -> int:
        """The whole units that hold the amount, rounded up."""
        return math.ceil(amount / self.size)

    def write(self, units: int) -> str:
        """The quantity of that many units, in the fewest characters."""
        return write(units * self.size, self.suffixes)


def write(amount: Fraction, suffixes: tuple[str, ...]) -> str:
    """The amount as a whole number and the largest suffix that leaves one; raises ValueError when no suffix does."""
    if amount == 0:
        return "0"
    for suffix in suffixes:
        number = amount / _SUFFIXES[suffix]
        if number.denominator == 1:
            return f"{number.numerator}{suffix}"
    raise ValueError(f"{amount} has no whole number of {suffixes}")


_MILLI: Final = Unit(Fraction(1, 1000), ("", "m"))
_BYTES: Final = Unit(Fraction(_MEBI), ("Ti", "Gi", "Mi"))
_WHOLE: Final = Unit(Fraction(1), ("G", "M", "k", ""))


def unit_of(resource: str) -> Unit:
    """The unit in which a resource is divided: cpu in thousandths, memory and storage in MiB, all others in ones."""
    name = resource.rpartition(".")[2]
    if name == "cpu":
        return _MILLI
    return _BYTES if name in ("memory", "storage", "ephemeral-storage") or name.startswith("hugepages-") else _WHOLE
