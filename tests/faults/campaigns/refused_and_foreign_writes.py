"""R4: a fifth of the writes is refused; a third party edits statuses, labels and owners, and deletes pods and ConfigMaps."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final

from faults import invariants, reference_workload
from faults.arena import Arena
from faults.environment import RESYNC_SECONDS
from faults.invariants import Undisturbed
from faults.observer import Observer
from faults.plan import Plan, chosen
from faults.proxy import Rule, Script, refuse, share
from faults.reference_workload import STEPS, runs
from faults.rogue_client import FOREIGN, MANAGED_BY, RECOMPUTED, TOLD_BY_SUPERVISORS, RogueClient
from faults.tree_workload import BOTH
from support.async_api import JsonDict

ID = "R4"
TITLE = "a fifth of the writes refused; a third party edits statuses, labels and owners, and deletes"
ALONE = False
WORKLOADS: Final = (BOTH,)

SHARE: Final = 0.2
CODES: Final = (409, 422, 429, 500, 504)
SEEDS_PER_CODE: Final = 4
# A third party's every act may be answered by this many writes of the operator.
WRITES_PER_ACT: Final = 2
# The workload up to and with the negotiation: four agents run, two of them hold a temperature, nothing has failed.
NEGOTIATED: Final = STEPS[:4]
FAILED: Final = STEPS[:6]

Run = Callable[[Arena], Awaitable[None]]
Act = Callable[[Arena, RogueClient], Awaitable[None]]


def plans_for(undisturbed: Undisturbed, seed: int, sample: int | None) -> Sequence[Plan]:
    """Refusals of each kind with several seeds, and one plan for each thing a third party may do."""
    refusals = [
        Plan(f"refused-{code}:{number}", _refusing(undisturbed, code, seed * 1000 + number))
        for code in CODES
        for number in range(SEEDS_PER_CODE)
    ]
    harmless = [Plan(f"rogue-{name}", _undone(undisturbed, act)) for name, act in UNDONE.items()]
    work = [Plan(f"rogue-at-work:{number}", _beside(undisturbed, seed * 1000 + number)) for number in range(4)]
    harmful = [Plan(f"rogue-{name}", run) for name, run in LASTING.items()]
    return chosen([*refusals, *harmless, *work, *harmful], seed, sample)


# --- refusals -----------------------------------------------------------------------------------------------------------


def _refusing(undisturbed: Undisturbed, code: int, seed: int) -> Run:
    async def run(arena: Arena) -> None:
        arena.play(Script(writes=(Rule(share(SHARE, seed), refuse(code, retry_after=1 if code == 429 else None)),)))
        await arena.start(resync_seconds=RESYNC_SECONDS)
        await reference_workload.drive(arena, undisturbed.workload.steps)
        arena.play(Script())
        await invariants.check(arena, undisturbed)
        _bounded(arena, 2 * undisturbed.writes)

    return run


def _bounded(arena: Arena, most: int) -> None:
    if arena.proxy.count > most:
        invariants.fail(arena, f"{arena.proxy.count} writes, where {most} would be enough")


# --- what a third party does, and what leaves no trace in the end ------------------------------------------------------------


def _undone(undisturbed: Undisturbed, act: Act) -> Run:
    """The third party acts once, in the middle of the workload; in the end nothing is to be seen of it."""

    async def run(arena: Arena) -> None:
        arena.observer.trusting = True
        await arena.start(resync_seconds=RESYNC_SECONDS)
        steps = undisturbed.workload.steps
        await reference_workload.drive(arena, steps[: len(NEGOTIATED)])
        rogue = RogueClient(arena.api)
        await act(arena, rogue)
        await _rests(arena)
        await reference_workload.drive(arena, steps[len(NEGOTIATED) :])
        await invariants.check(arena, undisturbed)
        _bounded(arena, 2 * undisturbed.writes + WRITES_PER_ACT * rogue.acts)

    return run


async def _rests(arena: Arena, quiet: float = invariants.QUIET_SECONDS) -> None:
    if not await invariants.rest(arena, quiet, time.monotonic() + invariants.SETTLE_SECONDS):
        invariants.fail(arena, f"no {quiet:.0f} s without a write after what the third party did")


async def _erases_an_agents_status(_: Arena, rogue: RogueClient) -> None:
    await rogue.writes_status("agents", "steady", None)
    await rogue.writes_status("agents", "pair", None)


async def _erases_a_variables_status(_: Arena, rogue: RogueClient) -> None:
    await rogue.writes_status("orchestrationvariables", "temperature", None)


async def _erases_what_supervisors_know(arena: Arena, rogue: RogueClient) -> None:
    """The children are believed, and the parent's word is read again. Not both at once: then nobody is left who knows."""
    await rogue.writes_status("supervisors", "root", {"children": None})
    await _rests(arena)
    await rogue.writes_status("supervisors", "inner", None)


