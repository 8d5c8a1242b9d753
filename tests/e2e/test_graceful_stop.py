"""How agents are asked to go, and what is heard of those that did: SIGTERM first, preStop before it, SIGKILL last; and probes.

A pod that the operator stops is soon gone, so what became of it is read from a watch that began before.
"""

from datetime import datetime
from typing import Any

import pytest

from e2e.agents import (
    DEAF,
    PATIENCE,
    STAY,
    agent,
    container,
    execute,
    failures,
    is_ready,
    reached,
    running,
    status,
    template,
    watched,
)
from support.kube import JsonDict, Kube, condition, until

AT_ONCE: JsonDict = {"maxFailures": 0, "failureWindowSeconds": 600}

# An agent by the SDK, as `mabeam-agent run` starts it; what `run` and `terminate` do is filled in.
WORKER = """
import sys, time
from mabeam.agent.main import main

class Worker:
    def __init__(self, agent):
        self.agent = agent

    def run(self):
        self.agent.progress(41)
        print("here", flush=True)
        {run}

    def terminate(self, reason):
        print("terminate:", reason, flush=True)
        {terminate}

sys.exit(main(["run", "__main__:Worker"]))
"""
GRACEFUL = WORKER.format(run="self.agent.stopping.wait()", terminate="self.agent.progress(); time.sleep(1)")
IGNORANT = WORKER.format(run="while True: time.sleep(60)", terminate="pass")
RAISING = WORKER.format(run="raise ValueError('no such model')", terminate="pass")

# Says at SIGTERM whether its preStop hook had come to its end by then.
HOOKED = """
import os, signal, sys, time

def end(*_):
    with open("/dev/termination-log", "w") as words:
        words.write("preStop ended" if os.path.exists("/tmp/ended") else "no preStop")
    sys.exit(0)

signal.signal(signal.SIGTERM, end)
print("here", flush=True)
while True:
    time.sleep(60)
"""
HOOK = "import time; time.sleep(2); open('/tmp/ended', 'w').close()"

# A crash that says why on stderr only.
CRASHING = "raise ValueError('no such model')"

# Ends as a process that was terminated, so that the supervisor sees no normal end.
TERMINABLE = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
print("here", flush=True)
while True:
    time.sleep(60)
"""


def probe(path: str, **times: int) -> JsonDict:
    """A probe that fails while the file is there; patient with a busy machine, not with a failure."""
    absent = f"import os, sys; sys.exit(os.path.exists({path!r}))"
    return {"exec": {"command": ["python3", "-c", absent]}, "periodSeconds": 1, "timeoutSeconds": 30, **times}


def here(kube: Kube, name: str) -> None:
    """Ready is not enough: before a program installed its handler, SIGTERM does not reach a container's first process."""
    running(kube, name, incarnation=1)
    until(f"{name} listens for signals", lambda: "here" in kube.run("logs", f"{name}-0-1"), PATIENCE)


def touch(kube: Kube, pod: str, path: str) -> None:
    execute(kube, pod, f"open({path!r}, 'w').close()")


def one_container(program: str, **fields: Any) -> JsonDict:
    return {"template": template(container(program, **fields))}


def of_module(name: str, module: str, **spec: Any) -> JsonDict:
    body = agent(name, module=module, **spec)
    del body["spec"]["template"]
    return body


def the_agents() -> list[JsonDict]:
    hook = {"preStop": {"exec": {"command": ["python3", "-c", HOOK]}}}
    by_logs = {"terminationMessagePolicy": "FallbackToLogsOnError"}
    return [
        agent("graceful", GRACEFUL, shutdown={"timeoutSeconds": 60}),
        agent("ignorant", IGNORANT, shutdown={"timeoutSeconds": 3}),
        agent("brutal", DEAF, shutdown={"policy": "Brutal", "timeoutSeconds": 60}),
        agent("hooked", **one_container(HOOKED, lifecycle=hook), shutdown={"timeoutSeconds": 60}),
        of_module("stock", "annealers.crasher:Crasher", faultTolerance=AT_ONCE),
        agent("raising", RAISING, faultTolerance=AT_ONCE),
        agent("allowed", **one_container(CRASHING, **by_logs), faultTolerance=AT_ONCE),
        agent("discreet", CRASHING, faultTolerance=AT_ONCE),
        agent("unlively", **one_container(TERMINABLE, livenessProbe=probe("/tmp/sick", failureThreshold=1))),
        agent("unready", **one_container(STAY, readinessProbe=probe("/tmp/busy", failureThreshold=1))),
    ]


@pytest.fixture(scope="module")
def started(kube: Kube) -> Kube:
    kube.apply(*the_agents())
    return kube


