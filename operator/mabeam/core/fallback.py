"""What a failed decision leaves in force: the last value, or the fallback, which has to be as sound as any other value."""

from dataclasses import dataclass
from typing import Any

from mabeam.api.blocks import VariableRecovery
from mabeam.api.variable import OrchestrationType
from mabeam.core import domain as domains
from mabeam.core import guardrails
from mabeam.core.questions import Ask
from mabeam.core.strategies.round import Round


@dataclass(frozen=True)
class Recovered:
    """What a failure leaves in force, and why; or what is to be asked before that is known."""

    value: Any
    message: str
    asks: tuple[Ask, ...] = ()


def recovered(round_: Round, value: Any, message: str) -> Recovered:
    """What a failure leaves in force, by `recoveryStrategy`. A fallback has to obey the domain and the rules like any value."""
    tolerance, spec = round_.variable.spec.fault_tolerance, round_.variable.spec
    if tolerance is None or tolerance.recovery_strategy is not VariableRecovery.FALLBACK:
        return Recovered(value, message)
    wanted = spec.value if tolerance.fallback_value is None else tolerance.fallback_value
    bounded = spec.type is not OrchestrationType.CUSTOM or "domain" in spec.model_fields_set
    fallback = domains.adopt(spec.domain, wanted) if bounded and wanted is not None else wanted
    if fallback is None or fallback == value:
        return Recovered(value, message)
    checked = guardrails.check(round_, fallback)
    if checked.asks:
        return Recovered(value, message, checked.asks)
    if checked.broken is not None:
        return Recovered(value, f"{message}; nor is fallbackValue {domains.plain(fallback)} allowed: {checked.broken}")
    return Recovered(fallback, f"{domains.plain(fallback)} by fallbackValue: {message}")
