"""Exponential backoff with a cap, and with deterministic jitter for an agent's restarts."""

import hashlib

from mabeam.api.agent import Backoff


def capped_exponential(attempt: int, first: float, cap: float, *, factor: float = 2.0) -> float:
    """The delay in seconds before retry number `attempt`, counted from 0: first · factor^attempt, at most `cap`."""
    try:
        return min(first * factor**attempt, cap)
    except OverflowError:
        return cap


def restart_delay(backoff: Backoff, restarts: int, seed: str) -> float:
    """The seconds before a restart: 0 for the first after a healthy spell, then exponential, jittered, never above the cap.

    The jitter is derived from `seed` (`uid:ordinal:incarnation`), so a second pass over the same facts gets the same time.
    """
    if restarts <= 0:
        return 0.0
    delay = capped_exponential(restarts - 1, backoff.initial_seconds, backoff.max_seconds, factor=backoff.factor)
    unit = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8]) / 2**64
    return min(delay * (1 + backoff.jitter * (2 * unit - 1)), backoff.max_seconds)
