"""Two replicas of the operator, each through a proxy of its own that leads into the arena's: who wrote what is seen apart."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from faults import invariants
from faults.arena import Arena, Replica
from faults.environment import RESYNC_SECONDS
from faults.proxy import Proxy
from support.operator_process import LEASE

NAMES: Final = ("one", "two")
READY_SECONDS: Final = 60.0


@dataclass(frozen=True)
class Pair:
    """The two, by their names, and their proxies."""

    arena: Arena
    lease_seconds: int
    replicas: dict[str, Replica]
    proxies: dict[str, Proxy]

    def other(self, name: str) -> str:
        """The one that is not this one."""
        return next(one for one in NAMES if one != name)

    def written(self, name: str) -> int:
        """How many writes a replica has asked for so far; Leases and Events are not counted."""
        return self.proxies[name].count

    async def holder(self) -> str:
        """Whom the Lease names; empty while there is none."""
        lease = await self.arena.api.find("leases", LEASE)
        return str(((lease or {}).get("spec") or {}).get("holderIdentity") or "")

    async def leader(self) -> str:
        """Whichever of the two leads, once one does."""
        return await self._until_holder(frozenset(NAMES), READY_SECONDS)

    async def takes_over(self, name: str, within: float) -> float:
        """The seconds until the Lease names this one; fails when it takes longer than that."""
        began = time.monotonic()
        await self._until_holder(frozenset({name}), within)
        return time.monotonic() - began

    async def _until_holder(self, wanted: frozenset[str], seconds: float) -> str:
        deadline = time.monotonic() + seconds
        while (found := await self.holder()) not in wanted:
            if time.monotonic() >= deadline:
                invariants.fail(self.arena, f"after {seconds:.1f} s '{found}' holds the Lease, not {sorted(wanted)}")
            await asyncio.sleep(0.1)
        return found


@asynccontextmanager
async def two_replicas(
    arena: Arena, lease_seconds: int, environments: Mapping[str, Mapping[str, str]] | None = None
) -> AsyncIterator[Pair]:
    """Two replicas from the start, started at the same time and both ready; chance makes one of them the leader."""
    lease, session = str(lease_seconds), arena.environment.session
    async with Proxy(arena.proxy.server, session) as first, Proxy(arena.proxy.server, session) as second:
        proxies = dict(zip(NAMES, (first, second), strict=True))
        started = await asyncio.gather(
            *(
                arena.start(
                    name,
                    through=proxies[name],
                    environment=(environments or {}).get(name),
                    resync_seconds=RESYNC_SECONDS,
                    lease_seconds=lease,
                )
                for name in NAMES
            )
        )
        pair = Pair(arena, lease_seconds, dict(zip(NAMES, started, strict=True)), proxies)
        await asyncio.gather(*(ready(replica) for replica in started))
        yield pair


async def ready(replica: Replica, seconds: float = READY_SECONDS) -> None:
    """Returns once the replica says that it is ready."""
    deadline = time.monotonic() + seconds
    while (await replica.ask("/readyz"))[0] != 200:
        assert time.monotonic() < deadline, f"{replica.identity} is not ready after {seconds:.0f} s"
        await asyncio.sleep(0.1)
