"""Where it is measured: the machine, the versions, and how fast the machine is at this very moment."""

import os
import platform
import statistics
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import psutil

_LIBRARIES: Final = ("kopf", "aiohttp", "pydantic")
_TURNS: Final = 300_000


def describe(kubernetes: str) -> dict[str, Any]:
    """The machine and the versions, for the results."""
    return {
        "cpus": os.cpu_count(),
        "processor": _processor(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "kernel": platform.release(),
        "versions": {
            "Kubernetes": kubernetes,
            "Python": platform.python_version(),
            **{name: version(name) for name in _LIBRARIES},
        },
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def load() -> float:
    """The load average of the last minute."""
    return round(os.getloadavg()[0], 2)


def reference_task_ms() -> float:
    """The CPU milliseconds that a fixed piece of Python takes now.

    Neighbours on the same physical machine slow a core down without being seen in its load; two results whose times
    of it differ must not be compared in seconds, of CPU or of the clock, but only in ratios.
    """
    return round(1000 * statistics.median(_turns() for _ in range(5)), 2)


def _turns() -> float:
    begun, sum_ = time.process_time(), 0
    for number in range(_TURNS):
        sum_ += number % 7
    return time.process_time() - begun
