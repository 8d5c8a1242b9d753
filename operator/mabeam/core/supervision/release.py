"""Release: the budget window is emptied, the ledger keeps its history; and the half-open try of a parked agent."""

from mabeam.api.agent import Agent, AgentSpec
from mabeam.api.names import ANNOTATION_RELEASE, Reason
from mabeam.core.conventions.metadata import annotation_request
from mabeam.core.conventions.times import add_seconds
from mabeam.core.decision import Event
from mabeam.core.pods import spec_hash
from mabeam.core.supervision import working_set
from mabeam.core.supervision.working_set import Pass


def release(run: Pass, reborn: bool) -> bool:
    """Whether the agent begins anew: by the annotation, a changed spec, or (`reborn`) its Supervisor's next life."""
    agent, before = run.snapshot.agent, run.snapshot.agent.status
    asked = annotation_request(agent.metadata, ANNOTATION_RELEASE)
    by_annotation = bool(asked) and asked != before.released_by
    if not by_annotation and not reborn and not spec_changed(agent, run.snapshot.user_spec):
        return False
    if run.parked_at is not None:
        why = (
            "its Supervisor" if reborn else "the annotation " + ANNOTATION_RELEASE if by_annotation else "a spec change"
        )
        run.events.append(Event(Reason.AGENT_RELEASED, f"released by {why}; the failure window is empty again"))
    run.parked_at = run.probed_at = None
    run.ledger[:] = [failure.model_copy(update={"released": True}) for failure in run.ledger]
    return True


def probe(run: Pass) -> bool:
    """Whether a parked agent is tried again now; the try is over when a whole window passed without a failure.

    The half-open state of a circuit breaker. Not under `Escalate`: there the Supervisor tries again; nor while nothing may run.
    """
    spec = run.snapshot.agent.spec
    tolerance = spec.fault_tolerance
    if run.parked_at is None and run.probed_at is not None:
        over = add_seconds(run.probed_at, tolerance.failure_window_seconds)
        if run.now < over:
            run.wake(over)
        elif all(failure.time < run.probed_at or not failure.counted for failure in run.ledger):
            run.probed_at = None
            run.ledger[:] = [failure.model_copy(update={"released": True}) for failure in run.ledger]
        return False
    if run.parked_at is None or tolerance.probe_after_seconds is None or working_set.escalates(run.snapshot):
        return False
    if spec.replicas == 0 or working_set.is_wanted_down(run.snapshot):
        return False
    due = add_seconds(run.parked_at, tolerance.probe_after_seconds)
    if run.now < due:
        run.wake(due)
        return False
    run.parked_at, run.probed_at = None, run.now
    run.events.append(Event(Reason.AGENT_PROBED, "parked; tried once more, one failure parks it again"))
    return True


def spec_changed(agent: Agent, spec: AgentSpec | None = None) -> bool:
    """Whether the spec, `replicas` apart, is another than the one the stored status was decided for."""
    before, spec = agent.status, spec or agent.spec
    if before.spec_hash is not None:
        return before.spec_hash != spec_hash.spec_hash(spec)
    # A status from before there was a hash: a new generation is a changed spec, unless it can be a mere scaling.
    scaled = before.effective is not None and before.effective.replicas != spec.replicas
    return 0 <= before.observed_generation < agent.metadata.generation and not scaled