async def _scribbles_over_statuses(_: Arena, rogue: RogueClient) -> None:
    for name in ("steady", "pair", "once", "fragile"):
        await rogue.writes_status("agents", name, RECOMPUTED)
    for name in ("root", "inner"):
        await rogue.writes_status("supervisors", name, {key: RECOMPUTED[key] for key in TOLD_BY_SUPERVISORS})


async def _forgets_the_records(_: Arena, rogue: RogueClient) -> None:
    for name in ("steady", "pair"):
        await rogue.writes_status("agents", name, {"pods": []})


async def _strips_the_pods_labels(arena: Arena, rogue: RogueClient) -> None:
    for name in ("steady-0-1", "pair-1-1"):
        await rogue.labels("pods", name, {MANAGED_BY: None})
    await asyncio.sleep(2 * float(RESYNC_SECONDS))  # two sweeps, in which nothing is to happen to the pods
    running = [arena.observer.objects["pods"].get(name) for name in ("steady-0-1", "pair-1-1")]
    if None in running:
        invariants.fail(arena, "a pod whose label a third party took away was replaced")


async def _relabels_a_pod(_: Arena, rogue: RogueClient) -> None:
    await rogue.labels("pods", "steady-0-1", {"mabeam.dev/agent": "pair"})


async def _strips_a_config_maps_labels(_: Arena, rogue: RogueClient) -> None:
    await rogue.labels("configmaps", "steady-mabeam", {MANAGED_BY: None, "mabeam.dev/agent": None})


async def _deletes_a_config_map(arena: Arena, rogue: RogueClient) -> None:
    await rogue.deletes("configmaps", "steady-mabeam")
    await arena.observer.until("the ConfigMap again", lambda seen: "steady-mabeam" in seen.objects["configmaps"])


UNDONE: Final[dict[str, Act]] = {
    "erases-an-agents-status": _erases_an_agents_status,
    "erases-a-variables-status": _erases_a_variables_status,
    "erases-what-supervisors-know": _erases_what_supervisors_know,
    "scribbles-over-statuses": _scribbles_over_statuses,
    "forgets-the-records": _forgets_the_records,
    "strips-the-pods-labels": _strips_the_pods_labels,
    "relabels-a-pod": _relabels_a_pod,
    "strips-a-config-maps-labels": _strips_a_config_maps_labels,
    "deletes-a-config-map": _deletes_a_config_map,
}


def _beside(undisturbed: Undisturbed, seed: int) -> Run:
    """The third party is at work all the time; what it left that is nobody else's is still there in the end."""

    async def run(arena: Arena) -> None:
        arena.observer.trusting = True
        await arena.start(resync_seconds=RESYNC_SECONDS)
        rogue = RogueClient(arena.api)
        working = asyncio.create_task(rogue.at_work(seed))
        try:
            await reference_workload.drive(arena, undisturbed.workload.steps)
        finally:
            working.cancel()
            with suppress(asyncio.CancelledError):
                await working
        _marks_are_left(arena, rogue)
        for where in sorted(rogue.marked):
            plural, _, name = where.partition("/")
            if name in arena.observer.objects[plural]:
                none = {"metadata": {"labels": {FOREIGN: None}, "annotations": {FOREIGN: None}}}
                await arena.api.patch(plural, name, none)
        await invariants.check(arena, undisturbed)
        _bounded(arena, 2 * undisturbed.writes + WRITES_PER_ACT * rogue.acts)

    return run


