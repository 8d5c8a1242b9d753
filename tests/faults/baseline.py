"""What Kubernetes' own controllers take for the same: a ReplicaSet, and how long its controller needs for one more pod."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from faults import reference_workload
from faults.arena import Arena
from faults.retrying_client import RetryingApi
from support.async_api import JsonDict

# Not the plan's own namespace: what is there is compared with the undisturbed run.
NAMESPACE: Final = "default"
TIMEOUT_SECONDS: Final = 120.0


@dataclass(frozen=True)
class ReplicaSet:
    """A ReplicaSet on fake nodes."""

    api: RetryingApi
    name: str

    async def answers(self, since: float) -> float:
        """Asks for a second replica; the seconds from `since` (monotonic) until its pod exists."""
        await self.api.patch("replicasets", self.name, {"spec": {"replicas": 2}})
        return await self.has_pods(2) - since

    async def has_pods(self, number: int) -> float:
        """The moment (monotonic) at which it has so many pods."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while True:
            pods, _ = await self.api.list("pods", f"faults.mabeam.dev/baseline={self.name}")
            if len(pods) >= number:
                return time.monotonic()
            assert time.monotonic() < deadline, f"the ReplicaSet has {len(pods)} pods, not {number}"
            await asyncio.sleep(0.05)


@asynccontextmanager
async def replica_set(arena: Arena) -> AsyncIterator[ReplicaSet]:
    """A ReplicaSet of one replica that runs; gone afterwards."""
    api = RetryingApi(arena.api.server, arena.api.session, NAMESPACE)
    made = ReplicaSet(api, arena.namespace)
    await api.create("replicasets", _body(arena.namespace))
    try:
        await made.has_pods(1)
        yield made
    finally:
        await api.delete("replicasets", made.name, propagationPolicy="Background")


def _body(name: str) -> JsonDict:
    labels = {"faults.mabeam.dev/baseline": name}
    spec = reference_workload.agent(name)["spec"]["template"]["spec"]
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {"name": name},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }
