"""The samples of an agent's report: preferences, bids, votes, acknowledgements, performance and progress.

A report is a set of samples, so one store holds them all. Each method takes the lock once, so that a read sees a preference
and its weight together or neither.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, SupportsFloat

from mabeam.agent.error_text import encodable

# The operator reads at most this many series of a report. An error here, where the agent can react, is better than a
# report that is dropped there.
MAX_SERIES = 512
MAX_LABEL_LENGTH = 256

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Family:
    """A metric family: its OpenMetrics type and what it means."""

    type: str
    help: str


FAMILIES: Mapping[str, Family] = {
    "mabeam_performance": Family("gauge", "How well the agent does. Without a label: primary, higher is better."),
    "mabeam_preference": Family("gauge", "The wanted number, or with a value label the strength of that choice."),
    "mabeam_preference_weight": Family("gauge", "How much the preference for a variable should count."),
    "mabeam_bid": Family("gauge", "What the agent would pay to decide a variable."),
    "mabeam_vote": Family("gauge", "The choice cast on a proposal."),
    "mabeam_applied_generation": Family("gauge", "The newest generation of directives that is in force here."),
    "mabeam_refused": Family("gauge", "A directive refused; an empty variable refuses the whole generation."),
    "mabeam_progress": Family("counter", "Units of work done."),
    "mabeam_waiting_until_seconds": Family("gauge", "No progress is due before this Unix time."),
    "mabeam_directives_malformed": Family("counter", "Directives files that could not be parsed."),
}


class SampleStore:
    """The current samples of one agent. Safe to use from any thread."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._samples: dict[str, dict[Labels, float]] = {name: {} for name in FAMILIES}
        self._samples["mabeam_applied_generation"][()] = 0.0
        self._samples["mabeam_progress"][()] = 0.0
        self._samples["mabeam_directives_malformed"][()] = 0.0
        self._waits: dict[object, float] = {}

    def leave_in_child(self) -> None:
        """In a child made by fork: a lock of its own, because the parent's may have been held at that moment."""
        self._lock = threading.Lock()

    def families(self) -> list[tuple[str, Family, list[tuple[dict[str, str], float]]]]:
        """Every family that has samples, with its samples as (labels, value), as of one moment."""
        with self._lock:
            self._drop_expired_waits()
            return [
                (name, FAMILIES[name], [(dict(labels), value) for labels, value in samples.items()])
                for name, samples in self._samples.items()
                if samples
            ]

    def last_report(self) -> dict[str, Any]:
        """The samples that keep their meaning after the process ended: generation, progress, performance by metric."""
        with self._lock:
            performance = {
                dict(labels).get("metric", ""): value for labels, value in self._samples["mabeam_performance"].items()
            }
            return {
                "generation": int(self._samples["mabeam_applied_generation"][()]),
                "progress": self._samples["mabeam_progress"][()],
                "performance": performance.pop("", None),
                "metrics": performance,
            }

    def applied(self, generation: int) -> None:
        """Record a generation as applied; refusals of other generations are removed."""
        with self._lock:
            self._drop_refusals_except(generation)
            self._samples["mabeam_applied_generation"][()] = float(generation)

    def refuse(self, generation: int, variable: str, reason: str) -> None:
        """Record the refusal of a generation or, with `variable`, of one directive of it."""
        # The reason is often an exception's text: it is truncated, so that refusing never fails.
        text = encodable(str(reason))[:MAX_LABEL_LENGTH]
        labels = _labels(variable=encodable(variable), generation=str(generation), reason=text)
        with self._lock:
            self._drop_refusals_except(generation)
            self._replace("mabeam_refused", {labels: 1.0}, "variable", variable)

    def prefer(self, variable: str, value: float | str | Mapping[str, float], weight: float | None) -> None:
        """Record an offer for a variable. It replaces the earlier one, including its weight."""
        name = _name("variable", variable)
        wanted: dict[Labels, float] = {}
        if isinstance(value, str):
            value = {value: 1.0}
        if isinstance(value, Mapping):
            for choice, strength in value.items():
                labels = _labels(variable=name, value=_name("value", choice))
                wanted[labels] = _amount(f"strength of {choice}", strength)
        else:
            wanted[_labels(variable=name)] = _finite("value", value)
        weighed = {} if weight is None else {_labels(variable=name): _amount("weight", weight)}
        with self._lock:
            self._replace("mabeam_preference", wanted, "variable", name)
            self._replace("mabeam_preference_weight", weighed, "variable", name)

    def bid(self, variable: str, amount: float) -> None:
        """Record a bid for deciding a variable."""
        name = _name("variable", variable)
        with self._lock:
            self._replace("mabeam_bid", {_labels(variable=name): _amount("bid", amount)}, "variable", name)

    def withdraw(self, variable: str) -> None:
        """Remove the preference, its weight and the bid for a variable."""
        with self._lock:
            for family in ("mabeam_preference", "mabeam_preference_weight", "mabeam_bid"):
                self._replace(family, {}, "variable", variable)

    def vote(self, proposal: str, choice: str) -> None:
        """Record a vote on a proposal. The last vote counts."""
        name = _name("proposal", proposal)
        cast = {_labels(proposal=name, choice=_name("choice", choice)): 1.0}
        with self._lock:
            self._replace("mabeam_vote", cast, "proposal", name)

    def close_votes(self, proposals: Iterable[str]) -> None:
        """Remove the votes on closed proposals."""
        with self._lock:
            for proposal in proposals:
                self._replace("mabeam_vote", {}, "proposal", proposal)

    def perform(self, value: float, metric: str) -> None:
        """Record performance by the primary metric (no name) or by a named one."""
        labels = _labels(metric=_name("metric", metric)) if metric else ()
        with self._lock:
            self._add("mabeam_performance", labels, _finite("performance", value))

    def progress(self, steps: float) -> None:
        """Add to the progress counter."""
        done = _amount("steps", steps)
        with self._lock:
            self._samples["mabeam_progress"][()] += done

    def malformed(self) -> None:
        """Count a directives file that could not be parsed."""
        with self._lock:
            self._samples["mabeam_directives_malformed"][()] += 1

    def wait(self, seconds: float) -> object:
        """A token for a wait that begins now; the report shows the latest end of all open waits."""
        token = object()
        until = self._clock() + _amount("seconds", seconds)
        with self._lock:
            self._drop_expired_waits()
            self._waits[token] = until
        return token

    def end_wait(self, token: object) -> None:
        """End a wait; ending one that is over already is no error."""
        with self._lock:
            self._waits.pop(token, None)

    def _drop_expired_waits(self) -> None:
        now = self._clock()
        self._waits = {token: until for token, until in self._waits.items() if until > now}
        self._samples["mabeam_waiting_until_seconds"] = {(): max(self._waits.values())} if self._waits else {}

    def _drop_refusals_except(self, generation: int) -> None:
        kept = ("generation", str(generation))
        refused = self._samples["mabeam_refused"]
        self._samples["mabeam_refused"] = {labels: one for labels, one in refused.items() if kept in labels}

    def _replace(self, family: str, samples: Mapping[Labels, float], label: str, value: str) -> None:
        """Replace all samples of the family that carry this label value by `samples`; all or nothing."""
        before = self._samples[family]
        self._samples[family] = {labels: sample for labels, sample in before.items() if (label, value) not in labels}
        try:
            for labels, sample in samples.items():
                self._add(family, labels, sample)
        except ValueError:
            self._samples[family] = before
            raise

    def _add(self, family: str, labels: Labels, value: float) -> None:
        store = self._samples[family]
        if labels not in store and sum(map(len, self._samples.values())) >= MAX_SERIES:
            raise ValueError(f"{family}: a report holds at most {MAX_SERIES} series")
        store[labels] = value


