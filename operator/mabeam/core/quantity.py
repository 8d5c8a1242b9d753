"""Kubernetes quantities as exact numbers, and back in the fewest characters (apimachinery resource.Quantity)."""

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


# Agents ask for the same few amounts over and over.
@lru_cache(maxsize=4096)
def parse(text: str) -> Fraction:
    """The exact number that a quantity stands for; raises ValueError when it is none."""
    text = text.strip().removeprefix("+")
    for suffix in sorted(_SUFFIXES, key=len, reverse=True):
        head = text.removesuffix(suffix) if suffix else text
        if suffix and head == text:
            continue
        try:
            return Fraction(head) * _SUFFIXES[suffix]
        except ValueError:
            continue
    raise ValueError(f"{text!r} is not a quantity")


@dataclass(frozen=True, slots=True)
class Unit:
    """In what a resource is divided: whole units of so much, written with these suffixes, the largest that fits first."""

    size: Fraction
    suffixes: tuple[str, ...]

    def floor(self, amount: Fraction) -> int:
        """How many whole units are in the amount."""
        return int(amount / self.size)

    def ceil(self, amount: Fraction) -> int:
        """How many whole units hold the amount."""
        return -int(-amount / self.size) if amount % self.size == 0 else int(amount / self.size) + 1

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
