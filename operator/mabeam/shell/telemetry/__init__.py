"""Metrics, spans, load and resource usage of the operator and the agents."""
