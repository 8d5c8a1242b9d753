"""The rows of the benchmark, one module each."""

from collections.abc import Mapping
from typing import Final

from benchmarks.rows import (
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
from benchmarks.rows.row import Row

ROWS: Final[Mapping[str, Row]] = {
    row.id: row
    for row in (
        p01_scale.ROW,
        p01_scale.WRITES,
        p03_idle.ROW,
        p04_one_failure.ROW,
        p05_all_failures.ROW,
        p06_change.ROW,
        p06_types.ROW,
        p07_memory.ROW,
        p01_scale.CPU,
        p09_restart.ROW,
        p10_fairness.ROW,
    )
}
