"""R3: watches that lose events, fall silent, break, expire, are cut within a line, or tell old news again."""

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from faults import invariants, reference_workload
from faults.arena import Arena
from faults.environment import RESYNC_SECONDS
from faults.invariants import Undisturbed
from faults.observer import SEEN
from faults.plan import Plan, chosen
from faults.proxy import (
    Request,
    Rule,
    Script,
    WatchEvent,
    WatchFault,
    WatchRule,
    cut_in_half,
    fail,
    refuse,
    replay,
    stall,
    swallow,
)
from faults.reference_workload import TEAM
from faults.tree_workload import TREE
from faults.voting_workload import VOTING

ID = "R3"
TITLE = "every watch event dropped; watches stalled, expired, broken, cut within a line, replayed"
ALONE = False
WORKLOADS: Final = (TEAM, TREE, VOTING)

# What is done to the n-th event: dropping for every n, the rest for every so many.
AT_EVENTS: Final[dict[str, tuple[WatchFault, int]]] = {
    "drop": (swallow, 1),
    "replay": (replay, 5),
    "cut-in-half": (cut_in_half, 8),
    "stall": (stall, 10),
    "error-410": (fail(410), 10),
    "error-500": (fail(500), 12),
    "error-504": (fail(504), 12),
}
REFUSALS: Final = (403, 410, 429, 500, 503)
REFUSED_TIMES: Final = 6
# The defaults of the chart; a stalled watch may cost a sweep and a little, and never more than a minute and a quarter.
DEFAULT_RESYNC_SECONDS: Final = "30"
STALL_BAR_SECONDS: Final = 75.0


def plans_for(undisturbed: Undisturbed, seed: int, sample: int | None) -> Sequence[Plan]:
    """A plan for every event that can be lost, and for every other misfortune at several places."""
    at_events = [
        Plan(f"{name}:{number}", _scripted(undisturbed, _at_event(fault, number)))
        for name, (fault, step) in AT_EVENTS.items()
        for number in range(1 + seed % step, undisturbed.events + 1, step)
    ]
    kinds = [kind for kind in SEEN if any(name.startswith(f"{kind}/") for name in undisturbed.end)]
    silent = [Plan(f"silent:{kind}", _scripted(undisturbed, _silent(kind))) for kind in (*kinds, "all")]
    refused = [Plan(f"watch-refused:{code}", _scripted(undisturbed, _refused(code))) for code in REFUSALS]
    lists = [
        Plan("paged-lists", _scripted(undisturbed, lambda: Script(page=1))),
        Plan("expired-within-a-list", _scripted(undisturbed, _expired_within_lists)),
        Plan("default-periods", _stalled_with_defaults),
    ]
    return chosen([*at_events, *silent, *refused, *lists], seed, sample)


def _scripted(undisturbed: Undisturbed, script: Callable[[], Script]) -> Callable[[Arena], Awaitable[None]]:
    async def run(arena: Arena) -> None:
        arena.play(script())
        await arena.start(resync_seconds=RESYNC_SECONDS)
        began = time.monotonic()
        await reference_workload.drive(arena, undisturbed.workload.steps)
        arena.note("seconds of the workload", time.monotonic() - began)
        arena.play(Script(page=arena.proxy.script.page))
        await invariants.check(arena, undisturbed)

    return run


def _at_event(fault: WatchFault, number: int) -> Callable[[], Script]:
    return lambda: Script(events=(WatchRule(lambda event: event.number == number, fault),))


def _silent(kind: str) -> Callable[[], Script]:
    """The first watch of a kind (or of each) never tells anything; those that are opened after it do."""

    def script() -> Script:
        silenced: set[str] = set()

        def first(event: WatchEvent) -> bool:
            if event.kind in silenced or kind not in ("all", event.kind):
                return False
            silenced.add(event.kind)
            return True

        return Script(events=(WatchRule(first, stall),))

    return script


def _times(number: int, when: Callable[[Request], bool]) -> Callable[[Request], bool]:
    left = [number]

    def look(request: Request) -> bool:
        if left[0] <= 0 or not when(request):
            return False
        left[0] -= 1
        return True

    return look


def _refused(code: int) -> Callable[[], Script]:
    """The first few watches are refused before they begin."""
    return lambda: Script(
        reads=(Rule(_times(REFUSED_TIMES, lambda request: request.is_watch), refuse(code, retry_after=1)),)
    )


def _expired_within_lists() -> Script:
    """The second page of a list comes too late, a few times: 410."""
    expired = Rule(_times(REFUSED_TIMES, lambda request: "continue" in request.query), refuse(410))
    return Script(page=1, reads=(expired,))


async def _stalled_with_defaults(arena: Arena) -> None:
    """With the chart's periods, a pod that ends while every watch is silent is replaced in time."""
    await arena.start(resync_seconds=DEFAULT_RESYNC_SECONDS)
    await reference_workload.create(arena, reference_workload.agent("steady"))
    await arena.observer.until("steady runs", reference_workload.runs("steady", "steady-0-1"), STALL_BAR_SECONDS)
    arena.play(Script(events=(WatchRule(lambda _: True, stall),)))
    await reference_workload.ends(arena, "steady-0-1", 1)
    began = time.monotonic()
    await arena.observer.until("steady runs again", reference_workload.runs("steady", "steady-0-2"), STALL_BAR_SECONDS)
    arena.note("seconds to a replacement, all watches silent", time.monotonic() - began)
    invariants.clean(arena)
