"""One pass over a variable: gather → value → gate → directives → record (design, section 6).

What a round comes to is `rounds.play`'s; here are the facts it rests on, the directives that follow, and what people read of it.
"""

from datetime import datetime
from typing import Final

from mabeam.api.names import Reason
from mabeam.api.variable import Mode
from mabeam.api.variable_status import OrchestrationVariableStatus, ResolvedAgents
from mabeam.core.conventions.conditions import KStatus, kstatus_conditions, merge_conditions
from mabeam.core.coordination.config_maps.decision import record_effects
from mabeam.core.coordination.config_maps.directives import config_map_effects
from mabeam.core.coordination.config_maps.history import history_effects, history_of, next_sample
from mabeam.core.coordination.convergence import directives_of, judge, summarize
from mabeam.core.coordination.failure_budget import failure_events, reckon
from mabeam.core.coordination.gate import Played
from mabeam.core.coordination.round_record import failure_of
from mabeam.core.coordination.rounds import play
from mabeam.core.coordination.status import _conditions, _events, _verdict, status_reason
from mabeam.core.coordination.working_set import _look, _trouble
from mabeam.core.decision import Decision, soonest
from mabeam.core.directives.suspension import is_frozen
from mabeam.core.snapshot import VariableSnapshot

LISTED: Final = 100


def decide(snapshot: VariableSnapshot, now: datetime) -> Decision[OrchestrationVariableStatus]:
    """The variable's next status, then the writes to its own ConfigMaps, then the Events; rules: design section 6."""
    variable, before = snapshot.variable, snapshot.variable.status
    if variable.metadata.deletion_timestamp is not None:
        return Decision(before, "unchanged")  # the garbage collector and the agents' own passes have the rest
    run = _look(snapshot, now)
    trouble = _trouble(run)
    still = trouble is not None or variable.spec.paused or is_frozen(variable)
    played = Played(before) if still else play(run.round)
    status = played.status
    advise = variable.spec.mode is Mode.ADVISE
    told = () if advise else directives_of(variable, run.agents, status.value)
    verdict = trouble or _verdict(run, played, judge(told))
    undecided = trouble is None and failure_of(status) is not None
    setback = reckon(variable, status, verdict, now, undecided=undecided, tried=played.tried)
    verdict = setback.verdict
    status = setback.status.model_copy(
        update={
            "observed_generation": variable.metadata.generation,
            "agents": ResolvedAgents(
                selected=len(run.agents),
                missing=run.missing[:LISTED],
                names=tuple(agent.metadata.name for agent in run.agents[:LISTED]),
            ),
            "directives": summarize(told),
            "history": history_of(snapshot, setback.status, now),
            "conditions": merge_conditions(
                before.conditions,
                _conditions(run, setback.status, verdict),
                variable.metadata.generation,
                now.replace(microsecond=0),
            ),
        }
    )
    effects = () if advise or variable.spec.paused else config_map_effects(snapshot, told)
    beforehand = (*record_effects(snapshot, now, status), *history_effects(snapshot, status, now))
    events = (*_events(run, status, verdict), *setback.events)
    requeue = soonest(played.requeue, setback.requeue, next_sample(snapshot, now))
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
