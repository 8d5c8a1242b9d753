"""Reading of agents' reports, from their pods or from Prometheus."""
