"""The report of one agent process, and what is remembered of its last periods."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from mabeam.api.agent import Agent, ReportSource


def expects_reports(agent: Agent) -> bool:
    """Whether the agent is expected to report: a `module` by default, a `template` when `spec.reports` says so."""
    if agent.spec.reports is not None:
        return agent.spec.reports.source is not ReportSource.NONE
    return agent.spec.module is not None


# The name by which variables and `/v1` know the metric that a report carries without a label (under "").
PRIMARY_METRIC: Final = "performance"

MAX_BYTES: Final = 65_536
MAX_SERIES: Final = 512
MAX_PROBLEMS: Final = 16
MAX_PROBLEM_LENGTH: Final = 160
MAX_LABEL_LENGTH: Final = 256
# How many report periods a good sample outlives the reports it is missing from.
REMEMBERED_PERIODS: Final = 3


@dataclass(frozen=True, slots=True)
class DirectiveRefusal:
    """A process refused the directive of a variable; an empty `variable` refuses the whole generation."""

    variable: str
    generation: int
    reason: str


@dataclass(frozen=True)
class Report:
    """One agent's word on itself: only finite, well-formed samples are in it; `problems` says what was dropped.

    `performance` is by metric name, the unlabelled (primary) one under "". `numbers` are numeric preferences by
    variable; `choices` are strengths by variable and choice.
    """

    performance: Mapping[str, float] = field(default_factory=dict)
    numbers: Mapping[str, float] = field(default_factory=dict)
    choices: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    bids: Mapping[str, float] = field(default_factory=dict)
    votes: Mapping[str, str] = field(default_factory=dict)
    applied_generation: int | None = None
    refusals: tuple[DirectiveRefusal, ...] = ()
    progress: float | None = None
    waiting_until: float | None = None
    problems: tuple[str, ...] = ()


# --- remembering ----------------------------------------------------------------------------------------------------

# The samples that outlive a bad report. `choices` are remembered per variable, whole: an agent that turns from one
# choice to another must not be held to both. The price: a withdrawn preference is felt after three periods.
_KEYED: Final = ("performance", "numbers", "choices", "weights", "bids", "votes")
_SINGLE: Final = ("progress", "waiting_until")

_Key = tuple[str, str]


@dataclass(frozen=True)
class RememberedReport:
    """An agent's last good samples with their times, and its newest report."""

    newest: Report = field(default_factory=Report)
    samples: Mapping[_Key, tuple[Any, datetime]] = field(default_factory=dict)
    period_seconds: float = 5

    def at(self, now: datetime) -> Report:
        """The report to decide by: each sample's last good value, as long as it is no older than three periods.

        Acknowledgement, refusals and problems are those of the newest report: an old "applied" is no answer.
        """
        kept = _kept(self.samples, now, self.period_seconds)
        fields: dict[str, Any] = {name: {} for name in _KEYED}
        for (name, key), value in kept.items():
            if name in _SINGLE:
                fields[name] = value[0]
            else:
                fields[name][key] = value[0]
        return Report(
            **fields,
            applied_generation=self.newest.applied_generation,
            refusals=self.newest.refusals,
            problems=self.newest.problems,
        )


def remember(
    previous: RememberedReport | None, report: Report | None, now: datetime, period_seconds: float
) -> RememberedReport:
    """What is known of the agent after this scrape; `report` is None when there was nothing to read."""
    before = previous or RememberedReport()
    kept = _kept(before.samples, now, period_seconds)
    fresh = {key: (value, now) for key, value in _samples(report).items()} if report is not None else {}
    return RememberedReport(report if report is not None else before.newest, {**kept, **fresh}, period_seconds)


def report_of_agent(ordinals: Mapping[int, RememberedReport], now: datetime) -> Report:
    """The report that stands for a whole agent: that of the lowest ordinal that still offers, votes or performs.

    `ordinals` is not empty. Where none does, the lowest one with any sample stands for the agent, else the lowest of all.
    """
    reports = [ordinals[ordinal].at(now) for ordinal in sorted(ordinals)]
    speaking = (report for report in reports if any(getattr(report, name) for name in _KEYED))
    counting = (report for report in reports if any(getattr(report, name) is not None for name in _SINGLE))
    return next(speaking, None) or next(counting, None) or reports[0]


def _samples(report: Report) -> dict[_Key, Any]:
    keyed: dict[_Key, Any] = {(name, key): value for name in _KEYED for key, value in getattr(report, name).items()}
    single = {(name, ""): getattr(report, name) for name in _SINGLE if getattr(report, name) is not None}
    return {**keyed, **single}


def _kept(
    samples: Mapping[_Key, tuple[Any, datetime]], now: datetime, period_seconds: float
) -> dict[_Key, tuple[Any, datetime]]:
    limit = timedelta(seconds=REMEMBERED_PERIODS * period_seconds)
    return {key: sample for key, sample in samples.items() if now - sample[1] <= limit}
