"""What all plans of a run share: the way to the apiserver, and the undisturbed run that the others are measured by."""

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

# The same short periods in every plan, so that a repair by the sweep is seconds away; a few plans set others.
RESYNC_SECONDS: Final = "5"


@dataclass
class Ground:
    """The credentials and the session, and the undisturbed run, played once when first asked for."""

    credentials: Credentials
    session: aiohttp.ClientSession
    cluster: str
    folder: Path
    _undisturbed: Undisturbed | None = None
    _playing: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def undisturbed(self) -> Undisturbed:
        """The measure of all disturbed runs."""
        async with self._playing:
            if self._undisturbed is None:
                self._undisturbed = await _play_undisturbed(self)
            return self._undisturbed


async def _play_undisturbed(ground: Ground) -> Undisturbed:
    async with arena(ground, f"undisturbed-{secrets.token_hex(3)}", 0, ground.folder / "undisturbed") as own:
        await own.start(resync_seconds=RESYNC_SECONDS)
        await reference.drive(own)
        if not await oracle.rest(own, oracle.QUIET_SECONDS, time.monotonic() + oracle.SETTLE_SECONDS):
            oracle.fail(own, "the undisturbed run does not come to rest")
        oracle.clean(own)
        if own.operator.exits:
            oracle.fail(own, f"the undisturbed operator ended by itself: {own.operator.exits}")
        return Undisturbed(
            end=oracle.end_of(own.witness),
            created=tuple(sorted(own.witness.created.elements())),
            writes=own.proxy.count,
            events=own.proxy.events,
            seconds=time.monotonic() - own.began,
            journal=tuple(f"{record.request} -> {record.status}" for record in own.proxy.writes),
        )
