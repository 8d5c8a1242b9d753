"""Simulated annealing of a tour: two moves, each priced by the few edges it changes."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from annealers.tsp import Instance

# Or-opt moves runs of up to this many cities; longer ones are what 2-opt is for (Or, 1976).
LONGEST_RUN = 3


@dataclass(frozen=True, slots=True)
class Batch:
    """What came of a number of steps."""

    proposed: int
    accepted: int

    @property
    def acceptance(self) -> float:
        return self.accepted / self.proposed


class Annealer:
    """One walk through the tours of an instance. The same seed and temperatures give the same walk."""

    def __init__(self, instance: Instance, seed: str) -> None:
        self.instance = instance
        self._random = random.Random(seed)
        self.tour = list(range(len(instance.cities)))
        self._random.shuffle(self.tour)
        self.length = instance.length(self.tour)
        self.best = tuple(self.tour)
        self.best_length = self.length

    def run(self, steps: int, temperature: float) -> Batch:
        """What came of so many proposals at one temperature, which is in units of distance.

        A change that lengthens the tour by d is accepted with probability exp(-d / temperature) (Metropolis, 1953).
        """
        accepted = 0
        for _ in range(steps):
            move = self._two_opt if self._random.random() < 0.5 else self._or_opt
            accepted += move(temperature)
            if self.length < self.best_length:
                self.best, self.best_length = tuple(self.tour), self.length
        return Batch(steps, accepted)

    def adopt(self, tour: Sequence[int]) -> bool:
        """Whether the tour, shorter than every one of its own, became the one to walk on from."""
        length = self.instance.length(tour)
        if length >= self.best_length:
            return False
        self.tour, self.length = list(tour), length
        self.best, self.best_length = tuple(tour), length
        return True

    def _accepts(self, change: int, temperature: float) -> bool:
        return change <= 0 or self._random.random() < math.exp(-change / temperature)

    def _two_opt(self, temperature: float) -> bool:
        """Whether a run of the tour was turned around. Two edges change, wherever it lies."""
        tour, distances, size = self.tour, self.instance.distances, len(self.tour)
        first = int(self._random.random() * size)
        # From 2 to size - 2 cities: with fewer or more, the same edges come out again.
        count = 2 + int(self._random.random() * (size - 3))
        last = first + count - 1
        before, a, b, after = tour[first - 1], tour[first], tour[last % size], tour[(last + 1) % size]
        change = distances[before][b] + distances[a][after] - distances[before][a] - distances[b][after]
        if not self._accepts(change, temperature):
            return False
        if 2 * count > size:
            # Turning the rest around gives the same closed tour and moves fewer cities.
            first, count = last + 1, size - count
            last = first + count - 1
        for offset in range(count // 2):
            i, j = (first + offset) % size, (last - offset) % size
            tour[i], tour[j] = tour[j], tour[i]
        self.length += change
        return True

    def _or_opt(self, temperature: float) -> bool:
        """Whether a short run of cities was moved elsewhere, forwards or backwards. Three edges change."""
        tour, distances, size = self.tour, self.instance.distances, len(self.tour)
        count = 1 + int(self._random.random() * LONGEST_RUN)
        first = int(self._random.random() * size)
        # The gap, counted in cities after the run; gap 0 would put the run back where it was.
        gap = 1 + int(self._random.random() * (size - count - 1))
        last = first + count - 1
        before, a, b, after = tour[first - 1], tour[first], tour[last % size], tour[(last + 1) % size]
        left, right = tour[(last + gap) % size], tour[(last + gap + 1) % size]
        if self._random.random() < 0.5:
            a, b = b, a
        change = distances[before][after] + distances[left][a] + distances[b][right]
        change -= distances[before][tour[first]] + distances[tour[last % size]][after] + distances[left][right]
        if not self._accepts(change, temperature):
            return False
        run = [tour[i % size] for i in range(first, last + 1)]
        if run[0] != a:
            run.reverse()
        between = [tour[i % size] for i in range(last + 1, last + 1 + gap)]
        for offset, city in enumerate(between + run):
            tour[(first + offset) % size] = city
        self.length += change
        return True
