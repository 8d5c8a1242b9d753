"""Agents for the tests: small Python programs in the project's own image, and what one asks of them.

No shell anywhere: what a container does is the text of its program.
"""

import json
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import dropwhile
from pathlib import Path
from typing import Any

from support.kube import JsonDict, Kube, ask, condition, required, until

# Long enough for a machine whose two cores start a dozen containers at once.
PATIENCE = 150

STAY = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print("here", flush=True)
while True:
    time.sleep(60)
"""

# Process 1 of a container that installs no handler: SIGTERM does not reach it.
DEAF = """
import time
while True:
    time.sleep(60)
"""

HUNGRY = """
hoard = [b"x" * (8 << 20) for _ in range(64)]
raise SystemExit("there was room for all of it")
"""

# Applies `temperature`, reports, and does what /tmp/word tells it: a preference, or one of the ways to report badly.
SPEAK = """
import json, os, signal, sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

state = {"applied": 0, "temperature": None, "refused": ""}
LIMIT = float(os.environ.get("REFUSE_ABOVE", "inf"))

def word():
    try:
        with open("/tmp/word") as file:
            return file.read().strip()
    except FileNotFoundError:
        return os.environ.get("WORD", "")

def obey():
    try:
        with open("/etc/mabeam/directives.json") as file:
            told = json.load(file)
    except (OSError, ValueError):
        return
    generation, value = told["generation"], told["parameters"].get("temperature")
    if isinstance(value, (int, float)) and value > LIMIT:
        state["refused"] = f'mabeam_refused{{variable="temperature",generation="{generation}",reason="too hot for me"}} 1'
    else:
        if value != state["temperature"]:
            print("applied", generation, value, time.time(), flush=True)
        state.update(temperature=value, refused="")
    state["applied"] = generation

class Report(BaseHTTPRequestHandler):
    def do_GET(self):
        said = word()
        lines = [f"echo_temperature {state['temperature']}", state["refused"]]
        if said != "silent":
            lines.append(f"mabeam_applied_generation {state['applied']}")
        if said == "malformed":
            lines.append('mabeam_preference{variable="temperature" 0.1')
        elif said == "oversized":
            lines += ["# " + "x" * 78 for _ in range(1000)]
        elif said not in ("", "silent"):
            lines.append(f'mabeam_preference{{variable="temperature"}} {said}')
        body = "\\n".join([*filter(None, lines), "# EOF", ""]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *arguments):
        pass

signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
threading.Thread(target=ThreadingHTTPServer(("", 9464), Report).serve_forever, daemon=True).start()
while True:
    obey()
    time.sleep(0.02)
"""

# Takes whatever it is told, says who it is, and reports what WORDS and then /tmp/word say: its performance, its vote.
LISTEN = """
import json, os, signal, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

def read(path, otherwise):
    try:
        with open(path) as file:
            return json.load(file)
    except (OSError, ValueError):
        return otherwise

class Report(BaseHTTPRequestHandler):
    def do_GET(self):
        told = read("/etc/mabeam/directives.json", {"generation": 0, "proposals": []})
        words = json.loads(os.environ.get("WORDS", "{}")) | read("/tmp/word", {})
        lines = [f'echo_agent{{name="{os.environ["MABEAM_AGENT"]}"}} 1', f"mabeam_applied_generation {told['generation']}"]
        if "performance" in words:
            lines.append(f"mabeam_performance {words['performance']}")
        if "vote" in words:
            for proposal in told["proposals"]:
                lines.append(f'mabeam_vote{{proposal="{proposal["id"]}",choice="{words["vote"]}"}} 1')
        body = "\\n".join([*lines, "# EOF", ""]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *arguments):
        pass

signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
ThreadingHTTPServer(("", 9464), Report).serve_forever()
"""


def ends(code: int, incarnations: str = "1") -> str:
    """A program that exits with `code` in the incarnations that the expression allows (`True`: always), else stays."""
    which = "True" if incarnations == "always" else f"incarnation in ({incarnations},)"
    return (
        "import os, sys\n"
        'incarnation = int(os.environ["MABEAM_INCARNATION"])\n'
        f'print("last words of incarnation", incarnation, flush=True)\nif {which}:\n    sys.exit({code})\n{STAY}'
    )


def container(program: str, *, name: str = "agent", env: Mapping[str, str] | None = None, **fields: Any) -> JsonDict:
    """A container of the project's image that runs the program, as Pod Security asks for it."""
    return {
        "name": name,
        "image": required("MABEAM_TEST_IMAGE"),
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-c", program],
        "env": [{"name": key, "value": value} for key, value in (env or {}).items()],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
        **fields,
    }


def template(*containers: JsonDict, **fields: Any) -> JsonDict:
    """A pod template of these containers."""
    security = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    spec = {"containers": list(containers), "securityContext": security, "volumes": [{"name": "tmp", "emptyDir": {}}]}
    return {"spec": spec | fields}


