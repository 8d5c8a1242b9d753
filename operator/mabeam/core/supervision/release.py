"""Release: the failure window is emptied and the agent starts again; and the probe, a start of a parked agent on trial."""

from datetime import datetime

from mabeam.api.agent import Agent, AgentSpec
from mabeam.api.names import Reason
from mabeam.core.conventions.metadata import release_source
from mabeam.core.conventions.times import add_seconds
from mabeam.core.decision import Event
from mabeam.core.pods import spec_hash
from mabeam.core.supervision import working_set
from mabeam.core.supervision.working_set import AgentPass


def apply_release(pass_: AgentPass) -> None:
    """Set `pass_.released` when something releases the agent, else `pass_.probing` when a parked agent's probe is due."""
    source = _release_source(pass_)
    if source is None:
        pass_.probing = _probe(pass_)
        return
    if pass_.parked_at is not None:
        note = f"released by {source}; the failure window is empty again"
        pass_.events.append(Event(Reason.AGENT_RELEASED, note))
    pass_.parked_at = pass_.probed_at = None
    pass_.released = True
    _empty_window(pass_)


def _release_source(pass_: AgentPass) -> str | None:
    """Who or what releases the agent in this pass, for the Event; None: nothing does."""
    agent = pass_.snapshot.agent
    if pass_.restarted:
        return "its Supervisor"
    changed = spec_changed(agent, pass_.snapshot.user_spec)
    return release_source(agent.metadata, agent.status.released_by, spec_changed=changed)


def _empty_window(pass_: AgentPass) -> None:
    # A flag on each entry is exact; a moment of release would leave the failures of the same second undecided.
    pass_.ledger[:] = [failure.model_copy(update={"released": True}) for failure in pass_.ledger]


def _probe(pass_: AgentPass) -> bool:
    """Whether a parked agent is started on trial now: the half-open state of a circuit breaker.

    Not under `Escalate`, where the Supervisor restarts it, and not while no replica is to run.
    """
    if pass_.parked_at is None:
        if pass_.probed_at is not None:
            _end_probe(pass_, pass_.probed_at)
        return False
    spec = pass_.snapshot.agent.spec
    delay = spec.fault_tolerance.probe_after_seconds
    if delay is None or working_set.escalates(pass_.snapshot):
        return False
    if spec.replicas == 0 or working_set.is_stop_desired(pass_.snapshot):
        return False
    due = add_seconds(pass_.parked_at, delay)
    if pass_.now < due:
        pass_.requeue_at(due)
        return False
    pass_.parked_at, pass_.probed_at = None, pass_.now
    pass_.events.append(Event(Reason.AGENT_PROBED, "parked, now started on trial: one counted failure parks it again"))
    return True


def _end_probe(pass_: AgentPass, probed_at: datetime) -> None:
    """End the trial when a whole failure window has passed without a counted failure."""
    end = add_seconds(probed_at, pass_.snapshot.agent.spec.fault_tolerance.failure_window_seconds)
    if pass_.now < end:
        pass_.requeue_at(end)
    elif all(failure.time < probed_at or not failure.counted for failure in pass_.ledger):
        pass_.probed_at = None
        _empty_window(pass_)


def spec_changed(agent: Agent, spec: AgentSpec | None = None) -> bool:
    """Whether the spec (default: the agent's own), `replicas` apart, differs from the one behind the stored status."""
    before, spec = agent.status, spec or agent.spec
    if before.spec_hash is not None:
        return before.spec_hash != spec_hash.spec_hash(spec)
    # A status written before there was a hash: a new generation is a changed spec, unless it can be a mere scaling.
    scaled = before.effective is not None and before.effective.replicas != spec.replicas
    return 0 <= before.observed_generation < agent.metadata.generation and not scaled
