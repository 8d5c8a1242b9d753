"""The HTTP server: probes, metrics, the REST API `/v1`, and how others find it."""
