"""The reference workload's second workload: a tree in which deaths take others along, escalate, and are counted once each.

    root (RestForOne)   first, inner, last
    inner (OneForOne)   deep

Every agent has `maxFailures: 0` and Escalate, so that each of its failures is its Supervisor's. A failure of `first` takes all
along; the first one of `deep` is its own affair, the second one exhausts `inner`, and that takes `last` along and leaves
`first` alone. In the end `first` is moved to another node, which is nobody's failure and takes nobody along.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from faults.arena import Arena
from faults.background_work import beside
from faults.observer import Observer, is_ready
from faults.reference_workload import API, STEP_SECONDS, TEAM, Step, Workload, agent, create, ends, runs, tolerance
from faults.schema import PLURALS
from mabeam.api.names import ANNOTATION_MIGRATE
from support.async_api import JsonDict

# A day, as in the agents' budgets: how long a plan takes must not decide whether a restart is still inside the window.
PERIOD_SECONDS: Final = 86_400
# In the order in which they start, whatever Supervisor they are under.
ORDER: Final = ("first", "deep", "last")


# --- the objects ------------------------------------------------------------------------------------------------------


def child(name: str, supervisor: str) -> JsonDict:
    """An Agent of which every failure is its Supervisor's to handle."""
    return agent(name, supervisor=supervisor, faultTolerance=tolerance(0) | {"escalationPolicy": "Escalate"})


def supervisor(name: str, children: Sequence[JsonDict], restarts: int, **spec: Any) -> JsonDict:
    """A Supervisor with a budget of so many restarts a day."""
    whole = {"children": list(children), "maxRestarts": restarts, "periodSeconds": PERIOD_SECONDS, **spec}
    return {"apiVersion": API, "kind": "Supervisor", "metadata": {"name": name}, "spec": whole}


# --- what is awaited --------------------------------------------------------------------------------------------------


def stands(restarts: Mapping[str, int], **incarnations: int) -> Callable[[Observer], bool]:
    """Whether the tree is whole: so many restarts of each Supervisor, each agent in that incarnation, every intent obeyed."""

    def look(seen: Observer) -> bool:
        return (
            all(_is_whole(seen, name, total) for name, total in restarts.items())
            and not disobeyed(seen)
            and all(_leads(seen, name, incarnation) for name, incarnation in incarnations.items())
        )

    return look


def _is_whole(seen: Observer, supervisor: str, restarts: int) -> bool:
    body = seen.objects["supervisors"].get(supervisor, {})
    return is_ready(body) and body["status"].get("totalRestarts", 0) == restarts


def _leads(seen: Observer, agent: str, incarnation: int) -> bool:
    pod = f"{agent}-0-{incarnation}"
    return runs(agent, pod)(seen) and is_ready(seen.objects["agents"][agent])


def disobeyed(seen: Observer) -> list[str]:
    """The children that act on another word than their Supervisor's status has for them."""
    found = []
    for name, body in seen.objects["supervisors"].items():
        for record in (body.get("status") or {}).get("children") or ():
            instructed = {"supervisor": name, "intent": record["intent"], "token": record["token"]}
            child = seen.objects[PLURALS[record["kind"]]].get(record["name"]) or {}
            acts = (child.get("status") or {}).get("supervision")
            if acts != instructed or "due" in record:
                found.append(f"{record['name']} is instructed {instructed} and acts on {acts}")
    return found


# --- the steps --------------------------------------------------------------------------------------------------------


async def _begin(arena: Arena) -> None:
    arena.observer.order = ORDER
    for name, above in (("last", "root"), ("deep", "inner"), ("first", "root")):
        await create(arena, child(name, above))
    inner = {"kind": "Supervisor", "name": "inner"}
    await create(arena, supervisor("inner", [{"name": "deep"}], 1, supervisor="root"))
    await create(arena, supervisor("root", [{"name": "first"}, inner, {"name": "last"}], 3, strategy="RestForOne"))
    await _await(arena, "the tree stands", stands({"root": 0, "inner": 0}, first=1, deep=1, last=1))


async def _fail_first(arena: Arena) -> None:
    await ends(arena, "first-0-1", 1)
    await _await(arena, "all start anew", stands({"root": 1, "inner": 0}, first=2, deep=2, last=2))


async def _fail_deep(arena: Arena) -> None:
    await ends(arena, "deep-0-2", 1)
    await _await(arena, "deep alone starts anew", stands({"root": 1, "inner": 1}, first=2, deep=3, last=2))


async def _escalate(arena: Arena) -> None:
    await ends(arena, "deep-0-3", 1)
    await _await(arena, "inner and last start anew", stands({"root": 2, "inner": 1}, first=2, deep=4, last=3))


async def _migrate(arena: Arena) -> None:
    left = _node_of(arena, "first-0-2")
    await arena.api.patch("agents", "first", {"metadata": {"annotations": {ANNOTATION_MIGRATE: "once"}}})
    await _await(arena, "first runs anew, alone", stands({"root": 2, "inner": 1}, first=3, deep=4, last=3))
    if (node := _node_of(arena, "first-0-3")) == left:
        raise AssertionError(f"first was asked to leave {left}, and runs on {node}")


def _node_of(arena: Arena, pod: str) -> str:
    return str(arena.observer.objects["pods"][pod]["spec"]["nodeName"])


async def _await(arena: Arena, what: str, look: Callable[[Observer], bool]) -> None:
    await arena.observer.until(what, look, STEP_SECONDS)


def side_by_side(steps: Sequence[Step], others: Sequence[Step]) -> Sequence[Step]:
    """The steps, with the others spread evenly over them."""
    at = {place * len(steps) // len(others): step for place, step in enumerate(others)}
    return [_with(step, at[place]) if place in at else step for place, step in enumerate(steps)]


def _with(step: Step, other: Step) -> Step:
    async def both(arena: Arena) -> None:
        async with beside(other(arena)) as work:
            await step(arena)
            await work

    return both


TREE: Final = Workload("tree", (_begin, _fail_first, _fail_deep, _escalate, _migrate))
# For the plans whose fault comes at a step of the workload rather than at a write or an event of it.
BOTH: Final = Workload("both", side_by_side(TEAM.steps, TREE.steps))
