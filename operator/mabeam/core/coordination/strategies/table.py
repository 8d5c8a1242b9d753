"""The table: which strategy decides on a variable of which type."""

from collections.abc import Callable, Mapping
from typing import Final

from mabeam.api.variable import OrchestrationType
from mabeam.core.coordination.strategies import allocation, custom, election, rate, selection, threshold
from mabeam.core.coordination.strategies import parameter as valued
from mabeam.core.coordination.strategies import topology as wiring
from mabeam.core.coordination.strategies.interface import StrategyInputs, StrategyResult

STRATEGIES: Final[Mapping[OrchestrationType, Callable[[StrategyInputs], StrategyResult]]] = {
    OrchestrationType.AGENT_SELECTION: selection.select,
    OrchestrationType.RESOURCE_ALLOCATION: allocation.allocate,
    OrchestrationType.COMMUNICATION_TOPOLOGY: wiring.topology,
    OrchestrationType.ADAPTATION_RATE: rate.rate,
    OrchestrationType.PERFORMANCE_THRESHOLD: threshold.watch,
    OrchestrationType.COORDINATION_PATTERN: election.pattern,
    OrchestrationType.PARAMETER: valued.parameter,
    OrchestrationType.CUSTOM: custom.custom,
}
