"""The passes: observe → decide → apply for one key of the queue, and what happens when one of them fails."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from mabeam.api.agent_status import AgentStatus
from mabeam.api.names import directives_config_map
from mabeam.core.conventions.metadata import pod_labels
from mabeam.core.coordination.config_maps.history import exported_metrics
from mabeam.core.decision import Decision, pods_first, without_refused
from mabeam.core.passes.agent import decide as decide_agent
from mabeam.core.passes.supervisor import decide as decide_supervisor
from mabeam.core.passes.variable import decide as decide_variable
from mabeam.core.pods.spec_hash import pod_hash
from mabeam.core.snapshot import AgentSnapshot, Key, VariableSnapshot
from mabeam.core.supervision.fencing import nodes_in_question
from mabeam.core.supervision.ledger import new_failures
from mabeam.core.supervision.refusal import is_pod_quota_used_up, refusal_in_force
from mabeam.core.views import metrics
from mabeam.shell.functions.scheduler import FunctionScheduler
from mabeam.shell.kube.client import Client
from mabeam.shell.kube.errors import REQUEST_ERRORS, ApiError, NotLeading, error_text
from mabeam.shell.reconcile.applier import Applied, Applier, NameTaken, PodCreateRefused
from mabeam.shell.reconcile.early_writes import DeferredStatus, EarlyDelivery
from mabeam.shell.reconcile.queue import WorkQueue
from mabeam.shell.reconcile.refused_pods import FIRST_SERVER_RETRY_SECONDS, Refusals
from mabeam.shell.reconcile.refused_writes import RefusedWrites
from mabeam.shell.reports.reader import ReportReader
from mabeam.shell.reports.targets import awaited_generation, never_read_of, targets_of
from mabeam.shell.telemetry.metrics import Telemetry
from mabeam.shell.telemetry.tracing import NoTracing, Tracing
from mabeam.state.cache import AGENT, SUPERVISOR, VARIABLE, Cache
from mabeam.state.observe import Observer
from mabeam.state.parse_objects import owner_uid

log = logging.getLogger("mabeam.reconcile")

# A namespace that is being terminated takes everything in it along: passes over its objects are seldom.
NAMESPACE_TERMINATING_SECONDS: Final = 30.0


@dataclass
class Reconciler:
    """Runs passes: each worker takes a key from the queue, and brings its object one step closer to what its spec asks for."""

    client: Client
    cache: Cache
    queue: WorkQueue
    observer: Observer
    applier: Applier
    reports: ReportReader
    refusals: Refusals
    telemetry: Telemetry
    functions: FunctionScheduler
    deferred_status: DeferredStatus = field(default_factory=DeferredStatus)
    early_delivery: EarlyDelivery = field(default_factory=EarlyDelivery)
    refused_writes: RefusedWrites = field(default_factory=RefusedWrites)
    tracing: Tracing = field(default_factory=NoTracing)

    async def work(self) -> None:
        """Take keys until the queue closes; no failure ends a worker."""
        while (key := await self.queue.get()) is not None:
            await self.run_pass(key)

    async def run_pass(self, key: Key) -> None:
        """Run one pass over a key that the queue gave, and enqueue it again as the pass or its failure asks for."""
        started = asyncio.get_running_loop().time()
        outcome = "ok"
        try:
            requeue = await _PASSES[key.kind](self, key)
            self.queue.forget(key)
            if requeue is not None:
                self.queue.add_after(key, requeue)
        except NotLeading:
            outcome = "not-leading"
            self.queue.retry(key)  # a late renewal may still come; without one the process ends
        except Exception as problem:  # the error policy is the one place that must survive anything
            outcome = "error"
            await self._failed(key, problem)
        finally:
            seconds = asyncio.get_running_loop().time() - started
            self.telemetry.reconciles.labels(key.kind, outcome).observe(seconds)
            self.queue.done(key)

    # --- one pass -------------------------------------------------------------------------------------------------------

    async def _agent(self, key: Key) -> float | None:
        span = self.tracing.begin()
        now, moment = self.client.clock.now(), asyncio.get_running_loop().time()
        snapshot = self.observer.agent(key.namespace, key.name, moment)
        if snapshot is not None and await self._look_up_nodes(snapshot):
            snapshot = self.observer.agent(key.namespace, key.name, moment)
        if snapshot is None:
            self._forget(key)
            return None
        agent = snapshot.agent
        decision = self._decide_agent(key, snapshot, now, moment)
        if await self._restore_hidden_pods(snapshot, decision.status):
            return 0.0
        has_directives = decision.status.directives is not None
        targets = targets_of(snapshot, has_directives=has_directives)
        self.reports.follow(agent, targets, awaiting=awaited_generation(agent) if targets else 0)
        self.reports.pass_over(agent, never_read_of(snapshot, has_directives=has_directives))
        decision = without_refused(decision, snapshot.refused_writes)
        applied = await self.applier.apply(AGENT, agent.metadata, agent.status, decision)
        news = self.refused_writes.record(agent.metadata.uid, decision.effects, applied.failures, moment)
        self.functions.submit(key, decision.function_calls, now)
        span.agent_events(agent, decision.events)
        self.telemetry.record_agent(metrics.agent_metrics(agent.status, decision.status, now))
        resize_refused = self._record_resizes(snapshot, decision, applied)
        if _is_refusal_over(snapshot, decision, applied):
            self.refusals.clear(agent.metadata.uid)
        try:
            applied.raise_failure()
        except PodCreateRefused as problem:
            return self._record_refusal(snapshot, decision, problem, moment)
        return 0.0 if news or resize_refused else decision.requeue_after

    def _record_resizes(self, snapshot: AgentSnapshot, decision: Decision[AgentStatus], applied: Applied) -> bool:
        """Whether the apiserver refused to resize a pod; records it, and forgets what is over."""
        meta, refused = snapshot.agent.metadata, applied.refused_resizes()
        resized = {effect.name for effect in decision.effects if effect.subresource == "resize"} - refused.keys()
        gone = self.refusals.of_resizes(meta.uid, meta.namespace).keys() - {pod.name for pod in snapshot.pods}
        if resized or gone:
            self.refusals.forget_resizes(meta.uid, meta.namespace, resized | gone)
        for pod, refusal in refused.items():
            log.warning("%s/%s is not resized: %s", meta.namespace, pod, refusal.message)
            self.refusals.record_resize(meta.uid, meta.namespace, pod, refusal)
        return bool(refused)

    def _record_refusal(
        self, snapshot: AgentSnapshot, decision: Decision[AgentStatus], problem: PodCreateRefused, moment: float
    ) -> float:
        """Record that no pod was created; the seconds until the pass that tells it, or that tries again."""
        meta = snapshot.agent.metadata
        if not problem.of_server and is_pod_quota_used_up(str(problem)):
            # What the namespace's agents keep for its logs may have to give way.
            for name in self.cache.agents_in.get(meta.namespace, ()):
                self.queue.add(Key(AGENT, meta.namespace, name))
        shape = pod_hash(snapshot.agent.spec)
        self.refusals.record(
            meta.uid,
            meta.namespace,
            problem.pod,
            str(problem),
            spec_hash=shape,
            now=moment,
            of_server=problem.of_server,
            allotted=not problem.of_server and _is_allotted(snapshot, decision),
        )
        known = self.refusals.of(meta.uid, shape, moment)
        log.warning("%s/%s: its pod was not created: %s", meta.namespace, meta.name, problem)
        return 0.0 if known is not None else FIRST_SERVER_RETRY_SECONDS

    def _decide_agent(self, key: Key, snapshot: AgentSnapshot, now: datetime, moment: float) -> Decision[AgentStatus]:
        """The decision, with the writes that precede the status first; pods before all else while other keys wait."""
        decision = self.deferred_status.defer(key, snapshot, decide_agent(snapshot, now), now, moment)
        decision = self.early_delivery.before_status(key, snapshot, decision)
        return pods_first(decision) if self.queue.depth() > 0 else decision

    def _forget(self, key: Key) -> None:
        """Drop what is kept in memory of an object that no longer exists."""
        self.deferred_status.forget(key)
        self.early_delivery.forget(key)
        self.functions.forget(key)
        if key.kind == VARIABLE:
            self.telemetry.set_variable_metrics(key.namespace, key.name, {})

    async def _restore_hidden_pods(self, snapshot: AgentSnapshot, status: AgentStatus) -> bool:
        """Whether pods that the decision counts as lost exist after all, and are in the cache again.

        Pods are found by labels, which anyone who may edit a pod can remove: its absence from the cache is no proof that its
        process ended, and the price of taking it for one is a second live pod. One GET for each loss, none otherwise.
        """
        agent, seen = snapshot.agent.metadata, {pod.name for pod in snapshot.pods}
        hidden = False
        for failure in new_failures(snapshot.agent.status, status):
            if failure.pod is None or failure.pod in seen:
                continue
            with self.cache.deleted_since() as deleted:
                body = await self.client.get("Pod", agent.namespace, failure.pod)
                if body is None or owner_uid(body, AGENT) != agent.uid:
                    continue
                incarnation = int(failure.pod.rsplit("-", 1)[1])
                made = {"metadata": {"labels": pod_labels(agent.name, failure.ordinal, incarnation)}}
                self.applier.take_in("Pod", await self.applier.put_labels_back("Pod", body, made), deleted)
            hidden = hidden or (agent.namespace, failure.pod) in self.cache.pods
        return hidden

    async def _look_up_nodes(self, snapshot: AgentSnapshot) -> bool:
        """Whether the cache knows more of the nodes now: one GET for each node that matters and no watch has reported.

        A node that is not in the cache is not gone: on a new one the watch of nodes may lag behind that of pods.
        """
        unheard = nodes_in_question(snapshot) & ((snapshot.nodes or frozenset()) - self.cache.node_names)
        with self.cache.deleted_since() as deleted:
            for name in sorted(unheard):
                try:
                    body = await self.client.get("Node", "", name)
                except ApiError as problem:
                    log.warning("node %s cannot be read, and counts as there: %s", name, problem)
                    continue
                if body is None:
                    self.cache.note_gone_node(name)
                else:
                    self.applier.take_in("Node", body, deleted)
        return bool(unheard)

    async def _variable(self, key: Key) -> float | None:
        started = asyncio.get_running_loop().time()
        snapshot = self.observer.variable(key.namespace, key.name, started)
        if snapshot is None:
            self._forget(key)
            return None
        type_ = str(snapshot.variable.spec.type) if snapshot.invalid is None else "Invalid"
        outcome = metrics.FAILED
        try:
            requeue, outcome = await self._coordinate(key, snapshot)
        except NotLeading:
            outcome = metrics.UNCHANGED
            raise
        finally:
            seconds = asyncio.get_running_loop().time() - started
            self.telemetry.coordination.labels(type_, outcome).observe(seconds)
        return requeue

    async def _coordinate(self, key: Key, snapshot: VariableSnapshot) -> tuple[float | None, str]:
        """The seconds until the next pass (None: when something changes), and the outcome for the metrics."""
        span, variable, now = self.tracing.begin(), snapshot.variable, self.client.clock.now()
        decision = without_refused(decide_variable(snapshot, now), snapshot.refused_writes)
        applied = await self.applier.apply(key.kind, variable.metadata, variable.status, decision)
        self.functions.submit(key, decision.function_calls, now)
        self.telemetry.set_variable_metrics(key.namespace, key.name, exported_metrics(snapshot, decision.status))
        figures = metrics.variable_metrics(variable, decision.status, decision.events)
        if applied.status_written:
            self.telemetry.record_variable(figures)
            span.variable_decided(variable, decision.status, figures.outcome)
        written = (*decision.effects_before_status, *decision.effects)
        moment = asyncio.get_running_loop().time()
        news = self.refused_writes.record(variable.metadata.uid, written, applied.failures, moment)
        applied.raise_failure()
        return 0.0 if news else decision.requeue_after, figures.outcome

    async def _supervisor(self, key: Key) -> float | None:
        snapshot = self.observer.supervisor(key.namespace, key.name)
        if snapshot is None:
            return None
        supervisor = snapshot.supervisor
        decision = decide_supervisor(snapshot, self.client.clock.now())
        applied = await self.applier.apply(key.kind, supervisor.metadata, supervisor.status, decision)
        self.telemetry.group_restarts.inc(max(0, decision.status.total_restarts - supervisor.status.total_restarts))
        applied.raise_failure()
        return decision.requeue_after

    # --- the error policy -----------------------------------------------------------------------------------------------

    async def _failed(self, key: Key, problem: Exception) -> None:
        """Enqueue the key of a failed pass again: when depends on what failed."""
        match problem:
            case ApiError(namespace_terminating=True):
                self.queue.add_after(key, NAMESPACE_TERMINATING_SECONDS)
            case ApiError(status=404):
                self.queue.retry(key)  # the object was deleted during the pass: the watch or the next LIST reports it
            case ApiError(status=409):
                await self._refresh(key)
                self.queue.retry(key)
            case NameTaken():
                parsed = self.cache.agents.get((key.namespace, key.name)) if key.kind == AGENT else None
                if parsed is not None:
                    self.refusals.names_taken[parsed.agent.metadata.uid] = str(problem)
                self.queue.retry(key, at_least=1.0)
            case _:
                delay = self.queue.retry(key, getattr(problem, "retry_after", None) or 0.0)
                expected = isinstance(problem, REQUEST_ERRORS)
                log.log(
                    logging.WARNING if expected else logging.ERROR,
                    "%s failed and is tried again in %.1f s: %s",
                    key,
                    delay,
                    error_text(problem),
                    exc_info=None if expected else problem,
                )

    async def _refresh(self, key: Key) -> None:
        """Read the object and its ConfigMap again: a conflict means that the cache is behind.

        What they say now may be news to others than this key, and the watch, which comes later, does not tell it again.
        """
        names = [(key.kind, key.name)]
        if key.kind == AGENT:
            names.append(("ConfigMap", directives_config_map(key.name)))
        try:
            with self.cache.deleted_since() as deleted:
                for kind, name in names:
                    body = await self.client.get(kind, key.namespace, name)
                    if body is not None:
                        self.applier.take_in(kind, body, deleted)
        except REQUEST_ERRORS as problem:
            log.debug("%s could not be refreshed: %s", key, problem)


def _is_allotted(snapshot: AgentSnapshot, decision: Decision[AgentStatus]) -> bool:
    """Whether the pods that this pass created have the amounts of an allotment: not after a refusal."""
    effective = decision.status.effective
    refused_before = snapshot.refused is not None and not snapshot.refused.of_server
    return not refused_before and effective is not None and bool(effective.resources)


def _is_refusal_over(snapshot: AgentSnapshot, decision: Decision[AgentStatus], applied: Applied) -> bool:
    """Whether the refusal of the agent's pods is over: the apiserver took what it refused, or no pod is wanted any more."""
    refused = snapshot.refused
    if refused is not None and refusal_in_force(snapshot, decision.status.pods) is None:
        return True
    if any(isinstance(problem, PodCreateRefused) for _, problem in applied.failures):
        return False
    asked = {effect.name for effect in decision.effects if (effect.verb, effect.kind) == ("create", "Pod")}
    created = asked - {effect.name for effect, _ in applied.failures}
    return bool(created) and (refused is None or not refused.of_server or refused.pod in created)


_PASSES: Final[Mapping[str, Callable[[Reconciler, Key], Awaitable[float | None]]]] = {
    AGENT: Reconciler._agent,
    VARIABLE: Reconciler._variable,
    SUPERVISOR: Reconciler._supervisor,
}