def _marks_are_left(arena: Arena, rogue: RogueClient) -> None:
    for where in rogue.marked:
        plural, _, name = where.partition("/")
        body = arena.observer.objects[plural].get(name)
        for key in ("labels", "annotations"):
            if body is not None and FOREIGN not in (body["metadata"].get(key) or {}):
                invariants.fail(arena, f"the foreign mark in the {key} of {where} is gone")


# --- what lasts: it is counted, told, or left alone -------------------------------------------------------------------------


def _after(steps: Sequence[reference_workload.Step]) -> Callable[[Act], Run]:
    def decorate(act: Act) -> Run:
        async def run(arena: Arena) -> None:
            arena.observer.trusting = True
            await arena.start(resync_seconds=RESYNC_SECONDS)
            await reference_workload.drive(arena, steps)
            await act(arena, RogueClient(arena.api))
            await _rests(arena)
            invariants.clean(arena)

        return run

    return decorate


def _causes(arena: Arena, name: str) -> list[str]:
    return [failure["cause"] for failure in arena.observer.agent(name).get("failures") or ()]


async def _replaced(arena: Arena, name: str, *pods: str) -> None:
    """The agent runs on with these pods, and its last failure is a third party's deletion, counted once."""
    await arena.observer.until(f"{name} runs again", runs(name, *pods))
    if _causes(arena, name) != ["DeletedByOther"]:
        invariants.fail(arena, f"the ledger of {name} says {_causes(arena, name)}")


@_after(NEGOTIATED)
async def _deletes_pods(arena: Arena, rogue: RogueClient) -> None:
    await rogue.deletes("pods", "steady-0-1")
    await _replaced(arena, "steady", "steady-0-2")


@_after(NEGOTIATED)
async def _deletes_pods_by_force(arena: Arena, rogue: RogueClient) -> None:
    await rogue.deletes("pods", "pair-1-1", gracePeriodSeconds=0)
    await _replaced(arena, "pair", "pair-0-1", "pair-1-2")


@_after(NEGOTIATED)
async def _deletes_pods_while_nobody_looks(arena: Arena, rogue: RogueClient) -> None:
    await arena.operator.stay_down()
    await rogue.deletes("pods", "steady-0-1", gracePeriodSeconds=0)
    arena.operator.come_back()
    await _replaced(arena, "steady", "steady-0-2")


@_after(NEGOTIATED)
async def _holds_a_dying_pod(arena: Arena, rogue: RogueClient) -> None:
    """A foreign finalizer keeps a deleted pod: its successor waits, without a write, until it is let go."""
    await rogue.holds("steady-0-1", True)
    await rogue.deletes("pods", "steady-0-1")
    await _rests(arena)
    if "steady-0-2" in arena.observer.objects["pods"]:
        invariants.fail(arena, "the successor of a pod that is not gone yet was made")
    await rogue.holds("steady-0-1", False)
    await _replaced(arena, "steady", "steady-0-2")


@_after(NEGOTIATED)
async def _disowns_a_pod(arena: Arena, rogue: RogueClient) -> None:
    """A pod without its owner reference is nobody's: it is left alone, and its agent's loss of it counted once."""
    uid = arena.observer.objects["pods"]["steady-0-1"]["metadata"]["uid"]
    arena.observer.disowned.add("steady-0-1")
    await rogue.disowns("pods", "steady-0-1")
    await _replaced(arena, "steady", "steady-0-2")
    await _rests(arena)
    left = arena.observer.objects["pods"].get("steady-0-1", {}).get("metadata", {})
    if left.get("uid") != uid or left.get("deletionTimestamp"):
        invariants.fail(arena, "the disowned pod was touched")


