"""What the reading of one process's reports shows: how long its progress has stood still, and why it cannot be read."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Self


@dataclass(frozen=True, slots=True)
class Standstill:
    """For how long a process's progress counter has stood still, by the reports that were read."""

    count: float  # the counter
    read_at: datetime  # when it was last read
    seconds: float = 0  # for how long it has had this count, without the time in which nothing was read

    @property
    def since(self) -> datetime:
        """When the standstill would have begun, had the reports been read all the time."""
        return self.read_at - timedelta(seconds=self.seconds)

    def read_again(self, count: float, now: datetime, longest_gap: float) -> Self:
        """The standstill after one more report.

        A gap of more than `longest_gap` seconds between two reports counts as that many: the rest is time in which the operator
        did not read, and what it cannot see must end no agent.
        """
        if count != self.count:
            return replace(self, count=count, read_at=now, seconds=0.0)
        gap = max(0.0, (now - self.read_at).total_seconds())
        return replace(self, read_at=now, seconds=self.seconds + min(gap, longest_gap))


@dataclass(frozen=True, slots=True)
class UnreadableReport:
    """Why a pod's report cannot be read."""

    address: str  # where it is read; empty: it has no address that may be read
    error: str  # a phrase, such as "connection refused"

    def __str__(self) -> str:
        """Address and error as a phrase for messages."""
        return f"{self.address}: {self.error}" if self.address else self.error
