"""Figures: what the operator costs and how quick it is, measured on the tests' cluster."""

import sys
from pathlib import Path

# The tests' clients, clusters and writers (tests/support) are the benchmarks' too.
_TESTS = str(Path(__file__).resolve().parents[1] / "tests")
if _TESTS not in sys.path:
    sys.path.append(_TESTS)
