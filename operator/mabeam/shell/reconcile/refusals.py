"""The pod creates that the apiserver refused, and when each create is tried again."""

from dataclasses import dataclass, field
from typing import Final

from mabeam.core.algorithms.backoff import capped_exponential
from mabeam.core.snapshot import PodRefused

FIRST_RETRY_SECONDS: Final = 15.0
MAX_RETRY_SECONDS: Final = 300.0


@dataclass(frozen=True, slots=True)
class Refusal:
    """What the apiserver said of an agent's pod, of which spec, and when to ask it again."""

    message: str
    spec_hash: str
    retry_at: float
    tries: int = 1


@dataclass
class Refusals:
    """What the apiserver would not take, by agent uid. Memory, not truth: after a restart the question is asked once more."""

    refused: dict[str, Refusal] = field(default_factory=dict)
    names_taken: dict[str, str] = field(default_factory=dict)

    def record(self, uid: str, spec_hash: str, message: str, now: float) -> None:
        """Remember a refusal, and when to ask again: later each time."""
        known = self.refused.get(uid)
        tries = known.tries + 1 if known is not None and known.spec_hash == spec_hash else 1
        delay = capped_exponential(tries - 1, FIRST_RETRY_SECONDS, MAX_RETRY_SECONDS)
        self.refused[uid] = Refusal(message, spec_hash, now + delay, tries)

    def clear(self, uid: str) -> None:
        """The apiserver took a pod of the agent."""
        self.refused.pop(uid, None)
        self.names_taken.pop(uid, None)

    def of(self, uid: str, spec_hash: str, now: float) -> PodRefused | None:
        """What was refused of the spec as it is now."""
        known = self.refused.get(uid)
        if known is None or known.spec_hash != spec_hash:
            return None
        return PodRefused(known.message, known.retry_at - now)
