"""Random trees and histories of exits over them, and each tree both as supervisor.erl's and as the objects a user would apply.

Generated from dice, which hypothesis or a seeded `random.Random` throws, so that a sample shrinks and a full run is fast.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from mabeam.api.agent import Agent
from mabeam.api.base import JsonDict
from mabeam.api.supervisor import Supervisor
from support.supervisor_erl import Reason, Replicas, TreeSupervisor, Worker
from support.tree import child_body, supervisor_body

T = TypeVar("T")
Node = Worker | TreeSupervisor

STRATEGIES = {"OneForOne": "one_for_one", "OneForAll": "one_for_all", "RestForOne": "rest_for_one"}
AUTO = {"Never": "never", "AnySignificant": "any_significant", "AllSignificant": "all_significant"}
TYPES = {"Permanent": "permanent", "Transient": "transient", "Temporary": "temporary"}
CODES = {"normal": 0, "shutdown": 42, "crash": 1}
DEPTH = 3


class Dice(Protocol):
    """Chance, thrown by whoever generates."""

    def number(self, low: int, high: int) -> int:
        """One of the numbers, both ends included."""

    def one_of(self, options: Sequence[T]) -> T:
        """One of the options."""


@dataclass(frozen=True)
class Seeded:
    """Dice that fall the same way for the same seed."""

    chance: random.Random

    def number(self, low: int, high: int) -> int:
        """One of the numbers, both ends included."""
        return self.chance.randint(low, high)

    def one_of(self, options: Sequence[T]) -> T:
        """One of the options."""
        return self.chance.choice(options)


# --- what happens ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Exit:
    """The `pick`-th of those that run ends, so many seconds after what was before it."""

    pick: int
    after: int
    reason: Reason


@dataclass(frozen=True)
class Step:
    """Exits that the operator sees all at once, so many seconds after the last of them."""

    exits: tuple[Exit, ...]
    seen: int = 0


@dataclass(frozen=True)
class History:
    """A tree and what befalls it; how the operator's passes are rung is chance too."""

    tree: JsonDict
    steps: tuple[Step, ...]
    order: int = 0


def a_history(dice: Dice) -> History:
    """Up to three storeys, every restart type and strategy, up to ten steps with ends that come alone, together, or seen late."""
    steps = []
    for _ in range(dice.number(1, 10)):
        count = dice.one_of((1, 1, 1, 2, 3))
        late = count > 1 and dice.number(0, 2) == 0
        exits = tuple(
            Exit(
                dice.number(0, 20),
                dice.one_of((0, 1, 1, 2, 3, 4, 5, 6)) if not place else dice.number(0, 2) * late,
                dice.one_of(("normal", "shutdown", "crash", "crash", "crash")),
            )
            for place in range(count)
        )
        steps.append(Step(exits, dice.one_of((0, 0, 0, 1, 4))))
    return History(_supervisor(dice, "s", 1), tuple(steps), dice.number(0, 2**16))


def _supervisor(dice: Dice, name: str, storey: int) -> JsonDict:
    auto = dice.one_of(("Never", "Never", "AnySignificant", "AllSignificant"))
    return {
        "name": name,
        "strategy": dice.one_of(tuple(STRATEGIES)),
        "intensity": dice.number(0, 3),
        "period": dice.number(1, 6),
        "auto": auto,
        "children": [
            _supervisor(dice, f"{name}{place}", storey + 1)
            if storey < DEPTH and dice.number(0, 2) == 0
            else _agent(dice, f"{name}{place}", auto)
            for place in range(dice.number(1, 3))
        ],
    }


def _agent(dice: Dice, name: str, auto: str) -> JsonDict:
    restart = dice.one_of(tuple(TYPES))
    found: JsonDict = {"name": name, "restart": restart}
    found["significant"] = auto != "Never" and restart != "Permanent" and dice.number(0, 1) == 1
    if dice.number(0, 2) > 0:
        return found | {"replicas": 1, "intensity": 0}  # plain OTP: every crash is the Supervisor's
    return found | {
        "replicas": dice.number(1, 3),
        "strategy": dice.one_of(tuple(STRATEGIES)),
        "intensity": dice.number(0, 2),
        "period": dice.number(1, 6),
    }


# --- the tree as supervisor.erl's, and as objects ---------------------------------------------------------------------------


def erlang(node: JsonDict) -> Any:
    """The tree as supervisor.erl's."""
    if "children" in node:
        children = [erlang(child) for child in node["children"]]
        strategy, auto = STRATEGIES[node["strategy"]], AUTO[node["auto"]]
        return TreeSupervisor(node["name"], children, strategy, node["intensity"], node["period"], auto)  # type: ignore[arg-type]
    restart, significant = TYPES[node["restart"]], node["significant"]
    if "strategy" not in node:
        return Worker(f"{node['name']}-0", restart, significant)  # type: ignore[arg-type]
    replicas: list[Any] = [Worker(f"{node['name']}-{ordinal}", restart) for ordinal in range(node["replicas"])]  # type: ignore[arg-type]
    strategy = STRATEGIES[node["strategy"]]
    return Replicas(node["name"], replicas, strategy, node["intensity"], node["period"], "never", restart, significant)  # type: ignore[arg-type]


def objects(node: JsonDict, parent: str | None = None) -> Iterator[Agent | Supervisor]:
    """The tree as the objects that a user would apply."""
    if "children" not in node:
        more = {"supervisionStrategy": node["strategy"]} if "strategy" in node else {}
        window = node.get("period", 60)
        yield Agent.model_validate(
            child_body(
                node["name"],
                parent,
                max_failures=node["intensity"],
                window=window,
                restart=node["restart"],
                replicas=node["replicas"],
                normalExitCodes=[42],
                **more,
            )
        )
        return
    references = [
        {"kind": "Supervisor", "name": child["name"]}
        if "children" in child
        else {"name": child["name"], "significant": child["significant"]}
        for child in node["children"]
    ]
    words: Any = {"maxRestarts": node["intensity"], "periodSeconds": node["period"], "autoShutdown": node["auto"]}
    above: Any = {"supervisor": parent} if parent else {}
    yield Supervisor.model_validate(
        supervisor_body(node["name"], *references, strategy=node["strategy"], **words, **above)
    )
    for child in node["children"]:
        yield from objects(child, node["name"])


def walk(node: Node) -> Iterator[Node]:
    """A node and all below, each before its children."""
    yield node
    if isinstance(node, TreeSupervisor):
        for child in node.children:
            yield from walk(child)
