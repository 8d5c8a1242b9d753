"""The container's termination message: the last report as one line of JSON, then the reason as the last line.

The kubelet copies it to the pod's status (`containerStatuses[].state.terminated.message`), where the operator reads it
after the process and its report are gone.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from typing import Any

from mabeam.agent.error_text import one_line

# The container's `terminationMessagePath`, and its default.
VARIABLE = "MABEAM_TERMINATION_MESSAGE_PATH"
DEFAULT_PATH = "/dev/termination-log"

# The kubelet keeps 4096 bytes of one container, fewer where a pod has more than three; the operator's ledger keeps 1024
# of the last line.
MAX_REPORT_BYTES = 3000
MAX_REASON_BYTES = 1000


def write(environ: Mapping[str, str], reason: str, report: Mapping[str, Any] | None = None) -> None:
    """Write the message; without effect where the kubelet made no file for it."""
    line = one_line(reason).encode(errors="replace")[:MAX_REASON_BYTES].decode(errors="ignore")
    lines = [as_json(report), line] if report is not None else [line]
    path = environ.get(VARIABLE) or DEFAULT_PATH
    # The kubelet creates the file; outside a container there is none, and none is created. An error here must not change
    # the exit code.
    with contextlib.suppress(OSError, ValueError):
        file = os.open(path, os.O_WRONLY | os.O_TRUNC)
        with open(file, "w", encoding="utf-8") as message:
            message.write("\n".join(lines) + "\n")


def as_json(report: Mapping[str, Any]) -> str:
    """The report as one line of JSON; without its named metrics when it would be longer than the kubelet keeps."""
    line = json.dumps(report)
    return line if len(line) <= MAX_REPORT_BYTES else json.dumps({**report, "metrics": {}})
