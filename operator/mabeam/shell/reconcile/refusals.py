"""The pod creates that the apiserver refused, and when each of them is tried again."""

from dataclasses import dataclass, field, replace
from typing import Final

from mabeam.core.algorithms.backoff import capped_exponential
from mabeam.core.snapshot import PodRefused
from mabeam.core.supervision.refusal import is_pod_quota_used_up

FIRST_RETRY_SECONDS: Final = 5.0
# The server's own failures pass sooner than what somebody has to mend.
FIRST_SERVER_RETRY_SECONDS: Final = 1.0
# Most of what refuses a pod (a LimitRange, a webhook, a label of the namespace) is not watched: this late is a change noticed.
MAX_RETRY_SECONDS: Final = 30.0
# Every pod of the namespace changes what is used of its quota: the next try comes no sooner than so long after the last one.
MIN_RETRY_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Refusal:
    """One refused create."""

    namespace: str
    pod: str  # its name
    message: str  # the apiserver's
    spec_hash: str  # of the spec that the pod was made from
    asked_at: float  # seconds of the loop's clock, as the next
    retry_at: float
    tries: int = 1
    of_server: bool = False  # the server failed, and did not judge the pod


@dataclass
class Refusals:
    """The last refusal of each agent, by uid. In memory only: after a restart of the operator each create is tried once more."""

    refused: dict[str, Refusal] = field(default_factory=dict)
    names_taken: dict[str, str] = field(
        default_factory=dict
    )  # Agent uid → the pod's name, which another owner's pod has

    def record(
        self, uid: str, namespace: str, pod: str, message: str, *, spec_hash: str, now: float, of_server: bool = False
    ) -> None:
        """Record a refusal; each further one of the same spec delays the next attempt."""
        known = self.refused.get(uid)
        same = known is not None and (known.spec_hash, known.of_server) == (spec_hash, of_server)
        tries = known.tries + 1 if known is not None and same else 1
        first = FIRST_SERVER_RETRY_SECONDS if of_server else FIRST_RETRY_SECONDS
        retry_at = now + capped_exponential(tries - 1, first, MAX_RETRY_SECONDS)
        self.refused[uid] = Refusal(namespace, pod, message, spec_hash, now, retry_at, tries, of_server)

    def clear(self, uid: str) -> None:
        """Drop the refusals of an agent: the apiserver accepted a pod of it, none is wanted any more, or the agent is gone."""
        self.refused.pop(uid, None)
        self.names_taken.pop(uid, None)

    def retry_soon(self, namespace: str) -> dict[str, float]:
        """Agent uid → the loop's time at which its pod is tried again, of the namespace's agents: their quota has changed."""
        due = {}
        for uid, known in self.refused.items():
            if known.namespace == namespace:
                retry_at = min(known.retry_at, known.asked_at + MIN_RETRY_SECONDS)
                self.refused[uid] = replace(known, retry_at=retry_at)
                due[uid] = retry_at
        return due

    def of(self, uid: str, spec_hash: str, now: float) -> PodRefused | None:
        """The refusal of the agent's present spec; None when there is none, or the server has failed only once."""
        known = self.refused.get(uid)
        if known is None or known.spec_hash != spec_hash or (known.of_server and known.tries == 1):
            return None  # a single failure of the server is over before anybody could read of it
        return PodRefused(known.message, known.retry_at - now, known.pod, known.of_server)

    def by_pod_quota(self, namespace: str) -> frozenset[str]:
        """The uids of the namespace's agents whose pods are refused because of the number of pod objects in it."""
        # Almost always without an entry: it holds the agents whose pods are refused at this moment.
        found = ((uid, r) for uid, r in self.refused.items() if r.namespace == namespace)
        return frozenset(uid for uid, refusal in found if is_pod_quota_used_up(refusal.message))
