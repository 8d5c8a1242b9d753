"""What temperature an annealer wants, from how often it accepts a change.

Too hot, and the walk accepts nearly everything and never settles in a valley. Too cold, and it accepts next to nothing
and stays in the first valley it finds. In between lies a share of accepted changes at which this walk finds short tours
fastest: about 1 in 100 for berlin52 and these two moves, measured by comparing constant temperatures.

The law. Acceptance grows with temperature, roughly as a power of it: acceptance = c * temperature ** e, with e between
1.3 and 1.9 over the range that matters here (measured). Wanting

    temperature * (TARGET / acceptance) ** GAIN

turns an error of the logarithm of x into one of (1 - GAIN * e) * x at the next measurement. With GAIN = 1/2 that factor
lies between 0.05 and 0.35: each round leaves at most a third of the error, and never overshoots. Three more things
keep it at rest once it is there:

- The wish is absolute ("I want 24"), not a step ("hotter"). However often the operator reads it before the next
  measurement, it reads the same wish; nothing winds up.
- Within a BAND around the target the wish is the present temperature, so noise does not move it.
- Counts are kept for as long as the temperature stays, so the noise shrinks while nothing changes.
"""

from __future__ import annotations

import math

from annealers.annealer import Batch

TARGET = 0.01
GAIN = 0.5
BAND = 1.5
LARGEST_FACTOR = 2.0

# After a change of temperature the walk needs a while to behave as it will at the new one; that while is not counted.
UNCOUNTED_STEPS = 1_000
FEWEST_STEPS = 3_000
# Older counts fade beyond this, so that the wish follows the walk into another valley.
MOST_STEPS = 30_000


def wanted_temperature(temperature: float, acceptance: float) -> float:
    """The temperature to ask for, at most LARGEST_FACTOR away from the present one."""
    if TARGET / BAND <= acceptance <= TARGET * BAND:
        return temperature
    # No acceptance at all is a cold walk, not a division by zero.
    factor = LARGEST_FACTOR if acceptance == 0 else (TARGET / acceptance) ** GAIN
    return temperature * min(max(factor, 1 / LARGEST_FACTOR), LARGEST_FACTOR)


def vote_on(proposed: object, present: float, wanted: float) -> str:
    """`Yes` when the proposed temperature is closer to the wanted one than the present one is, else `No`.

    Closer by ratio: from 20 to 40 is as far as from 20 to 10.
    """
    if isinstance(proposed, bool) or not isinstance(proposed, int | float) or not 0 < proposed < math.inf:
        return "No"
    closer = abs(math.log(proposed / wanted)) < abs(math.log(present / wanted))
    return "Yes" if closer else "No"


class AcceptanceWindow:
    """The share of accepted changes since the temperature last changed."""

    def __init__(self) -> None:
        self._temperature: float | None = None
        self._uncounted = 0
        self._proposed = 0.0
        self._accepted = 0.0

    def observe(self, batch: Batch, temperature: float) -> float | None:
        """The acceptance at this temperature, or None while too little is known about it."""
        if temperature != self._temperature:
            self._temperature = temperature
            self._uncounted = UNCOUNTED_STEPS
            self._proposed = self._accepted = 0.0
        if self._uncounted > 0:
            self._uncounted -= batch.proposed
            return None
        self._proposed += batch.proposed
        self._accepted += batch.accepted
        if self._proposed > MOST_STEPS:
            self._proposed /= 2
            self._accepted /= 2
        return self._accepted / self._proposed if self._proposed >= FEWEST_STEPS else None
