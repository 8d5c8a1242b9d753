"""The pod creates that the apiserver refused, and when each of them is tried again."""

from dataclasses import dataclass, field
from typing import Final

from mabeam.core.algorithms.backoff import capped_exponential
from mabeam.core.snapshot import PodRefused

FIRST_RETRY_SECONDS: Final = 15.0
MAX_RETRY_SECONDS: Final = 300.0


@dataclass(frozen=True, slots=True)
class Refusal:
    """One refused create."""

    message: str  # the apiserver's
    spec_hash: str  # of the spec that the pod was made from
    retry_at: float  # seconds of the loop's clock
    tries: int = 1


@dataclass
class Refusals:
    """The last refusal of each agent, by uid. In memory only: after a restart of the operator each create is tried once more."""

    refused: dict[str, Refusal] = field(default_factory=dict)
    names_taken: dict[str, str] = field(
        default_factory=dict
    )  # Agent uid → the pod's name, which another owner's pod has

    def record(self, uid: str, spec_hash: str, message: str, now: float) -> None:
        """Record a refusal; each further one of the same spec delays the next attempt."""
        known = self.refused.get(uid)
        tries = known.tries + 1 if known is not None and known.spec_hash == spec_hash else 1
        delay = capped_exponential(tries - 1, FIRST_RETRY_SECONDS, MAX_RETRY_SECONDS)
        self.refused[uid] = Refusal(message, spec_hash, now + delay, tries)

    def clear(self, uid: str) -> None:
        """Drop the refusals of an agent: the apiserver accepted a pod of it, or the agent is gone."""
        self.refused.pop(uid, None)
        self.names_taken.pop(uid, None)

    def of(self, uid: str, spec_hash: str, now: float) -> PodRefused | None:
        """The refusal of the agent's present spec; None when there is none."""
        known = self.refused.get(uid)
        if known is None or known.spec_hash != spec_hash:
            return None
        return PodRefused(known.message, known.retry_at - now)
