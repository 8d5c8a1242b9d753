"""observe → decide → apply, and the error policy; the same way for both kinds."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import aiohttp

from mabeam.api.agent_status import AgentStatus
from mabeam.api.directive import DirectiveState
from mabeam.api.names import directives_config_map
from mabeam.core.conventions.metadata import pod_labels
from mabeam.core.coordination.config_maps.history import exported_metrics
from mabeam.core.decision import pods_first
from mabeam.core.passes import supervisor
from mabeam.core.passes import variable as coordination
from mabeam.core.passes.agent import decide as decide_agent
from mabeam.core.pods.spec_hash import pod_hash
from mabeam.core.reports.report import expects_reports
from mabeam.core.snapshot import AgentSnapshot, Key
from mabeam.core.supervision.ledger import new_failures
from mabeam.core.views import metrics
from mabeam.shell.functions.scheduler import FunctionScheduler
from mabeam.shell.kube.client import Client
from mabeam.shell.kube.errors import ApiError, NotLeading
from mabeam.shell.reconcile.applier import Applier, NameTaken, PodCreateRefused
from mabeam.shell.reconcile.early_writes import DeferredStatus, EarlyDelivery
from mabeam.shell.reconcile.queue import WorkQueue
from mabeam.shell.reconcile.refusals import Refusals
from mabeam.shell.reports.reader import ReportReader, target_of
from mabeam.shell.telemetry.metrics import Telemetry
from mabeam.shell.telemetry.tracing import NoTracing, Tracing
from mabeam.state.cache import AGENT, SUPERVISOR, VARIABLE, Cache
from mabeam.state.observe import Observer
from mabeam.state.parse_objects import owner_uid

log = logging.getLogger("mabeam.reconcile")

# A namespace that is going takes everything in it along; looking again soon would only make noise.
NAMESPACE_TERMINATING_SECONDS = 30.0


@dataclass
class Reconciler:
    """Workers that take keys from the queue and bring each object one pass further."""

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
    tracing: Tracing = field(default_factory=NoTracing)

    async def work(self) -> None:
        """Take keys until the queue closes; no failure ends a worker."""
        while (key := await self.queue.get()) is not None:
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
        trace = self.tracing.begin()
        snapshot = self.observer.agent(key.namespace, key.name, asyncio.get_running_loop().time())
        if snapshot is None:
            self.deferred_status.forget(key)
            self.early_delivery.forget(key)
            self.functions.forget(key)
            return None
        agent = snapshot.agent
        now = self.client.clock.now()
        moment = asyncio.get_running_loop().time()
        decision = self.deferred_status.defer(key, snapshot, decide_agent(snapshot, now), now, moment)
        decision = self.early_delivery.before_status(key, snapshot, decision)
        if self.queue.depth() > 0:
            decision = pods_first(decision)
        if await self._restore_hidden_pods(snapshot, decision.status):
            return 0.0
        self._follow(snapshot, decision.status.directives is not None)
        try:
            await self.applier.apply(AGENT, agent.metadata, agent.status, decision)
        except PodCreateRefused as problem:
            self.refusals.record(agent.metadata.uid, pod_hash(agent.spec), str(problem), moment)
            return 0.0  # the next pass tells, and knows when to ask again
        self.functions.ask(key, decision.function_calls, now)
        if any(effect.verb == "create" and effect.kind == "Pod" for effect in decision.effects):
            self.refusals.clear(agent.metadata.uid)
        trace.agent_events(agent, decision.events)
        self.telemetry.record_agent(metrics.agent_metrics(agent.status, decision.status, now))
        return decision.requeue_after

    async def _restore_hidden_pods(self, snapshot: AgentSnapshot, status: AgentStatus) -> bool:
        """Whether pods that are about to be counted as lost are there after all, and were made visible again.

        Pods are found by labels, and anyone who may edit a pod can take those away: its absence from the cache is no proof
        that its process ended, and a second live pod would be the price of believing it. One GET per loss, none otherwise.
        """
        agent, seen = snapshot.agent.metadata, {pod.name for pod in snapshot.pods}
        hidden = False
        for failure in new_failures(snapshot.agent.status, status):
            if failure.pod is None or failure.pod in seen:
                continue
            body = await self.client.get("Pod", agent.namespace, failure.pod)
            if body is None or owner_uid(body, AGENT) != agent.uid:
                continue
            incarnation = int(failure.pod.rsplit("-", 1)[1])
            made = {"metadata": {"labels": pod_labels(agent.name, failure.ordinal, incarnation)}}
            self.cache.upsert("Pod", await self.applier.put_labels_back("Pod", body, made))
            hidden = hidden or (agent.namespace, failure.pod) in self.cache.pods
        return hidden

    async def _timed_variable(self, key: Key) -> float | None:
        """A variable's pass, timed whatever comes of it."""
        clock, parsed = asyncio.get_running_loop().time, self.cache.variables.get((key.namespace, key.name))
        if parsed is None:
            self.functions.forget(key)
            self.telemetry.set_variable_metrics(key.namespace, key.name, {})
            return None
        kind = str(parsed.variable.spec.type) if parsed.invalid is None else "Invalid"
        started, outcome = clock(), metrics.FAILED
        try:
            requeue, outcome = await self._variable(key)
        except NotLeading:
            outcome = metrics.UNCHANGED
            raise
        finally:
            self.telemetry.coordination.labels(kind, outcome).observe(clock() - started)
        return requeue

    async def _variable(self, key: Key) -> tuple[float | None, str]:
        """In how many seconds to look again (None: when something happens), and what the pass came to."""
        trace = self.tracing.begin()
        snapshot = self.observer.variable(key.namespace, key.name)
        if snapshot is None:
            self.functions.forget(key)
            self.telemetry.set_variable_metrics(key.namespace, key.name, {})
            return None, metrics.UNCHANGED
        variable = snapshot.variable
        now = self.client.clock.now()
        decision = coordination.decide(snapshot, now)
        written = await self.applier.apply(key.kind, variable.metadata, variable.status, decision)
        self.functions.ask(key, decision.function_calls, now)
        self.telemetry.set_variable_metrics(key.namespace, key.name, exported_metrics(snapshot, decision.status))
        if written and decision.status.round != variable.status.round:
            session = decision.status.negotiation
            self.telemetry.rounds.labels(
                str(session.strategy) if session else "None", session.state if session else "Completed"
            ).inc()
        outcome = metrics.coordination_outcome(variable.status, decision.status, decision.events)
        vote = metrics.vote_outcome(variable.status.consensus, decision.status.consensus)
        if written and vote is not None:
            rules = variable.spec.consensus
            self.telemetry.votes.labels(metrics.protocol_label(rules.protocol if rules else None), vote).inc()
        if written:
            trace.variable_decided(variable, decision.status, outcome)
        return decision.requeue_after, outcome

    async def _supervisor(self, key: Key) -> float | None:
        snapshot = self.observer.supervisor(key.namespace, key.name)
        if snapshot is None:
            return None
        found = snapshot.supervisor
        decision = supervisor.decide(snapshot, self.client.clock.now())
        await self.applier.apply(key.kind, found.metadata, found.status, decision)
        self.telemetry.group_restarts.inc(max(0, decision.status.total_restarts - found.status.total_restarts))
        return decision.requeue_after

    def _follow(self, snapshot: AgentSnapshot, has_directives: bool) -> None:
        """Read the reports of agents whose words matter, and in a hurry while an acknowledgement is awaited."""
        agent = snapshot.agent
        watched = agent.spec.fault_tolerance.progress_timeout_seconds is not None
        if (
            not (snapshot.variables or has_directives or watched)
            or not expects_reports(agent)
            or snapshot.invalid is not None
        ):
            self.reports.follow(agent, (), awaiting=0)
            return
        held = agent.status.directives
        open_ = (DirectiveState.ISSUED, DirectiveState.DELIVERED)
        awaiting = held.generation if held and any(item.state in open_ for item in held.items) else 0
        targets = [target for pod in snapshot.pods if (target := target_of(agent, pod)) is not None]
        self.reports.follow(agent, targets, awaiting=awaiting)

    # --- the error policy -----------------------------------------------------------------------------------------------

    async def _failed(self, key: Key, problem: Exception) -> None:
        if isinstance(problem, ApiError) and problem.namespace_terminating:
            self.queue.add_after(key, NAMESPACE_TERMINATING_SECONDS)
            return
        if isinstance(problem, ApiError) and problem.status == 404:
            self.queue.retry(key)  # deleted under our hands: the watch or the sweep will tell
            return
        if isinstance(problem, ApiError) and problem.status == 409:
            await self._refresh(key)
            self.queue.retry(key)
            return
        if isinstance(problem, NameTaken):
            parsed = self.cache.agents.get((key.namespace, key.name))
            if parsed is not None:
                self.refusals.names_taken[parsed.agent.metadata.uid] = str(problem)
            self.queue.retry(key, at_least=1.0)
            return
        at_least = problem.retry_after or 0.0 if isinstance(problem, ApiError) else 0.0
        delay = self.queue.retry(key, at_least)
        expected = isinstance(problem, ApiError | aiohttp.ClientError | TimeoutError | OSError)
        log.log(
            logging.WARNING if expected else logging.ERROR,
            "%s failed and is tried again in %.1f s: %s",
            key,
            delay,
            str(problem) or type(problem).__name__,
            exc_info=None if expected else problem,
        )

    async def _refresh(self, key: Key) -> None:
        """A conflict means that the cache is behind: read the object and what it owns anew."""
        try:
            body = await self.client.get(key.kind, key.namespace, key.name)
            if body is not None:
                self.cache.upsert(key.kind, body)
            if key.kind == AGENT:
                found = await self.client.get("ConfigMap", key.namespace, directives_config_map(key.name))
                if found is not None:
                    self.cache.upsert("ConfigMap", found)
        except (ApiError, aiohttp.ClientError, TimeoutError) as problem:
            log.debug("%s could not be refreshed: %s", key, problem)


_PASSES: Final[Mapping[str, Callable[[Reconciler, Key], Awaitable[float | None]]]] = {
    AGENT: Reconciler._agent,
    VARIABLE: Reconciler._timed_variable,
    SUPERVISOR: Reconciler._supervisor,
}
