"""The team at work: it starts, agrees on a temperature, changes its mind, finishes what ends, and finds a short tour."""

import json
import time
from collections.abc import Callable

from examples.annealers.annealers.tsp import BERLIN52
from examples.demo import facts
from examples.demo.demo import EXECUTORS, HOTHEAD_FILE, TEAM, Demo, told
from examples.demo.setup import fresh_namespace, start_team
from examples.demo.tools import shown

EVALUATOR = "annealers-evaluator"
# Above this the demo does not call a tour good. The team is usually within 2 % after half a minute.
WORST_SHARE = 0.05
# Where the executors settle by themselves is near 24; the hothead's word, once it has weight, is far above this line.
HOT = 45.0
HOT_PREFERENCE = {"variable": "temperature", "value": 80, "weight": 12}


def start(demo: Demo) -> None:
    """Step 1."""
    page = demo.page
    fresh_namespace(demo)
    start_team(demo)
    page.until(
        "every agent is Running (or done already)",
        lambda: demo.all_ready(*TEAM),
        90,
        demo.look("describe mba,pods"),
    )
    demo.tools.show(page, "get", "mba,mov", "-n", demo.namespace)


def agree(demo: Demo) -> None:
    """Step 2."""
    page = demo.page
    page.until(
        "a first value is negotiated, and every process says that it obeys it",
        lambda: _in_force(demo),
        60,
        demo.look("get mov temperature -o yaml"),
    )
    variable = demo.variable()
    for name, pod in _pods(demo).items():
        applied = facts.applied_generation(demo.report(pod))
        said = facts.obeyed(demo.log(pod))
        page.require(
            applied > 0 and said is not None,
            f"{pod} says: temperature {said.temperature if said else 0:g}, mabeam_applied_generation {applied}",
            f"{name} says nothing",
            demo.look(f"logs {pod}"),
        )
    page.line(f"the operator says: {facts.status_of(variable)['lastDecision']['message']}")
    page.until(
        f"the team cools down and settles below {HOT:g}",
        lambda: _all(demo, lambda t: t < HOT * 0.8),
        60,
        demo.look("get mov temperature -w"),
    )
    _show_acknowledged(demo)


def change_a_preference(demo: Demo) -> None:
    """Step 3."""
    page, tools = demo.page, demo.tools
    tools.show(page, "apply", "-n", demo.namespace, "-f", HOTHEAD_FILE)
    page.until(
        "the hothead runs, and counts for nothing yet",
        lambda: _cool_with_hothead(demo),
        60,
        demo.look("get mba,mov"),
    )
    patch = ("patch", "mba", "hothead", "-n", demo.namespace, "--type", "merge",
             "-p", json.dumps({"spec": {"preferences": [HOT_PREFERENCE]}}))  # fmt: skip
    began = time.monotonic()
    tools.show(page, *patch)
    returned = time.monotonic() - began
    page.until(
        "a new value is in force in every process",
        lambda: _all(demo, lambda t: t > HOT),
        30,
        demo.look("get mov temperature -o yaml"),
        told=False,
    )
    seconds = time.monotonic() - began
    page.ok(
        f"a new value in every process {seconds:.2f} s after the command was started (kubectl itself took {returned:.2f} s)"
    )
    page.line(told(demo.temperatures()))
    offers = (facts.status_of(demo.variable()).get("negotiation") or {}).get("offers") or []
    page.line("offers: " + ", ".join(f"{o['agent']} {o['value']:g} × {o.get('weight', 1):g}" for o in offers))
    _show_acknowledged(demo)
    tools.show(page, "delete", "mba", "hothead", "-n", demo.namespace)
    page.until(
        "with the hothead gone, the others' value is in force again",
        lambda: _all(demo, lambda t: t < HOT),
        60,
        demo.look("get mov temperature -o yaml"),
    )


def finished_stays_down(demo: Demo) -> None:
    """Step 5."""
    page = demo.page
    page.until("the polisher is Stopped", lambda: _stopped(demo, "polisher"), 90, demo.look("describe mba polisher"))
    polisher = demo.agent("polisher")
    ready = facts.condition(polisher, "Ready")
    page.require(
        (ready.get("status"), ready.get("reason")) == ("True", "Completed"),
        "Ready=True with reason Completed: what is as desired is ready, so `kubectl wait` and helm do not hang on it",
        f"Ready={ready.get('status')}, reason {ready.get('reason')}: {ready.get('message')}",
        demo.look("get mba polisher -o yaml"),
    )
    page.require(
        facts.incarnation(polisher) == 1 and len(demo.pods("polisher")) == 1,
        "one incarnation, one pod, kept for its log",
        f"incarnation {facts.incarnation(polisher)}, {len(demo.pods('polisher'))} pods",
        demo.look("get pods -l mabeam.dev/agent=polisher"),
    )
    demo.tools.show(page, "get", "mba", "polisher", "-n", demo.namespace)
    demo.tools.show(page, "logs", facts.current_pod(polisher), "-n", demo.namespace, "--tail=2")


