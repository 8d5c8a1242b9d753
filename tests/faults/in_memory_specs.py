"""R8, the first level: worlds drawn from the CRDs' schemas, through parser and core, by the thousand.

`python -m faults.in_memory_specs SEED BATCH COUNT [whole]` prints what became of a batch.
"""

import copy
import json
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from faults import schema
from faults.generated_specs import Draw
from faults.in_memory_world import HostileWorld
from faults.schema import JsonDict
from mabeam.core.reports.openmetrics import parse
from support.builders import stamp

SHRINK_STEPS = 3000
# Who may be whose child: what there is in a drawn world, and what there is not.
FAMILY = (("Agent", "a"), ("Agent", "ghost"), ("Supervisor", "r"), ("Supervisor", "s"))


def agent_spec(draw: Draw, whole: bool = False) -> JsonDict:
    """A spec that the Agent's schema admits; nine in ten obey its CEL rules too (`whole`: what they refuse may be in it)."""
    shape = schema.of("Agent", "spec") if whole else _supported("Agent")
    spec: JsonDict = draw.admitted(shape, {"template": draw.pod_template})
    if draw.rarely(10):
        return spec
    if "template" in spec:
        spec.pop("module", None)
        spec.pop("image", None)
    else:
        spec.setdefault("module", "team.work:Worker")
    if spec.get("role") == "Custom":
        spec.setdefault("customRole", "Critic")
    else:
        spec.pop("customRole", None)
    return spec


def variable_spec(draw: Draw, whole: bool = False) -> JsonDict:
    """The same for variables; most are about the agent `a`."""
    kind = "OrchestrationVariable"
    spec: JsonDict = draw.admitted(schema.of(kind, "spec") if whole else _supported(kind))
    if draw.rarely(10):
        return spec
    spec["agents"]["names"] = sorted({*spec["agents"].get("names", ()), "a"})
    domain, negotiation = spec.get("domain", {}), spec.get("negotiation")
    if "value" in spec or negotiation is None:
        spec["value"] = draw.of(0.3, 1, 7, "small", draw.value())
    if negotiation is not None:
        auction = negotiation.get("strategy") == "Auction"
        for name in ("aggregation",) if auction else ("payment", "reservePrice"):
            negotiation.pop(name, None)
    if domain.get("type") == "Choice":
        spec["domain"] = {"type": "Choice", "choices": domain.get("choices") or ["small", "large"]}
    else:
        domain.pop("choices", None)
        if domain.get("minimum", 0) > domain.get("maximum", 0):
            domain.pop("maximum", None)
    return spec


def supervisor_spec(draw: Draw, whole: bool = False, own: str = "s") -> JsonDict:
    """The same for Supervisors; most have the agent `a` or one another as children, and so close cycles."""
    spec: JsonDict = draw.admitted(schema.of("Supervisor", "spec") if whole else _supported("Supervisor"))
    if draw.rarely(10):
        return spec
    children = {(child.get("kind", "Agent"), child["name"]): child for child in spec.get("children", ())}
    for kind, name in draw.some(FAMILY, len(FAMILY)):
        children.setdefault((kind, name), {"kind": kind, "name": name})
    children.pop(("Supervisor", own), None)
    for kind, name in children:
        if kind == "Supervisor":
            children[kind, name].pop("significant", None)
    if any(child.get("significant") for child in children.values()):
        spec["autoShutdown"] = draw.of("AnySignificant", "AllSignificant")
    return spec | {"children": list(children.values())}


_SUPPORTED: dict[str, JsonDict] = {}


def _supported(kind: str) -> JsonDict:
    return _SUPPORTED.setdefault(kind, schema.supported(schema.of(kind, "spec")))


