"""Pods whose reports cannot be read: since when, why, when they are asked again, and from when on it is reported."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import aiohttp

from mabeam.core.algorithms.backoff import capped_exponential
from mabeam.core.reports.reading import UnreadableReport
from mabeam.shell.kube.errors import ApiError

# A pod that does not answer is asked less and less often, at least this often unless its period is longer.
MAX_RETRY_SECONDS: Final = 30.0
# It is reported once so many reads in a row have failed, over so many seconds: a server may start after its container does.
REPORTED_AFTER_READS: Final = 3
REPORTED_AFTER_SECONDS: Final = 15.0

_PHRASES: Final[Mapping[type[BaseException], str]] = {
    aiohttp.ServerDisconnectedError: "the connection was closed before an answer",
    aiohttp.ClientPayloadError: "the connection was closed within the answer",
    aiohttp.ClientResponseError: "the answer is no HTTP",
    ConnectionResetError: "the connection was closed before an answer",
}


@dataclass(slots=True)
class Silence:
    """The failed reads of one pod since its last report."""

    since: datetime
    why: UnreadableReport
    reads: int = 0
    reported: bool = False

    def failed_again(self, why: UnreadableReport, now: datetime) -> bool:
        """Whether this failed read is the one from which on the pod counts as unreadable."""
        self.why, self.reads = why, self.reads + 1
        lasts = (now - self.since).total_seconds() >= REPORTED_AFTER_SECONDS
        begins = lasts and self.reads >= REPORTED_AFTER_READS and not self.reported
        self.reported = self.reported or begins
        return begins

    def retry_seconds(self, period: float) -> float:
        """Seconds until the pod is asked again."""
        return capped_exponential(self.reads - 1, min(period, MAX_RETRY_SECONDS), max(period, MAX_RETRY_SECONDS))


def describe_failure(problem: BaseException, timeout_seconds: float) -> str:
    """Why a report could not be read, as a phrase of our own or the system's: none of the answer is quoted."""
    if isinstance(problem, ApiError):
        return f"HTTP {problem.status}"
    if isinstance(problem, TimeoutError):
        return f"no answer within {timeout_seconds:g} s"
    if isinstance(problem, aiohttp.ClientConnectorError) and problem.os_error.errno:
        return os.strerror(problem.os_error.errno).lower()
    return next((phrase for kind, phrase in _PHRASES.items() if isinstance(problem, kind)), type(problem).__name__)
