"""The way of every event: an object's body → the cache → the keys that look again → the work queue.

Watches, LISTs, answers to the operator's own writes and agents' reports all come in here, and nothing else adds keys for them.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from mabeam.api.base import JsonDict
from mabeam.core.snapshot import Key
from mabeam.shell.kube.client import Client
from mabeam.shell.reconcile.queue import WorkQueue
from mabeam.shell.reconcile.refused_pods import Refusals
from mabeam.shell.reconcile.refused_writes import RefusedWrites
from mabeam.shell.telemetry.metrics import Telemetry
from mabeam.state import wakeups
from mabeam.state.cache import AGENT, RESOURCE_QUOTA, VARIABLE, Cache, Change, SharedInput
from mabeam.state.parse_objects import ParsedAgent, ParsedSupervisor, ParsedVariable

# Reports of several agents of one variable arrive within so many seconds of each other, and then cost it one pass.
REPORT_COALESCE_SECONDS: Final = 0.05


@dataclass
class EventRouter:
    """Updates the cache and enqueues the keys that a change concerns; until this process leads, nothing is enqueued."""

    cache: Cache
    queue: WorkQueue
    client: Client
    refusals: Refusals
    telemetry: Telemetry
    forget_reports: Callable[[str], None]  # gets the uid of an Agent that is gone
    note_report: Callable[[str, str], None] = lambda kind, namespace: None  # called with what a watch reported on
    refused_writes: RefusedWrites = field(default_factory=RefusedWrites)

    def route_event(self, kind: str, event: str | None, body: JsonDict) -> None:
        """Take in a watch event: ADDED, MODIFIED or DELETED."""
        meta = body["metadata"]
        where = (meta.get("namespace") or "", meta["name"])
        self.note_report(kind, where[0])
        gone = event == "DELETED"
        change = self.cache.remove(kind, where, meta.get("uid")) if gone else self.cache.upsert(kind, body)
        if change is not None:
            self.route_change(change)

    def route_change(self, change: Change, foreseen_by: Key | None = None) -> None:
        """Enqueue the keys that a change of the cache concerns; not `foreseen_by`, the pass whose own write made the change."""
        was, now = _uid_of(change.before), _uid_of(change.after)
        if now is not None and now != was:
            self.client.accepts_again(change.namespaced_name[0])
        if change.kind == AGENT and was is not None and now != was:
            self.forget_reports(was)
            self.refusals.forget(was)
        if was is not None and now != was:
            self.refused_writes.forget(was)
        if not self.telemetry.leads:
            return  # no worker runs yet; when one does, every key is enqueued
        for key, delay in wakeups.affected_keys(change, self.cache):
            if key != foreseen_by:
                self.queue.add_after(key, delay)
        if change.kind == RESOURCE_QUOTA:
            self._retry_refused(change.namespaced_name[0])

    def _retry_refused(self, namespace: str) -> None:
        """Have the refused pods of a namespace created soon: its quota, or what is used of it, has changed."""
        due = self.refusals.retry_soon(namespace)
        if not due:
            return
        now = asyncio.get_running_loop().time()
        for name in self.cache.agents_in.get(namespace, ()):
            uid = self.cache.agents[namespace, name].agent.metadata.uid
            if uid in due:
                self.queue.add_after(Key(AGENT, namespace, name), max(0.0, due[uid] - now))

    def route_report(self, namespace: str, agent: str, acknowledged: bool, changed: bool) -> None:
        """Enqueue the agent when its report is about its directives, and its variables when what it reports for them changed."""
        if acknowledged:
            self.queue.add(Key(AGENT, namespace, agent))
        if changed:
            self._enqueue_variables(namespace, agent, REPORT_COALESCE_SECONDS, lambda type_: True)

    def route_performance(self, namespace: str, agent: str) -> None:
        """Enqueue the variables that select or judge the agent by its performance, once for all of their agents."""
        self._enqueue_variables(namespace, agent, wakeups.COALESCE_SECONDS, lambda type_: type_ in wakeups.MEASURING)

    def route_load(self) -> None:
        """Enqueue the variables that depend on the system's load: it changed."""
        for key, delay in wakeups.variables_sharing(SharedInput.LOAD, self.cache):
            self.queue.add_after(key, delay)

    def _enqueue_variables(self, namespace: str, agent: str, delay: float, concerns: Callable[[object], bool]) -> None:
        parsed = self.cache.agents.get((namespace, agent))
        for variable in self.cache.variables_of(parsed.agent) if parsed is not None else ():
            if concerns(variable.spec.type):
                self.queue.add_after(Key(VARIABLE, namespace, variable.metadata.name), delay)

    def enqueue_all(self, over_seconds: float = 0.0) -> int:
        """Enqueue every key, spread over so many seconds; returns how many there are."""
        keys = self.cache.all_keys()
        for number, key in enumerate(keys):
            self.queue.add_after(key, over_seconds * number / len(keys))
        return len(keys)


def _uid_of(known: object) -> str | None:
    """The uid of an Agent, a variable or a Supervisor; None for anything else."""
    match known:
        case ParsedAgent():
            return known.agent.metadata.uid
        case ParsedVariable():
            return known.variable.metadata.uid
        case ParsedSupervisor():
            return known.supervisor.metadata.uid
        case _:
            return None
