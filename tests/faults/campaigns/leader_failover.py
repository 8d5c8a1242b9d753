"""R5: two replicas from the start; the leader is frozen past its Lease, killed, ended; the Lease is deleted, or stolen."""

import asyncio
import random
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from faults import invariants, reference_workload
from faults.arena import Arena
from faults.background_work import beside
from faults.invariants import Undisturbed
from faults.plan import Plan, chosen
from faults.replicas import Pair, ready, two_replicas
from faults.voting_workload import ALL
from support.operator_process import LEASE

ID = "R5"
TITLE = "two replicas: the leader frozen past its Lease, killed, ended; the Lease deleted, stolen"
ALONE = False
WORKLOADS: Final = (ALL,)

# kube-controller-manager's own duration, and one that lets a plan be short.
DEFAULT_LEASE_SECONDS: Final = 15
SHORT_LEASE_SECONDS: Final = 6
# client-go's followers lead one duration and a retry after the last renewal; half as much again is allowed.
TAKEOVER_FACTOR: Final = 1.5
# After a graceful end nobody has to wait for the Lease to expire.
HANDOVER_SECONDS: Final = 5.0
TURNS: Final = 3
THIRD_PARTY: Final = "a-third-party"

Act = Callable[[Pair], Awaitable[None]]


def plans_for(undisturbed: Undisturbed, seed: int, sample: int | None) -> Sequence[Plan]:
    """Each misfortune of a leader, at seeded steps of the workload; two with the default duration."""
    chance = random.Random(seed)
    steps = chance.sample(range(1, len(undisturbed.workload.steps) - 1), 3)
    short = [
        Plan(f"{name}:{step}", _disturbed(undisturbed, act, step, SHORT_LEASE_SECONDS))
        for name, act in ACTS.items()
        for step in steps
    ]
    long = [
        Plan(f"{name}-default:{steps[0]}", _disturbed(undisturbed, ACTS[name], steps[0], DEFAULT_LEASE_SECONDS))
        for name in ("frozen", "killed")
    ]
    return chosen([*short, *long], seed, sample)


def _disturbed(undisturbed: Undisturbed, act: Act, step: int, lease_seconds: int) -> Callable[[Arena], Awaitable[None]]:
    async def run(arena: Arena) -> None:
        steps = undisturbed.workload.steps
        async with two_replicas(arena, lease_seconds) as pair:
            await reference_workload.drive(arena, steps[:step])
            async with beside(reference_workload.drive(arena, steps[step:])) as work:
                await asyncio.sleep(random.Random(step).uniform(0.0, 0.3))
                await act(pair)
                await work
            await invariants.check(arena, undisturbed)
            await _nobody_loops(pair)

    return run


async def _nobody_loops(pair: Pair) -> None:
    for name, replica in pair.replicas.items():
        if len(replica.exits) > TURNS + 1:
            invariants.fail(pair.arena, f"{name} ended by itself {len(replica.exits)} times: {replica.exits}")


async def _handed_over(pair: Pair, old: str, within: float | None = None) -> None:
    bar = within or TAKEOVER_FACTOR * pair.lease_seconds
    pair.arena.proxy.fired += 1
    seconds = await pair.takes_over(pair.other(old), bar)
    pair.arena.note(f"seconds to a new leader, Lease of {pair.lease_seconds} s", seconds)


# --- what happens to leaders ----------------------------------------------------------------------------------------------


async def _frozen(pair: Pair) -> None:
    """The old leader goes on when another one leads: it writes nothing then, and follows."""
    old = await pair.leader()
    await _freeze(pair, old)


async def _freeze(pair: Pair, old: str) -> None:
    frozen = pair.replicas[old]
    frozen.send(signal.SIGSTOP)
    try:
        await _handed_over(pair, old)
        before = pair.written(old)
    finally:
        frozen.send(signal.SIGCONT)
    await _silent(pair, old, before, 1.5 * pair.lease_seconds)


async def _silent(pair: Pair, name: str, before: int, seconds: float) -> None:
    """For so many seconds a replica that does not lead asks for no write."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if pair.written(name) > before:
            late = [str(record.request) for record in pair.proxies[name].writes[-3:]]
            invariants.fail(pair.arena, f"{name} wrote {pair.written(name) - before} times without the Lease: {late}")
        await asyncio.sleep(0.1)


async def _frozen_in_turns(pair: Pair) -> None:
    """Whoever leads is frozen until the other does, several times over."""
    for _ in range(TURNS):
        old = await pair.leader()
        await ready(pair.replicas[pair.other(old)])
        await _freeze(pair, old)


async def _killed(pair: Pair) -> None:
    """SIGKILL; it comes back when the other leads, and follows."""
    old = await pair.leader()
    await pair.replicas[old].stay_down()
    await _handed_over(pair, old)
    before = pair.written(old)
    pair.replicas[old].come_back()
    await ready(pair.replicas[old])
    await _silent(pair, old, before, pair.lease_seconds)


async def _ended(pair: Pair) -> None:
    """SIGTERM: the Lease is given away, and the other need not wait for it."""
    old = await pair.leader()
    pair.replicas[old].wanted.clear()
    pair.replicas[old].send(signal.SIGTERM)
    await _handed_over(pair, old, HANDOVER_SECONDS)
    pair.replicas[old].come_back()


async def _lease_deleted(pair: Pair) -> None:
    """Whoever holds the new Lease, only that one writes."""
    for _ in range(TURNS):
        before = await pair.leader()
        await pair.arena.api.delete("leases", LEASE)
        pair.arena.proxy.fired += 1
        after = await pair.leader()
        pair.arena.note("leaders changed by a deleted Lease", float(after != before))
        await asyncio.sleep(1.0)  # what was on its way has arrived
        bystander = pair.other(after)
        await _silent(pair, bystander, pair.written(bystander), pair.lease_seconds)


async def _lease_stolen(pair: Pair) -> None:
    """Someone who never renews it takes the Lease: the leader stops when it sees that, and one of the two leads again."""
    old = await pair.leader()
    await pair.arena.api.patch("leases", LEASE, {"spec": {"holderIdentity": THIRD_PARTY}})
    pair.arena.proxy.fired += 1
    # The leader looks every third of the duration.
    await asyncio.sleep(pair.lease_seconds / 3 + 0.5)
    written = pair.written("one") + pair.written("two")
    while await pair.holder() == THIRD_PARTY:
        if pair.written("one") + pair.written("two") > written:
            invariants.fail(pair.arena, f"{old} went on writing while the Lease named somebody else")
        await asyncio.sleep(0.1)
    await pair.leader()


ACTS: Final[dict[str, Act]] = {
    "frozen": _frozen,
    "frozen-in-turns": _frozen_in_turns,
    "killed": _killed,
    "ended": _ended,
    "lease-deleted": _lease_deleted,
    "lease-stolen": _lease_stolen,
}
