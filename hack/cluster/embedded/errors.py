"""The one exception that a user is meant to read."""

from __future__ import annotations


class ClusterError(Exception):
    """One line that names what is wrong and what to do; the command line prints it without a traceback."""


ELSEWHERE = "To use a Kubernetes you already have instead, set CLUSTER=current."


def cannot_run_here(reason: str) -> ClusterError:
    """An error for a machine that cannot carry the embedded cluster; it names the way out."""
    return ClusterError(f"{reason} {ELSEWHERE}")
