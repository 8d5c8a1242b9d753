"""The tree against supervisor.erl: after any history of exits the same children live, in the same lives, within the same budgets.

A sample; `make histories` lives 100,000 of them.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support import beside_otp
from support.beside_otp import Divergence, live
from support.histories import Exit, History, Step, a_history
from support.many_histories import lived

T = TypeVar("T")


@dataclass(frozen=True)
class Drawn:
    """Dice thrown by hypothesis, which shrinks what it finds."""

    draw: st.DrawFn

    def number(self, low: int, high: int) -> int:
        """One of the numbers, both ends included."""
        return self.draw(st.integers(low, high))

    def one_of(self, options: Sequence[T]) -> T:
        """One of the options."""
        return self.draw(st.sampled_from(options))


@st.composite
def histories(draw: st.DrawFn) -> History:
    """Histories as `make histories` lives them."""
    return a_history(Drawn(draw))


@settings(deadline=None, max_examples=60)
@given(histories())
def test_after_any_history_the_same_children_live_in_the_same_lives(history: History) -> None:
    live(history)


def test_a_seeded_sample_agrees_and_sees_all_there_is_to_see() -> None:
    seen: Counter[str] = Counter()
    for seed in range(150):
        seen.update(lived(seed))
    assert seen["histories"] == 150
    sights = ("normal", "shutdown", "crash", "restarts", "at_the_edge", "together", "late")
    assert all(seen[sight] >= 10 for sight in (*sights, "exhausted_roots", "shut_down_roots")), seen


def _a_worker(**words: Any) -> dict[str, Any]:
    return {"name": "s0", "restart": "Permanent", "significant": False, "replicas": 1, "intensity": 0} | words


def _a_root(*children: dict[str, Any], **words: Any) -> dict[str, Any]:
    usual = {"name": "s", "strategy": "OneForOne", "intensity": 1, "period": 3, "auto": "Never"}
    return usual | {"children": list(children)} | words


@pytest.mark.parametrize("pause", [3, 4], ids=["at the edge of the window", "a second beyond it"])
def test_an_operator_that_has_the_edge_wrong_by_one_is_found_out(pause: int, monkeypatch: pytest.MonkeyPatch) -> None:
    history = History(_a_root(_a_worker()), tuple(Step((Exit(0, pause, "crash"),)) for _ in range(2)))
    live(history)
    right: Callable[[dict[str, Any]], Any] = beside_otp.erlang

    def wrong(tree: dict[str, Any]) -> Any:
        return right(tree | {"period": 4 if pause == 4 else 2})

    monkeypatch.setattr(beside_otp, "erlang", wrong)
    with pytest.raises(Divergence):
        live(history)
