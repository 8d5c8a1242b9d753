"""The rows of the benchmark, one module each."""

from collections.abc import Mapping
from typing import Final

from benchmarks.rows import p01_scale
from benchmarks.rows.row import Row

ROWS: Final[Mapping[str, Row]] = {
    row.id: row
    for row in (
        p01_scale.ROW,
        p01_scale.WRITES,
        p01_scale.CPU,
    )
}
