"""Agents of three replicas, and the ways in which the middle one of them really ends: on its node, or in the API."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Final

from e2e.agents import agent, container, evict, template
from e2e.matrix import FALLEN, REPLICAS, RESTARTS, ROOT, SUPERVISIONS, Cause, Cell, line
from e2e.release import NAMESPACE, leader
from support.kube import JsonDict, Kube, condition, required, until

# At a signal it ends in the way that ENDING says; its port opens when it can be signalled, so Ready means that it can.
MORTAL = """
import os, signal, socket, sys, threading

ending = os.environ["ENDING"]
stalled = threading.Event()

def fall(*_):
    if ending == "stall":
        stalled.set()
    elif ending == "eat":
        hoard = [b"x" * (8 << 20) for _ in range(64)]
    else:
        sys.exit(int(ending))

signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
signal.signal(signal.SIGUSR1, fall)
if ending == "stall":
    from mabeam.agent import Agent
    with Agent.from_environment(os.environ) as agent:
        while not agent.stopping.is_set():
            if not stalled.is_set():
                agent.progress()
            agent.stopping.wait(0.5)
    sys.exit(0)
door = socket.create_server(("", 9464))
while True:
    door.accept()[0].close()
"""
# 27 containers start at once, nine of them with an import that takes a second of a processor.
PATIENCE: Final = 300
PROBE: Final = {"tcpSocket": {"port": 9464}, "periodSeconds": 1, "timeoutSeconds": 10}
# Long enough for a loaded machine to be asked in between, short enough to be waited for.
PROGRESS_SECONDS: Final = 10
START_SECONDS: Final = 25
# Found on one node only, and in no registry.
HOME_IMAGE: Final = "matrix.invalid/agent:1"
HOME_LABEL: Final = "test.mabeam.dev/matrix-home"
LIMITED: Final = {"limits": {"memory": "48Mi"}, "requests": {"memory": "16Mi"}}

ENDINGS: Final = {"exit0": "0", "exit42": "42", "exit3": "3", "oom": "eat", "hang": "stall"}
FIELDS: Final[Mapping[str, JsonDict]] = {
    "exit42": {"normalExitCodes": [42]},
    "image": {"startTimeoutSeconds": START_SECONDS},
    "hang": {
        "faultTolerance": {"progressTimeoutSeconds": PROGRESS_SECONDS},
        "reports": {"source": "Pod", "periodSeconds": 2},
    },
}
MAIN: Final[Mapping[str, JsonDict]] = {"oom": {"resources": LIMITED}, "image": {"image": HOME_IMAGE}}
# Of these the middle replica is on the node where the others are not.
APART: Final = frozenset({"image", "node"})


@dataclass(frozen=True)
class Scene:
    """A namespace and two real nodes: the operator's, and one that may be lost."""

    kube: Kube
    home: str
    away: str


