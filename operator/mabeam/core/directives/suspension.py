"""Whether a variable is suspended (paused, or frozen by its failure budget): then it makes no new directives."""

from mabeam.api.variable import OrchestrationVariable
from mabeam.api.variable_blocks import VariableEscalation
from mabeam.core.conventions.metadata import release_source


def is_suspended(variable: OrchestrationVariable) -> bool:
    """Whether the variable makes no new directives: its user paused it, or it is frozen with escalation policy Pause."""
    tolerance = variable.spec.fault_tolerance
    pauses = tolerance is not None and tolerance.escalation_policy is VariableEscalation.PAUSE
    return variable.spec.paused or (pauses and is_frozen(variable))


def is_frozen(variable: OrchestrationVariable) -> bool:
    """Whether the variable decides nothing new: its failure budget is exhausted, and it has not been released since."""
    tolerance, status = variable.spec.fault_tolerance, variable.status
    if tolerance is None or status.frozen_at is None or tolerance.escalation_policy is VariableEscalation.ALERT:
        return False
    return not is_released(variable)


def is_released(variable: OrchestrationVariable) -> bool:
    """Whether the user releases the variable in this pass, by the annotation or by a changed spec."""
    status, meta = variable.status, variable.metadata
    spec_changed = 0 <= status.observed_generation < meta.generation
    return release_source(meta, status.released_by, spec_changed=spec_changed) is not None
