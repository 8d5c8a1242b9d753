"""Exponential backoff with a cap and deterministic jitter."""

import hashlib
import math

from mabeam.api.agent import Backoff


def restart_delay(backoff: Backoff, restarts: int, seed: str) -> float:
    """The delay before a restart: 0 for the first after a healthy spell, then exponential, jittered, never above the cap.

    The jitter is derived from `seed` (`uid:ordinal:incarnation`), so a second look at the same facts gives the same time.
    """
    if restarts <= 0:
        return 0.0
    try:
        plain = backoff.initial_seconds * backoff.factor ** (restarts - 1)
    except OverflowError:
        plain = math.inf
    unit = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8]) / 2**64
    return min(min(plain, backoff.max_seconds) * (1 + backoff.jitter * (2 * unit - 1)), backoff.max_seconds)
