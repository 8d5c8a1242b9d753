"""R8: whatever the CRDs' schemas admit, sizes at etcd's limit, odd text and numbers, and report servers that mean harm.

Three levels: worlds in memory by the thousand (`in_memory_specs`), some hundreds of the same specs on the real apiserver, whose
own schema and CEL say what is admitted, and the operator's report reader among hostile servers (`hostile_reports`).
"""

import asyncio
import itertools
import json
import os
import random
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from faults import hostile_reports, invariants, odd_objects, reference_workload
from faults.arena import Arena
from faults.environment import RESYNC_SECONDS
from faults.generated_specs import Draw
from faults.in_memory_world import unsaid
from faults.observer import Observer
from faults.plan import Plan, chosen
from faults.schema import PLURALS
from support.async_api import JsonDict, Refused
from support.operator_process import ROOT

ID = "R8"
TITLE = "hostile specs, sizes and reports: no crash, every object ends Ready or with a reason"
ALONE = False

WORLDS_IN_A_BATCH: Final = 500
BATCHES: Final = 18
WHOLE_BATCHES: Final = 4
DRAWN_PLANS: Final = 8
POISON_PLANS: Final = 2
PROBES: Final = 40

PROCESS_SECONDS: Final = 300.0
END_SECONDS: Final = 120.0
# Longer than a failing key's first retries: what is only ever tried again is not at rest.
QUIET_SECONDS: Final = 8.0
# Poison may delay others up to twice as much as ordinary objects do, and by what a p99 is uncertain by on two busy cores.
BAR: Final = 2.0
UNCERTAIN_SECONDS: Final = 0.25
TOUCHES_PER_SECOND: Final = 10.0

# What cannot be written in a status that does not fit is tried again ever later, up to once a minute.
WRITES_A_MINUTE: Final = 20

Run = Callable[[Arena], Awaitable[None]]


def plans(seed: int, sample: int | None) -> Sequence[Plan]:
    """Batches of worlds, specs on the apiserver, sizes and edges, and a plan for each hostile report and way of reading it."""
    worlds = [Plan(f"worlds:{number}", _worlds(seed, number)) for number in range(BATCHES)]
    whole = [Plan(f"whole:{number}", _worlds(seed, number, "whole")) for number in range(WHOLE_BATCHES)]
    drawn = [Plan(f"drawn:{number}", _drawn(seed * 1000 + number)) for number in range(DRAWN_PLANS)]
    edges = [Plan(name, _edge(bodies)) for name, bodies in EDGES.items()]
    brim = [Plan("brim", _brim)]
    poison = [Plan(f"poison:{number}", _poisoned(seed * 1000 + number)) for number in range(POISON_PLANS)]
    reports = [
        Plan(f"report:{case}:{way}", _report(case, way))
        for case in hostile_reports.CASES
        for way in hostile_reports.WAYS
    ]
    return chosen([*worlds, *whole, *drawn, *edges, *brim, *poison, *reports], seed, sample)


# --- in processes of their own ------------------------------------------------------------------------------------------


def _worlds(seed: int, batch: int, *whole: str) -> Run:
    async def run(arena: Arena) -> None:
        printed = await _process("faults.in_memory_specs", str(seed), str(batch), str(WORLDS_IN_A_BATCH), *whole)
        if sum(printed.values()) != 3 * WORLDS_IN_A_BATCH:
            raise AssertionError(f"not every object of {WORLDS_IN_A_BATCH} worlds has an end: {printed}")
        arena.note("worlds in a batch", WORLDS_IN_A_BATCH)
        arena.note("agents accepted in a batch", printed["Agent accepted"])
        arena.note("Supervisors accepted in a batch", printed["Supervisor accepted"])

    return run


def _report(case: str, way: str) -> Run:
    async def run(arena: Arena) -> None:
        printed = await _process("faults.hostile_reports", case, way)
        arena.note("MB that a hostile report cost at most", printed["grownMB"])
        arena.note("seconds that a hostile report held the loop", printed["lagSeconds"])

    return run