def cluster(*arguments: str, stdin: str | None = None) -> str:
    """What the embedded cluster's own command printed."""
    command, name = arguments[0], required("MABEAM_TEST_CLUSTER")
    done = subprocess.run(
        [str(ROOT / "hack/cluster/cluster"), command, "--name", name, *arguments[1:]],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, f"cluster {' '.join(arguments)}: {done.stderr or done.stdout}"
    return done.stdout


def on_node(node: str, *command: str, stdin: str | None = None) -> None:
    """Run containerd's client on the node."""
    cluster("exec", "--node", node, "--", *command, stdin=stdin)


@contextmanager
def scene(kube: Kube) -> Iterator[Scene]:
    """The place; afterwards both nodes are as they were before."""
    home = Kube(NAMESPACE).get("pod", str(leader()))["spec"]["nodeName"]
    away = next(node for node in ("node-1", "node-2") if node != home)
    image = f"docker.io/library/{required('MABEAM_TEST_IMAGE')}"
    on_node(home, "ctr", "-n", "k8s.io", "images", "tag", "--force", image, HOME_IMAGE)
    try:
        yield Scene(kube, home, away)
    finally:
        on_node(home, "ctr", "-n", "k8s.io", "images", "rm", HOME_IMAGE)
        Kube("default").run("label", "node", home, f"{HOME_LABEL}-", check=False)


# --- the agents -------------------------------------------------------------------------------------------------------


def name_of(cause: Cause, restart: str, supervision: str) -> str:
    return f"{cause.key}-{restart}-{supervision}".lower()


def the_agents(cause: Cause) -> list[JsonDict]:
    """Nine agents, one for each pair of strategies."""
    main = container(
        MORTAL, env={"ENDING": ENDINGS.get(cause.key, "0")}, readinessProbe=PROBE, **MAIN.get(cause.key, {})
    )
    place: JsonDict = {"nodeSelector": {HOME_LABEL: "here"}} if cause.key in APART else {}
    return [
        agent(
            name_of(cause, restart, supervision),
            template=template(main, **place),
            restart=restart,
            supervisionStrategy=supervision,
            replicas=1 if cause.key in APART else REPLICAS,
            **FIELDS.get(cause.key, {}),
        )
        for restart in RESTARTS
        for supervision in SUPERVISIONS
    ]


def start(scene: Scene, cause: Cause) -> list[str]:
    """The names of the nine agents, whose replicas all run (but for the middle one of those that cannot start)."""
    agents = the_agents(cause)
    names = [one["metadata"]["name"] for one in agents]
    if cause.key not in APART:
        scene.kube.apply(*agents)
        _ready(scene, names, REPLICAS)
        return names
    _settle_at(scene, scene.home)
    scene.kube.apply(*agents)
    _ready(scene, names, 1)
    _settle_at(scene, scene.away)
    _scale(scene, names, 2)
    wanted = [_pod(name) for name in names]
    until("the middle ones have a node", lambda: _places(scene, wanted) == {scene.away}, PATIENCE)
    if cause.key != "image":
        _ready(scene, names, 2)
    _settle_at(scene, scene.home)
    _scale(scene, names, REPLICAS)
    if cause.key != "image":
        _ready(scene, names, REPLICAS)
    return names


def _pod(name: str) -> str:
    return f"{name}-{FALLEN}-1"


def _ready(scene: Scene, names: Sequence[str], replicas: int) -> None:
    def look() -> bool:
        counts = {
            one["metadata"]["name"]: one.get("status", {}).get("readyReplicas", 0) for one in scene.kube.list("mba")
        }
        return all(counts.get(name) == replicas for name in names)

    until(f"{replicas} ready of each", look, PATIENCE, 0.5)


def _settle_at(scene: Scene, node: str) -> None:
    """From now on pods that ask for it come to that node."""
    other = scene.away if node == scene.home else scene.home
    Kube("default").run("label", "node", other, f"{HOME_LABEL}-")
    Kube("default").run("label", "node", node, f"{HOME_LABEL}=here", "--overwrite")


def _scale(scene: Scene, names: Sequence[str], replicas: int) -> None:
    scene.kube.run("scale", *(f"mba/{name}" for name in names), f"--replicas={replicas}")


def _places(scene: Scene, pods: Sequence[str]) -> set[str | None]:
    there = {pod["metadata"]["name"]: pod["spec"].get("nodeName") for pod in scene.kube.list("pod")}
    return {there.get(pod) for pod in pods}


# --- what is seen of them ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class View:
    """What one look at the API showed: agents and pods by name."""

    agents: Mapping[str, JsonDict]
    pods: Mapping[str, JsonDict]

    def uids(self) -> Mapping[str, str]:
        return {name: pod["metadata"]["uid"] for name, pod in self.pods.items()}

    def told(self, name: str) -> object:
        """What the status says of the middle replica's fate; it changes once that is noticed."""
        seen = self.agents[name].get("status", {})
        records = {r["ordinal"]: (r["incarnation"], r["state"], r.get("reason")) for r in seen.get("pods", [])}
        # A pod that cannot start has its reason told long before it has failed.
        number, state, reason = records.get(FALLEN, (0, "", None))
        return number, state in ("Stopped", "Failed") and reason, len(seen.get("failures", []))

    def failed_at(self, name: str) -> float | None:
        """When the ledger says that it failed; in whole seconds, as the API has them."""
        ledger = self.agents[name].get("status", {}).get("failures", [])
        return datetime.fromisoformat(ledger[0]["time"]).timestamp() if ledger else None

    def cell(self, name: str, before: Mapping[str, str], cause: Cause) -> Cell:
        """The agent's cell; `before` holds the uids of the pods that were there when the middle one was about to end."""
        seen = {"pods": [], "failures": [], "restarts": 0, "disruptions": 0, **self.agents[name].get("status", {})}
        records = {record["ordinal"]: record for record in seen["pods"]}
        fallen = records.get(FALLEN, {})
        said = {kind: condition({"status": seen}, kind).get("status") == "True" for kind in ("Ready", "Stalled")}
        return Cell(
            lives=tuple(self._life(name, ordinal, records.get(ordinal), before) for ordinal in range(REPLICAS)),
            fallen=f"{fallen.get('state')} ({fallen['reason']})" if "reason" in fallen else str(fallen.get("state")),
            agent=", ".join([str(seen.get("state")), *(kind for kind, is_so in said.items() if is_so)]),
            restarts=seen["restarts"],
            disruptions=seen["disruptions"],
            ledger=tuple(_line(failure, cause) for failure in seen["failures"]),
            in_order=self._in_order(name),
        )

    def _in_order(self, name: str) -> bool:
        anew = [pod for n in range(REPLICAS) if (pod := self.pods.get(f"{name}-{n}-2")) is not None]
        return all(
            condition(one, "Ready").get("lastTransitionTime", "") <= other["metadata"]["creationTimestamp"]
            for one, other in pairwise(anew)
        )

    def _life(self, name: str, ordinal: int, record: JsonDict | None, before: Mapping[str, str]) -> str:
        incarnation = record["incarnation"] if record else 0
        current = f"{name}-{ordinal}-{incarnation}"
        own = {pod: what for pod, what in self.pods.items() if pod.startswith(f"{name}-{ordinal}-")}
        alive = {pod for pod, what in own.items() if _runs(what)}
        if not alive and incarnation == 1:
            return "down"
        if alive != {current} or not _is_ready(self.pods[current]):
            return f"incarnation {incarnation} of {sorted(own)}, running: {sorted(alive)}"
        uid = self.pods[current]["metadata"]["uid"]
        lives = {1: "kept" if before.get(current, uid) == uid else "another pod of that name", 2: "anew"}
        return lives.get(incarnation, f"incarnation {incarnation}")


def _runs(pod: JsonDict) -> bool:
    return pod["status"].get("phase") in ("Pending", "Running")


def _is_ready(pod: JsonDict) -> bool:
    return "deletionTimestamp" not in pod["metadata"] and condition(pod, "Ready").get("status") == "True"


def _line(failure: JsonDict, cause: Cause) -> str:
    told = failure.get("exitCode") if cause.exit_code is not None else None
    text = line(failure["cause"], told, failure["counted"])
    return text if failure.get("ordinal", 0) == FALLEN else f"of {failure.get('ordinal', 0)}, not of {text}"


def look(scene: Scene, names: Sequence[str]) -> View:
    """One look at the agents of these names and at their pods."""
    found = scene.kube.list("mba,pod")
    by_name: dict[str, dict[str, JsonDict]] = {"Agent": {}, "Pod": {}}
    for one in found:
        owner = one["metadata"]["name"] if one["kind"] == "Agent" else one["metadata"]["labels"].get("mabeam.dev/agent")
        if owner in names:
            by_name[one["kind"]][one["metadata"]["name"]] = one
    return View(by_name["Agent"], by_name["Pod"])


# --- the injuries -----------------------------------------------------------------------------------------------------


Injury = Callable[[Scene, Sequence[str]], float]


def _signalled(number: str) -> Injury:
    def send(scene: Scene, pods: Sequence[str]) -> float:
        there = {pod["metadata"]["name"]: pod for pod in scene.kube.list("pod")}
        began = time.time()
        for node in (scene.home, scene.away):
            here = [there[pod] for pod in pods if there[pod]["spec"]["nodeName"] == node]
            ids = [pod["status"]["containerStatuses"][0]["containerID"].removeprefix("containerd://") for pod in here]
            if ids:
                kill = ("ctr", "-n", "k8s.io", "tasks", "kill", "-s", number)
                on_node(node, "xargs", "-n", "1", "-P", "9", *kill, stdin="\n".join(ids))
        return began

    return send


def _report(scene: Scene, pods: Sequence[str]) -> float:
    began = time.time()
    scene.kube.run("annotate", "pod", *pods, "mabeam.dev/failed=answers nonsense")
    return began


def _delete(scene: Scene, pods: Sequence[str]) -> float:
    began = time.time()
    scene.kube.run("delete", "pod", *pods, "--wait=false")
    return began


def _evict(scene: Scene, pods: Sequence[str]) -> float:
    began = time.time()
    for pod in pods:
        evict(scene.kube, pod)
    return began


def _kill_node(scene: Scene, pods: Sequence[str]) -> float:
    assert _places(scene, pods) == {scene.away}
    process = int(cluster("pid", f"node/{scene.away}"))
    began = time.time()
    os.kill(process, signal.SIGKILL)
    Kube("default").run("delete", "node", scene.away)
    return began


def _cannot_start(scene: Scene, pods: Sequence[str]) -> float:
    """Nothing is left to do: their node has not got their image."""
    made = (pod["metadata"]["creationTimestamp"] for pod in scene.kube.list("pod") if pod["metadata"]["name"] in pods)
    return datetime.fromisoformat(min(made)).timestamp()


INJURIES: Final[Mapping[str, Injury]] = {
    "crash": _signalled("SIGKILL"),
    **{key: _signalled("SIGUSR1") for key in ENDINGS},
    "image": _cannot_start,
    "reported": _report,
    "deleted": _delete,
    "evicted": _evict,
    "node": _kill_node,
}


@contextmanager
def injured(scene: Scene, cause: Cause, names: Sequence[str]) -> Iterator[float]:
    """When the middle replica of each was hurt; a node that was killed for it is back in the end."""
    try:
        yield INJURIES[cause.key](scene, [_pod(name) for name in names])
    finally:
        if cause.key == "node":
            cluster("up")
