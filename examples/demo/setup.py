"""The ground: a cluster, the image, the operator in it, and the team's namespace; and taking the latter two away."""

import contextlib
import json
import time
from pathlib import Path

from examples.demo import facts
from examples.demo.demo import OPERATOR_NAMESPACE, RELEASE, TEAM, TEAM_FILE, Demo
from examples.demo.errors import Unusable
from examples.demo.page import Page
from examples.demo.tools import CLUSTER_TOOL, IMAGE_TOOL, ROOT, Begun, Tools, last_line, shown

CHART = "charts/mabeam"
RESTRICTED = "pod-security.kubernetes.io/enforce=restricted"
# Says of a namespace that the demo made it, and so may take it away.
MARK = "mabeam.dev/demo"


def cluster_up(page: Page, tools: Tools) -> Tools:
    """The tools for a cluster that answers."""
    own = ("--name", tools.cluster, "--with", "helm")
    command = (CLUSTER_TOOL, "up", *(() if tools.current else own))
    page.command(shown(command))
    tools.stream(page, *command)
    found = tools.located(page)
    nodes = found.json("nodes").get("items") or []
    ready = [n for n in nodes if facts.condition(n, "Ready").get("status") == "True"]
    version = nodes[0]["status"]["nodeInfo"]["kubeletVersion"] if nodes else "?"
    page.require(
        bool(ready), f"a real Kubernetes {version} answers, {len(ready)} of {len(nodes)} nodes are Ready", "none"
    )
    if not nodes or not ready:
        raise Unusable("the cluster has no node that could run a pod")
    return found


def load_image(page: Page, tools: Tools, image: str, begun: Begun) -> None:
    """Loads the image into the nodes, once its build has ended."""
    page.command(IMAGE_TOOL)
    archive = last_line(begun.finish())
    nodes = tools.json("nodes").get("items") or []
    names = [{name for one in facts.status_of(node).get("images") or [] for name in one["names"]} for node in nodes]
    if names and all(f"docker.io/library/{image}" in held for held in names):
        page.ok(f"{image} is in every node already")
        return
    name = () if tools.current else ("--name", tools.cluster)
    page.command(shown((CLUSTER_TOOL, "load-image", *name, Path(archive).name)))
    try:
        tools.stream(page, CLUSTER_TOOL, "load-image", *name, archive)
    except Unusable as problem:
        hint = (
            "; once it is where the cluster can pull it: IMAGE=registry.example.org/mabeam:0.1.0"
            if tools.current
            else ""
        )
        raise Unusable(f"{problem}{hint}") from None
    page.ok(f"{image} is built and in every node")


def guard_foreign(tools: Tools, namespace: str) -> None:
    """Raises Unusable when, on the person's own cluster, something is in the way that the demo did not make."""
    if not tools.current:
        return
    for name in (OPERATOR_NAMESPACE, namespace):
        found = tools.json("namespace", name)
        if found and MARK not in (found["metadata"].get("labels") or {}):
            raise Unusable(
                f"the namespace '{name}' exists in this cluster, and not by the demo: the demo would install, kill and"
                f" uninstall what is in it. Delete it first, or leave CLUSTER unset to use a cluster of the demo's own."
            )


def install(page: Page, tools: Tools, image: str) -> None:
    """The operator in the cluster, by helm, in a namespace that admits restricted pods only."""
    labels = {MARK: "true", RESTRICTED.split("=")[0]: RESTRICTED.split("=")[1]}
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": OPERATOR_NAMESPACE, "labels": labels}}
    tools.kube("apply", "-f", "-", stdin=json.dumps(body))
    unstick(page, tools)
    repository, _, tag = image.rpartition(":")
    command = ("helm", "upgrade", "--install", RELEASE, CHART, "--namespace", OPERATOR_NAMESPACE, "--create-namespace",
               "--set", f"image.repository={repository}", "--set-string", f"image.tag={tag}",
               "--wait", "--timeout", "5m")  # fmt: skip
    with page.waiting("until the operator is ready"):
        output = tools.run(tools.helm, *command[1:], seconds=330)
    kept = [line for line in output.splitlines() if line.startswith(("NAME:", "STATUS", "REVISION"))]
    page.command(shown(command), "\n".join(kept))


def unstick(page: Page, tools: Tools) -> None:
    """Ends what an interrupted helm left half done: it would refuse to go on."""
    listed = tools.run(tools.helm, "list", "--all", "--namespace", OPERATOR_NAMESPACE, "--output", "json")
    state = next((one["status"] for one in json.loads(listed or "[]") if one["name"] == RELEASE), "")
    if state.startswith("pending") or state in ("uninstalling", "failed"):
        page.line(f"the last installation is '{state}': it is removed first")
        tools.run(tools.helm, "uninstall", RELEASE, "--namespace", OPERATOR_NAMESPACE, "--wait", seconds=180)