async def _process(module: str, *arguments: str) -> dict[str, Any]:
    """What a module printed as JSON; fails with its own words when it does not end well."""
    pipe = asyncio.subprocess.PIPE
    environment = os.environ | {"PYTHONPATH": f"{ROOT}/tests:{ROOT}/operator"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *arguments, env=environment, stdout=pipe, stderr=pipe
    )
    try:
        async with asyncio.timeout(PROCESS_SECONDS):
            out, errors = await process.communicate()
    except TimeoutError:
        raise AssertionError(f"{module} {' '.join(arguments)} did not end in {PROCESS_SECONDS:.0f} s") from None
    finally:
        with suppress(ProcessLookupError):
            process.kill()
    if process.returncode:
        raise AssertionError(f"{module} {' '.join(arguments)}: {(errors + out).decode(errors='replace')[-4000:]}")
    printed: dict[str, Any] = json.loads(out)
    return printed


# --- specs on the apiserver ---------------------------------------------------------------------------------------------


def _drawn(seed: int) -> Run:
    async def run(arena: Arena) -> None:
        await arena.start(resync_seconds=RESYNC_SECONDS)
        draw = Draw(random.Random(seed))
        admitted = await _posted(arena, odd_objects.drawn(draw))
        arena.note("drawn objects the apiserver admitted", len(admitted))
        await _ends(arena, admitted)
        await _ends_well(arena)

    return run


async def _posted(arena: Arena, bodies: Sequence[JsonDict]) -> list[tuple[str, str]]:
    """Kind and name of what the apiserver admitted; fails when it refuses in another way than by saying what is wrong."""
    admitted = []
    for body in bodies:
        name = body["metadata"]["name"]
        try:
            await reference_workload.create(arena, body)
        except Refused as refused:
            if refused.status not in (400, 413, 422):
                raise AssertionError(f"{body['kind']} {name} was refused with {refused}") from None
        else:
            admitted.append((PLURALS[body["kind"]], name))
    return admitted


KINDS: Final = {plural: kind for kind, plural in PLURALS.items()}


async def _ends(arena: Arena, objects: Sequence[tuple[str, str]], seconds: float = END_SECONDS) -> None:
    """Every object's status is about its present spec and says how it stands and why; and nothing is written any more."""
    if not objects:
        raise AssertionError("the apiserver admitted nothing, so that nothing was tried")
    began = time.monotonic()
    try:
        await arena.observer.until("every object has an end", lambda seen: not open_ends(seen, objects), seconds)
    except AssertionError as late:
        left = open_ends(arena.observer, objects)
        invariants.fail(arena, f"{late}; {len(left)} have not, for example {left[:5]}")
    arena.note("seconds until every object had an end", time.monotonic() - began)
    if not await invariants.rest(arena, QUIET_SECONDS, time.monotonic() + END_SECONDS):
        invariants.fail(arena, f"no {QUIET_SECONDS:.0f} s without a write")
    left = open_ends(arena.observer, objects)
    if left:
        invariants.fail(arena, f"at rest, {len(left)} have no end, for example {left[:5]}")


def open_ends(seen: Observer, objects: Sequence[tuple[str, str]]) -> list[str]:
    """The objects whose status does not say how their present spec stands, and what it lacks."""
    left = []
    for plural, name in objects:
        body = seen.objects[plural].get(name)
        status = (body or {}).get("status") or {}
        if body is None or status.get("observedGeneration") != body["metadata"]["generation"]:
            left.append(f"{plural}/{name}: not seen yet")
        elif silent := unsaid(KINDS[plural], status):
            left.append(f"{plural}/{name}: {silent}")
    return left


async def _ends_well(arena: Arena) -> None:
    """A healthy agent is served as ever, and the operator has neither ended nor stumbled."""
    await _probe(arena, "healthy")
    await arena.observer.until("healthy runs", reference_workload.runs("healthy", "healthy-0-1"))
    operator = arena.operator
    if operator.exits or operator.liveness_kills:
        invariants.fail(
            arena, f"the operator ended by itself: {operator.exits}, by its probe {operator.liveness_kills} times"
        )
    stumbled = operator.log.read_text(errors="replace").partition("Traceback")
    if stumbled[1]:
        invariants.fail(arena, f"the operator met what it did not expect:\n{stumbled[2][:3000]}")
    invariants.clean(arena)


# --- edges --------------------------------------------------------------------------------------------------------------


def _edge(bodies: Callable[[], list[JsonDict]]) -> Run:
    async def run(arena: Arena) -> None:
        await arena.start(resync_seconds=RESYNC_SECONDS)
        admitted = await _posted(arena, bodies())
        arena.note("objects at an edge that the apiserver admitted", len(admitted))
        await _ends(arena, admitted)
        await _ends_well(arena)

    return run


