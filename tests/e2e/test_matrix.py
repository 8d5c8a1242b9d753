"""Every restart strategy with every supervision strategy, and every cause there is, on real containers: expected against seen.

`make test` tries one cause of each kind, drawn by a seed; `make matrix` tries all and keeps the table (docs/supervision.md).
"""

import os
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

import pytest

from e2e.injuries import PATIENCE, Scene, View, injured, look, name_of, scene, start
from e2e.matrix import CAUSES, RESTARTS, SUPERVISIONS, Cause, Seen, chosen, expected, keep, row
from faults.report import commit
from support.kube import Kube, until

PAIRS = [(restart, supervision) for restart in RESTARTS for supervision in SUPERVISIONS]
# What comes too late to be right would come within this.
QUIET_SECONDS = 3
# Looking costs a good part of what the containers have; the times are this much uncertain.
PAUSE_SECONDS = 0.4


@pytest.fixture(scope="module")
def place(kube: Kube) -> Iterator[Scene]:
    with scene(kube) as here:
        yield here


@pytest.fixture(scope="module")
def rows() -> Iterator[dict[str, str]]:
    """The table's lines by cause, printed in the end, and kept when that is asked for."""
    began = time.monotonic()
    found: dict[str, str] = {}
    yield found
    print("\n".join(found.values()))
    if os.environ.get("MABEAM_KEEP_MATRIX") == "1":
        keep(found, _about(time.monotonic() - began))


def _about(seconds: float) -> str:
    cells, day = len(CAUSES) * len(PAIRS), datetime.now(UTC).strftime("%Y-%m-%d")
    return (
        f"{cells} cells in {seconds / 60:.0f} minutes on {os.cpu_count()} cores, "
        f"nine agents hurt at the same time; {day}, {commit()}."
    )


def play(place: Scene, cause: Cause) -> list[Seen]:
    """Nine agents' cells some time after the middle replica of each ended."""
    names = start(place, cause)
    first = look(place, names)
    before = first.uids()
    wanted = {name_of(cause, *pair): expected(cause, *pair) for pair in PAIRS}
    untold = {name: first.told(name) for name in names}
    noticed: dict[str, float] = {}
    whole: dict[str, float] = {}
    last: list[View] = []

    def settled() -> bool:
        last[:] = [look(place, names)]
        now = time.time()
        for name in names:
            if last[0].told(name) != untold[name]:
                noticed.setdefault(name, now)
        right = {name for name in names if last[0].cell(name, before, cause) == wanted[name]}
        for name in right:
            whole.setdefault(name, now)
        return right == set(names)

    with injured(place, cause, names) as hurt:
        try:
            until("every cell is as expected", settled, PATIENCE, PAUSE_SECONDS)
            time.sleep(QUIET_SECONDS)
            last[:] = [look(place, names)]
        except AssertionError:
            print(f"{cause.key}: not every cell came to what was expected; what was last seen is judged")
    place.kube.run("delete", "mba", *names, "--wait=false")
    return [seen_of(cause, pair, last[0], before, hurt, noticed, whole) for pair in PAIRS]


def seen_of(
    cause: Cause,
    pair: tuple[str, str],
    view: View,
    before: Mapping[str, str],
    hurt: float,
    noticed: Mapping[str, float],
    whole: Mapping[str, float],
) -> Seen:
    """One agent's cell and times; only one that started again has become whole."""
    name = name_of(cause, *pair)
    cell = view.cell(name, before, cause)
    failed = max(hurt, view.failed_at(name) or hurt)
    return Seen(
        *pair,
        cell,
        noticed=noticed[name] - hurt if name in noticed else None,
        whole=whole[name] - failed if name in whole and "anew" in cell.lives else None,
    )


@pytest.mark.parametrize("cause", chosen(), ids=lambda cause: cause.key)
def test_a_replica_that_ends_takes_along_whom_it_must_and_nobody_else(
    place: Scene, rows: dict[str, str], cause: Cause
) -> None:
    seen = play(place, cause)
    rows[cause.key] = row(cause, seen)
    wanted = {f"{one.restart} {one.supervision}": expected(cause, one.restart, one.supervision) for one in seen}
    assert {f"{one.restart} {one.supervision}": one.cell for one in seen} == wanted
