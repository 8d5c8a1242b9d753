"""JSON values → hashes, by one canonical form, so that the same value has the same hash wherever it is asked for."""

import hashlib
import json
from typing import Any


def digest(value: Any) -> str:
    """The SHA-256 of a JSON value in canonical form, named as such."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(canonical.encode()).hexdigest()}"


def short_digest(value: Any) -> str:
    """The first sixteen hex digits of it, for names and annotations."""
    return digest(value).partition(":")[2][:16]
