"""The table: which strategy decides on a variable of which type."""

from collections.abc import Callable, Mapping
from typing import Final

from mabeam.api.variable import OrchestrationType
from mabeam.core.outcome import Outcome
from mabeam.core.strategies import allocation, selection, threshold, valued, wiring
from mabeam.core.strategies.round import Round

STRATEGIES: Final[Mapping[OrchestrationType, Callable[[Round], Outcome]]] = {
    OrchestrationType.AGENT_SELECTION: selection.select,
    OrchestrationType.RESOURCE_ALLOCATION: allocation.allocate,
    OrchestrationType.COMMUNICATION_TOPOLOGY: wiring.topology,
    OrchestrationType.ADAPTATION_RATE: valued.rate,
    OrchestrationType.PERFORMANCE_THRESHOLD: threshold.watch,
    OrchestrationType.COORDINATION_PATTERN: wiring.pattern,
    OrchestrationType.PARAMETER: valued.parameter,
    OrchestrationType.CUSTOM: valued.custom,
}