def agent(
    name: str,
    program: str = STAY,
    *,
    restart: str = "Permanent",
    labels: Mapping[str, str] | None = None,
    env: Mapping[str, str] | None = None,
    **spec: Any,
) -> JsonDict:
    """An Agent of one container; further fields of the spec by their wire names (`template` for more than that)."""
    spec.setdefault("template", template(container(program, env=env)))
    spec.setdefault("shutdown", {"timeoutSeconds": 5})
    return {
        "apiVersion": "mabeam.dev/v1alpha1",
        "kind": "Agent",
        "metadata": {"name": name, "labels": dict(labels or {})},
        "spec": {"restartStrategy": restart, **spec},
    }


def speaker(name: str, *, preferences: Any = (), env: Mapping[str, str] | None = None, **spec: Any) -> JsonDict:
    """An Agent that applies `temperature` and reports."""
    reports = {"source": "Pod", "periodSeconds": 2}
    return agent(name, SPEAK, env=env, reports=reports, preferences=list(preferences), **spec)


def listener(name: str, *, words: JsonDict | None = None, **spec: Any) -> JsonDict:
    """An Agent that takes whatever it is told, and reports these words until it is told others."""
    reports = {"source": "Pod", "periodSeconds": 1}
    return agent(name, LISTEN, env={"WORDS": json.dumps(words or {})}, reports=reports, **spec)


def variable(name: str, agents: list[str], **spec: Any) -> JsonDict:
    """An OrchestrationVariable over these agents."""
    return {
        "apiVersion": "mabeam.dev/v1alpha1",
        "kind": "OrchestrationVariable",
        "metadata": {"name": name},
        "spec": {"agents": {"names": agents}, **spec},
    }


def orders(name: str, *told: JsonDict, **spec: Any) -> JsonDict:
    """A variable that tells agents just these directives: `{agent, action, parameters}` each."""
    agents = sorted({one["agent"] for one in told})
    function = {"cel": json.dumps({"directives": told})}
    return variable(name, agents, type="Custom", function=function, **spec)


# --- what is seen of them ---------------------------------------------------------------------------------------------


def status(kube: Kube, name: str) -> JsonDict:
    """The Agent's status, with the zeros that the wire leaves out."""
    found: JsonDict = kube.get("mba", name).get("status") or {}
    return {"state": None, "pods": [], "failures": [], "restarts": 0, "disruptions": 0, **found}


def reached(kube: Kube, name: str, what: str, look: Callable[[JsonDict], Any], seconds: float = PATIENCE) -> JsonDict:
    """The Agent's status, once `look` finds in it what is awaited."""
    last: JsonDict = {}

    def check() -> bool:
        last.clear()
        last.update(status(kube, name))
        return bool(look(last))

    try:
        until(f"{name}: {what}", check, seconds)
    except AssertionError as late:
        raise AssertionError(f"{late}; status: {json.dumps(last)}") from None
    return last


def decided(kube: Kube, name: str, what: str, look: Callable[[JsonDict], Any]) -> JsonDict:
    """The variable's status, once `look` finds in it what is awaited."""
    last: JsonDict = {}

    def check() -> bool:
        last.clear()
        last.update(kube.get("mov", name).get("status") or {})
        return bool(look(last))

    try:
        until(f"{name}: {what}", check, PATIENCE)
    except AssertionError as late:
        raise AssertionError(f"{late}; status: {json.dumps(last)}") from None
    return last


def readiness(status: JsonDict) -> JsonDict:
    """The condition Ready."""
    return condition({"status": status}, "Ready")


def is_converged(status: JsonDict) -> bool:
    """Whether nothing more is waited for."""
    return readiness(status).get("status") == "True" and readiness(status)["reason"] == "Converged"


def obeyed(kube: Kube, name: str) -> JsonDict:
    """The variable's status, once all of its directives, of its present spec, are acknowledged."""

    def look(seen: JsonDict) -> bool:
        told = seen.get("directives", {})
        current = seen.get("observedGeneration") == kube.get("mov", name)["metadata"]["generation"]
        return current and is_converged(seen) and 0 < told.get("issued", 0) == told.get("acknowledged", 0)

    return decided(kube, name, "every directive is acknowledged", look)


def is_free(status: JsonDict) -> bool:
    """Whether nobody tells the agent anything any more."""
    return not status.get("directives", {}).get("items")


def reads(kube: Kube, pod: str) -> JsonDict:
    """What the process in the pod can read of what it is told."""
    found: JsonDict = json.loads(execute(kube, pod, "print(open('/etc/mabeam/directives.json').read())"))
    return found


def is_ready(status: JsonDict) -> bool:
    """Whether the condition Ready is True."""
    return condition({"status": status}, "Ready").get("status") == "True"


