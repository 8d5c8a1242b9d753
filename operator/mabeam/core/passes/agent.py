"""One pass over an Agent: exits × restart strategies, the failure budget, rollouts, pods, directives, and the status of it all.

Intent before act: a restart is first a number in the status (`status.pods[].incarnation += 1`), and an ordinal whose record
changes in this pass gets no write to its pods. The next pass reads the number back from the cluster and acts on it. So a crash
between any two writes leads to the same end (docs/design/0007-supervision.md).
"""

from datetime import datetime
from typing import Any

from mabeam.api.agent_status import MAX_RECORDS, AgentStatus, EffectiveAgent, FailureCause
from mabeam.api.names import ANNOTATION_MIGRATE, LABEL_AGENT, LABEL_ENDED
from mabeam.core.conventions.metadata import annotation_request, released_by
from mabeam.core.decision import Decision, soonest
from mabeam.core.directives.confirmation import RolloutState
from mabeam.core.directives.delivery import Delivery, deliver
from mabeam.core.directives.generations import stored_directives
from mabeam.core.directives.last_good import HealthChange
from mabeam.core.directives.network_policy import network_policy_effects, network_policy_problems
from mabeam.core.directives.overrides import SpecOverrides, apply_overrides, spec_overrides
from mabeam.core.directives.progress import refused_allotment_events
from mabeam.core.directives.working_set import DeliveryPass
from mabeam.core.pods import lifecycle, spec_hash
from mabeam.core.snapshot import AgentSnapshot, PodFacts, supervision_of
from mabeam.core.supervision import exits, ledger, pod_effects, records, release, rollout, status
from mabeam.core.supervision.refusal import refusal_events
from mabeam.core.supervision.report_condition import report_events
from mabeam.core.supervision.working_set import MAX_COUNT, AgentPass, is_stop_desired
from mabeam.core.tree.instruction import adopt_instruction


def decide(snapshot: AgentSnapshot, now: datetime) -> Decision[AgentStatus]:
    """The agent's next status, the writes to its pods and directives in order, and the Events.

    docs/design/0007-supervision.md; supervisor.erl do_restart/3 and add_restart/3.
    """
    if snapshot.agent.metadata.deletion_timestamp is not None:
        # The garbage collector deletes the rest; a new pod would only be in its way.
        return Decision(snapshot.agent.status, "unchanged")
    if snapshot.invalid is not None:
        return status.invalid(snapshot, now)
    overrides = spec_overrides(snapshot)
    pass_ = _begin(snapshot, overrides, now)
    _request_migration(pass_)
    release.apply_release(pass_)
    records.advance_records(pass_)
    exits.handle_exits(pass_)
    rollout.replace_outdated(pass_)
    pod_effects.act_on_stored_intent(pass_)
    return _conclude(pass_, overrides, _deliver(pass_, overrides))


def _begin(snapshot: AgentSnapshot, overrides: SpecOverrides, now: datetime) -> AgentPass:
    supervision, restarted = adopt_instruction(snapshot.agent.status.supervision, supervision_of(snapshot.parent))
    return AgentPass.begin(
        apply_overrides(snapshot, overrides),
        now,
        pod_hash=overrides.shape,
        resources=overrides.resources,
        migrations=overrides.migrations,
        supervision=supervision,
        restarted=restarted,
    )


def _request_migration(pass_: AgentPass) -> None:
    """A new value of the annotation is one more migration, in which every replica takes part."""
    value = annotation_request(pass_.snapshot.agent.metadata, ANNOTATION_MIGRATE)
    if value and value != pass_.migrated_by:
        pass_.migrated_by = value
        pass_.migrations = min(pass_.migrations + 1, MAX_COUNT)


# --- directives -------------------------------------------------------------------------------------------------------


def _deliver(pass_: AgentPass, overrides: SpecOverrides) -> Delivery:
    snapshot = pass_.snapshot
    is_over = bool(pass_.records) and not any(record.is_alive for record in pass_.records.values())
    rollout_state = RolloutState(
        records=tuple(pass_.records[ordinal] for ordinal in sorted(pass_.records)),
        live=sum(1 for pod in snapshot.pods if lifecycle.is_live(pod)),
        replicas=snapshot.agent.spec.replicas,
        shape=overrides.shape,
        migrations=overrides.migrations,
        amounts=overrides.resources,
        refused_resizes=snapshot.refused_resizes,
    )
    return deliver(
        DeliveryPass(
            snapshot,
            pass_.now,
            ready_pods=_ready_pods(pass_),
            at_rest=is_stop_desired(snapshot) or pass_.parked_at is not None or is_over,
            overrides=overrides,
            rollout=rollout_state,
            health_change=_health_change(pass_),
        )
    )


