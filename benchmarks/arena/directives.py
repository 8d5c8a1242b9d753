"""How a changed variable reaches every agent: its ConfigMap holds the value, its pod is annotated with that generation."""

import asyncio
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Self

from benchmarks.arena.api import Api, create, patch
from benchmarks.arena.arms import DIRECTED
from benchmarks.arena.pod_timeline import parse_pod_event
from support.async_api import JsonDict

PARAMETER: Final = "load"
_VARIABLES: Final = f"/apis/mabeam.dev/v1alpha1/namespaces/{DIRECTED.namespace}/orchestrationvariables"
_MAPS: Final = f"/api/v1/namespaces/{DIRECTED.namespace}/configmaps"
# The document is a JSON text within a JSON text: its quotes are escaped.
_VALUE: Final = re.compile(rb'\\"%s\\": ?([0-9.]+)' % PARAMETER.encode())
_DOCUMENT_GENERATION: Final = re.compile(rb'\\"generation\\": ?([0-9]+)')
_POD_GENERATION: Final = re.compile(rb'"mabeam\.dev/directives-generation":"([0-9]+)"')


def variable(value: float) -> JsonDict:
    """The one variable: it selects every agent of its namespace."""
    return {
        "apiVersion": "mabeam.dev/v1alpha1",
        "kind": "OrchestrationVariable",
        "metadata": {"name": PARAMETER},
        "spec": {
            "type": "Parameter",
            "agents": {"selector": {"matchLabels": {"team": "bench"}}},
            "value": value,
        },
    }


async def ensure_variable(api: Api) -> None:
    """The variable is there, whatever its value."""
    await api.ensure(create(_VARIABLES, variable(1)))


async def change(api: Api, value: float) -> None:
    """The variable's value is another one."""
    await api.send(patch(f"{_VARIABLES}/{PARAMETER}", {"spec": {"value": value}}))


async def current(api: Api) -> float:
    """The value that the spec has now."""
    found = await api.get(f"{_VARIABLES}/{PARAMETER}")
    return float(found["spec"]["value"])


@dataclass
class DirectiveTimeline:
    """When each agent had the value: the first moment at which both its ConfigMap and its pod were up to date."""

    api: Api
    value: float
    held: dict[str, tuple[int, float]] = field(default_factory=dict)  # agent → generation with the value, when
    annotated: dict[str, dict[int, float]] = field(default_factory=dict)  # agent → generation → when
    _tasks: "list[asyncio.Task[None]]" = field(default_factory=list)

    async def __aenter__(self) -> Self:
        for path, note in ((_MAPS, self.note_map), (DIRECTED.pods, self.note_pod)):
            version = await self.api.version(path)
            self._tasks.append(asyncio.create_task(self._read(path, version, note)))
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _read(self, path: str, version: str, note: Callable[[bytes, float], None]) -> None:
        async for line in self.api.watch(path, version):
            note(line, time.monotonic())

    def note_map(self, line: bytes, now: float) -> None:
        """Write down a ConfigMap that holds the value."""
        value, generation = _VALUE.search(line), _DOCUMENT_GENERATION.search(line)
        if value and generation and float(value[1]) == self.value:
            self.held.setdefault(parse_pod_event(line).owner, (int(generation[1]), now))

    def note_pod(self, line: bytes, now: float) -> None:
        """Write down a pod's generation."""
        generation = _POD_GENERATION.search(line)
        if generation:
            self.annotated.setdefault(parse_pod_event(line).owner, {}).setdefault(int(generation[1]), now)

    def delivered(self) -> dict[str, float]:
        """The agents that have the value → since when."""
        found = {}
        for agent, (generation, when) in self.held.items():
            annotated = self.annotated.get(agent, {}).get(generation)
            if annotated is not None:
                found[agent] = max(when, annotated)
        return found

    async def until_delivered(self, agents: int, deadline: float) -> float:
        """When the last of so many agents had the value; raises TimeoutError with the count after so many seconds."""
        end = time.monotonic() + deadline
        while True:
            for task in self._tasks:
                if task.done():
                    await task
            # Looking through all of them is not free: only when there are enough of both.
            if (
                len(self.held) >= agents
                and len(self.annotated) >= agents
                and len(delivered := self.delivered()) >= agents
            ):
                return max(delivered.values())
            if time.monotonic() > end:
                raise TimeoutError(
                    f"not within {deadline:.0f} s: {len(self.delivered())} of {agents} agents have the value"
                )
            await asyncio.sleep(0.02)
