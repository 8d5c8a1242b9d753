"""User functions for worlds in memory: evaluated on this machine as soon as a decision calls them; webhooks are not called."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from mabeam.core.functions import FunctionCall, FunctionResult, FunctionResults
from mabeam.core.snapshot import Key
from mabeam.evaluation.evaluator import evaluate_all


@dataclass
class LocalFunctions:
    """The calls of every key and their results, with the memory of `shell/functions/scheduler.py` but none of its delays."""

    _calls: dict[Key, dict[str, FunctionCall]] = field(default_factory=dict)  # those of the present decision, by id
    _results: dict[Key, dict[str, FunctionResult]] = field(default_factory=dict)
    _completed: dict[Key, datetime] = field(default_factory=dict)

    def results_for(self, key: Key) -> FunctionResults:
        """The results of the key's calls, by call id."""
        return self._results.get(key, {})

    def unused_calls(self, key: Key) -> tuple[FunctionCall, ...]:
        """The calls of the key's present decision, the oldest first."""
        return tuple(self._calls.get(key, {}).values())

    def completed_at(self, key: Key) -> datetime | None:
        """When a decision last used the results of all its calls; None when none did."""
        return self._completed.get(key)

    def call(self, key: Key, calls: Sequence[FunctionCall], now: datetime) -> bool:
        """Evaluate the calls of a decision; True when one of the results is new, so that the key has to be decided again."""
        unused = self._calls.get(key, {})
        if not calls:
            if unused:
                self._completed[key] = now
                # Also what failed stays: evaluated again it would fail again, and the scheduler's backoff has no clock here.
                self._results[key] = {id_: result for id_, result in self._results[key].items() if id_ in unused}
                self._calls[key] = {}
            return False
        self._calls[key] = unused | {call.id: call for call in calls}
        known = self._results.get(key, {})
        self._results[key] = evaluate_all(calls, known)
        return len(self._results[key]) > len(known)
