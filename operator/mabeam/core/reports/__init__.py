"""Reports of agent processes: the OpenMetrics parser and the values that are remembered."""
