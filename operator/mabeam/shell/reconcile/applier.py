"""The writes of a decision: the status first, then Events, then the other effects in order. A pass writes one status at most.

A status that cannot be written stops the pass: nothing may be done of which the intent is not stored. An effect that fails stops
only those that depend on it; the failure is raised when the others are done.
"""

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from mabeam.api.base import JsonDict, ObjectMeta
from mabeam.core.decision import AnyDecision, AnyStatus, Effect
from mabeam.core.pods.resources import has_resources
from mabeam.core.snapshot import Key, ResizeRefused
from mabeam.shell.kube.client import REQUEST_TIMEOUT, Client
from mabeam.shell.kube.errors import ApiError, NotLeading, error_text
from mabeam.shell.kube.event_recorder import EventRecorder, Regarding
from mabeam.shell.reconcile.refused_writes import (
    StoreRefused,
    WritesWithoutEffect,
    WriteWithoutEffect,
    content_of,
    is_within,
)
from mabeam.state.cache import AGENT, Cache, Change
from mabeam.state.parse_objects import owner_uid
from mabeam.state.parse_status import StoredStatus
from mabeam.state.status_patch import status_patch, without_unknown

log = logging.getLogger("mabeam.apply")

# The HTTP statuses by which the apiserver refuses a pod for what it contains; any other failure is the server's, and is retried.
POD_REFUSALS: Final = frozenset({400, 403, 413, 422})
# Once the failed effects of a pass have taken so many seconds, the rest waits for the next one: other keys need the worker.
MAX_FAILING_SECONDS: Final = 5.0
# The HTTP status of an object that its CRD does not allow.
INVALID: Final = 422

_NO_ANSWER: Final = f"no answer within {REQUEST_TIMEOUT.total:.0f} s: it may wait for an admission webhook"


class PodCreateRefused(Exception):
    """The apiserver did not create the pod; the message is the apiserver's."""

    def __init__(self, message: str, pod: str, *, of_server: bool = False) -> None:
        super().__init__(message)
        self.pod = pod  # its name
        self.of_server = of_server  # the server failed, or something that it asks: not the fault of the pod


class PodResizeRefused(Exception):
    """The apiserver did not give the pod the amounts; the message is the apiserver's."""


class NameTaken(Exception):
    """A pod of that name exists and has another owner; the message is the name."""