EDGES: Final[Mapping[str, Callable[[], list[JsonDict]]]] = {
    "texts": odd_objects.texts,
    "numbers": odd_objects.numbers,
    "third parties": odd_objects.of_third_parties,
    "large": odd_objects.large,
}


async def _brim(arena: Arena) -> None:
    """The largest Agent that etcd takes has no room for a status: it is tried ever more rarely, and nobody else suffers."""
    await arena.start(resync_seconds=RESYNC_SECONDS)
    for size in range(odd_objects.ETCD_BYTES, odd_objects.LARGE_BYTES, -500):
        try:
            await reference_workload.create(arena, odd_objects.with_text("brim", "x" * size))
        except Refused:
            continue
        break
    else:
        raise AssertionError("the apiserver takes none of these")
    arena.note("bytes of the largest Agent", size)
    await _probe(arena, "early")
    await arena.observer.until("early runs", reference_workload.runs("early", "early-0-1"))
    before = arena.proxy.count
    await asyncio.sleep(60)
    arena.note("writes a minute for an Agent without room for a status", arena.proxy.count - before)
    if arena.proxy.count - before > WRITES_A_MINUTE:
        invariants.fail(
            arena, f"{arena.proxy.count - before} writes in a minute for an object that cannot hold a status"
        )
    await _ends_well(arena)


# --- what poison costs others -------------------------------------------------------------------------------------------


def _poisoned(seed: int) -> Run:
    """How long a healthy agent takes to its pod: alone, beside ordinary objects that users edit, and beside poison likewise."""

    async def run(arena: Arena) -> None:
        await arena.start(resync_seconds=RESYNC_SECONDS)
        await _probe(arena, "warm-up")
        draw = Draw(random.Random(seed))
        crowds = {
            "alone": [],
            "beside ordinary objects": odd_objects.ordinary(),
            "beside poison": odd_objects.poison(draw),
        }
        p99 = {}
        for number, (where, bodies) in enumerate(crowds.items()):
            seconds = await _beside(arena, f"probe-{number}", bodies, draw)
            p99[where] = p(99, seconds)
            arena.note(f"p50 of a healthy agent's start, {where}", p(50, seconds))
            arena.note(f"p99 of a healthy agent's start, {where}", p99[where])
        if p99["beside poison"] > BAR * p99["beside ordinary objects"] + UNCERTAIN_SECONDS:
            invariants.fail(arena, f"poison delays others: {p99}")
        await _ends_well(arena)

    return run


async def _beside(arena: Arena, prefix: str, bodies: Sequence[JsonDict], draw: Draw) -> list[float]:
    """The probes' seconds beside a crowd that is at rest but for the users who edit it."""
    admitted = await _posted(arena, bodies)
    if not await invariants.rest(arena, QUIET_SECONDS, time.monotonic() + END_SECONDS):
        invariants.fail(arena, "no rest before the probes")
    touching = asyncio.create_task(_touch(arena, admitted, draw))
    try:
        return [await _probe(arena, f"{prefix}-{number:02}") for number in range(PROBES)]
    finally:
        touching.cancel()
        with suppress(asyncio.CancelledError):
            await touching


async def _probe(arena: Arena, name: str) -> float:
    """The seconds from a user's creation of an agent to its pod."""
    began = time.monotonic()
    await reference_workload.create(arena, reference_workload.agent(name))
    await arena.observer.until(f"{name} has its pod", lambda seen: f"{name}-0-1" in seen.objects["pods"])
    return time.monotonic() - began


async def _touch(arena: Arena, objects: Sequence[tuple[str, str]], draw: Draw) -> None:
    """Users who edit the objects until they are asked to stop, so that each is looked at again and again."""
    for number in itertools.count() if objects else ():
        plural, name = draw.of(*objects)
        with suppress(Refused):  # the annotations may be as long as they can be already
            await arena.api.patch(plural, name, {"metadata": {"annotations": {"touched": str(number)}}})
        await asyncio.sleep(1 / TOUCHES_PER_SECOND)


def p(percent: int, values: Sequence[float]) -> float:
    """The nearest-rank percentile."""
    ordered = sorted(values)
    return ordered[max(0, -(-percent * len(ordered) // 100) - 1)]