def stopped(kube: Kube, name: str) -> tuple[JsonDict, JsonDict]:
    """The pod and its container's end, as a watch told them, after the agent's user stopped it."""
    running(kube, name, incarnation=1)
    with watched(kube, "pod", f"mabeam.dev/agent={name}") as events:
        kube.run("patch", "mba", name, "--type=merge", "-p", '{"spec": {"desiredState": "Stopped"}}')
        until(f"the pod of {name} went away", lambda: any(kind == "DELETED" for kind, _ in events()), PATIENCE)
        seen = [pod for _, pod in events()]
    reached(kube, name, "Stopped", lambda s: s["state"] == "Stopped")
    assert (failures(status(kube, name)), status(kube, name)["restarts"]) == ([], 0)
    pod = next(pod for pod in seen if end_of(pod))
    assert pod["metadata"]["deletionTimestamp"]
    return pod, end_of(pod)


def end_of(pod: JsonDict) -> JsonDict:
    (state,) = [c["state"] for c in pod["status"].get("containerStatuses", [])] or [{}]
    found: JsonDict = state.get("terminated") or {}
    return found


def waited(pod: JsonDict) -> float:
    """Seconds from the request to the end. The deletion's time is when the grace is over, so it is taken off."""
    meta = pod["metadata"]
    asked = datetime.fromisoformat(meta["deletionTimestamp"]).timestamp() - meta["deletionGracePeriodSeconds"]
    return datetime.fromisoformat(end_of(pod)["finishedAt"]).timestamp() - asked


# --- stops -----------------------------------------------------------------------------------------------------------


def test_an_agent_that_is_stopped_terminates_and_leaves_its_last_report(started: Kube) -> None:
    here(started, "graceful")
    pod, end = stopped(started, "graceful")
    report = '{"generation": 0, "progress": 42.0, "performance": null, "metrics": {}}'
    assert end["message"] == f"{report}\nshutdown\n"
    assert end["exitCode"] == 0  # by SIGKILL it would be 137
    assert waited(pod) < pod["spec"]["terminationGracePeriodSeconds"] == 60


def test_an_agent_that_does_not_hear_is_killed_when_its_time_is_over(started: Kube) -> None:
    here(started, "ignorant")
    pod, end = stopped(started, "ignorant")
    assert pod["spec"]["terminationGracePeriodSeconds"] == 3
    assert end["exitCode"] == 137
    assert waited(pod) >= 2  # whole seconds on the wire
    assert "message" not in end


def test_a_brutal_stop_gives_one_second(started: Kube) -> None:
    pod, end = stopped(started, "brutal")
    assert pod["spec"]["terminationGracePeriodSeconds"] == 1
    assert pod["metadata"]["deletionGracePeriodSeconds"] == 1
    assert end["exitCode"] == 137


def test_a_pre_stop_hook_has_ended_before_sigterm_comes(started: Kube) -> None:
    here(started, "hooked")
    pod, end = stopped(started, "hooked")
    assert (end["exitCode"], end["message"]) == (0, "preStop ended")
    assert waited(pod) >= 1  # whole seconds on the wire


# --- last lines ------------------------------------------------------------------------------------------------------


def crashed(kube: Kube, name: str) -> JsonDict:
    """The only line of the ledger of an agent that is parked."""
    seen = reached(kube, name, "parked", lambda s: s.get("parkedAt"))
    assert failures(seen) == [("Crash", 1, True)]
    line = seen["failures"][0].get("message")
    words = "exit code 1" + (f": {line}" if line else "")
    assert f"Last: {words}. " in condition({"status": seen}, "Stalled")["message"]
    found: JsonDict = seen["failures"][0]
    return found


def test_the_last_line_of_a_crash_is_in_the_ledger(started: Kube) -> None:
    assert crashed(started, "stock")["message"] == "RuntimeError: crashing on purpose"
    assert crashed(started, "raising")["message"] == "ValueError: no such model"


def test_a_line_of_the_log_is_in_the_ledger_only_where_the_template_allows_it(started: Kube) -> None:
    assert crashed(started, "allowed")["message"] == "ValueError: no such model"
    assert "message" not in crashed(started, "discreet")
    assert "ValueError: no such model" in started.run("logs", "discreet-0-1")


# --- probes ----------------------------------------------------------------------------------------------------------


def test_a_failing_liveness_probe_is_a_counted_crash(started: Kube) -> None:
    here(started, "unlively")
    touch(started, "unlively-0-1", "/tmp/sick")
    seen = running(started, "unlively", incarnation=2)
    assert failures(seen) == [("Crash", 143, True)]
    assert seen["restarts"] == 1


def test_a_failing_readiness_probe_makes_unready_and_restarts_nothing(started: Kube) -> None:
    running(started, "unready", incarnation=1)
    touch(started, "unready-0-1", "/tmp/busy")
    seen = reached(started, "unready", "not Ready", lambda s: not is_ready(s))
    assert condition({"status": seen}, "Ready")["reason"] == "NotReady"
    execute(started, "unready-0-1", "import os; os.remove('/tmp/busy')")
    seen = running(started, "unready", incarnation=1)
    assert (failures(seen), seen["restarts"]) == ([], 0)
