"""What R8 posts to the real apiserver: specs drawn from the schemas, ordinary ones beside them, and edges made by hand."""

from typing import Any, Final

from faults import reference_workload, tree_workload
from faults.generated_specs import NUMBERS, ODD_TEXT, Draw
from faults.in_memory_specs import agent_spec, supervisor_spec, variable_spec
from support.async_api import JsonDict

AGENTS: Final = 30
VARIABLES: Final = 20
SUPERVISORS: Final = 8
MAX_REPLICAS: Final = 3

# etcd takes requests of 1.5 MiB; the apiserver takes annotations of 256 KiB in all.
ETCD_BYTES: Final = 1_572_864
LARGE_BYTES: Final = 1_400_000
ANNOTATION_BYTES: Final = 250_000

FAKE: Final = {
    key: value
    for key, value in reference_workload.agent("x")["spec"]["template"]["spec"].items()
    if key != "containers"
}


def drawn(draw: Draw) -> list[JsonDict]:
    """Agents, variables and Supervisors, as odd as their schemas let them be; one in eight holds what CEL refuses."""
    names = ["a", *(f"a-{number:02}" for number in range(1, AGENTS))]
    agents = [_body("Agent", name, _placed(agent_spec(draw, draw.rarely(8)), draw)) for name in names]
    variables = []
    for name in ["t", "a", "0", *(f"t-{number:02}" for number in range(3, VARIABLES))]:
        spec = variable_spec(draw, draw.rarely(8))
        spec["agents"]["names"] = sorted({*spec["agents"].get("names", ()), *draw.some(names, 5)})
        variables.append(_body("OrchestrationVariable", name, spec))
    supervisors = []
    for name in ["s", "r", *(f"s-{number:02}" for number in range(2, SUPERVISORS))]:
        spec = supervisor_spec(draw, draw.rarely(8), name)
        supervisors.append(_body("Supervisor", name, spec))
        for child in draw.some(names, 4):
            spec["children"] = [*spec.get("children", ()), {"kind": "Agent", "name": child}]
            agents[names.index(child)]["spec"]["supervisor"] = name
    return agents + variables + supervisors


def _body(kind: str, name: str, spec: JsonDict, **meta: Any) -> JsonDict:
    return {"apiVersion": reference_workload.API, "kind": kind, "metadata": {"name": name, **meta}, "spec": spec}


def _placed(spec: JsonDict, draw: Draw) -> JsonDict:
    """The spec with few replicas, and most of its pods on the fake nodes, so that what can run does."""
    spec["replicas"] = min(spec.get("replicas", 1), MAX_REPLICAS)
    pod = (spec.get("template") or {}).get("spec")
    if isinstance(pod, dict) and isinstance(pod.get("containers"), list) and not draw.rarely(8):
        pod |= FAKE
    return spec


def poison(draw: Draw) -> list[JsonDict]:
    """Drawn objects and large ones; by name only, as a selector of everything would be about the healthy agents beside them."""
    bodies = drawn(draw)
    for body in bodies:
        if body["kind"] == "OrchestrationVariable":
            body["spec"]["agents"].pop("selector", None)
    return bodies + large()


def ordinary() -> list[JsonDict]:
    """As many objects as are drawn, each of them about what it should be about."""
    names = [f"fine-{number:02}" for number in range(AGENTS)]
    domain = {"type": "Number", "minimum": 0, "maximum": 1}
    variables = [
        reference_workload.variable(f"fine-{number:02}", names[number : number + 5], value=0.5, domain=domain)
        for number in range(VARIABLES)
    ]
    agents = [reference_workload.agent(name) for name in names]
    supervisors = []
    for number in range(SUPERVISORS):
        agents[number]["spec"]["supervisor"] = f"fine-{number:02}"
        supervisors.append(tree_workload.supervisor(f"fine-{number:02}", [{"name": names[number]}], 3))
    return agents + variables + supervisors


def with_text(name: str, text: str, **meta: Any) -> JsonDict:
    """An agent with the text in its pod's environment."""
    body = reference_workload.agent(name, mark=text)
    body["metadata"] |= meta
    return body


