"""A client that has every right and no manners: it edits what is not its own, and deletes what others need."""

import asyncio
import random
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from faults.apiserver import Api
from faults.observer import BESIDE
from support.async_api import JsonDict, Refused

MANAGED_BY: Final = "app.kubernetes.io/managed-by"
FOREIGN: Final = "rogue.example.com/mark"
# What the operator can tell anew from the spec and the pods, whatever a third party wrote over it.
RECOMPUTED: Final[JsonDict] = {
    "state": "Failed",
    "active": False,
    "role": "Nobody",
    "replicas": 55,
    "readyReplicas": 77,
    "selector": "rogue=true",
    "observedGeneration": 0,
    "effective": {"replicas": 9, "desiredState": "Running"},
    "conditions": [
        {
            "type": "Ready",
            "status": "False",
            "reason": "RogueClient",
            "message": "",
            "lastTransitionTime": "2020-01-01T00:00:00Z",
        }
    ],
}
# The same of a Supervisor.
TOLD_BY_SUPERVISORS: Final = ("state", "observedGeneration", "conditions")


@dataclass
class RogueClient:
    """Counts what it did: the operator's answer to it may cost about as many writes, and no more."""

    api: Api
    acts: int = 0
    marked: set[str] = field(default_factory=set)

    async def writes_status(self, plural: str, name: str, status: Any) -> None:
        """A merge patch of a status; None erases it."""
        await self._patch(plural, name, {"status": status}, "status")

    async def labels(self, plural: str, name: str, labels: JsonDict) -> None:
        """Sets labels; None takes one away."""
        await self._patch(plural, name, {"metadata": {"labels": labels}})

    async def disowns(self, plural: str, name: str) -> None:
        """Takes the owner references away."""
        await self._patch(plural, name, {"metadata": {"ownerReferences": None}})

    async def marks(self, plural: str, name: str) -> None:
        """Leaves a foreign annotation and a foreign label, which nobody else may touch."""
        mark = {FOREIGN: f"{self.acts}"}
        await self._patch(plural, name, {"metadata": {"annotations": mark, "labels": mark}})
        self.marked.add(f"{plural}/{name}")

    async def holds(self, name: str, held: bool) -> None:
        """Puts a finalizer on a pod, or takes it away."""
        await self._patch("pods", name, {"metadata": {"finalizers": ["rogue.example.com/hold"] if held else None}})

    async def writes_data(self, name: str, data: JsonDict) -> None:
        """Overwrites a ConfigMap's data."""
        await self._patch("configmaps", name, {"data": data})

    async def deletes(self, plural: str, name: str, **options: Any) -> None:
        """Deletes an object; `gracePeriodSeconds=0` by force."""
        self.acts += 1
        await self.api.delete(plural, name, **options)

    async def _patch(self, plural: str, name: str, body: JsonDict, sub: str = "") -> None:
        self.acts += 1
        await self.api.patch(plural, name, body, sub)

    async def at_work(self, seed: int, pause: float = 0.15) -> None:
        """Seeded mischief that leaves no lasting harm, until it is cancelled: foreign marks, and what can be recomputed."""
        chance = random.Random(seed)
        while True:
            with suppress(Refused):
                if chance.random() < 0.5:
                    await self._scribbles(chance)
                else:
                    await self._leaves_a_mark(chance)
            await asyncio.sleep(pause * chance.uniform(0.5, 1.5))

    async def _scribbles(self, chance: random.Random) -> None:
        plural, keys = chance.choice((("agents", tuple(RECOMPUTED)), ("supervisors", TOLD_BY_SUPERVISORS)))
        found, _ = await self.api.list(plural)
        if found:
            name = chance.choice(sorted(one["metadata"]["name"] for one in found))
            key = chance.choice(sorted(keys))
            await self.writes_status(plural, name, {key: RECOMPUTED[key]})

    async def _leaves_a_mark(self, chance: random.Random) -> None:
        plural = chance.choice(("agents", "pods", "configmaps", "orchestrationvariables", "supervisors"))
        found, _ = await self.api.list(plural)
        names = sorted(item["metadata"]["name"] for item in found if item["metadata"]["name"] not in BESIDE)
        if names:
            await self.marks(plural, chance.choice(names))
