"""Hashes of JSON values by one canonical form: equal values have equal hashes in every module."""

import hashlib
import json
from typing import Any


def digest(value: Any) -> str:
    """`sha256:` and the hex SHA-256 of the value's canonical JSON."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(canonical.encode()).hexdigest()}"


def short_digest(value: Any) -> str:
    """The first 16 hex digits of the same hash, for names and annotations."""
    return digest(value).partition(":")[2][:16]