def drawn(number: int, whole: bool) -> JsonDict:
    """The world of that number, as JSON: an agent, a variable about it, a tree, and all that may be wrong around them."""
    draw = Draw(random.Random(number))
    world: JsonDict = {"agent": agent_spec(draw, whole), "variable": variable_spec(draw, whole)}
    world["supervisor"] = supervisor_spec(draw, whole)
    if draw.rarely(2):
        world["agent"]["supervisor"] = draw.of("s", "s", "r")
    if draw.rarely(2):
        world["above"] = supervisor_spec(draw, whole, "r")
    world["meta"] = {"annotations": draw.annotations(), "generation": draw.of(1, 2, 2**31, 2**53 - 1)}
    world["refusesPods"] = draw.rarely()
    parts: dict[str, Callable[[], Any]] = {
        "agentStatus": lambda: draw.admitted(schema.of("Agent", "status")),
        "variableStatus": lambda: draw.admitted(schema.of("OrchestrationVariable", "status")),
        "supervisorStatus": lambda: draw.admitted(schema.of("Supervisor", "status")),
        "pods": lambda: [draw.pod("a", "uid-of-a") for _ in range(draw.rng.randrange(4))],
        "configMap": lambda: draw.config_map("a", "uid-of-a"),
        "report": lambda: draw.report().decode("latin-1"),
    }
    return world | {name: make() for name, make in parts.items() if draw.rarely()}


def built(world: JsonDict) -> HostileWorld:
    """The world, ready for its passes."""
    found = HostileWorld(refuses_pods=bool(world.get("refusesPods")))
    found.add("Agent", "a", world["agent"], world.get("agentStatus"), **world.get("meta", {}))
    found.add("OrchestrationVariable", "t", world["variable"], world.get("variableStatus"), creationTimestamp=stamp(0))
    for name, key in (("s", "supervisor"), ("r", "above")):
        if key in world:
            found.add("Supervisor", name, world[key], world.get(f"{key}Status"), creationTimestamp=stamp(0))
    found.pods = {pod["metadata"]["name"]: pod for pod in world.get("pods", ())}
    if "configMap" in world:
        found.config_maps = {"a-mabeam": world["configMap"]}
    if "report" in world:
        found.reports = {"a": parse(world["report"].encode("latin-1"))}
    return found


def try_worlds(seed: int, batch: int, count: int, *, whole: bool = False) -> Counter[str]:
    """How many of the batch's `count` worlds were accepted; raises AssertionError with a world made small that fails."""
    ends: Counter[str] = Counter()
    for place in range(count):
        number = (seed << 32) + batch * count + place
        world = drawn(number, whole)
        try:
            ends.update(settled(copy.deepcopy(world)))
        except Exception as problem:
            small = shrunk(world, type(problem))
            text = json.dumps(small, ensure_ascii=True)
            summary = f"{type(problem).__name__}: {str(problem)[:500]}"
            raise AssertionError(f"world {number}: {summary}\nmade small: {text[:3000]}") from problem
    return ends


def settled(world: JsonDict) -> list[str]:
    """What became of the Agent, the variable and the Supervisor once nothing was written any more."""
    found = built(world)
    found.settle()
    kinds = (("Agent", "a"), ("OrchestrationVariable", "t"), ("Supervisor", "s"))
    there = [(kind, name) for kind, name in kinds if name in found.of(kind)]
    accepted = [(kind, found.conditions_of(kind, name).get("Accepted", ("",))[0] == "True") for kind, name in there]
    return [f"{kind} {'accepted' if good else 'refused'}" for kind, good in accepted]


def _fails(world: JsonDict) -> type[Exception] | None:
    try:
        settled(copy.deepcopy(world))
    except Exception as problem:
        return type(problem)
    return None


def shrunk(world: JsonDict, kind: type[Exception]) -> JsonDict:
    """A world that fails in the same way and of which no single part can be left out any more."""
    steps = SHRINK_STEPS
    again = True
    while again and steps > 0:
        again = False
        for path in sorted(_paths(world), key=len):
            steps -= 1
            smaller = _without(world, path)
            if smaller is not None and steps > 0 and _fails(smaller) is kind:
                world, again = smaller, True
                break
    return world


def _paths(value: Any, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*here, key)
        yield from _paths(inner, (*here, key))


def _without(world: JsonDict, path: tuple[Any, ...]) -> JsonDict | None:
    if path in (("agent",), ("variable",)):
        return None
    smaller = copy.deepcopy(world)
    where: Any = smaller
    for step in path[:-1]:
        where = where[step]
    del where[path[-1]]
    return smaller


def main(seed: str, batch: str, count: str, *whole: str) -> int:
    """Print the batch's ends as JSON; 1, and the world that fails, made small, on stderr."""
    try:
        ends = try_worlds(int(seed), int(batch), int(count), whole=bool(whole))
    except AssertionError as failed:
        print(failed, file=sys.stderr)
        return 1
    print(json.dumps(ends))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
