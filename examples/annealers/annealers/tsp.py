"""The travelling salesman: where the cities are, how long a tour is, and what counts as a tour."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

City = tuple[int, int]


@dataclass(frozen=True)
class Instance:
    """A symmetric travelling-salesman instance whose optimum is known."""

    name: str
    cities: tuple[City, ...]
    optimum: int
    distances: tuple[tuple[int, ...], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        table = tuple(tuple(distance(a, b) for b in self.cities) for a in self.cities)
        object.__setattr__(self, "distances", table)

    def length(self, tour: Sequence[int]) -> int:
        """The length of the closed tour."""
        return sum(self.distances[a][b] for a, b in pairwise([*tour, tour[0]]))

    def is_tour(self, candidate: object) -> bool:
        """Whether the candidate visits every city exactly once. Takes anything: what comes over the wire is unknown."""
        if not isinstance(candidate, list | tuple) or len(candidate) != len(self.cities):
            return False
        # bool is an int in Python, and True would pass for city 1.
        return all(type(city) is int for city in candidate) and sorted(candidate) == list(range(len(self.cities)))

    def quality(self, length: float) -> float:
        """How good a length is, in (0, 1]; 1 is the optimum."""
        return self.optimum / length


def distance(a: City, b: City) -> int:
    """The distance as TSPLIB defines EUC_2D: Euclidean, rounded to the nearest whole number."""
    return int(math.hypot(a[0] - b[0], a[1] - b[1]) + 0.5)


# 52 locations in Berlin (Groetschel). From TSPLIB: G. Reinelt, "TSPLIB - A Traveling Salesman Problem Library", ORSA
# Journal on Computing 3 (1991), 376-384. The optimum is TSPLIB's; a test lets another solver confirm it.
BERLIN52 = Instance(
    "berlin52",
    (
        (565, 575), (25, 185), (345, 750), (945, 685), (845, 655), (880, 660), (25, 230), (525, 1000), (580, 1175),
        (650, 1130), (1605, 620), (1220, 580), (1465, 200), (1530, 5), (845, 680), (725, 370), (145, 665), (415, 635),
        (510, 875), (560, 365), (300, 465), (520, 585), (480, 415), (835, 625), (975, 580), (1215, 245), (1320, 315),
        (1250, 400), (660, 180), (410, 250), (420, 555), (575, 665), (1150, 1160), (700, 580), (685, 595), (685, 610),
        (770, 610), (795, 645), (720, 635), (760, 650), (475, 960), (95, 260), (875, 920), (700, 500), (555, 815),
        (830, 485), (1170, 65), (830, 610), (605, 625), (595, 360), (1340, 725), (1740, 245),
    ),
    optimum=7542,
)  # fmt: skip
