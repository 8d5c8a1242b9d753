"""The table of strategies: one function for each `spec.type`."""

from collections.abc import Callable, Mapping
from typing import Final

from mabeam.api.variable import OrchestrationType
from mabeam.core.coordination.strategies.allocation import allocate
from mabeam.core.coordination.strategies.custom import custom
from mabeam.core.coordination.strategies.election import elect
from mabeam.core.coordination.strategies.interface import StrategyInputs, StrategyResult
from mabeam.core.coordination.strategies.parameter import parameter
from mabeam.core.coordination.strategies.rate import rate
from mabeam.core.coordination.strategies.selection import select
from mabeam.core.coordination.strategies.threshold import check_thresholds
from mabeam.core.coordination.strategies.topology import topology

STRATEGIES: Final[Mapping[OrchestrationType, Callable[[StrategyInputs], StrategyResult]]] = {
    OrchestrationType.AGENT_SELECTION: select,
    OrchestrationType.RESOURCE_ALLOCATION: allocate,
    OrchestrationType.COMMUNICATION_TOPOLOGY: topology,
    OrchestrationType.ADAPTATION_RATE: rate,
    OrchestrationType.PERFORMANCE_THRESHOLD: check_thresholds,
    OrchestrationType.COORDINATION_PATTERN: elect,
    OrchestrationType.PARAMETER: parameter,
    OrchestrationType.CUSTOM: custom,
}
