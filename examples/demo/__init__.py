"""The demo: a team of agents on a real Kubernetes, step by step, each promise checked as it is shown."""

import sys
from pathlib import Path

# The demo builds as the embedded cluster does: what it starts dies with it (embedded.owned).
_CLUSTER = str(Path(__file__).resolve().parents[2] / "hack" / "cluster")
if _CLUSTER not in sys.path:
    sys.path.append(_CLUSTER)
