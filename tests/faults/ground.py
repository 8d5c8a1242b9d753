"""What all plans of a run share: the way to the apiserver, and the undisturbed runs that the others are measured by."""

import asyncio
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import aiohttp

from faults import oracle, reference
from faults.apiserver import Credentials
from faults.arena import arena
from faults.oracle import Undisturbed
from faults.reference import Life

# The same short periods in every plan, so that a repair by the sweep is seconds away; a few plans set others.
RESYNC_SECONDS: Final = "5"


@dataclass
class Ground:
    """The credentials and the session, and the undisturbed runs, each played once when first asked for."""

    credentials: Credentials
    session: aiohttp.ClientSession
    cluster: str
    folder: Path
    _undisturbed: dict[str, Undisturbed] = field(default_factory=dict)
    _playing: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def undisturbed(self, life: Life) -> Undisturbed:
        """The measure of all disturbed runs of a life."""
        async with self._playing:
            if life.name not in self._undisturbed:
                self._undisturbed[life.name] = await _play_undisturbed(self, life)
            return self._undisturbed[life.name]


async def _play_undisturbed(ground: Ground, life: Life) -> Undisturbed:
    async with arena(
        ground, f"undisturbed-{secrets.token_hex(3)}", 0, ground.folder / f"undisturbed-{life.name}"
    ) as own:
        await own.start(resync_seconds=RESYNC_SECONDS)
        await reference.drive(own, life.steps)
        if not await oracle.rest(own, oracle.QUIET_SECONDS, time.monotonic() + oracle.SETTLE_SECONDS):
            oracle.fail(own, "the undisturbed run does not come to rest")
        oracle.clean(own)
        if own.operator.exits:
            oracle.fail(own, f"the undisturbed operator ended by itself: {own.operator.exits}")
        return Undisturbed(
            life=life,
            end=oracle.end_of(own.witness, generations_vary=life.generations_vary),
            created=tuple(sorted(own.witness.created.elements())),
            writes=own.proxy.count,
            events=own.proxy.events,
            seconds=time.monotonic() - own.began,
            journal=tuple(f"{record.request} -> {record.status}" for record in own.proxy.writes),
        )
