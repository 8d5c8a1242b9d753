"""Decision → status, then effects in order, then Events; one status write per pass, none when nothing changed."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from mabeam.api.base import JsonDict, ObjectMeta
from mabeam.core.decision import AnyDecision, AnyStatus, Effect
from mabeam.core.snapshot import Key
from mabeam.shell.kube.client import Client, merge_patch
from mabeam.shell.kube.errors import ApiError
from mabeam.shell.kube.event_recorder import EventRecorder, Regarding
from mabeam.state.cache import AGENT, Cache, Change
from mabeam.state.parse_objects import owner_uid

log = logging.getLogger("mabeam.apply")

# What a POST of a pod may be answered when it is the pod's own fault; everything else is retried as the server's.
POD_REFUSALS: Final = frozenset({400, 403, 413, 422})


class PodCreateRefused(Exception):
    """The apiserver refused the pod; its own words."""


class NameTaken(Exception):
    """A pod of that name exists and belongs to someone else."""


@dataclass
class Applier:
    """Carries decisions out. What the apiserver answers goes into the cache at once: a pass reads its own writes.

    `ring` gets each change, and the key that need not be woken by it because its own pass foresaw exactly that.
    """

    client: Client
    cache: Cache
    recorder: EventRecorder
    on_change: Callable[[Change, Key | None], None]

    async def apply(
        self,
        kind: str,
        meta: ObjectMeta,
        before: AnyStatus,
        decision: AnyDecision,
    ) -> bool:
        """Whether the status was written. Raises ApiError, PodNotTaken or NameTaken with the rest left undone."""
        patch = {} if decision.status == before else merge_patch(before.to_wire(stored=True), decision.status.to_wire())
        written = bool(patch)
        # What dies during the pass stays dead, however late an answer about it is read.
        with self.cache.deleted_since() as dead:
            await self._write(kind, meta, before, decision, patch, dead)
        return written

    async def _write(
        self,
        kind: str,
        meta: ObjectMeta,
        before: AnyStatus,
        decision: AnyDecision,
        patch: JsonDict,
        dead: set[str],
    ) -> None:
        for effect in decision.effects_before_status:
            await self._do(effect, meta, dead)
        if patch:
            body = {"metadata": {"resourceVersion": meta.resource_version}, "status": patch}
            log.info("%s %s/%s: %s", kind, meta.namespace, meta.name, decision.status_reason)
            answer = await self.client.patch_status(kind, meta.namespace, meta.name, body)
            foreseen_by = None if decision.expects_follow_up else Key(kind, meta.namespace, meta.name)
            self._update_cache(kind, answer, dead, foreseen_by)
        # With the status, not after the effects: what fails below is tried again, but this is never decided again.
        if decision.events:
            self.recorder.record(Regarding(kind, meta.namespace, meta.name, meta.uid), decision.events)
        for effect in decision.effects:
            await self._do(effect, meta, dead)

    def _update_cache(self, kind: str, body: JsonDict, dead: set[str], foreseen_by: Key | None = None) -> None:
        if body["metadata"].get("uid") in dead:
            return
        change = self.cache.upsert(kind, body)
        if change is not None:
            self.on_change(change, foreseen_by)

    async def _do(self, effect: Effect, owner: ObjectMeta, dead: set[str]) -> None:
        log.info("%s %s %s/%s (%s)", effect.verb, effect.kind, effect.namespace, effect.name, effect.reason)
        match effect.verb:
            case "create":
                await self._create(effect, owner, dead)
            case "apply":
                guard = {"resourceVersion": effect.resource_version} if effect.resource_version else {}
                content: JsonDict = {key: effect.body[key] for key in ("data", "spec") if key in effect.body}
                body: JsonDict = {"metadata": guard | _labels(effect.body), **content}
                answer = await self.client.patch(effect.kind, effect.namespace, effect.name, body)
                self._update_cache(effect.kind, answer, dead)
            case "patch":
                await self._patch(effect, dead)
            case "delete":
                answer_or_none = await self.client.delete(
                    effect.kind, effect.namespace, effect.name, effect.uid, effect.grace_seconds
                )
                if answer_or_none is not None and answer_or_none.get("kind") == effect.kind:
                    self._update_cache(effect.kind, answer_or_none, dead)

    async def _patch(self, effect: Effect, dead: set[str]) -> None:
        try:
            if effect.subresource == "resize":
                answer = await self.client.resize(effect.namespace, effect.name, effect.body)
            else:
                answer = await self.client.patch(effect.kind, effect.namespace, effect.name, effect.body)
        except ApiError as error:
            if effect.subresource == "resize" and error.status in POD_REFUSALS:
                # No pass can make it right: the directive expires, and tells that it was not done.
                log.warning("%s/%s is not resized: %s", effect.namespace, effect.name, error.message)
                return
            if error.status != 404:  # a pod that is gone needs no annotation
                raise
        else:
            self._update_cache(effect.kind, answer, dead)

    async def _create(self, effect: Effect, owner: ObjectMeta, dead: set[str]) -> None:
        try:
            answer = await self.client.create(effect.kind, effect.namespace, effect.body)
        except ApiError as error:
            if error.status == 409 and error.reason == "AlreadyExists":
                existing = await self.client.get(effect.kind, effect.namespace, effect.name)
                kind = effect.body["metadata"]["ownerReferences"][0]["kind"]
                if existing is not None and owner_uid(existing, kind) == owner.uid:
                    # Our own: created by a pass that ended before the answer, or somebody else removed its labels.
                    self._update_cache(
                        effect.kind, await self.put_labels_back(effect.kind, existing, effect.body), dead
                    )
                    return
                raise NameTaken(effect.name) from None
            if effect.kind == "Pod" and error.status in POD_REFUSALS and not error.namespace_terminating:
                raise PodCreateRefused(error.message) from None
            raise
        # That a new pod exists is no news; what the scheduler and the kubelet make of it is, and their words wake the agent.
        new_pod = Key(AGENT, owner.namespace, owner.name) if effect.kind == "Pod" else None
        self._update_cache(effect.kind, answer, dead, new_pod)

    async def put_labels_back(self, kind: str, existing: JsonDict, made: JsonDict) -> JsonDict:
        """The object with the labels it was `made` with, by which alone it is found; other labels stay as they are."""
        meta, labels = existing["metadata"], made["metadata"].get("labels") or {}
        if labels.items() <= (meta.get("labels") or {}).items():
            return existing
        body = {"metadata": {"resourceVersion": meta["resourceVersion"], "labels": labels}}
        return await self.client.patch(kind, meta["namespace"], meta["name"], body)


def _labels(body: JsonDict) -> JsonDict:
    meta = body.get("metadata", {})
    found: JsonDict = {}
    for key in ("labels", "annotations"):
        if meta.get(key):
            found[key] = meta[key]
    return found
