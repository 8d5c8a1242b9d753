"""OpenMetrics text (or samples) of an agent → `Report`. A malformed or hostile sample is dropped; the others are used.

A parser of our own, because the core imports no client: one line is one sample, and a line that is not well-formed is skipped
and becomes a problem. The text of a problem does not contain the sample's value: problems are part of a status, which must not
change with every report.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from mabeam.api.variable_status import Choice
from mabeam.core.reports.report import (
    MAX_BYTES,
    MAX_LABEL_LENGTH,
    MAX_PROBLEM_LENGTH,
    MAX_PROBLEMS,
    MAX_SERIES,
    DirectiveRefusal,
    Report,
)

# A sample before it is judged: its metric, its labels, and its value as text.
Sample = tuple[str, Mapping[str, str], str]

# --- parsing --------------------------------------------------------------------------------------------------------


class _Bad(Exception):
    """A sample that is dropped; its text is the problem's."""


_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*+")
# Possessive quantifiers: a hostile line is read once, never backtracked over.
_LABEL = re.compile(r'[ \t]*+([a-zA-Z_][a-zA-Z0-9_]*+)[ \t]*+=[ \t]*+"((?:[^"\\]|\\.)*+)"[ \t]*+(,?)')
_CLOSE = re.compile(r"[ \t]*+\}")
# Value, timestamp, exemplar; the last two are read past.
_TAIL = re.compile(r"[ \t]*+([^\s#]++)(?:[ \t]++[^\s#]++)?+(?:[ \t]++#.*+)?[ \t]*+$")
_NUMBER = re.compile(r"[+-]?(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)(?:[eE][+-]?[0-9]++)?")
_NOT_FINITE = re.compile(r"[+-]?(?:nan|inf|infinity)", re.IGNORECASE)
_ESCAPE = re.compile(r"\\(.)")
_ESCAPED: Final = {"n": "\n"}


def parse(text: str | bytes) -> Report:
    """The report in the text: every well-formed sample of a known name, and the problems of the others.

    Samples of other names are none of our business and are skipped unread; a text of more than 64 KiB is dropped whole.
    """
    raw = text.encode(errors="replace") if isinstance(text, str) else text
    draft = _Draft()
    if len(raw) > MAX_BYTES:
        draft.problem("report larger than 64 KiB")
        return draft.report()
    # Split at line feeds alone: a label's value may hold any of the characters that `splitlines` splits at.
    for number, line in enumerate(raw.decode(errors="replace").split("\n"), start=1):
        _read_line(draft, number, line.strip(" \t\r"))
    return draft.report()


def report_from_samples(samples: Iterable[Sample]) -> Report:
    """The report that these samples make, as if they had been read from a text: the same rules, bounds and problems."""
    draft = _Draft()
    for name, labels, value in samples:
        if not draft.has_room_for(name):
            continue
        try:
            METRICS[name](draft, labels, _number(value))
        except _Bad as bad:
            draft.problem(f"{_series(name, labels)}: {bad}")
    return draft.report()


def _read_line(draft: "_Draft", number: int, line: str) -> None:
    if not line or line.startswith("#"):
        return
    name = _NAME.match(line)
    if name is None:
        draft.problem(f"line {number} is not a sample")
        return
    if not draft.has_room_for(name.group()):
        return
    labels: dict[str, str] = {}
    try:
        end = _read_labels(line, name.end(), labels)
        METRICS[name.group()](draft, labels, _read_value(line, end))
    except _Bad as bad:
        draft.problem(f"{_series(name.group(), labels)}: {bad}")


def _read_labels(line: str, start: int, labels: dict[str, str]) -> int:
    """Fill `labels`; returns where they end."""
    if not line.startswith("{", start):
        return start
    position = start + 1
    while (label := _LABEL.match(line, position)) is not None:
        key, value, comma = label.groups()
        if key in labels:
            raise _Bad("malformed labels")
        labels[key] = _ESCAPE.sub(lambda escape: _ESCAPED.get(escape.group(1), escape.group(1)), value)
        position = label.end()
        if not comma:
            break
    close = _CLOSE.match(line, position)
    if close is None:
        raise _Bad("malformed labels")
    return close.end()


def _read_value(line: str, start: int) -> float:
    tail = _TAIL.match(line, start)
    return _number(tail.group(1) if tail is not None else "")


def _number(text: str) -> float:
    number = float(text) if _NUMBER.fullmatch(text) else math.nan if _NOT_FINITE.fullmatch(text) else None
    if number is None:
        raise _Bad("malformed sample")
    if not math.isfinite(number):
        raise _Bad("not a finite number")
    return number


def _series(name: str, labels: Mapping[str, str]) -> str:
    """The series as a problem names it: the metric, and the variable or proposal it is about."""
    about = next((f"{key}={labels[key][:64]!r}" for key in ("variable", "proposal") if key in labels), "")
    return f"{name}{{{about}}}" if about else name


