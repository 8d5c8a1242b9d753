"""The load of the system in [0, 1], with the source that it was measured by.

The nodes' mean cpu utilisation where metrics.k8s.io has it; else the pressure or load average of the operator's own node.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mabeam.api.rest import Capacity, Load, Source


@dataclass(frozen=True, slots=True)
class LoadFiles:
    """The files in which Linux shows load; a test has others."""

    node: Path = Path("/proc/pressure/cpu")
    cgroup: Path = Path("/sys/fs/cgroup/cpu.pressure")
    average: Path = Path("/proc/loadavg")


FILES: Final = LoadFiles()


def parse_pressure(text: str) -> float | None:
    """The share of the last ten seconds in which some task waited for a cpu (`some avg10`), None when it is missing."""
    for line in text.splitlines():
        kind, *pairs = line.split() or [""]
        if kind == "some":
            averages = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
            return _share(averages.get("avg10", ""), 100.0)
    return None


def parse_average(text: str, cpus: int) -> float | None:
    """The load average of the last minute for each cpu; None when the file is empty."""
    fields = text.split()
    return _share(fields[0], float(max(1, cpus))) if fields else None


def _share(text: str, whole: float) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return min(1.0, value / whole) if value >= 0 else None


def read_load(capacity: Capacity | None, files: LoadFiles = FILES, cpus: int | None = None) -> Load | None:
    """The load by the first measure that is available; None without any."""
    if capacity is not None:
        return Load(value=capacity.cpu, source=Source.METRICS_API)
    count = cpus or os.cpu_count() or 1
    sources: tuple[tuple[Path, Callable[[str], float | None], Source], ...] = (
        (files.node, parse_pressure, Source.NODE_PRESSURE),
        (files.cgroup, parse_pressure, Source.CGROUP_PRESSURE),
        (files.average, lambda text: parse_average(text, count), Source.LOAD_AVERAGE),
    )
    for path, parse, source in sources:
        try:
            value = parse(path.read_text(encoding="ascii", errors="replace"))
        except OSError:  # a kernel without PSI, or with it switched off, refuses even to open the file
            continue
        if value is not None:
            return Load(value=round(value, 4), source=source)
    return None


@dataclass(frozen=True)
class LoadMeter:
    """Measures the load at each call."""

    capacity: Callable[[], Capacity | None]
    files: LoadFiles = FILES

    def record(self) -> Load | None:
        """The load as the record of `/v1/status`; None where there is no source."""
        return read_load(self.capacity(), self.files)

    def load(self) -> tuple[float, str] | None:
        """The load in [0, 1] and the name of its source; None where there is no source."""
        found = self.record()
        return (found.value, found.source.value) if found is not None else None
