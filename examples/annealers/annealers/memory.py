"""How much memory the kernel lets this container have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

# As cgroup v2 has it, and as v1 had it.
FILES = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
# v1 says "no limit" by the largest number it can.
UNLIMITED = 2**60


def limit(files: Sequence[Path] = FILES) -> int | None:
    """The limit in bytes, as it is at this moment: a resize changes it under the running process. None without one."""
    for file in files:
        try:
            text = file.read_text().strip()
        except OSError:
            continue
        if text.isascii() and text.isdigit() and int(text) < UNLIMITED:
            return int(text)
    return None
