"""The identity of this process, from the environment variables that the operator sets in the pod."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Identity:
    """One incarnation of one replica of an agent. Outside a cluster the fields are empty and the numbers 0."""

    agent: str = ""
    namespace: str = ""
    pod: str = ""
    ordinal: int = 0  # which replica, from 0
    incarnation: int = 0  # which pod of that replica, from 1
    role: str = ""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Identity:
        """The identity in the `MABEAM_*` variables; raises ValueError naming the variable that is not a number."""
        return cls(
            agent=environ.get("MABEAM_AGENT", ""),
            namespace=environ.get("MABEAM_NAMESPACE", ""),
            pod=environ.get("MABEAM_POD", ""),
            ordinal=whole_number(environ, "MABEAM_ORDINAL", 0),
            incarnation=whole_number(environ, "MABEAM_INCARNATION", 0),
            role=environ.get("MABEAM_ROLE", ""),
        )


def whole_number(environ: Mapping[str, str], name: str, default: int) -> int:
    """The variable as an int >= 0, the default when it is unset or empty; raises ValueError naming it otherwise."""
    text = environ.get(name, "").strip()
    if not text:
        return default
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"environment variable {name} must be a whole number, got {text!r}")
    return int(text)
