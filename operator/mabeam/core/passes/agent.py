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
from mabeam.core.snapshot import AgentSnapshot, PodFacts, supervision_of
from mabeam.core.supervision import ledger as budget
from mabeam.core.supervision import status as summary
from mabeam.core.supervision import working_set
from mabeam.core.supervision.exits import _judge_endings
from mabeam.core.supervision.pod_effects import act, same_intent, turns
from mabeam.core.supervision.records import incarnate, next_record
from mabeam.core.supervision.release import probe, release
from mabeam.core.supervision.rollout import roll
from mabeam.core.supervision.working_set import AgentPass, by_ordinal, stored_records
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
    supervision, reborn = instruction.adopt_instruction(before.supervision, supervision_of(snapshot.parent))
    wanted_down = working_set.is_wanted_down(snapshot)
    pass_ = AgentPass(
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
    migrated_by = _told_to_move(pass_)
    released = release(pass_, reborn)
    fresh = released or probe(pass_)
    stored = stored_records(snapshot)
    pods = by_ordinal(snapshot.pods)
    for ordinal in sorted({*stored, *pods, *range(agent.spec.replicas)}):
        own = pods.get(ordinal, ())
        wanted = ordinal < agent.spec.replicas and not wanted_down and pass_.parked_at is None
        record = next_record(pass_, ordinal, stored.get(ordinal), own, wanted, fresh)
        if (
            reborn
            and wanted
            and record is not None
            and record.incarnation == getattr(stored.get(ordinal), "incarnation", 0)
        ):
            record = incarnate(pass_, record, None)
        if record is not None:
            pass_.records[ordinal] = record
    _judge_endings(pass_, stored, pods)
    roll(pass_, pods)
    turn = turns(pass_, pods)
    for ordinal, record in pass_.records.items():
        if same_intent(record, stored.get(ordinal)):
            act(pass_, record, pods.get(ordinal, ()), turn)
        pass_.records[ordinal] = _terminating(record, pods.get(ordinal, ()))
    ready = tuple(pod for pod in snapshot.pods if pass_.is_current(pod) and lifecycle.is_ready(pod))
    rests = wanted_down or working_set.at_rest(pass_.records.values())
    seen = _seen_of(pass_, orders, agent.spec.replicas)
    delivery = deliver(snapshot, ready, rests, now, _lapse(pass_, released), orders, seen)
    policy = network_policy_effects(snapshot, orders.directives)
    status = before.model_copy(
        update={
            "observed_generation": agent.metadata.generation,
            "role": orders.directives.role or agent.spec.role_name,
            "active": not wanted_down and pass_.parked_at is None and orders.directives.active,
            "pods": tuple(pass_.records[ordinal] for ordinal in sorted(pass_.records)),
            "restarts": min(pass_.restarts, MOST_COUNTED),
            "disruptions": min(pass_.disruptions, MOST_COUNTED),
            "replicas": sum(1 for record in pass_.records.values() if record.is_alive),
            "ready_replicas": len(ready),
            "selector": f"{LABEL_AGENT}={agent.metadata.name}",
            "spec_hash": spec_hash.spec_hash(snapshot.user_spec),
            "failures": budget.trim(pass_.ledger, agent.spec.fault_tolerance),
            "parked_at": pass_.parked_at,
            "probed_at": pass_.probed_at,
            "released_by": annotation_request(agent.metadata, ANNOTATION_RELEASE) or before.released_by,
            "migrations": pass_.migrations or None,
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
        effects=(*pass_.effects, *delivery.effects, *policy),
        events=summary.told(agent, pass_.events),
        requeue_after=soonest(pass_.requeue, delivery.requeue_after),
        function_calls=orders.directives.function_calls,
    )


def _seen_of(pass_: AgentPass, orders: SpecOverrides, replicas: int) -> RolloutState:
    """How far the agent's pods are with what it is told about them."""
    live = sum(1 for pod in pass_.snapshot.pods if lifecycle.is_live(pod))
    records = tuple(pass_.records[ordinal] for ordinal in sorted(pass_.records))
    return RolloutState(records, live, replicas, orders.shape, orders.migrations, orders.resources)


def _terminating(record: PodRecord, pods: tuple[PodFacts, ...]) -> PodRecord:
    """The record, saying whether its end is known before its process is gone: then those before it in a tree wait on."""
    lingers = True if record.state in child_state.AT_REST and any(map(lifecycle.is_live, pods)) else None
    return record if record.terminating == lingers else record.model_copy(update={"terminating": lingers})


def _lapse(pass_: AgentPass, released: bool) -> HealthChange:
    """Whether this pass found an abnormal end that its directives may be to blame for, or the agent begins anew."""
    found = pass_.ledger[len(pass_.snapshot.agent.status.failures) :]
    if any(failure.counted and failure.cause is not FailureCause.NORMAL_EXIT for failure in found):
        return HealthChange.FAILED
    return HealthChange.RELEASED if released else HealthChange.NONE


def _told_to_move(pass_: AgentPass) -> str | None:
    """The value of the annotation that was used; a new one is one more migration, in which every replica takes part."""
    before = pass_.snapshot.agent.status
    asked = annotation_request(pass_.snapshot.agent.metadata, ANNOTATION_MIGRATE)
    if not asked or asked == before.migrated_by:
        return before.migrated_by
    pass_.migrations = min(pass_.migrations + 1, MOST_COUNTED)
    return asked
