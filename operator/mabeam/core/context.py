"""The coordination context: what a pass knows of the system as a whole, gathered once (MABEAM_04, `coordination_context`)."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from mabeam.api.base import JsonDict


@dataclass(frozen=True, slots=True)
class Context:
    """The system as one pass saw it.

    `load` is from 0 (idle) to 1 (full), None when nobody measured it; `load_source` says what it was measured by.
    `quota` is what the namespace's ResourceQuotas allow, by resource; `allocatable` what the nodes can give, `free` what of that
    nobody of ours has asked for yet. Amounts are quantities.
    """

    load: float | None = None
    load_source: str = ""
    quota: Mapping[str, str] = field(default_factory=dict)
    allocatable: Mapping[str, str] = field(default_factory=dict)
    free: Mapping[str, str] = field(default_factory=dict)

    def to_wire(self) -> JsonDict:
        """The context as functions are given it."""
        return {
            "load": self.load,
            "loadSource": self.load_source,
            "quota": dict(self.quota),
            "allocatable": dict(self.allocatable),
            "free": dict(self.free),
        }
