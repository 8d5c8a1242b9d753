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
# Kubernetes' own bounds: what is larger is taken for this, and what has more digits is rounded up to thousand-millionths.
_LARGEST: Final = Fraction(2**63 - 1)
_FINEST: Final = Fraction(1, 10**9)
_EXPONENTS: Final = 2 * _LONGEST + 32


# Agents ask for the same few amounts over and over.
@lru_cache(maxsize=4096)
def parse(text: str) -> Fraction:
    """The exact number that a quantity stands for; raises ValueError when it is none.

    As in Kubernetes no number is above 2^63 - 1, nor has more than nine decimals: `1e999999999` costs nothing to read.
    """
    found = _QUANTITY.fullmatch(text.strip()) if len(text) <= _LONGEST else None
    if found is None:
        raise ValueError(f"{text!r:.80} is not a quantity")
    digits, exponent, suffix = found.groups()
    # So few digits and so large an exponent are beyond the bounds either way.
    power = max(-_EXPONENTS, min(int(exponent or 0), _EXPONENTS))
    amount = Fraction(digits) * _SUFFIXES[suffix or ""] * Fraction(10) ** power
    whole, rest = divmod(abs(amount), _FINEST)
    size = min((whole + (1 if rest else 0)) * _FINEST, _LARGEST)
    return -size if amount < 0 else size


@dataclass(frozen=True, slots=True)
class Unit:
    """In what a resource is divided: whole units of so much, written with these suffixes, the largest that fits first."""

    size: Fraction
    suffixes: tuple[str, ...]

    def floor(self, amount: Fraction) -> int:
        """How many whole units are in the amount."""
        return math.floor(amount / self.size)

    def ceil(self, amount: Fraction) -> int:
        """How many whole units hold the amount."""
        return math.ceil(amount / self.size)

    def write(self, units: int) -> str:
        """The quantity of so many units, in the fewest characters."""
        return write(units * self.size, self.suffixes)


def write(amount: Fraction, suffixes: tuple[str, ...]) -> str:
    """The amount as a whole number and the largest of the suffixes that leaves one; `suffixes` must hold one that does."""
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
    """In what a resource is divided: cpu in thousandths, memory and storage in MiB, anything else in wholes."""
    name = resource.rpartition(".")[2]
    if name == "cpu":
        return _MILLI
    return _BYTES if name in ("memory", "storage", "ephemeral-storage") or name.startswith("hugepages-") else _WHOLE