def tours(demo: Demo) -> None:
    """Step 13."""
    page = demo.page
    proxy = f"/api/v1/namespaces/{demo.namespace}/services/{EVALUATOR}:8080/proxy"
    page.until(
        f"the best tour is at most {WORST_SHARE:.0%} longer than the optimum of {BERLIN52.optimum}",
        lambda: _short(demo.api.json(f"{proxy}/best")),
        60,
        f"{demo.kubectl} get --raw {proxy}/best",
    )
    best = demo.api.json(f"{proxy}/best")
    length, tour = best.get("length"), best.get("tour")
    recomputed = BERLIN52.length(tour) if BERLIN52.is_tour(tour) and isinstance(tour, list) else None
    page.require(
        recomputed == length,
        f"best tour {length}, by {best.get('agent')}: {_above(length or 0):.2%} above the optimum; computed here again",
        f"the evaluator says {length}, its tour is {recomputed} long",
    )
    page.line(f"tours judged: {best.get('judged')}; best of each: {_lengths(best)}")
    svg = demo.api.text(f"{proxy}/tour.svg") or ""
    page.require(
        svg.startswith("<svg"), "the evaluator drew it", svg[:80] or "no answer", f"{demo.kubectl} get --raw {proxy}/"
    )
    demo.picture.parent.mkdir(parents=True, exist_ok=True)
    demo.picture.write_text(svg)
    page.command(shown(("kubectl", "get", "--raw", f"{proxy}/tour.svg")) + f" > {demo.picture.name}")
    page.ok(f"written to {demo.picture}: open it in a browser")


def _pods(demo: Demo) -> dict[str, str]:
    agents = demo.agents()
    return {name: facts.current_pod(agents.get(name, {})) for name in EXECUTORS}


def _show_acknowledged(demo: Demo) -> None:
    """What `kubectl get` says once the operator has heard all three."""
    how = demo.look("get mov temperature -o yaml")
    demo.page.until("the acknowledgements are in the status", lambda: _acknowledged(demo), 30, how, told=False)
    demo.tools.show(demo.page, "get", "mov", "-n", demo.namespace)


def _acknowledged(demo: Demo) -> tuple[bool, str]:
    variable = demo.variable()
    directives = facts.status_of(variable).get("directives") or {}
    seen = facts.condition(variable, "Ready").get("message", "not decided")
    return facts.is_ready(variable) and directives.get("acknowledged", 0) >= len(EXECUTORS), str(seen)


def _in_force(demo: Demo) -> tuple[bool, str]:
    """Whether the value was negotiated, the status says it arrived, and the processes say so too."""
    variable = demo.variable()
    status = facts.status_of(variable)
    value, rule = status.get("value"), (status.get("lastDecision") or {}).get("rule")
    directives = status.get("directives") or {}
    processes = demo.temperatures()
    reported = all(
        said is not None and said.temperature == value and facts.applied_generation(demo.report(pod)) >= said.generation
        for said, pod in ((processes[name], pod) for name, pod in _pods(demo).items())
    )
    acknowledged = directives.get("acknowledged", 0)
    seen = f"value {value} by {rule}, {acknowledged}/{len(EXECUTORS)} acknowledged; {told(processes)}"
    return rule == "WeightedMean" and acknowledged == len(EXECUTORS) and reported, seen


def _all(demo: Demo, holds: Callable[[float], bool]) -> tuple[bool, str]:
    temperatures = demo.temperatures()
    return all(one is not None and holds(one.temperature) for one in temperatures.values()), told(temperatures)


def _cool_with_hothead(demo: Demo) -> tuple[bool, str]:
    running, seen = demo.all_ready("hothead")
    status = facts.status_of(demo.variable())
    offers = {offer["agent"] for offer in (status.get("negotiation") or {}).get("offers") or []}
    cool, temperatures = _all(demo, lambda t: t < HOT)
    return running and cool and "hothead" in offers, f"{seen}; offers of {', '.join(sorted(offers))}; {temperatures}"


def _stopped(demo: Demo, name: str) -> tuple[bool, str]:
    state = facts.state_of(demo.agent(name))
    return state == "Stopped", f"{name} is {state}"


def _above(length: int) -> float:
    return length / BERLIN52.optimum - 1


def _short(best: facts.JsonDict) -> tuple[bool, str]:
    length = best.get("length")
    if not isinstance(length, int):
        return False, "no tour yet"
    return _above(length) <= WORST_SHARE, f"length {length}, {_above(length):.1%} above"


def _lengths(best: facts.JsonDict) -> str:
    return ", ".join(f"{name} {length}" for name, length in sorted((best.get("agents") or {}).items()))
