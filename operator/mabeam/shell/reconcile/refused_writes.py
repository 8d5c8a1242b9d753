"""Writes that the apiserver does not take: refused ones, and ones that are accepted and change nothing that is read back.

A refused ConfigMap or NetworkPolicy (a quota, its size, a name of another owner) stops no decision: it becomes a condition, and
is tried again later. A write without effect (an admission webhook takes it back, a field is pruned) would be made again in every
pass, for ever: from the third in a row on, the object's passes wait.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from mabeam.api.base import JsonDict
from mabeam.core.algorithms.backoff import capped_exponential
from mabeam.core.decision import Effect
from mabeam.core.snapshot import WriteRefused

log = logging.getLogger("mabeam.apply")

FIRST_RETRY_SECONDS: Final = 10.0
MAX_RETRY_SECONDS: Final = 120.0
# So many writes in a row may change nothing: somebody else may have written at the same moment.
TOLERATED: Final = 2
FIRST_WAIT_SECONDS: Final = 5.0
MAX_WAIT_SECONDS: Final = 300.0


class StoreRefused(Exception):
    """The apiserver refused a ConfigMap or a NetworkPolicy; the message is the apiserver's, or says who has the name."""


class WriteWithoutEffect(Exception):
    """A write was not made, because the last ones of the object changed nothing; `retry_after` in seconds."""

    def __init__(self, slot: str, retry_after: float) -> None:
        super().__init__(f"the last writes of {slot} changed nothing that is read back: something takes them back")
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class _Refused:
    message: str
    retry_at: float  # seconds of the loop's clock
    tries: int


@dataclass
class RefusedWrites:
    """The refused writes of each Agent and variable, by uid. In memory only: after a restart each is tried anew."""

    _by_uid: dict[str, dict[str, _Refused]] = field(default_factory=dict)  # uid → "kind name" → the refusal

    def record(
        self, uid: str, written: Iterable[Effect], failures: Iterable[tuple[Effect, Exception]], now: float
    ) -> bool:
        """Whether a refusal is new, worded anew, or over: then the next pass has something else to say."""
        known = self._by_uid.get(uid, {})
        found = {e.slot: str(problem) for e, problem in failures if isinstance(problem, StoreRefused)}
        tried = {effect.slot for effect in written if effect.stores}
        after = {slot: one for slot, one in known.items() if slot not in tried}
        for slot, message in found.items():
            tries = known[slot].tries + 1 if slot in known else 1
            delay = capped_exponential(tries - 1, FIRST_RETRY_SECONDS, MAX_RETRY_SECONDS)
            after[slot] = _Refused(message, now + delay, tries)
        if after:
            self._by_uid[uid] = after
        else:
            self._by_uid.pop(uid, None)
        changed = _messages(known) != _messages(after)
        if changed:
            for slot, message in found.items():
                log.warning("%s cannot be written: %s", slot, message)
        return changed

    def forget(self, uid: str) -> None:
        """Drop what is kept of an object that no longer exists."""
        self._by_uid.pop(uid, None)

    def of(self, uid: str, now: float) -> Mapping[str, WriteRefused]:
        """The object's refused writes, by `kind name`."""
        return {slot: WriteRefused(o.message, o.retry_at - now) for slot, o in self._by_uid.get(uid, {}).items()}


def _messages(refused: Mapping[str, _Refused]) -> dict[str, str]:
    return {slot: one.message for slot, one in refused.items()}


@dataclass(frozen=True, slots=True)
class _Lost:
    times: int
    until: float  # seconds of the loop's clock


@dataclass
class WritesWithoutEffect:
    """The objects whose last writes changed nothing; `count` gets the kind of each such write."""

    count: Callable[[str], None] = lambda kind: None
    _lost: dict[tuple[str, str, str], _Lost] = field(default_factory=dict)  # kind, namespace, name

    def check(self, kind: str, namespace: str, name: str, now: float) -> None:
        """Raise WriteWithoutEffect while the next write of the object has to wait."""
        lost = self._lost.get((kind, namespace, name))
        if lost is not None and lost.until > now:
            raise WriteWithoutEffect(f"{kind} {namespace}/{name}", lost.until - now)

    def record(self, kind: str, namespace: str, name: str, *, taken: bool, now: float) -> None:
        """Record whether a write is in what was read back."""
        key = (kind, namespace, name)
        if taken:
            self._lost.pop(key, None)
            return
        self.count(kind)
        times = self._lost[key].times + 1 if key in self._lost else 1
        excess = times - TOLERATED
        wait = capped_exponential(excess, FIRST_WAIT_SECONDS, MAX_WAIT_SECONDS) if excess >= 0 else 0.0
        self._lost[key] = _Lost(times, now + wait)
        if excess == 0:
            log.warning(
                "%s %s/%s is written again and again, and what is read back is something else: an admission webhook, or "
                "another writer, takes it back; its passes wait from now on",
                kind,
                namespace,
                name,
            )


def is_within(sent: Any, found: Any) -> bool:
    """Whether all that was sent is in what is read back; a null that was sent is not there."""
    if not isinstance(sent, dict):
        return bool(sent == found)
    if not isinstance(found, dict):
        return False
    return all((key not in found) if one is None else is_within(one, found.get(key)) for key, one in sent.items())


def content_of(effect: Effect) -> JsonDict:
    """What of a write must be read back: data or spec, labels and annotations."""
    meta = effect.body.get("metadata") or {}
    kept = {key: meta[key] for key in ("labels", "annotations") if meta.get(key)}
    content = {key: effect.body[key] for key in ("data", "spec") if key in effect.body and effect.kind != "Pod"}
    return content | ({"metadata": kept} if kept else {})
