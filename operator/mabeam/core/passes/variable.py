"""One pass over an OrchestrationVariable: gather → value → gate → directives → record (docs/design/0012-coordinator.md).

`rounds.run_round` decides the value. This module adds the directives that follow from it, the failure budget, and the status.
"""

from datetime import datetime
from typing import Final

from mabeam.api.names import Reason
from mabeam.api.variable import Mode
from mabeam.api.variable_status import OrchestrationVariableStatus, ResolvedAgents
from mabeam.core.conventions.conditions import KStatus, kstatus_conditions, merge_conditions
from mabeam.core.coordination.config_maps.decision import record_effects
from mabeam.core.coordination.config_maps.directives import directive_shard_effects
from mabeam.core.coordination.config_maps.history import history_effects, history_of, next_sample
from mabeam.core.coordination.convergence import directives_progress, directives_summary, overall_progress
from mabeam.core.coordination.failure_budget import failure_events, update_failure_budget
from mabeam.core.coordination.gate import RoundResult
from mabeam.core.coordination.round_record import recorded_failure
from mabeam.core.coordination.rounds import run_round
from mabeam.core.coordination.status import status_reason, variable_conditions, variable_events, variable_kstatus
from mabeam.core.coordination.working_set import begin_pass, blocking_problem
from mabeam.core.decision import Decision, soonest
from mabeam.core.directives.suspension import is_frozen
from mabeam.core.snapshot import VariableSnapshot

LISTED: Final = 100


def decide(snapshot: VariableSnapshot, now: datetime) -> Decision[OrchestrationVariableStatus]:
    """The variable's next status, then the writes to its own ConfigMaps, then the Events; rules: design section 6."""
    if snapshot.invalid is not None:
        return invalid(snapshot, snapshot.invalid, now)
    variable, before = snapshot.variable, snapshot.variable.status
    if variable.metadata.deletion_timestamp is not None:
        return Decision(before, "unchanged")  # the garbage collector and the agents' own passes have the rest
    run = begin_pass(snapshot, now)
    trouble = blocking_problem(run)
    still = trouble is not None or variable.spec.paused or is_frozen(variable)
    played = RoundResult(before) if still else run_round(run.round)
    status = played.status
    advise = variable.spec.mode is Mode.ADVISE
    told = () if advise else directives_progress(variable, run.agents, status.value)
    verdict = trouble or variable_kstatus(run, played, overall_progress(told))
    undecided = trouble is None and recorded_failure(status) is not None
    budget = update_failure_budget(variable, status, verdict, now, undecided=undecided, tried=played.attempted)
    verdict = budget.verdict
    status = budget.status.model_copy(
        update={
            "observed_generation": variable.metadata.generation,
            "agents": ResolvedAgents(
                selected=len(run.agents),
                missing=run.missing[:LISTED],
                names=tuple(agent.metadata.name for agent in run.agents[:LISTED]),
            ),
            "directives": directives_summary(told),
            "history": history_of(snapshot, budget.status, now),
            "conditions": merge_conditions(
                before.conditions,
                variable_conditions(run, budget.status, verdict),
                variable.metadata.generation,
                now.replace(microsecond=0),
            ),
        }
    )
    effects = () if advise or variable.spec.paused else directive_shard_effects(snapshot, told)
    beforehand = (*record_effects(snapshot, now, status), *history_effects(snapshot, status, now))
    events = (*variable_events(run, status, verdict), *budget.events)
    requeue = soonest(played.requeue, budget.requeue, next_sample(snapshot, now))
    return Decision(status, status_reason(before, status), effects, events, requeue, played.function_calls, beforehand)


def invalid(snapshot: VariableSnapshot, message: str, now: datetime) -> Decision[OrchestrationVariableStatus]:
    """The decision on a variable whose spec cannot be read: say so, and leave the last good value in force."""
    before = snapshot.variable.status
    generation = snapshot.variable.metadata.generation
    verdict = KStatus(False, Reason.INVALID_SPEC, message, stalled=True, accepted=False)
    wanted = kstatus_conditions(verdict)
    kept = [c for c in before.conditions if c.type not in {w.type for w in wanted}]
    status = before.model_copy(
        update={
            "observed_generation": generation,
            "conditions": merge_conditions(before.conditions, (*wanted, *kept), generation, now.replace(microsecond=0)),
        }
    )
    return Decision(status, status_reason(before, status), (), failure_events(before, verdict))
