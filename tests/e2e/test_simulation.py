"""Worlds and their scenarios, rehearsed by `mabeam simulate` and played on real containers: the same happens, in the same order.

The script is the same; what is left out is time. A fault befalls the real pods once they are where the rehearsal has them.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from e2e.agents import PATIENCE, agent, container, evict, execute, template, watched
from mabeam.api.base import JsonDict
from mabeam.offline.world import World, read_world
from mabeam.simulation.run import Simulation
from mabeam.simulation.scenario import Fault, FaultKind, read_scenario
from support.happenings import at_rest, happened
from support.kube import Kube, Refused, until
from support.tree import supervisor_body

# Ends as it is told to: with an exit code, or by eating more than there is.
OBEDIENT = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
while True:
    time.sleep(0.05)
    if os.path.exists("/tmp/word"):
        word = open("/tmp/word").read().strip()
        if word == "eat":
            hoard = [b"x" * (8 << 20) for _ in range(64)]
        elif word:
            sys.exit(int(word))
"""
NO_BACKOFF = {"initialSeconds": 0, "maxSeconds": 0}


def worker(name: str, parent: str | None = None, *, failures: int = 3, **spec: Any) -> JsonDict:
    """An agent that ends as it is told to; under a Supervisor its own budget's end is the Supervisor's to handle."""
    under = {"supervisor": parent} if parent else {}
    policy = {"escalationPolicy": "Escalate"} if parent else {}
    tolerance = {"maxFailures": failures, "failureWindowSeconds": 3600, "backoff": NO_BACKOFF, **policy}
    limits = {"requests": {"memory": "16Mi"}, "limits": {"memory": "96Mi"}}
    body = template(container(OBEDIENT, resources=limits))
    return agent(name, template=body, faultTolerance=tolerance, **under, **spec)


def supervisor(name: str, *children: Any, **spec: Any) -> JsonDict:
    """A Supervisor as a user applies it."""
    body = supervisor_body(name, *children, periodSeconds=3600, **spec)
    return {key: body[key] for key in ("apiVersion", "kind", "spec")} | {"metadata": {"name": name}}


def fault(agent: str, kind: str = "Exit", **words: Any) -> JsonDict:
    """A fault of the script; when it befalls is its place in it."""
    return {"agent": agent, "kind": kind, **words}


@dataclass(frozen=True)
class Story:
    """A world and what befalls it, one thing after the other."""

    title: str
    objects: Callable[[], tuple[JsonDict, ...]]  # the image they run is known only once the cluster is
    faults: tuple[JsonDict, ...]


STORIES = (
    Story(
        "a crash loop ends parked",
        lambda: (worker("looper", failures=2),),
        tuple(fault("looper", exitCode=code) for code in (3, 4, 5)),
    ),
    Story(
        "a transient agent fails once and then finishes",
        lambda: (worker("finisher", restartStrategy="Transient", normalExitCodes=[42]),),
        (fault("finisher", exitCode=1), fault("finisher", exitCode=42)),
    ),
    Story(
        "a death takes along those after it, and a temporary one for good",
        lambda: (
            supervisor("rest", "r1", "r2", "r3", "r4", strategy="RestForOne"),
            worker("r1", "rest", failures=0),
            worker("r2", "rest", failures=0),
            worker("r3", "rest", failures=0, restartStrategy="Temporary"),
            worker("r4", "rest", failures=0, restartStrategy="Transient"),
        ),
        (fault("r2", exitCode=7), fault("r4", exitCode=0), fault("r1", exitCode=1)),
    ),
    Story(
        "an exhausted nested Supervisor is a death for the one above, and the root gives up",
        lambda: (
            supervisor("outer", "first", "/inner", strategy="OneForAll", maxRestarts=1),
            supervisor("inner", "w1", "w2", maxRestarts=1, supervisor="outer"),
            worker("first", "outer", failures=0),
            worker("w1", "inner", failures=0),
            worker("w2", "inner", failures=1),
        ),
        (
            fault("w1", exitCode=2),
            fault("w2", exitCode=2),
            fault("w2", exitCode=2),
            fault("first", exitCode=9),
        ),
    ),
    Story(
        "a replica takes its whole crew along until their budget ends",
        lambda: (worker("crew", failures=1, replicas=3, supervisionStrategy="OneForAll"),),
        (fault("crew", ordinal=1, exitCode=8), fault("crew", ordinal=2, exitCode=8)),
    ),
    Story(
        "each cause has its rule, and a disruption costs nothing",
        lambda: (worker("hardy", failures=3),),
        (
            fault("hardy", "Evict"),
            fault("hardy", "Delete"),
            fault("hardy", "Report"),
            fault("hardy", "OOM"),
            fault("hardy", "Evict"),
            fault("hardy", exitCode=0),
        ),
    ),
    Story(
        "the end of a significant child ends them all",
        lambda: (
            supervisor("job", "helper", {"name": "main", "significant": True}, autoShutdown="AnySignificant"),
            worker("helper", "job", failures=0),
            worker("main", "job", failures=0, restartStrategy="Transient"),
        ),
        (fault("main", exitCode=1), fault("main", exitCode=0)),
    ),
)
APART = 100  # seconds of virtual time between two faults
KINDS = {"mba": "Agent", "msup": "Supervisor"}


# --- the rehearsal ----------------------------------------------------------------------------------------------------------