@dataclass
class _Draft:
    """A report in the making; it never leaves this module."""

    performance: dict[str, float] = field(default_factory=dict)
    numbers: dict[str, float] = field(default_factory=dict)
    choices: dict[str, dict[str, float]] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)
    bids: dict[str, float] = field(default_factory=dict)
    ballots: dict[str, dict[str, float]] = field(default_factory=dict)
    single: dict[str, float] = field(default_factory=dict)
    refusals: list[DirectiveRefusal] = field(default_factory=list)
    series: int = 0
    problems: list[str] = field(default_factory=list)

    def problem(self, text: str, *, always: bool = False) -> None:
        """Tell a problem once; `always` makes room for it among the bounded number that is kept."""
        text = text[:MAX_PROBLEM_LENGTH]
        if text in self.problems:
            return
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(text)
        elif always:
            self.problems[-1] = text

    def has_room_for(self, name: str) -> bool:
        """Whether a series of that name is to be read: it is one of ours, and not beyond the bound."""
        if name not in METRICS:
            return False
        self.series += 1
        if self.series > MAX_SERIES:
            self.problem(f"more than {MAX_SERIES} series: the rest is dropped", always=True)
        return self.series <= MAX_SERIES

    def report(self) -> Report:
        applied = self.single.get("mabeam_applied_generation")
        return Report(
            performance=self.performance,
            numbers=self.numbers,
            choices=self.choices,
            weights=self.weights,
            bids=self.bids,
            votes={proposal: _strongest(cast) for proposal, cast in self.ballots.items()},
            applied_generation=None if applied is None else int(applied),
            refusals=tuple(self.refusals),
            progress=self.single.get("mabeam_progress_total"),
            waiting_until=self.single.get("mabeam_waiting_until_seconds"),
            problems=tuple(self.problems),
        )


def _strongest(strengths: Mapping[str, float]) -> str:
    return min(strengths, key=lambda choice: (-strengths[choice], choice))


def _label(labels: Mapping[str, str], key: str, *, least: int = 1) -> str:
    value = labels.get(key)
    if value is None or not least <= len(value) <= MAX_LABEL_LENGTH:
        raise _Bad(f"label {key} is missing, empty or too long")
    return value


def _put(into: dict[str, float], key: str, value: float) -> None:
    if key in into:
        raise _Bad("given twice")
    into[key] = value


def _amount(value: float) -> float:
    if value < 0:
        raise _Bad("negative")
    return value


def _whole(value: float) -> float:
    if value < 0 or value != int(value) or value > 2**53:
        raise _Bad("not a whole number")
    return value


def _performance(draft: _Draft, labels: Mapping[str, str], value: float) -> None:
    _put(draft.performance, _label(labels, "metric") if labels.get("metric") else "", value)


def _preference(draft: _Draft, labels: Mapping[str, str], value: float) -> None:
    variable = _label(labels, "variable")
    if "value" in labels:
        choice, strength = _label(labels, "value"), _amount(value)
        _put(draft.choices.setdefault(variable, {}), choice, strength)
    else:
        _put(draft.numbers, variable, value)


def _weight(draft: _Draft, labels: Mapping[str, str], value: float) -> None:
    _put(draft.weights, _label(labels, "variable"), _amount(value))


def _bid(draft: _Draft, labels: Mapping[str, str], value: float) -> None:
    _put(draft.bids, _label(labels, "variable"), _amount(value))


def _vote(draft: _Draft, labels: Mapping[str, str], value: float) -> None:
    proposal, choice = _label(labels, "proposal"), _label(labels, "choice")
    if choice not in set(Choice):
        raise _Bad(f"label choice must be {', '.join(Choice)}, spelt like this")
    if _amount(value) > 0:
        _put(draft.ballots.setdefault(proposal, {}), choice, value)


def _refused(draft: _Draft, labels: Mapping[str, str], value: float) -> None:
    variable = _label(labels, "variable", least=0)
    generation = labels.get("generation", "")
    if not (generation.isascii() and generation.isdigit() and len(generation) <= 16):
        raise _Bad("label generation is not a whole number")
    if value > 0:
        draft.refusals.append(DirectiveRefusal(variable, int(generation), labels.get("reason", "")[:MAX_LABEL_LENGTH]))


def _applied_generation(draft: _Draft, _: Mapping[str, str], value: float) -> None:
    _put(draft.single, "mabeam_applied_generation", _whole(value))


def _progress(draft: _Draft, _: Mapping[str, str], value: float) -> None:
    _put(draft.single, "mabeam_progress_total", _amount(value))


def _waiting_until(draft: _Draft, _: Mapping[str, str], value: float) -> None:
    _put(draft.single, "mabeam_waiting_until_seconds", value)


METRICS: Final[Mapping[str, Callable[[_Draft, Mapping[str, str], float], None]]] = {
    "mabeam_performance": _performance,
    "mabeam_preference": _preference,
    "mabeam_preference_weight": _weight,
    "mabeam_bid": _bid,
    "mabeam_vote": _vote,
    "mabeam_applied_generation": _applied_generation,
    "mabeam_refused": _refused,
    "mabeam_progress_total": _progress,
    "mabeam_waiting_until_seconds": _waiting_until,
}
