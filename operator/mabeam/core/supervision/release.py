"""Release: the budget window is emptied, the ledger keeps its history; and the half-open try of a parked agent."""

from mabeam.api.agent import Agent, AgentSpec
from mabeam.api.names import ANNOTATION_RELEASE, Reason
from mabeam.core.conventions.metadata import annotation_request
from mabeam.core.conventions.times import add_seconds
from mabeam.core.decision import Event
from mabeam.core.pods import spec_hash
from mabeam.core.supervision import working_set
from mabeam.core.supervision.working_set import AgentPass


def release(pass_: AgentPass, reborn: bool) -> bool:
    """Whether the agent begins anew: by the annotation, a changed spec, or (`reborn`) its Supervisor's next life."""
    agent, before = pass_.snapshot.agent, pass_.snapshot.agent.status
    asked = annotation_request(agent.metadata, ANNOTATION_RELEASE)
    by_annotation = bool(asked) and asked != before.released_by
    if not by_annotation and not reborn and not spec_changed(agent, pass_.snapshot.user_spec):
        return False
    if pass_.parked_at is not None:
        why = (
            "its Supervisor" if reborn else "the annotation " + ANNOTATION_RELEASE if by_annotation else "a spec change"
        )
        pass_.events.append(Event(Reason.AGENT_RELEASED, f"released by {why}; the failure window is empty again"))
    pass_.parked_at = pass_.probed_at = None
    pass_.ledger[:] = [failure.model_copy(update={"released": True}) for failure in pass_.ledger]
    return True


def probe(pass_: AgentPass) -> bool:
    """Whether a parked agent is tried again now; the try is over when a whole window passed without a failure.

    The half-open state of a circuit breaker. Not under `Escalate`: there the Supervisor tries again; nor while nothing may pass_.
    """
    spec = pass_.snapshot.agent.spec
    tolerance = spec.fault_tolerance
    if pass_.parked_at is None and pass_.probed_at is not None:
        over = add_seconds(pass_.probed_at, tolerance.failure_window_seconds)
        if pass_.now < over:
            pass_.wake(over)
        elif all(failure.time < pass_.probed_at or not failure.counted for failure in pass_.ledger):
            pass_.probed_at = None
            pass_.ledger[:] = [failure.model_copy(update={"released": True}) for failure in pass_.ledger]
        return False
    if pass_.parked_at is None or tolerance.probe_after_seconds is None or working_set.escalates(pass_.snapshot):
        return False
    if spec.replicas == 0 or working_set.is_wanted_down(pass_.snapshot):
        return False
    due = add_seconds(pass_.parked_at, tolerance.probe_after_seconds)
    if pass_.now < due:
        pass_.wake(due)
        return False
    pass_.parked_at, pass_.probed_at = None, pass_.now
    pass_.events.append(Event(Reason.AGENT_PROBED, "parked; tried once more, one failure parks it again"))
    return True


def spec_changed(agent: Agent, spec: AgentSpec | None = None) -> bool:
    """Whether the spec, `replicas` apart, is another than the one the stored status was decided for."""
    before, spec = agent.status, spec or agent.spec
    if before.spec_hash is not None:
        return before.spec_hash != spec_hash.spec_hash(spec)
    # A status from before there was a hash: a new generation is a changed spec, unless it can be a mere scaling.
    scaled = before.effective is not None and before.effective.replicas != spec.replicas
    return 0 <= before.observed_generation < agent.metadata.generation and not scaled
