"""Mark and sweep: a LIST now and then finds what the watches never told, above all deletions.

kopf never synthesises a deletion it missed, so a pod that went away while a watch was broken would be believed in for ever.
The LIST is answered from the apiserver's watch cache, in pages; it also fills the cache before the first decision.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import aiohttp

from mabeam.shell.kube.client import ApiError, Client
from mabeam.state.cache import WATCHED_KINDS, Cache, Change

log = logging.getLogger("mabeam.sweep")

# A LIST may be a moment ahead of the watch. A watch is silent when several sweeps in a row find changes and it told nothing.
SILENT_SWEEPS: Final = 3


@dataclass
class Relister:
    """Compares the cluster with the cache, tells the difference, and knows when a watch has gone silent."""

    client: Client
    cache: Cache
    on_change: Callable[[Change], None]
    namespaces: tuple[str, ...] = ()
    on_completed: Callable[[], None] = lambda: None
    synced: asyncio.Event = field(default_factory=asyncio.Event)
    missed_in_a_row: dict[str, int] = field(default_factory=lambda: dict.fromkeys(WATCHED_KINDS, 0))
    reported_kinds: set[str] = field(default_factory=set)
    versions: dict[tuple[str, str | None], str] = field(default_factory=dict)
    last_success: float = 0.0
    problem: str = "not listed yet"

    async def run(self, period_seconds: float) -> None:
        """Sweep at once and then every period; the first success sets `synced`."""
        while True:
            await self.list_until_success()
            self.synced.set()
            self.on_completed()
            await asyncio.sleep(period_seconds)

    async def list_until_success(self) -> None:
        """Return when one sweep has succeeded: everything is known as it was after the call, or newer."""
        while True:
            try:
                await self.relist_all()
            except (ApiError, aiohttp.ClientError, TimeoutError, OSError) as problem:
                self.problem = str(problem) or type(problem).__name__
                if isinstance(problem, ApiError) and problem.status == 404:
                    self.problem += " (are the CRDs installed?)"
                log.warning("the cluster could not be listed: %s", self.problem)
                await asyncio.sleep(2)
            else:
                self.last_success = asyncio.get_running_loop().time()
                return

    async def relist_all(self) -> None:
        """One comparison of every watched kind; what the watches missed is learned or forgotten here."""
        for kind in WATCHED_KINDS:
            missed = await self._relist_kind(kind)
            silent_kinds = missed and kind not in self.reported_kinds and self.synced.is_set()
            self.missed_in_a_row[kind] = self.missed_in_a_row[kind] + 1 if silent_kinds else 0
            self.reported_kinds.discard(kind)
            if missed and self.synced.is_set():
                log.info("the sweep found %d changes of %s before their watch told", missed, kind)

    def silent_kinds(self) -> list[str]:
        """The kinds whose watch told nothing new for several sweeps while the cluster changed."""
        return [kind for kind, count in self.missed_in_a_row.items() if count >= SILENT_SWEEPS]

    def scopes(self, kind: str) -> tuple[str | None, ...]:
        """The namespaces in which a kind is listed and watched; None is all of them."""
        return self.namespaces if self.namespaces and kind != "Node" else (None,)

    async def relist_scope(self, kind: str, scope: str | None) -> str:
        """The resourceVersion as of which everything of `kind` in `scope` is known now; raises what the LIST raises."""
        await self._relist_scope(kind, scope)
        return self.versions[kind, scope]

    async def _relist_kind(self, kind: str) -> int:
        return sum([await self._relist_scope(kind, scope) for scope in self.scopes(kind)])

    async def _relist_scope(self, kind: str, scope: str | None) -> int:
        known = self.cache.versions[kind]
        known_before = {where: version for where, version in known.items() if scope is None or where[0] == scope}
        seen: dict[tuple[str, str], str] = {}
        missed, as_of = 0, ""
        with self.cache.deleted_since() as dead:
            async for page in self.client.list_pages(kind, scope):
                as_of = as_of or str((page.get("metadata") or {}).get("resourceVersion") or "")
                for item in page.get("items") or ():
                    meta = item["metadata"]
                    seen[meta.get("namespace") or "", meta["name"]] = meta["uid"]
                    # All pages are as of the first one: what a watch has told to be gone since is still on the later ones.
                    if meta["uid"] not in dead:
                        missed += self._report(self.cache.upsert(kind, item))
        for where, version in known_before.items():
            # Only what was known before the LIST began and is unchanged since (a newer word may have come by watch), and
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