def _labels(**labels: str) -> Labels:
    return tuple(labels.items())


def _name(field: str, text: str) -> str:
    """The text, if it is a valid label value; raises ValueError naming the field otherwise."""
    if not isinstance(text, str) or not 0 < len(text) <= MAX_LABEL_LENGTH:
        raise ValueError(f"{field} must be a text of 1 to {MAX_LABEL_LENGTH} characters, got {text!r:.80}")
    if encodable(text) != text:
        raise ValueError(f"{field} must be a text that UTF-8 can encode, got {text!r:.80}")
    return text


def _finite(field: str, value: float) -> float:
    """The value as a float; raises ValueError naming the field when it is no finite number."""
    # The operator would drop a sample that is not finite: the error is raised where the mistake was made.
    # Any SupportsFloat is accepted: the scalars of numerical libraries are not Python floats.
    try:
        if not isinstance(value, bool) and isinstance(value, SupportsFloat) and math.isfinite(number := float(value)):
            return number
    except OverflowError:  # a whole number above 1.8e308
        raise ValueError(f"{field} must be a finite number, got one that is too large") from None
    raise ValueError(f"{field} must be a finite number, got {value!r:.80}")


def _amount(field: str, value: float) -> float:
    """The value as a float >= 0; raises ValueError naming the field otherwise."""
    number = _finite(field, value)
    if number < 0:
        raise ValueError(f"{field} must not be negative, got {value!r}")
    return number