def texts() -> list[JsonDict]:
    """Odd text in a pod's environment, in an annotation, and as choices that agents prefer."""
    agents = [
        with_text(f"text-{number:02}", text, annotations={"note": text, "mabeam.dev/release": text})
        for number, text in enumerate(ODD_TEXT)
    ]
    variables = []
    for number, text in enumerate(ODD_TEXT):
        name = f"choice-{number:02}"
        agents[number]["spec"]["preferences"] = [{"variable": name, "value": text, "weight": 1}]
        domain = {"type": "Choice", "choices": [text, "else"]}
        spec = {"domain": domain, "negotiation": {"strategy": "WeightedConsensus"}}
        variables.append(reference_workload.variable(name, [f"text-{number:02}"], **spec))
    return agents + variables


def numbers() -> list[JsonDict]:
    """Numbers at the edges of 64 bits and of a float, as values, as bounds, and as what an agent prefers and bids."""
    bodies = []
    for number, value in enumerate(NUMBERS):
        for kind, domain in (("free", {}), ("bound", {"type": "Integer", "minimum": value, "maximum": value})):
            name = f"{kind}-{number:02}"
            prefers = [{"variable": name, "value": value, "weight": 1, "bid": abs(value) % 1e9}]
            bodies.append(reference_workload.agent(f"agent-{name}", preferences=prefers))
            spec: JsonDict = {"domain": domain} if domain else {}
            bodies.append(reference_workload.variable(name, [f"agent-{name}"], value=value, **spec))
    return bodies


def of_third_parties() -> list[JsonDict]:
    """Agents that are missing, that are about variables that are missing, that name themselves; and trees that are none."""
    missing = [f"nobody-{number:03}" for number in range(1000)]
    domain = {"type": "Number", "minimum": 0, "maximum": 1}
    negotiated: JsonDict = {"domain": domain, "negotiation": {"strategy": "WeightedConsensus"}}
    auction: JsonDict = {"domain": domain, "negotiation": {"strategy": "Auction"}}
    return [
        reference_workload.agent("lonely", preferences=[{"variable": "nothing", "value": 1, "weight": 1}]),
        reference_workload.agent("itself", supervisor="itself"),
        tree_workload.supervisor("of-nobody", [{"name": name} for name in missing[:64]], 0),
        tree_workload.supervisor("of-nothing", [], 3),
        tree_workload.supervisor("of-itself", [{"kind": "Supervisor", "name": "of-itself"}], 3),
        *(
            tree_workload.supervisor(one, [{"kind": "Supervisor", "name": other}], 3)
            for one, other in (("up", "down"), ("down", "up"))
        ),
        *(tree_workload.supervisor(name, [{"name": "wanted"}], 3) for name in ("one", "another")),
        tree_workload.child("wanted", "one"),
        reference_workload.variable("about-nobody", missing, value=0.5, domain=domain),
        reference_workload.variable("asks-nobody", missing, **negotiated),
        reference_workload.variable("sells-to-nobody", ["nobody"], **auction),
        reference_workload.variable("about-itself", ["about-itself"], **negotiated),
        reference_workload.variable("rival", ["lonely"], value="text where a number should be", domain=domain),
        reference_workload.agent("a" * 50),
        reference_workload.agent("a" * 51),
    ]


def large() -> list[JsonDict]:
    """Specs of 1.4 MB, in one text and in many, and annotations up to what the apiserver takes."""
    many = [{"name": f"V{number}", "value": "x" * 50} for number in range(LARGE_BYTES // 80)]
    crowded = reference_workload.agent("crowded")
    crowded["spec"]["template"]["spec"]["containers"][0]["env"] = many
    broken = with_text("broken", "x" * LARGE_BYTES)
    del broken["spec"]["template"]["spec"]["containers"][0]["image"]
    return [
        with_text("long", "x" * LARGE_BYTES),
        crowded,
        broken,
        with_text("annotated", "1", annotations={"note": "x" * ANNOTATION_BYTES}),
    ]
