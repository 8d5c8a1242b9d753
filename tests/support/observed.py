"""Snapshots for tests: made by the operator's own Observer, over a Cache that the reflector's parse functions fill.

`World`, `Tree` and `Team` keep their objects each in its own way and give them to `observer_of` at each look; none builds a
snapshot by hand, so a test sees what the operator would see.
"""

import marshal
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from mabeam.api.agent import Agent
from mabeam.api.base import JsonDict
from mabeam.core.reports.reading import UnreadableReport
from mabeam.core.reports.report import Report
from mabeam.core.snapshot import PodFacts, Progress
from mabeam.offline.world import note_missing_nodes
from mabeam.state.cache import STORES, Cache
from mabeam.state.observe import NoRefusals, Observer, RefusalLookup


@dataclass
class FixedReports:
    """The reports that a test gives: by pod name for the agents' passes, by agent name for the variables'."""

    pods: Mapping[str, Report] = field(default_factory=dict)
    agents: Mapping[str, Report] = field(default_factory=dict)
    progress: Mapping[str, Progress] = field(default_factory=dict)
    unread: Mapping[str, UnreadableReport] = field(default_factory=dict)

    def of_pods(self, pods: Iterable[PodFacts]) -> dict[str, Report]:
        """The report of each pod that has one, by pod name."""
        return {pod.name: self.pods[pod.name] for pod in pods if pod.name in self.pods}

    def progress_of(self, pods: Iterable[PodFacts]) -> dict[str, Progress]:
        """The progress of each pod that has one, by pod name."""
        return {pod.name: self.progress[pod.name] for pod in pods if pod.name in self.progress}

    def unreadable(self, pods: Iterable[PodFacts]) -> dict[str, UnreadableReport]:
        """Why each pod that cannot be read cannot, by pod name."""
        return {pod.name: self.unread[pod.name] for pod in pods if pod.name in self.unread}

    def of_agents(self, agents: Iterable[Agent]) -> dict[str, Report]:
        """The report of each agent that has one, by agent name."""
        names = [agent.metadata.name for agent in agents]
        return {name: self.agents[name] for name in names if name in self.agents}


def cache_of(*bodies: JsonDict) -> Cache:
    """A cache of these objects as they are now. Unlike the operator's it raises what a parse function raises."""
    cache = Cache()
    for body in bodies:
        kind, meta = body["kind"], body["metadata"]
        cache.put(kind, (meta.get("namespace", ""), meta["name"]), _parsed(kind, marshal.dumps(body, 2)))
    note_missing_nodes(cache)
    return cache


@lru_cache(maxsize=4096)
def _parsed(kind: str, body: bytes) -> Any:
    """The facts of a body, parsed once for all looks at it: most objects of a world stand still between two looks."""
    return STORES[kind].parse(marshal.loads(body), None)


def observer_of(
    *bodies: JsonDict,
    reports: FixedReports | None = None,
    refusals: RefusalLookup | None = None,
    **options: Any,
) -> Observer:
    """An observer of these objects; options are the Observer's. Without a node among them nodes are not observed."""
    cache = cache_of(*bodies)
    options.setdefault("nodes_observed", bool(cache.nodes))
    return Observer(cache, reports or FixedReports(), refusals or NoRefusals(), **options)


def node_body(name: str, *, cordoned: bool = False, taints: Iterable[str] = (), boot_id: str = "") -> JsonDict:
    """A node as the apiserver would hand it out."""
    spec = {"unschedulable": cordoned, "taints": [{"key": key, "effect": "NoExecute"} for key in taints]}
    status = {"nodeInfo": {"bootID": boot_id}}
    return {"kind": "Node", "metadata": {"name": name, "uid": f"uid-of-{name}"}, "spec": spec, "status": status}
