"""LISTs of every watched kind, at the start and every period: they find changes, above all deletions, that no watch reported.

The apiserver answers them from its watch cache, in pages. The first LIST fills the cache before the first decision. Mark and
sweep: an object that was known before a LIST began, and that the LIST does not hold, was deleted.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from mabeam.shell.kube.client import Client
from mabeam.shell.kube.errors import REQUEST_ERRORS, ApiError, error_text
from mabeam.shell.kube.json_members import ObjectIdentity
from mabeam.state.cache import WATCHED_KINDS, Cache, Change

log = logging.getLogger("mabeam.sweep")

RETRY_SECONDS: Final = 2.0
# A LIST may be a moment ahead of the watch: a watch is silent when so many LISTs in a row found changes that it had not reported.
SILENT_SWEEPS: Final = 3


@dataclass
class Relister:
    """Updates the cache with what the cluster holds, and passes each difference to `on_change`."""

    client: Client
    cache: Cache
    on_change: Callable[[Change], None]
    namespaces: tuple[str, ...] = ()
    on_completed: Callable[[], None] = lambda: None  # called after each period's LISTs
    synced: asyncio.Event = field(default_factory=asyncio.Event)  # set once everything has been listed
    missed_in_a_row: dict[str, int] = field(default_factory=lambda: dict.fromkeys(WATCHED_KINDS, 0))
    reported_kinds: set[str] = field(
        default_factory=set
    )  # kinds whose watch has reported something since their last LIST
    versions: dict[tuple[str, str | None], str] = field(
        default_factory=dict
    )  # (kind, namespace) → version of the last LIST
    last_success: float = 0.0  # monotonic seconds
    problem: str = "not listed yet"

    async def run(self, period_seconds: float) -> None:
        """List everything at once and then every period; the first success sets `synced`."""
        while True:
            await self.list_until_success()
            self.synced.set()
            self.on_completed()
            await asyncio.sleep(period_seconds)

    async def list_until_success(self) -> None:
        """Return when everything has been listed: the cache then is as the cluster was after the call, or newer."""
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
        """Compare every watched kind with the cache once; raises what a LIST raises."""
        for kind in WATCHED_KINDS:
            missed = await self._relist_kind(kind)
            silent_kinds = missed and kind not in self.reported_kinds and self.synced.is_set()
            self.missed_in_a_row[kind] = self.missed_in_a_row[kind] + 1 if silent_kinds else 0
            self.reported_kinds.discard(kind)
            if missed and self.synced.is_set():
                log.info("a LIST found %d changes of %s before the watch reported them", missed, kind)

    def silent_kinds(self) -> list[str]:
        """The kinds whose watch reported nothing during several LISTs in a row that found changes."""
        return [kind for kind, count in self.missed_in_a_row.items() if count >= SILENT_SWEEPS]

    def scopes(self, kind: str) -> tuple[str | None, ...]:
        """The namespaces in which a kind is listed and watched; None stands for all of them."""
        return self.namespaces if self.namespaces and kind != "Node" else (None,)

    def is_news(self, kind: str, event: str, found: ObjectIdentity) -> bool:
        """Whether a watch event (ADDED, MODIFIED or DELETED) tells more than the cache holds; the watch counts as alive."""
        self.reported_kinds.add(kind)
        known = self.cache.versions[kind].get((found.namespace, found.name))
        if known is None or event == "DELETED" or known.uid != found.uid:
            return True
        return not found.resource_version.isdigit() or int(found.resource_version) > known.resource_version

    async def relist_scope(self, kind: str, scope: str | None) -> str:
        """The resourceVersion of a LIST of `kind` in `scope`, with which the cache now agrees; raises what the LIST raises."""
        await self._relist_scope(kind, scope)
        return self.versions[kind, scope]

    async def _relist_kind(self, kind: str) -> int:
        return sum([await self._relist_scope(kind, scope) for scope in self.scopes(kind)])

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
