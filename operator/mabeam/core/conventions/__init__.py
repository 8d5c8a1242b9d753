"""Kubernetes conventions: conditions, metadata, times, hashes."""