@_after(NEGOTIATED)
async def _disowns_a_config_map(arena: Arena, rogue: RogueClient) -> None:
    """A ConfigMap without its owner reference is not overwritten; its agent says that it cannot be told anything."""
    await rogue.disowns("configmaps", "steady-mabeam")
    await rogue.writes_data("steady-mabeam", {"directives.json": "{}"})
    await arena.observer.until("steady says so", _cannot_be_told)
    await _rests(arena)
    if arena.observer.objects["configmaps"]["steady-mabeam"]["data"] != {"directives.json": "{}"}:
        invariants.fail(arena, "a ConfigMap that is not the operator's was overwritten")


def _cannot_be_told(seen: Observer) -> bool:
    conditions = seen.agent("steady").get("conditions") or ()
    return any(c["type"] == "DirectivesDeliverable" and c["status"] == "False" for c in conditions)


@_after(NEGOTIATED)
async def _rewrites_a_config_map(arena: Arena, rogue: RogueClient) -> None:
    await rogue.writes_data("steady-mabeam", {"directives.json": '{"generation": 1, "parameters": {"temperature": 9}}'})
    await arena.observer.until("the temperature in the ConfigMap is right", _right_again)


def _right_again(seen: Observer) -> bool:
    body: JsonDict = invariants.end_of(seen).get("configmaps/steady-mabeam") or {}
    document = body.get("data", {}).get("directives.json", {})
    return bool(document.get("parameters") == {"temperature": 0.5} and document.get("generation", 0) >= 1)


@_after(FAILED)
async def _takes_the_ledger(arena: Arena, rogue: RogueClient) -> None:
    """A ledger that is gone is gone; but no pod is touched for it, and no number is used twice."""
    await rogue.writes_status("agents", "steady", None)
    await arena.observer.until("steady runs on", runs("steady", "steady-0-3"))


@_after(FAILED)
async def _writes_nonsense(arena: Arena, rogue: RogueClient) -> None:
    """Numbers and names that nobody honest wrote: the agent runs on, or starts anew; it comes to rest either way."""
    nonsense = {"restarts": 2**31 - 1, "failures": [], "specHash": "rogue", "releasedBy": "rogue"}
    await rogue.writes_status("agents", "steady", nonsense)
    await rogue.writes_status("orchestrationvariables", "temperature", {"value": "hot", "round": 2**52})
    await arena.observer.until("steady runs on", runs("steady", "steady-0-3"))
    await arena.observer.until(
        "the value is right again", lambda seen: seen.variable("temperature").get("value") == 0.5
    )


@_after(NEGOTIATED)
async def _fights(arena: Arena, rogue: RogueClient) -> None:
    """A third party that insists gets an answer each time, and no storm."""
    before = arena.proxy.count
    for _ in range(50):
        await rogue.writes_status("agents", "steady", {"readyReplicas": 77})
        await asyncio.sleep(0.1)
    await arena.observer.until("the count is right", lambda seen: seen.agent("steady").get("readyReplicas") == 1)
    if arena.proxy.count - before > WRITES_PER_ACT * rogue.acts:
        invariants.fail(arena, f"{arena.proxy.count - before} writes to answer {rogue.acts}")


LASTING: Final[dict[str, Run]] = {
    "deletes-pods": _deletes_pods,
    "deletes-pods-by-force": _deletes_pods_by_force,
    "deletes-pods-while-nobody-looks": _deletes_pods_while_nobody_looks,
    "holds-a-dying-pod": _holds_a_dying_pod,
    "disowns-a-pod": _disowns_a_pod,
    "disowns-a-config-map": _disowns_a_config_map,
    "rewrites-a-config-map": _rewrites_a_config_map,
    "takes-the-ledger": _takes_the_ledger,
    "writes-nonsense": _writes_nonsense,
    "fights": _fights,
}
