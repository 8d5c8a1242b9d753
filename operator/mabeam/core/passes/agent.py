"""One pass over an Agent: restart strategies × exits, the failure budget, and one incarnation number per ordinal.

`decide(snapshot, now)` returns the whole status, then what to do about it. A restart is first a number
(`status.pods[].incarnation += 1`): an ordinal whose record changes in this pass causes no write to its pods in it; the next
pass reads the number back from the cluster and acts. So a crash between any two writes converges to the same end.
"""

from datetime import datetime
from typing import Final

from mabeam.api.agent_status import AgentStatus, EffectiveAgent, FailureCause, PodRecord
from mabeam.api.names import ANNOTATION_MIGRATE, ANNOTATION_RELEASE, LABEL_AGENT
from mabeam.core.conventions.metadata import annotation_request
from mabeam.core.decision import Decision, soonest
from mabeam.core.directives.confirmation import RolloutState
from mabeam.core.directives.delivery import deliver
from mabeam.core.directives.last_good import HealthChange
from mabeam.core.directives.network_policy import network_policy_effects
from mabeam.core.directives.overrides import SpecOverrides, apply_overrides, spec_overrides
from mabeam.core.pods import lifecycle, spec_hash
from mabeam.core.snapshot import AgentSnapshot, PodFacts
from mabeam.core.supervision import ledger as budget
from mabeam.core.supervision import status as summary
from mabeam.core.supervision import working_set
from mabeam.core.supervision.exits import _judge_endings
from mabeam.core.supervision.pod_effects import act, same_intent, turns
from mabeam.core.supervision.records import incarnate, next_record
from mabeam.core.supervision.release import probe, release
from mabeam.core.supervision.rollout import roll
from mabeam.core.supervision.working_set import Pass, by_ordinal, stored_records
from mabeam.core.tree import child_state, instruction

# The largest number a status can hold (api/base.py Count).
MOST_COUNTED: Final = 2**31 - 1