def running(kube: Kube, name: str, incarnation: int | None = None, ordinal: int = 0) -> JsonDict:
    """The Agent's status, once it is Ready (and its ordinal has come to that incarnation)."""

    def look(seen: JsonDict) -> bool:
        records = [r for r in seen.get("pods", []) if r["ordinal"] == ordinal]
        there = incarnation is None or (bool(records) and records[0]["incarnation"] == incarnation)
        return there and seen.get("state") == "Running" and is_ready(seen)

    return reached(kube, name, f"Running in incarnation {incarnation or 'any'}", look)


def renewed(incarnation: int, replicas: int = 1) -> Callable[[JsonDict], bool]:
    """Whether a status says that the Agent is Ready and each of its replicas has come to that incarnation."""
    return lambda status: is_ready(status) and [r["incarnation"] for r in status["pods"]] == [incarnation] * replicas


def failures(status: JsonDict) -> list[tuple[str, int | None, bool]]:
    """The ledger in short: cause, exit code, whether it was counted."""
    return [(f["cause"], f.get("exitCode"), f["counted"]) for f in status.get("failures", [])]


def serves(event: str, pod: JsonDict) -> bool:
    """Whether the pod of a watch event is Ready, and not on its way out."""
    conditions = pod.get("status", {}).get("conditions", [])
    is_up = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
    return is_up and event != "DELETED" and "deletionTimestamp" not in pod["metadata"]


def fewest_serving(told: Iterable[tuple[str, JsonDict]], of: int) -> int:
    """The least number of pods that served at once, from the first moment on at which as many as `of` did."""
    serving: set[str] = set()
    counts = []
    for event, pod in told:
        name = {pod["metadata"]["name"]}
        serving = serving | name if serves(event, pod) else serving - name
        counts.append(len(serving))
    return min(dropwhile(lambda count: count < of, counts))


def report(kube: Kube, pod: str) -> str:
    """The process's own report, read through the apiserver; empty while it does not answer."""
    path = f"/api/v1/namespaces/{kube.namespace}/pods/{pod}:9464/proxy/metrics"
    status, body = ask(required("KUBECONFIG"), path)
    return body.decode() if status == 200 else ""


def execute(kube: Kube, pod: str, program: str) -> str:
    """What a Python program printed inside the pod."""
    return kube.run("exec", pod, "-c", "agent", "--", "python3", "-c", program)


def say(kube: Kube, pod: str, word: str) -> None:
    """Tell a speaker what to report from now on."""
    execute(kube, pod, f"open('/tmp/word', 'w').write({word!r})")


def evict(kube: Kube, pod: str) -> None:
    """Ask for the pod's eviction, as a drain does."""
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": kube.namespace}}
    path = f"/api/v1/namespaces/{kube.namespace}/pods/{pod}/eviction"
    kube.run("create", "--raw", path, "-f", "-", stdin=json.dumps(body))


@contextmanager
def watched(kube: Kube, kind: str, selector: str = "") -> Iterator[Callable[[], list[tuple[str, JsonDict]]]]:
    """Every change of a kind from now on, as the apiserver tells it: call what is given for (event, object) so far."""
    command = [required("MABEAM_TEST_KUBECTL"), "-n", kube.namespace, "get", kind, "--watch", "--output-watch-events"]
    if selector:
        command += ["-l", selector]
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "events"
        with told.open("w") as file:
            process = subprocess.Popen([*command, "-o", "json"], stdout=file, text=True)

        def so_far() -> list[tuple[str, JsonDict]]:
            text, decoder, at = told.read_text(), json.JSONDecoder(), 0
            found: list[tuple[str, JsonDict]] = []
            while (at := len(text) - len(text[at:].lstrip())) < len(text):
                try:
                    event, at = decoder.raw_decode(text, at)
                except ValueError:
                    break  # half an object: the rest is still to come
                found.append((event["type"], event["object"]))
            return found

        def caught_up() -> tuple[list[tuple[str, JsonDict]]] | None:
            there = {one["metadata"]["uid"]: _version(one) for one in kube.list(kind, selector)}
            found = so_far()
            newest: dict[str, int] = {}
            for _, one in found:
                uid = one["metadata"]["uid"]
                newest[uid] = max(newest.get(uid, 0), _version(one))
            return (found,) if all(newest.get(uid, 0) >= version for uid, version in there.items()) else None

        def events() -> list[tuple[str, JsonDict]]:
            # Who looks directly sees a change before the watch tells of it.
            (found,) = until("the watch tells of all there is", caught_up, 30, 0.02)
            return list(found)

        try:
            events()
            yield events
        finally:
            process.terminate()
            process.wait(10)


def _version(one: JsonDict) -> int:
    """Of one kind a later change has the larger one (KEP-5504)."""
    return int(one["metadata"]["resourceVersion"])
