"""LISTs of every watched kind, at the start and every period: they find changes, above all deletions, that no watch reported.

The apiserver answers them from its watch cache, in pages. The first LIST fills the cache before the first decision. Mark and
sweep: an object that was known before a LIST began, and that the LIST does not hold, was deleted.

With `watch.namespaces` each namespace is a scope of its own. One that the apiserver denies (deleted, and its Role too) is lost:
the others are listed and served as before, and it comes back with the first LIST that succeeds.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from mabeam.shell.kube.client import Client
from mabeam.shell.kube.errors import REQUEST_ERRORS, ApiError, error_text
from mabeam.shell.kube.json_members import ObjectIdentity
from mabeam.state.cache import NODE, WATCHED_KINDS, Cache, Change

log = logging.getLogger("mabeam.sweep")

Watched = tuple[str, str | None]  # a kind, and the namespace in which it is listed and watched; None: all of them

RETRY_SECONDS: Final = 2.0
# A LIST may be a moment ahead of the watch: a watch is silent when so many LISTs in a row found changes that it had not reported.
SILENT_SWEEPS: Final = 3


# After so many denied LISTs in a row the objects of a lost scope are forgotten: an apiserver that starts denies at first, too.
FORGET_AFTER_LISTS: Final = 3
# What the apiserver answers when a namespace's Role, or a kind, is gone.
DENIED: Final = frozenset({403, 404})


@dataclass(frozen=True, slots=True)
class LostScope:
    """A namespace that the apiserver does not let the operator list."""

    problem: str
    since: datetime
    lists: int = 1  # denied ones in a row


@dataclass
class Relister:
    """Updates the cache with what the cluster holds, and passes each difference to `on_change`."""

    client: Client
    cache: Cache
    on_change: Callable[[Change], None]
    namespaces: tuple[str, ...] = ()
    on_completed: Callable[[], None] = lambda: None  # called after each period's LISTs
    synced: asyncio.Event = field(default_factory=asyncio.Event)  # set once everything has been listed
    # (kind, scope) → LISTs in a row that found changes while the watch reported none
    missed_in_a_row: Counter[Watched] = field(default_factory=Counter)
    versions: dict[Watched, str] = field(default_factory=dict)  # (kind, scope) → version of the last LIST
    lost: dict[str, LostScope] = field(default_factory=dict)  # by namespace
    last_success: float = 0.0  # monotonic seconds
    problem: str = "not listed yet"
    _reported: set[Watched] = field(default_factory=set)  # whose watch has reported something since the last LIST

    async def run(self, period_seconds: float) -> None:
        """List everything at once and then every period; the first success sets `synced`."""
        while True:
            await self.list_until_success()
            self.synced.set()
            self.on_completed()
            await asyncio.sleep(period_seconds)

    async def list_until_success(self) -> None:
        """Return when every scope but the lost ones has been listed: the cache then is as the cluster was, or newer."""
        while True:
            try:
                await self.relist_all()
            except REQUEST_ERRORS as problem:
                self.problem = error_text(problem)
                if isinstance(problem, ApiError) and problem.status == 404:
                    self.problem += " (are the CRDs installed?)"
                log.warning("the cluster could not be listed: %s", self.problem)
                await asyncio.sleep(RETRY_SECONDS)
            else:
                self.last_success = asyncio.get_running_loop().time()
                return

    async def relist_all(self) -> None:
        """Compare every watched kind with the cache once; raises what a LIST raised, after the other scopes are done.

        A denied namespace is no failure while another one is served: then it is lost.
        """
        problems: list[Exception] = []
        denied: dict[str, ApiError] = {}
        scopes = (None, *self.namespaces)
        for scope in scopes:
            try:
                for kind in self._kinds_in(scope):
                    await self._relist_and_compare(kind, scope)
            except REQUEST_ERRORS as problem:
                if scope is not None and isinstance(problem, ApiError) and problem.status in DENIED:
                    denied[scope] = problem
                else:
                    problems.append(problem)
        if denied and len(denied) == len(self.namespaces):  # then it is the operator's own rights, and nobody is served
            problems += denied.values()
        if problems:
            raise problems[0]
        self._note_lost(denied)

    def _note_lost(self, denied: Mapping[str, ApiError]) -> None:
        """Tell which namespaces are lost or came back, once each, and forget what was known of one that stays lost."""
        for scope in sorted(self.lost.keys() - denied.keys()):
            log.info("namespace %s is served again", scope)
        lost: dict[str, LostScope] = {}
        for scope, problem in denied.items():
            known = self.lost.get(scope)
            if known is None:
                log.warning("namespace %s is not served until it can be listed again: %s", scope, problem)
                lost[scope] = LostScope(str(problem), self.client.clock.now())
            else:
                lost[scope] = replace(known, problem=str(problem), lists=known.lists + 1)
        self.lost = lost
        for scope in [scope for scope, one in lost.items() if one.lists == FORGET_AFTER_LISTS]:
            self._forget(scope)

    def _forget(self, scope: str) -> None:
        for kind in WATCHED_KINDS:
            for where in [where for where in self.cache.versions[kind] if where[0] == scope]:
                self._report(self.cache.remove(kind, where))

    async def _relist_and_compare(self, kind: str, scope: str | None) -> None:
        """LIST a kind in a scope, and note whether its watch was silent about what the LIST found."""
        missed = await self._relist_scope(kind, scope)
        silent = missed and (kind, scope) not in self._reported and self.synced.is_set()
        self.missed_in_a_row[kind, scope] = self.missed_in_a_row[kind, scope] + 1 if silent else 0
        self._reported.discard((kind, scope))
        if missed and self.synced.is_set():
            log.info("a LIST found %d changes of %s before the watch reported them", missed, kind)

    def silent_watches(self) -> list[Watched]:
        """The watches (kind, scope) that reported nothing during several LISTs in a row that found changes."""
        return [watched for watched, count in self.missed_in_a_row.items() if count >= SILENT_SWEEPS]

    def scopes(self, kind: str) -> tuple[str | None, ...]:
        """The namespaces in which a kind is listed and watched; None stands for all of them."""
        return self.namespaces if self.namespaces and kind != NODE else (None,)

    def _kinds_in(self, scope: str | None) -> tuple[str, ...]:
        return tuple(kind for kind in WATCHED_KINDS if scope in self.scopes(kind))

    def note_report(self, kind: str, namespace: str) -> None:
        """Note that the watch of a kind reported an object of that namespace: it is alive."""
        self._reported.add((kind, namespace if namespace in self.scopes(kind) else None))

    def is_news(self, kind: str, event: str, found: ObjectIdentity) -> bool:
        """Whether a watch event (ADDED, MODIFIED or DELETED) tells more than the cache holds; the watch counts as alive."""
        self.note_report(kind, found.namespace)
        known = self.cache.versions[kind].get((found.namespace, found.name))
        if known is None or event == "DELETED" or known.uid != found.uid:
            return True
        return not found.resource_version.isdigit() or int(found.resource_version) > known.resource_version

    async def relist_scope(self, kind: str, scope: str | None) -> str:
        """The resourceVersion of a LIST of `kind` in `scope`, with which the cache now agrees; raises what the LIST raises."""
        await self._relist_scope(kind, scope)
        return self.versions[kind, scope]

    async def _relist_scope(self, kind: str, scope: str | None) -> int:
        known = self.cache.versions[kind]
        known_before = {where: version for where, version in known.items() if scope is None or where[0] == scope}
        seen: dict[tuple[str, str], str] = {}
        missed, as_of = 0, ""
        with self.cache.deleted_since() as deleted:
            async for page in self.client.list_pages(kind, scope):
                as_of = as_of or page.version
                for found in page.unreadable:  # the object is there: the cache keeps its last readable state
                    seen[found.namespace, found.name] = found.uid
                for item in page.items:
                    meta = item["metadata"]
                    seen[meta.get("namespace") or "", meta["name"]] = meta["uid"]
                    # All pages are as of the first one: an object deleted since, by the watch, is still on the later ones.
                    if meta["uid"] not in deleted:
                        missed += self._report(self.cache.upsert(kind, item))
        for where, version in known_before.items():
            # Only what was known before the LIST began and is unchanged since (the watch may have reported a newer state), and
            # only if the LIST is no older than that knowledge: a replica of the apiserver may lag behind.
            stale = as_of.isdigit() and version.resource_version > int(as_of)
            if seen.get(where) != version.uid and known.get(where) == version and not stale:
                missed += self._report(self.cache.remove(kind, where, version.uid))
        self.versions[kind, scope] = as_of
        return missed

    def _report(self, change: Change | None) -> int:
        if change is None:
            return 0
        self.on_change(change)
        return 1
