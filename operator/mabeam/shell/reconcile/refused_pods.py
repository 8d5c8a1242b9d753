"""The pod creates and resizes that the apiserver refused, and when each of them is tried again."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from mabeam.core.algorithms.backoff import capped_exponential
from mabeam.core.snapshot import PodRefused, ResizeRefused
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
    """The last refusal of each agent, by uid. In memory only: after a restart of the operator each write is tried once more."""

    refused: dict[str, Refusal] = field(default_factory=dict)
    names_taken: dict[str, str] = field(
        default_factory=dict
    )  # Agent uid → the pod's name, which another owner's pod has
    # (namespace, Agent uid) → pod name → the refusal of its last resize
    resizes: dict[tuple[str, str], dict[str, ResizeRefused]] = field(default_factory=dict)

    def record_resize(self, uid: str, namespace: str, pod: str, refused: ResizeRefused) -> None:
        """Record that the apiserver refused to resize an agent's pod."""
        self.resizes.setdefault((namespace, uid), {})[pod] = refused

    def forget_resizes(self, uid: str, namespace: str, pods: Collection[str]) -> None:
        """Drop the refused resizes of these pods of an agent: they were resized after all, or are gone."""
        known = self.resizes.pop((namespace, uid), {})
        if kept := {pod: refused for pod, refused in known.items() if pod not in pods}:
            self.resizes[namespace, uid] = kept

    def record(
        self,
        uid: str,
        namespace: str,
        pod: str,
        message: str,
        *,
        spec_hash: str,
        now: float,
        of_server: bool = False,
        allotted: bool = False,
    ) -> None:
        """Record a refusal; each further one of the same spec delays the next attempt.

        `allotted`: the pod was made with the amounts of an allotment; the next one, as its spec declares, is tried at once.
        """
        known = self.refused.get(uid)
        same = known is not None and (known.spec_hash, known.of_server) == (spec_hash, of_server)
        tries = known.tries + 1 if known is not None and same else 1
        first = FIRST_SERVER_RETRY_SECONDS if of_server else FIRST_RETRY_SECONDS
        retry_at = now if allotted else now + capped_exponential(tries - 1, first, MAX_RETRY_SECONDS)
        self.refused[uid] = Refusal(namespace, pod, message, spec_hash, now, retry_at, tries, of_server)

    def forget(self, uid: str) -> None:
        """Drop all refusals of an agent that is gone."""
        self.clear(uid)
        for namespace, owner in [key for key in self.resizes if key[1] == uid]:
            del self.resizes[namespace, owner]

    def clear(self, uid: str) -> None:
        """Drop the refusal of an agent's pod: the apiserver accepted one, or none is wanted any more."""
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
        for (space, uid), pods in self.resizes.items():
            if space == namespace:
                self.resizes[space, uid] = {pod: replace(known, is_retry_due=True) for pod, known in pods.items()}
                due.setdefault(uid, 0.0)
        return due

    def of_resizes(self, uid: str, namespace: str) -> Mapping[str, ResizeRefused]:
        """Pod name → the refusal of its last resize, of the agent's pods."""
        return self.resizes.get((namespace, uid), {})

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
