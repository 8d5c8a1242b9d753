"""The operator's process without sockets: its own cache, queue, observer, reconciler and applier over an apiserver in memory.

Time is virtual: it stands still but for `settle` and `advance`.
"""

import asyncio
from typing import Any, cast

from mabeam.settings import Settings
from mabeam.shell.kube.client import Client
from mabeam.shell.kube.server_time import ServerClock
from mabeam.shell.process import Process
from support.apiserver_in_memory import ApiserverInMemory
from support.builders import START
from support.observed import node_body

# `settle` lets so much time pass: retries and coalesced keys come to their end, and no resync hides a wake-up that was lost.
SETTLE_SECONDS = 5.0


class ShellInMemory:
    """A process that leads and has listed everything; passes are run one at a time, by the reconciler's own error policy.

    It is made inside a running event loop, whose time it sets.
    """

    def __init__(self, **settings: Any) -> None:
        self.moment = 1000.0
        asyncio.get_running_loop().time = lambda: self.moment  # type: ignore[method-assign]
        clock = ServerClock(wall=lambda: START.timestamp() + self.moment, monotonic=lambda: self.moment)
        self.api = ApiserverInMemory(clock=clock)
        self.process = Process(Settings(leader_election=False, **settings), cast(Client, self.api))
        self.api.on_event = self.process.router.route_event
        self.process.telemetry.lead()
        self.process.relister.synced.set()
        self.reconciler = self.process.make_reconciler()
        self.api.put(node_body("node1"))

    async def run_next(self) -> bool:
        """Run the pass of the next key that waits for a worker; whether there was one."""
        if not self.process.queue.depth():
            return False
        key = await self.process.queue.get()
        assert key is not None
        await self.reconciler.run_pass(key)
        return True

    async def drain(self, limit: int = 300) -> None:
        """Run passes until no key waits for a worker."""
        for _ in range(limit):
            if not await self.run_next():
                return
        raise AssertionError(f"keys still wait after {limit} passes")

    async def settle(self, seconds: float = SETTLE_SECONDS) -> None:
        """Let watch, workers and kubelet go on for so many seconds, or until none of them has anything to do."""
        end = self.moment + seconds
        for _ in range(200):
            self.api.deliver()
            await self.drain()
            if self.api.run_kubelet() or self.api.events:
                continue
            due = self.process.queue.next_due()
            if due is None or due > end:
                return
            self.advance(max(0.0, due - self.moment))
        raise AssertionError("the operator does not come to rest")

    def advance(self, seconds: float) -> None:
        """Let time pass: keys whose delay is over wait for a worker."""
        self.moment += seconds
        self.process.queue.add_due()