def rehearsed(story: Story, faults: int) -> tuple[list[str], dict[str, JsonDict]]:
    """What happens in the rehearsal up to and with so many faults, and how everything is then."""
    script = [one | {"at": APART * (place + 1)} for place, one in enumerate(story.faults[:faults])]
    scenario = {"apiVersion": "mabeam.dev/simulate", "kind": "Scenario", "metadata": {"name": "s"}, "faults": script}
    world: World = read_world([(story.title, "\n---\n".join(json.dumps(one) for one in (*story.objects(), scenario)))])
    run = Simulation(world, read_scenario(world, world.scenario), 0)
    told: list[str] = []
    on_status = run.operator.on_status

    def listen(key: Any, before: Any, after: Any, events: Any) -> None:
        told.extend(happened(key.name, before.to_wire(), after.to_wire()))
        on_status(key, before, after, events)

    run.operator.on_status = listen
    run.run(APART * (faults + 1) - 1)
    found = {**run.cluster.agents, **run.cluster.supervisors}
    return told, {name: at_rest(one.kind, one.status.to_wire()) for (_, name), one in found.items()}


# --- the real thing ---------------------------------------------------------------------------------------------------------


@dataclass
class Stage:
    """One story on the real cluster: its statuses, and all that was ever told of them, in the apiserver's own order."""

    kube: Kube
    names: frozenset[str]
    watches: dict[str, Callable[[], list[tuple[str, JsonDict]]]]

    def statuses(self) -> dict[str, JsonDict]:
        """How everything is."""
        found = [(kind, one) for short, kind in KINDS.items() for one in self.kube.list(short)]
        return {
            one["metadata"]["name"]: at_rest(kind, one.get("status", {}))
            for kind, one in found
            if one["metadata"]["name"] in self.names
        }

    def told(self) -> list[str]:
        """What happened so far."""
        seen = [one for watch in self.watches.values() for _, one in watch() if one["metadata"]["name"] in self.names]
        before: dict[str, JsonDict] = {}
        found: list[str] = []
        for one in sorted(seen, key=lambda one: int(one["metadata"]["resourceVersion"])):
            name, status = one["metadata"]["name"], one.get("status", {})
            found += happened(name, before.get(name, {}), status)
            before[name] = status
        return found

    def come_to(self, wanted: dict[str, JsonDict], when: str) -> None:
        """Wait until everything is as the rehearsal has it."""
        seen: dict[str, JsonDict] = {}

        def look() -> bool:
            seen.clear()
            seen.update(self.statuses())
            return seen == wanted

        try:
            until(f"the cluster is where the rehearsal is {when}", look, PATIENCE)
        except AssertionError:
            differ = {name: (wanted[name], seen.get(name)) for name in wanted if wanted[name] != seen.get(name)}
            raise AssertionError(f"{when}, rehearsed and real differ: {json.dumps(differ, indent=1)}") from None

    def inject(self, what: Fault) -> None:
        """Let the same befall the real pod."""
        pods = [
            pod
            for pod in self.kube.list("pod", f"mabeam.dev/agent={what.agent}")
            if "deletionTimestamp" not in pod["metadata"]
        ]
        mine = [pod for pod in pods if pod["metadata"]["labels"]["mabeam.dev/ordinal"] == str(what.ordinal)]
        # The newest: of one that ended a moment ago the kubelet tells the container's end before the pod's phase.
        newest = max(mine, key=lambda pod: int(pod["metadata"]["labels"]["mabeam.dev/incarnation"]))
        pod = newest["metadata"]["name"]
        match what.kind:
            case FaultKind.EVICT:
                evict(self.kube, pod)
            case FaultKind.DELETE:
                self.kube.run("delete", "pod", pod, "--wait=false")
            case FaultKind.REPORT:
                self.kube.run("annotate", "pod", pod, "mabeam.dev/failed=the scenario says so")
            case _:
                word = "eat" if what.kind is FaultKind.OOM else str(what.exit_code)
                program = (
                    f"open('/tmp/word.new', 'w').write({word!r}); __import__('os').rename('/tmp/word.new', '/tmp/word')"
                )
                try:
                    execute(self.kube, pod, program)
                except Refused as ended:
                    # Obeyed at once: the container's end took the one who said the word along.
                    if "exit code 137" not in str(ended):
                        raise


@pytest.fixture
def stage(kube: Kube, request: pytest.FixtureRequest) -> Iterator[Stage]:
    """The story's objects, applied, and taken away at the end."""
    story: Story = request.getfixturevalue("story")
    objects = story.objects()
    names = frozenset(one["metadata"]["name"] for one in objects)
    with watched(kube, "mba") as agents, watched(kube, "msup") as supervisors:
        kube.apply(*objects)
        yield Stage(kube, names, {"mba": agents, "msup": supervisors})
    for kind in KINDS:
        kube.run("delete", kind, "--all", "--wait=false")


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.title)
def test_a_rehearsal_and_the_real_cluster_come_to_the_same_by_the_same_steps(story: Story, stage: Stage) -> None:
    for number, what in enumerate(story.faults):
        _, here = rehearsed(story, number)
        stage.come_to(here, f"before {what}")
        stage.inject(Fault.model_validate(what | {"at": 0}))
    told, end = rehearsed(story, len(story.faults))
    stage.come_to(end, "at the end")
    assert stage.told() == told