def prepare(page: Page, tools: Tools, namespace: str, given_image: str) -> tuple[Tools, str]:
    """Step 0: the tools for a cluster in which the operator runs, and the image it runs from."""
    image = given_image or last_line(tools.stream(page, IMAGE_TOOL, "--print-tag"))
    with contextlib.ExitStack() as stack:
        # The image is built beside the tools: it mostly waits for packages, they for the processor.
        build = (IMAGE_TOOL, "--tag", image)
        begun = None if given_image else stack.enter_context(tools.begin(page, *build, quiet=True))
        found = cluster_up(page, tools)
        guard_foreign(found, namespace)
        if begun is None:
            page.ok(f"the image {image}, as asked for; the cluster pulls it")
        else:
            load_image(page, found, image, begun)
    install(page, found, image)
    pods = found.show(page, "get", "pods", "-n", OPERATOR_NAMESPACE)
    page.require("Running" in pods, f"the operator runs in {OPERATOR_NAMESPACE}, under pod security `restricted`", pods)
    return found, image


def fresh_namespace(demo: Demo) -> None:
    """The team's namespace, made anew: a former run may have left anything in it."""
    if demo.tools.json("namespace", demo.namespace):
        demo.page.line(f"the namespace {demo.namespace} of a former run is deleted first")
        delete_namespace(demo)
    demo.tools.show(demo.page, "create", "namespace", demo.namespace)
    demo.tools.show(demo.page, "label", "namespace", demo.namespace, RESTRICTED, f"{MARK}=true")


def delete_namespace(demo: Demo) -> float:
    """Deletes the team's namespace; the seconds it took."""
    began = time.monotonic()
    with demo.page.waiting(f"until the namespace {demo.namespace} is gone"):
        demo.tools.kube("delete", "namespace", demo.namespace, "--timeout=120s", seconds=130)
    return time.monotonic() - began


def start_team(demo: Demo, *, show: bool = True) -> None:
    """The team's objects, applied as a person would."""
    arguments = ("apply", "-n", demo.namespace, "-f", TEAM_FILE)
    if show:
        demo.tools.show(demo.page, *arguments)
    else:
        demo.tools.kube(*arguments)


def leave(demo: Demo) -> None:
    """Step 14: uninstall, delete, measure both; then put everything back, so that there is something to play with."""
    page, tools = demo.page, demo.tools
    began = time.monotonic()
    command = ("helm", "uninstall", RELEASE, "--namespace", OPERATOR_NAMESPACE, "--wait", "--timeout", "2m")
    with page.waiting("until the operator is gone"):
        output = tools.run(tools.helm, *command[1:], seconds=150)
    page.command(shown(command), output)
    page.ok(f"helm uninstall ended after {time.monotonic() - began:.1f} s")
    page.until(
        "the operator's pods are gone",
        lambda: (not demo.operator_pods(), f"{len(demo.operator_pods())} pods"),
        60,
        f"{demo.kubectl} get pods -n {OPERATOR_NAMESPACE}",
    )
    living = [pod for pod in demo.pods() if facts.status_of(pod).get("phase") == "Running"]
    page.require(
        len(living) >= len(TEAM) - 1,
        f"{len(living)} agents' pods go on running without an operator; Agents and variables are kept",
        f"{len(living)} running pods",
        demo.look("get pods,mba,mov"),
    )
    seconds = delete_namespace(demo)
    page.command(f"kubectl delete namespace {demo.namespace}", f'namespace "{demo.namespace}" deleted')
    page.ok(f"the namespace was gone after {seconds:.1f} s, with no operator there to help: no finalizer waits for one")
    page.note("\nAnd back again, for you to play with:")
    install(page, tools, demo.image)
    fresh_namespace(demo)
    start_team(demo, show=False)
    wait = ("wait", "-n", demo.namespace, "--for=condition=Ready", "agents.mabeam.dev", "--all", "--timeout=120s")
    with page.waiting("until the team is ready"):
        output = tools.kube(*wait, seconds=130)
    page.command(shown(("kubectl", *wait)), output)
    page.ok("the operator and the team are back")


def picture_file(given: Path | None) -> Path:
    """Where the picture of the tour goes; inside `build/`, which is ignored and swept by `make clean`."""
    return given or ROOT / "build" / "berlin52.svg"