def _ready_pods(pass_: AgentPass) -> tuple[PodFacts, ...]:
    """The ready pods of current incarnations."""
    return tuple(pod for pod in pass_.snapshot.pods if pass_.is_current(pod) and lifecycle.is_ready(pod))


def _health_change(pass_: AgentPass) -> HealthChange:
    """Whether this pass found a counted abnormal exit, for which the directives may be to blame, or a release."""
    found = pass_.ledger[len(pass_.snapshot.agent.status.failures) :]
    if any(failure.counted and failure.cause is not FailureCause.NORMAL_EXIT for failure in found):
        return HealthChange.FAILED
    return HealthChange.RELEASED if pass_.released else HealthChange.NONE


# --- the decision -----------------------------------------------------------------------------------------------------


def _conclude(pass_: AgentPass, overrides: SpecOverrides, delivery: Delivery) -> Decision[AgentStatus]:
    snapshot, before = pass_.snapshot, pass_.snapshot.agent.status
    update = _supervision_fields(pass_) | _directive_fields(pass_, overrides, delivery)
    problems = (*delivery.problems, *network_policy_problems(snapshot))
    after = status.with_conditions(snapshot, before.model_copy(update=update), problems, pass_.now)
    return Decision(
        status=after,
        status_reason=status.status_reason(before, after),
        effects=(*pass_.effects, *delivery.effects, *network_policy_effects(snapshot, overrides.directives)),
        events=status.with_registration(
            snapshot,
            (
                *pass_.events,
                *status.unused_fields_event(snapshot),
                *report_events(before.conditions, after.conditions),
                *status.delivery_events(before, after),
                *refused_allotment_events(stored_directives(snapshot), delivery.directives),
                *refusal_events(snapshot, after),
            ),
        ),
        requeue_after=soonest(pass_.requeue_after, delivery.requeue_after),
        function_calls=overrides.directives.function_calls,
        expects_follow_up=pod_effects.expects_follow_up(before, after),
    )


def _supervision_fields(pass_: AgentPass) -> dict[str, Any]:
    """The fields of the status that supervision alone determines."""
    agent, before = pass_.snapshot.agent, pass_.snapshot.agent.status
    return {
        "observed_generation": agent.metadata.generation,
        "pods": tuple(pass_.records[ordinal] for ordinal in sorted(pass_.records)[:MAX_RECORDS]),
        "restarts": min(pass_.restarts, MAX_COUNT),
        "disruptions": min(pass_.disruptions, MAX_COUNT),
        "replicas": sum(1 for record in pass_.records.values() if record.is_alive),
        "ready_replicas": len(_ready_pods(pass_)),
        "selector": f"{LABEL_AGENT}={agent.metadata.name},!{LABEL_ENDED}",
        "spec_hash": spec_hash.spec_hash(pass_.snapshot.user_spec),
        "failures": ledger.trim(pass_.ledger, agent.spec.fault_tolerance),
        "parked_at": pass_.parked_at,
        "probed_at": pass_.probed_at,
        "released_by": released_by(agent.metadata, before.released_by),
        "migrations": pass_.migrations or None,
        "migrated_by": pass_.migrated_by,
        "supervision": pass_.supervision,
    }


def _directive_fields(pass_: AgentPass, overrides: SpecOverrides, delivery: Delivery) -> dict[str, Any]:
    """The fields of the status that directives take part in."""
    spec, directives = pass_.snapshot.agent.spec, overrides.directives
    is_active = not is_stop_desired(pass_.snapshot) and pass_.parked_at is None and directives.active
    return {
        "role": directives.role or spec.role_name,
        "active": is_active,
        "reconfigurations": overrides.reconfigurations or None,
        "restarted_by": overrides.restarted_by,
        "effective": EffectiveAgent(
            replicas=spec.replicas,
            desired_state=spec.desired_state,
            resources=overrides.resources.to_wire() if overrides.resources is not None else {},
        ),
        "directives": delivery.directives,
    }
