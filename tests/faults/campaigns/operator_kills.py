"""R1: SIGKILL before and after every write of the reference workload, and every write's answer lost."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from faults import invariants, reference_workload
from faults.arena import Arena
from faults.environment import RESYNC_SECONDS
from faults.invariants import Undisturbed
from faults.plan import Plan, chosen
from faults.proxy import Fault, Rule, Script, after, before, lose_answer, nth
from faults.reference_workload import TEAM
from faults.tree_workload import TREE
from faults.voting_workload import VOTING

ID = "R1"
TITLE = "SIGKILL before and after every write, and every answer lost"
ALONE = False
WORKLOADS: Final = (TEAM, TREE, VOTING)

# Every so many plans the window without writes is long.
LONG_QUIET_EVERY: Final = 25
LONG_QUIET_SECONDS: Final = 30.0

FAULTS: Final[dict[str, Callable[[Arena], Fault]]] = {
    "kill-before": lambda arena: before(arena.kill),
    "kill-after": lambda arena: after(arena.kill),
    "lose-answer": lambda _: lose_answer,
}


def plans_for(undisturbed: Undisturbed, seed: int, sample: int | None) -> Sequence[Plan]:
    """Three plans for every write of an undisturbed run."""
    every = [
        Plan(f"{fault}:{number}", _runner(fault, number, undisturbed))
        for number in range(1, undisturbed.writes + 1)
        for fault in FAULTS
    ]
    return chosen(every, seed, sample)


def _runner(fault: str, number: int, undisturbed: Undisturbed) -> Callable[[Arena], Awaitable[None]]:
    async def run(arena: Arena) -> None:
        arena.play(Script(writes=(Rule(nth(number), FAULTS[fault](arena)),)))
        await arena.start(resync_seconds=RESYNC_SECONDS)
        await reference_workload.drive(arena, undisturbed.workload.steps)
        quiet = LONG_QUIET_SECONDS if number % LONG_QUIET_EVERY == 0 else invariants.QUIET_SECONDS
        await invariants.check(arena, undisturbed, quiet=quiet)

    return run