Failures = tuple[tuple[Effect, Exception], ...]


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of a decision: whether its status was written, and which effects after it failed, and how."""

    status_written: bool
    failures: Failures = ()

    def refused_resizes(self) -> dict[str, ResizeRefused]:
        """Pod name → the refusal, of the resizes that the apiserver did not make."""
        found = ((effect, problem) for effect, problem in self.failures if isinstance(problem, PodResizeRefused))
        return {
            effect.name: ResizeRefused(effect.body["spec"]["containers"][0]["resources"], str(problem))
            for effect, problem in found
        }

    def raise_failure(self) -> None:
        """Raise the failure that says most about the next pass, and log the others; return when there is none."""
        # The next pass decides about refused resizes. Refused ConfigMaps and NetworkPolicies become a condition, and are tried
        # again at their own time.
        failures = [failure for failure in self.failures if not isinstance(failure[1], StoreRefused | PodResizeRefused)]
        ranked = sorted(failures, key=lambda failure: _rank(failure[1]))
        for effect, problem in ranked[1:]:
            log.warning("%s %s/%s failed as well: %s", effect.verb, effect.namespace, effect.name, error_text(problem))
        if ranked:
            raise ranked[0][1]


def _rank(problem: Exception) -> int:
    """A refusal becomes a part of the status, a taken name is reported, and a conflict needs a look; the rest is tried again."""
    match problem:
        case PodCreateRefused():
            return 0
        case NameTaken():
            return 1
        case ApiError(status=409):
            return 2
        case _:
            return 3


@dataclass
class Applier:
    """Makes the writes of decisions. The answers go into the cache at once, so that the next pass sees its own writes."""

    client: Client
    cache: Cache
    recorder: EventRecorder
    # Called with each change of the cache, and with the key whose own pass made exactly that change: it need not look again.
    on_change: Callable[[Change, Key | None], None]
    without_effect: WritesWithoutEffect = field(default_factory=WritesWithoutEffect)

    async def apply(
        self,
        kind: str,
        meta: ObjectMeta,
        before: AnyStatus,
        decision: AnyDecision,
    ) -> Applied:
        """What was written. Raises ApiError, NameTaken or NotLeading when the status, or what precedes it, could not be."""
        stored = self.cache.stored_status(Key(kind, meta.namespace, meta.name))
        patch = status_patch(stored, before, decision.status)
        # An object that is deleted during the pass stays deleted, however late an answer with it is read.
        with self.cache.deleted_since() as deleted:
            failures = await self._write_status(kind, meta, decision, patch, stored, deleted)
            failures += await self._apply_independent(decision.effects, meta, deleted)
        return Applied(bool(patch), failures)

    async def _write_status(
        self,
        kind: str,
        meta: ObjectMeta,
        decision: AnyDecision,
        patch: JsonDict,
        stored: StoredStatus | None,
        deleted: set[str],
    ) -> Failures:
        """The records that could not be written. Writes them, the status, and the Events."""
        failures = await self._keep_records(decision.effects_before_status, meta, deleted)
        if patch:
            self.without_effect.check(kind, meta.namespace, meta.name, asyncio.get_running_loop().time())
            log.info("%s %s/%s: %s", kind, meta.namespace, meta.name, decision.status_reason)
            answer = await self._patch_status(kind, meta, patch, stored, decision.status)
            foreseen_by = None if decision.expects_follow_up else Key(kind, meta.namespace, meta.name)
            self.take_in(kind, answer, deleted, foreseen_by)
            self._check_status(Key(kind, meta.namespace, meta.name), decision.status)
        # With the status and before the effects: an effect that fails is tried again, but these Events are never decided again.
        if decision.events:
            self.recorder.record(Regarding(kind, meta.namespace, meta.name, meta.uid), decision.events)
        return failures

    async def _keep_records(self, effects: tuple[Effect, ...], owner: ObjectMeta, deleted: set[str]) -> Failures:
        """The records that were refused: the decision they are about is made all the same. Raises any other failure."""
        failures: list[tuple[Effect, Exception]] = []
        for effect in effects:
            try:
                await self._apply_effect(effect, owner, deleted)
            except (StoreRefused, WriteWithoutEffect) as problem:
                failures.append((effect, problem))
        return tuple(failures)

    def _check_status(self, key: Key, decided: AnyStatus) -> None:
        """Remember whether the status that was read back is the one that was decided."""
        if (key.namespace, key.name) not in self.cache.versions[key.kind]:
            return  # deleted meanwhile
        read = self.cache.status_of(key)
        taken = read == decided or read.to_wire() == decided.to_wire()
        self.without_effect.record(*key, taken=taken, now=asyncio.get_running_loop().time())

    async def _patch_status(
        self, kind: str, meta: ObjectMeta, patch: JsonDict, stored: StoredStatus | None, status: AnyStatus
    ) -> JsonDict:
        guard = {"metadata": {"resourceVersion": meta.resource_version}}
        try:
            return await self.client.patch_status(kind, meta.namespace, meta.name, guard | {"status": patch})
        except ApiError as error:
            if stored is None or error.status != INVALID:
                raise
            # The installed CRD is older than who wrote the status: what it does not allow cannot be kept.
            log.warning("%s %s/%s: unknown parts of the status are dropped: %s", kind, meta.namespace, meta.name, error)
            whole = without_unknown(stored, status)
            return await self.client.patch_status(kind, meta.namespace, meta.name, guard | {"status": whole})

    async def _apply_independent(self, effects: tuple[Effect, ...], owner: ObjectMeta, deleted: set[str]) -> Failures:
        """The effects that failed; those that depend on one of them were not tried."""
        clock = asyncio.get_running_loop().time
        failures: list[tuple[Effect, Exception]] = []
        seconds = 0.0
        for effect in effects:
            if seconds > MAX_FAILING_SECONDS or _is_blocked(effect, failures):
                continue
            started = clock()
            try:
                await self._apply_effect(effect, owner, deleted)
            except NotLeading:
                raise  # no further write would be made
            except Exception as problem:  # whatever it is, the others do not depend on it
                failures.append((effect, problem))
                seconds += clock() - started
        return tuple(failures)

    def take_in(self, kind: str, body: JsonDict, deleted: set[str], foreseen_by: Key | None = None) -> None:
        """Put an answer of the apiserver into the cache and wake whom a watch event would; `deleted` since it was asked for."""
        if body["metadata"].get("uid") in deleted:
            return
        change = self.cache.upsert(kind, body)
        if change is not None:
            self.on_change(change, foreseen_by)

    async def _apply_effect(self, effect: Effect, owner: ObjectMeta, deleted: set[str]) -> None:
        now = asyncio.get_running_loop().time()
        if effect.verb in ("apply", "patch"):
            self.without_effect.check(effect.kind, effect.namespace, effect.name, now)
        log.info("%s %s %s/%s (%s)", effect.verb, effect.kind, effect.namespace, effect.name, effect.reason)
        match effect.verb:
            case "create":
                await self._create(effect, owner, deleted)
            case "apply":
                content = content_of(effect)
                guard = {"resourceVersion": effect.resource_version} if effect.resource_version else {}
                body: JsonDict = {**content, "metadata": guard | content.get("metadata", {})}
                try:
                    answer = await self.client.patch(effect.kind, effect.namespace, effect.name, body)
                except ApiError as error:
                    raise _store_refused(effect, error) or error from None
                self._take_answer(effect, answer, deleted)
            case "patch":
                await self._patch(effect, deleted)
            case "adopt":
                await self._adopt(effect, owner, deleted)
            case "delete":
                answer_or_none = await self.client.delete(
                    effect.kind, effect.namespace, effect.name, effect.uid, effect.grace_seconds
                )
                if answer_or_none is not None and answer_or_none.get("kind") == effect.kind:
                    self.take_in(effect.kind, answer_or_none, deleted)

    async def _patch(self, effect: Effect, deleted: set[str]) -> None:
        try:
            if effect.subresource == "resize":
                answer = await self.client.resize(effect.namespace, effect.name, effect.body)
            else:
                answer = await self.client.patch(effect.kind, effect.namespace, effect.name, effect.body)
        except ApiError as error:
            if effect.subresource == "resize" and error.status in POD_REFUSALS and not error.of_server:
                raise PodResizeRefused(error.message) from None
            if error.status != 404:  # a pod that is gone needs no annotation
                raise
        else:
            self._take_answer(effect, answer, deleted)
            if effect.subresource == "resize" and (wrong := _other_amounts(effect.body, answer)) is not None:
                raise PodResizeRefused(wrong)

    def _take_answer(self, effect: Effect, answer: JsonDict, deleted: set[str]) -> None:
        """Put the answer to a write into the cache, and remember whether it holds what was sent."""
        taken = effect.subresource is not None or is_within(content_of(effect), answer)
        now = asyncio.get_running_loop().time()
        self.without_effect.record(effect.kind, effect.namespace, effect.name, taken=taken, now=now)
        self.take_in(effect.kind, answer, deleted)

    async def _adopt(self, effect: Effect, owner: ObjectMeta, deleted: set[str]) -> None:
        """Make the owner the object's controller, unless the owner is being deleted: that may be what orphaned the object."""
        kind = effect.body["metadata"]["ownerReferences"][0]["kind"]
        seen = await self.client.get(kind, owner.namespace, owner.name)
        if seen is None or seen["metadata"]["uid"] != owner.uid or seen["metadata"].get("deletionTimestamp"):
            return
        try:
            answer = await self.client.adopt(effect.kind, effect.namespace, effect.name, effect.body)
        except ApiError as error:
            if error.status not in (404, 409):  # it is gone, or its name has another object
                raise
        else:
            self.take_in(effect.kind, answer, deleted)

    async def _create(self, effect: Effect, owner: ObjectMeta, deleted: set[str]) -> None:
        try:
            answer = await self.client.create(effect.kind, effect.namespace, effect.body)
        except ApiError as error:
            if error.status == 409 and error.reason == "AlreadyExists":
                existing = await self.client.get(effect.kind, effect.namespace, effect.name)
                kind = effect.body["metadata"]["ownerReferences"][0]["kind"]
                if existing is not None and owner_uid(existing, kind) == owner.uid:
                    # Our own: created by a pass that ended before the answer, or somebody else removed its labels.
                    self.take_in(effect.kind, await self.put_labels_back(effect.kind, existing, effect.body), deleted)
                    return
                if effect.kind == "Pod":
                    raise NameTaken(effect.name) from None
                raise StoreRefused(f"{effect.slot} has another owner; delete or rename it") from None
            refuses = error.status in POD_REFUSALS or error.of_server
            if effect.kind == "Pod" and refuses and not error.namespace_terminating:
                raise PodCreateRefused(error.message, effect.name, of_server=error.of_server) from None
            raise _store_refused(effect, error) or error from None
        except TimeoutError:
            if effect.kind != "Pod":
                raise
            raise PodCreateRefused(_NO_ANSWER, effect.name, of_server=True) from None
        # The agent need not look at its new pod: the next status that the scheduler or the kubelet writes enqueues it.
        new_pod = Key(AGENT, owner.namespace, owner.name) if effect.kind == "Pod" else None
        self.take_in(effect.kind, answer, deleted, new_pod)

    async def put_labels_back(self, kind: str, existing: JsonDict, made: JsonDict) -> JsonDict:
        """The object with the labels that the operator gave it, by which alone it is found; other labels stay as they are."""
        meta, labels = existing["metadata"], made["metadata"].get("labels") or {}
        if labels.items() <= (meta.get("labels") or {}).items():
            return existing
        body = {"metadata": {"resourceVersion": meta["resourceVersion"], "labels": labels}}
        return await self.client.patch(kind, meta["namespace"], meta["name"], body)


