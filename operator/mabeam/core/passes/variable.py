"""One pass over an OrchestrationVariable: gather → value → gate → directives → record (docs/design/0012-coordinator.md).

`rounds.run_round` decides the value. This module adds the directives that follow from it, the failure budget, and the status.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from mabeam.api.names import Reason
from mabeam.api.variable import Mode
from mabeam.api.variable_status import OrchestrationVariableStatus, ResolvedAgents, ValueOrigin
from mabeam.core.conventions.conditions import KStatus, kstatus_conditions, merge_conditions
from mabeam.core.coordination.config_maps.decision import record_effects
from mabeam.core.coordination.config_maps.directives import directive_shard_effects
from mabeam.core.coordination.config_maps.history import history_effects, history_of, next_sample
from mabeam.core.coordination.convergence import (
    DirectiveProgress,
    directives_progress,
    directives_summary,
    overall_progress,
    value_in_force,
)
from mabeam.core.coordination.failure_budget import failure_events, update_failure_budget
from mabeam.core.coordination.gate import RoundResult
from mabeam.core.coordination.round_record import recorded_failure
from mabeam.core.coordination.rounds import run_round, start_value
from mabeam.core.coordination.status import (
    record_events,
    status_reason,
    variable_conditions,
    variable_events,
    variable_kstatus,
)
from mabeam.core.coordination.working_set import VariablePass, blocking_problem, with_value_in_force
from mabeam.core.decision import Decision, soonest
from mabeam.core.directives.suspension import is_frozen
from mabeam.core.snapshot import VariableSnapshot

# As many agents as `status.agents` names.
LISTED: Final = 100


def decide(snapshot: VariableSnapshot, now: datetime) -> Decision[OrchestrationVariableStatus]:
    """The variable's next status, the writes to its own ConfigMaps, and the Events."""
    if snapshot.invalid is not None:
        return invalid(snapshot, snapshot.invalid, now)
    variable, before = snapshot.variable, snapshot.variable.status
    if variable.metadata.deletion_timestamp is not None:
        # The garbage collector deletes its ConfigMaps; its directives end in the passes of its agents.
        return Decision(before, "unchanged")
    pass_ = VariablePass.begin(snapshot, now)
    problem = blocking_problem(pass_)
    suspended = variable.spec.paused or is_frozen(variable)
    result = RoundResult(before) if suspended else _round(pass_, problem)
    advises = variable.spec.mode is Mode.ADVISE
    progress = () if advises else directives_progress(variable, pass_.agents, result.status.value)
    budget = update_failure_budget(
        variable,
        result.status,
        with_value_in_force(problem, result.status.value)
        if problem is not None
        else variable_kstatus(variable, result, overall_progress(progress)),
        now=now,
        undecided=problem is None and recorded_failure(result.status) is not None,
        attempted=result.attempted,
    )
    status = _next_status(pass_, budget.status, budget.kstatus, progress=progress, now=now)
    return Decision(
        status,
        status_reason(before, status),
        effects=() if advises or variable.spec.paused else directive_shard_effects(snapshot, progress),
        events=(*variable_events(pass_, status, budget.kstatus), *budget.events, *record_events(before, status)),
        requeue_after=soonest(result.requeue, budget.requeue, next_sample(snapshot, now)),
        function_calls=result.function_calls,
        effects_before_status=(*record_effects(snapshot, now, status), *history_effects(snapshot, status, now)),
    )


def _round(pass_: VariablePass, problem: KStatus | None) -> RoundResult:
    """The result of this pass's round; while there is a problem the stored value stays."""
    if problem is None:
        return run_round(pass_.inputs)
    if problem.reason is Reason.AGENT_UNAVAILABLE:
        return start_value(pass_.inputs, problem.message)
    return RoundResult(pass_.before)


def _next_status(
    pass_: VariablePass,
    status: OrchestrationVariableStatus,
    kstatus: KStatus,
    *,
    progress: Sequence[DirectiveProgress],
    now: datetime,
) -> OrchestrationVariableStatus:
    """The decided status with agents, directives, history and conditions filled in."""
    generation = pass_.variable.metadata.generation
    conditions = variable_conditions(pass_, status, kstatus)
    return status.model_copy(
        update={
            "observed_generation": generation,
            "agents": ResolvedAgents(
                selected=len(pass_.agents),
                missing=pass_.missing[:LISTED],
                names=tuple(agent.metadata.name for agent in pass_.agents[:LISTED]),
            ),
            "value_in_force": value_in_force(status.value, progress),
            "value_origin": _value_origin(pass_.before, status),
            "directives": directives_summary(progress),
            "history": history_of(pass_.snapshot, status, now),
            "conditions": merge_conditions(pass_.before.conditions, conditions, generation, now.replace(microsecond=0)),
        }
    )


def _value_origin(before: OrchestrationVariableStatus, status: OrchestrationVariableStatus) -> ValueOrigin | None:
    """How the value in force came about: the stored one until another value comes."""
    last = status.last_decision
    if status.value is None or last is None:
        return None
    if status.value == before.value and before.last_decision is not None:
        return before.value_origin
    return ValueOrigin(time=last.time, round=status.round, rule=last.rule, message=last.message)


def invalid(snapshot: VariableSnapshot, message: str, now: datetime) -> Decision[OrchestrationVariableStatus]:
    """The decision on a variable whose spec cannot be read: the condition Accepted is False, and the value in force stays."""
    before = snapshot.variable.status
    generation = snapshot.variable.metadata.generation
    kstatus = KStatus(False, Reason.INVALID_SPEC, message, stalled=True, accepted=False)
    changed = kstatus_conditions(kstatus)
    kept = [c for c in before.conditions if c.type not in {one.type for one in changed}]
    conditions = merge_conditions(before.conditions, (*changed, *kept), generation, now.replace(microsecond=0))
    status = before.model_copy(update={"observed_generation": generation, "conditions": conditions})
    return Decision(status, status_reason(before, status), (), failure_events(before, kstatus))
