"""The reference workload's third workload: agents that vote, elect a coordinator, share a budget and are wired to each other.

    mood   negotiated, and gated by a vote of three: accepted, accepted, rejected
    lead          a CoordinationPattern: a ring with a coordinator, who stops and comes back
    purse         a ResourceAllocation of tokens among those that take part

Fake nodes report nothing, so offers and ballots are those of `spec.preferences`; what is decided follows from them alone.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from faults.arena import Arena
from faults.observer import Observer
from faults.reference_workload import STEP_SECONDS, Workload, agent, create, runs, variable
from faults.tree_workload import BOTH, side_by_side
from support.async_api import JsonDict

MEMBERS: Final = ("ada", "ben", "cy")


def minded(value: float, vote: str) -> list[JsonDict]:
    """The preference of an agent for the temperature, and its vote on whatever is proposed."""
    return [{"variable": "mood", "value": value, "weight": 1, "vote": vote}]


def has(name: str, value: Any, issued: int, vote: Mapping[str, Any] | None = None) -> Callable[[Observer], bool]:
    """Whether a variable has that value, every one of its directives reached its agent, and its last vote came to that."""

    def look(seen: Observer) -> bool:
        status = seen.variable(name)
        counts, last = status.get("directives") or {}, status.get("consensus") or {}
        return bool(
            status.get("value") == value
            and (counts.get("issued"), counts.get("delivered")) == (issued, issued)
            and all(last.get(key) == wanted for key, wanted in (vote or {}).items())
        )

    return look


async def _begin(arena: Arena) -> None:
    for name, value, vote in (("ada", 0.2, "Yes"), ("ben", 0.5, "Yes"), ("cy", 0.8, "No")):
        await create(arena, agent(name, preferences=minded(value, vote)))
    for name in MEMBERS:
        await _await(arena, f"{name} runs", runs(name, f"{name}-0-1"))


async def _vote(arena: Arena) -> None:
    domain = {"type": "Number", "minimum": 0, "maximum": 1, "step": 0.1}
    spec = {"domain": domain, "value": 0.1, "negotiation": {}, "consensus": {"protocol": "SimpleMajority"}}
    await create(arena, variable("mood", MEMBERS, **spec))
    await _await(arena, "0.5 is accepted", has("mood", 0.5, 3, {"proposed": 0.5, "outcome": "Accepted"}))


async def _wire(arena: Arena) -> None:
    topology = {"pattern": "Ring"}
    await create(arena, variable("lead", MEMBERS, type="CoordinationPattern", topology=topology))
    await _await(arena, "ada coordinates", has("lead", _ring(MEMBERS, "ada", 1), 4))


async def _share(arena: Arena) -> None:
    budget = [{"resource": "tokens-per-minute", "amount": "90k"}]
    await create(arena, variable("purse", MEMBERS, type="ResourceAllocation", budget=budget))
    await _await(arena, "a third for each", has("purse", _shares(MEMBERS, "30k"), 3))


async def _change_minds(arena: Arena) -> None:
    await arena.api.patch("agents", "ada", {"spec": {"preferences": minded(0.5, "Yes")}})
    await _await(arena, "0.6 is accepted", has("mood", 0.6, 3, {"proposed": 0.6, "outcome": "Accepted"}))


async def _refuse(arena: Arena) -> None:
    await arena.api.patch("agents", "ben", {"spec": {"preferences": minded(1.0, "No")}})
    await _await(arena, "0.8 is rejected", has("mood", 0.6, 3, {"proposed": 0.8, "outcome": "Rejected"}))


async def _lose_the_coordinator(arena: Arena) -> None:
    await arena.api.patch("agents", "ada", {"spec": {"desiredState": "Stopped"}})
    await _await(arena, "ben succeeds", has("lead", _ring(("ben", "cy"), "ben", 2), 3))
    await _await(arena, "a half for each", has("purse", _shares(("ben", "cy"), "45k"), 2))


async def _come_back(arena: Arena) -> None:
    await arena.api.patch("agents", "ada", {"spec": {"desiredState": "Running"}})
    await _await(arena, "ada runs again", runs("ada", "ada-0-2"))
    await _await(arena, "ben stays coordinator", has("lead", _ring(MEMBERS, "ben", 2), 4))
    await _await(arena, "a third for each again", has("purse", _shares(MEMBERS, "30k"), 3))


async def _withdraw(arena: Arena) -> None:
    await arena.api.delete("orchestrationvariables", "lead", propagationPolicy="Background")
    await _await(arena, "nobody has the ring any more", lambda seen: not any(map(_of_lead(seen), MEMBERS)))


def _of_lead(seen: Observer) -> Callable[[str], bool]:
    def has_it(name: str) -> bool:
        items = (seen.agent(name).get("directives") or {}).get("items") or ()
        return any(item["variable"] == "lead" for item in items)

    return has_it


def _ring(members: tuple[str, ...], coordinator: str, term: int) -> JsonDict:
    return {"pattern": "Ring", "members": list(members), "coordinator": coordinator, "term": term}


def _shares(members: tuple[str, ...], amount: str) -> JsonDict:
    return {name: {"tokens-per-minute": amount} for name in members}


async def _await(arena: Arena, what: str, look: Callable[[Observer], bool]) -> None:
    await arena.observer.until(what, look, STEP_SECONDS)


VOTING: Final = Workload(
    "council",
    (_begin, _vote, _wire, _share, _change_minds, _refuse, _lose_the_coordinator, _come_back, _withdraw),
    generations_vary=True,
)
ALL: Final = Workload("all", side_by_side(BOTH.steps, VOTING.steps), generations_vary=True)