def decide(snapshot: AgentSnapshot, now: datetime) -> Decision[AgentStatus]:
    """The agent's next status, then its pods' and directives' writes in order, then the Events.

    Rules: design section 5; supervisor.erl do_restart/3 and add_restart/3.
    """
    agent, before = snapshot.agent, snapshot.agent.status
    if agent.metadata.deletion_timestamp is not None:
        return Decision(before, "unchanged")  # the garbage collector has the rest; a new pod would only be in its way
    if snapshot.invalid is not None:
        return summary.invalid(snapshot, now)
    orders = spec_overrides(snapshot)
    snapshot = apply_overrides(snapshot, orders)
    agent = snapshot.agent
    supervision, reborn = instruction.adopt_instruction(before.supervision, snapshot.word)
    wanted_down = working_set.is_wanted_down(snapshot)
    run = Pass(
        snapshot,
        now,
        list(before.failures),
        {},
        before.restarts,
        before.disruptions,
        before.parked_at,
        before.probed_at,
        orders.migrations,
        shape=orders.shape,
        resources=orders.resources,
    )
    migrated_by = _told_to_move(run)
    released = release(run, reborn)
    fresh = released or probe(run)
    stored = stored_records(snapshot)
    pods = by_ordinal(snapshot.pods)
    for ordinal in sorted({*stored, *pods, *range(agent.spec.replicas)}):
        own = pods.get(ordinal, ())
        wanted = ordinal < agent.spec.replicas and not wanted_down and run.parked_at is None
        record = next_record(run, ordinal, stored.get(ordinal), own, wanted, fresh)
        if (
            reborn
            and wanted
            and record is not None
            and record.incarnation == getattr(stored.get(ordinal), "incarnation", 0)
        ):
            record = incarnate(run, record, None)
        if record is not None:
            run.records[ordinal] = record
    _judge_endings(run, stored, pods)
    roll(run, pods)
    turn = turns(run, pods)
    for ordinal, record in run.records.items():
        if same_intent(record, stored.get(ordinal)):
            act(run, record, pods.get(ordinal, ()), turn)
        run.records[ordinal] = _terminating(record, pods.get(ordinal, ()))
    ready = tuple(pod for pod in snapshot.pods if run.is_current(pod) and lifecycle.is_ready(pod))
    rests = wanted_down or working_set.at_rest(run.records.values())
    seen = _seen_of(run, orders, agent.spec.replicas)
    delivery = deliver(snapshot, ready, rests, now, _lapse(run, released), orders, seen)
    policy = network_policy_effects(snapshot, orders.directives)
    status = before.model_copy(
        update={
            "observed_generation": agent.metadata.generation,
            "role": orders.directives.role or agent.spec.role_name,
            "active": not wanted_down and run.parked_at is None and orders.directives.active,
            "pods": tuple(run.records[ordinal] for ordinal in sorted(run.records)),
            "restarts": min(run.restarts, MOST_COUNTED),
            "disruptions": min(run.disruptions, MOST_COUNTED),
            "replicas": sum(1 for record in run.records.values() if record.state in working_set.ALIVE),
            "ready_replicas": len(ready),
            "selector": f"{LABEL_AGENT}={agent.metadata.name}",
            "spec_hash": spec_hash.spec_hash(snapshot.user_spec),
            "failures": budget.trim(run.ledger, agent.spec.fault_tolerance),
            "parked_at": run.parked_at,
            "probed_at": run.probed_at,
            "released_by": annotation_request(agent.metadata, ANNOTATION_RELEASE) or before.released_by,
            "migrations": run.migrations or None,
            "migrated_by": migrated_by,
            "reconfigurations": orders.reconfigurations or None,
            "effective": EffectiveAgent(
                replicas=agent.spec.replicas,
                desired_state=agent.spec.desired_state,
                resources=orders.resources.to_wire() if orders.resources is not None else {},
            ),
            "directives": delivery.directives,
            "supervision": supervision,
        }
    )
    status = summary.conclude(snapshot, status, delivery.problems, now)
    return Decision(
        status=status,
        status_reason=summary.status_reason(before, status),
        effects=(*run.effects, *delivery.effects, *policy),
        events=summary.told(agent, run.events),
        requeue_after=soonest(run.requeue, delivery.requeue_after),
        function_calls=orders.directives.function_calls,
    )


def _seen_of(run: Pass, orders: SpecOverrides, replicas: int) -> RolloutState:
    """How far the agent's pods are with what it is told about them."""
    live = sum(1 for pod in run.snapshot.pods if lifecycle.is_live(pod))
    records = tuple(run.records[ordinal] for ordinal in sorted(run.records))
    return RolloutState(records, live, replicas, orders.shape, orders.migrations, orders.resources)


def _terminating(record: PodRecord, pods: tuple[PodFacts, ...]) -> PodRecord:
    """The record, saying whether its end is known before its process is gone: then those before it in a tree wait on."""
    lingers = True if record.state in child_state.AT_REST and any(map(lifecycle.is_live, pods)) else None
    return record if record.terminating == lingers else record.model_copy(update={"terminating": lingers})


def _lapse(run: Pass, released: bool) -> HealthChange:
    """Whether this pass found an abnormal end that its directives may be to blame for, or the agent begins anew."""
    found = run.ledger[len(run.snapshot.agent.status.failures) :]
    if any(failure.counted and failure.cause is not FailureCause.NORMAL_EXIT for failure in found):
        return HealthChange.FAILED
    return HealthChange.RELEASED if released else HealthChange.NONE


def _told_to_move(run: Pass) -> str | None:
    """The value of the annotation that was used; a new one is one more migration, in which every replica takes part."""
    before = run.snapshot.agent.status
    asked = annotation_request(run.snapshot.agent.metadata, ANNOTATION_MIGRATE)
    if not asked or asked == before.migrated_by:
        return before.migrated_by
    run.migrations = min(run.migrations + 1, MOST_COUNTED)
    return asked
