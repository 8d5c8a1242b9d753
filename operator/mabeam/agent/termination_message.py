"""Last words: what a process leaves behind for whoever asks why it ended.

The kubelet keeps them in the pod's status (`containerStatuses[].state.terminated.message`), where they are still read
when the process and its report are gone: the last report as one line of JSON, then the reason as the last line.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from typing import Any

# What Kubernetes calls `terminationMessagePath`, and its default.
VARIABLE = "MABEAM_TERMINATION_MESSAGE_PATH"
DEFAULT_PATH = "/dev/termination-log"

# The kubelet keeps 4096 bytes of one container, fewer where a pod has more than three; the operator's ledger keeps 1024
# of the last line.
MAX_REPORT_BYTES = 3000
MAX_REASON_BYTES = 1000


def write(environ: Mapping[str, str], reason: str, report: Mapping[str, Any] | None = None) -> None:
    """Write the last words; nothing happens where nobody collects them."""
    line = one_line(reason).encode(errors="replace")[:MAX_REASON_BYTES].decode(errors="ignore")
    lines = [as_json(report), line] if report is not None else [line]
    path = environ.get(VARIABLE) or DEFAULT_PATH
    # The kubelet made the file: where there is none this is no container, and none should appear. Whatever goes wrong
    # here, the exit code must still be the one that `run` earned.
    with contextlib.suppress(OSError):
        file = os.open(path, os.O_WRONLY | os.O_TRUNC)
        with open(file, "w", encoding="utf-8") as words:
            words.write("\n".join(lines) + "\n")


def one_line(text: str) -> str:
    """The text on one line: an exception's may have many."""
    return " ".join(text.split())


def as_json(report: Mapping[str, Any]) -> str:
    """The report as one line; without its named metrics when they are too many to be kept."""
    line = json.dumps(report)
    return line if len(line) <= MAX_REPORT_BYTES else json.dumps({**report, "metrics": {}})
