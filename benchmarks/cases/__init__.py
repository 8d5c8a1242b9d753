"""The cases of the benchmark, one module each."""

from collections.abc import Mapping
from typing import Final

from benchmarks.cases import (
    p01_scale,
    p03_idle,
    p04_one_failure,
    p05_all_failures,
    p06_change,
    p06_types,
    p07_memory,
    p09_restart,
    p10_fairness,
)
from benchmarks.cases.case import Case

CASES: Final[Mapping[str, Case]] = {
    case.id: case
    for case in (
        p01_scale.CASE,
        p01_scale.WRITES,
        p03_idle.CASE,
        p04_one_failure.CASE,
        p05_all_failures.CASE,
        p06_change.CASE,
        p06_types.CASE,
        p07_memory.CASE,
        p01_scale.CPU,
        p09_restart.CASE,
        p10_fairness.CASE,
    )
}