# The HTTP statuses by which the apiserver refuses an object for its content, its size or a quota; and what etcd says of its size.
STORE_REFUSALS: Final = POD_REFUSALS
TOO_LARGE: Final = "request is too large"


def _store_refused(effect: Effect, error: ApiError) -> StoreRefused | None:
    """The refusal of a ConfigMap or NetworkPolicy that a second try would meet as well; None for other failures."""
    final = error.status in STORE_REFUSALS or TOO_LARGE in error.message
    if not effect.stores or not final or error.namespace_terminating:
        return None
    return StoreRefused(f"{effect.slot} is refused by the API server: {error.message}")


def _is_blocked(effect: Effect, failures: list[tuple[Effect, Exception]]) -> bool:
    """Whether the effect depends on one that failed: on a ConfigMap that it announces, or on the consent to a pod like it."""
    if effect.needs_config_maps and any(failed.kind == "ConfigMap" for failed, _ in failures):
        return True
    # The pods of an agent are alike but for their names: who refused one refuses the others. A server that failed may not.
    is_create = (effect.verb, effect.kind) == ("create", "Pod")
    return is_create and any(isinstance(p, PodCreateRefused) and not p.of_server for _, p in failures)


def _other_amounts(asked: JsonDict, answer: JsonDict) -> str | None:
    """Why a resize that was accepted is none: an admission webhook wrote other amounts. None: the pod has what was asked for."""
    stored = {c.get("name"): c.get("resources") for c in (answer.get("spec") or {}).get("containers") or ()}
    for container in asked["spec"]["containers"]:
        found = stored.get(container["name"])
        if found is not None and not has_resources(found, container["resources"]):
            return (
                f"the apiserver stored other amounts than were asked for (an admission webhook?): {json.dumps(found)}"
            )
    return None
