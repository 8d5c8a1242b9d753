"""What all plans of a run share: the way to the apiserver, and the undisturbed runs that the others are measured by."""

import asyncio
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import aiohttp

from faults import invariants, reference_workload
from faults.arena import arena
from faults.invariants import Undisturbed
from faults.reference_workload import Workload
from support.async_api import Credentials

# The same short periods in every plan, so that a repair by the sweep is seconds away; a few plans set others.
RESYNC_SECONDS: Final = "5"


@dataclass
class Environment:
    """The credentials and the session, and the undisturbed runs, each played once when first asked for."""

    credentials: Credentials
    session: aiohttp.ClientSession
    cluster: str
    folder: Path
    _undisturbed: dict[str, Undisturbed] = field(default_factory=dict)
    _playing: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def undisturbed(self, workload: Workload) -> Undisturbed:
        """The measure of all disturbed runs of a workload."""
        async with self._playing:
            if workload.name not in self._undisturbed:
                self._undisturbed[workload.name] = await _play_undisturbed(self, workload)
            return self._undisturbed[workload.name]


async def _play_undisturbed(environment: Environment, workload: Workload) -> Undisturbed:
    async with arena(
        environment, f"undisturbed-{secrets.token_hex(3)}", 0, environment.folder / f"undisturbed-{workload.name}"
    ) as own:
        await own.start(resync_seconds=RESYNC_SECONDS)
        await reference_workload.drive(own, workload.steps)
        if not await invariants.rest(own, invariants.QUIET_SECONDS, time.monotonic() + invariants.SETTLE_SECONDS):
            invariants.fail(own, "the undisturbed run does not come to rest")
        invariants.clean(own)
        if own.operator.exits:
            invariants.fail(own, f"the undisturbed operator ended by itself: {own.operator.exits}")
        return Undisturbed(
            workload=workload,
            end=invariants.end_of(own.observer, generations_vary=workload.generations_vary),
            created=tuple(sorted(own.observer.created.elements())),
            writes=own.proxy.count,
            events=own.proxy.events,
            seconds=time.monotonic() - own.began,
            journal=tuple(f"{record.request} -> {record.status}" for record in own.proxy.writes),
        )
