"""The simulation: the operator's own decisions over a cluster in memory, in virtual time, with scripted or random faults."""
