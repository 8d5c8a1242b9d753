"""Init containers and sidecars on real kubelets: their ends in the kubelet's own words, and what follows for the agent."""

from typing import Any

import pytest

from e2e.agents import STAY, agent, container, ends, failures, is_ready, reached, running, template
from support.kube import JsonDict, Kube, condition

AT_ONCE: JsonDict = {"initialSeconds": 0, "maxSeconds": 0}
UNPULLABLE = "registry.invalid/nothing:1"
BUDGET: JsonDict = {"maxFailures": 3, "failureWindowSeconds": 600, "backoff": AT_ONCE}
# An init container's program has no incarnation: it always ends so, and says why to the kubelet.
FAILING_SETUP = """
import sys
with open("/dev/termination-log", "w") as log:
    log.write("looked for a model\\nno such model")
sys.exit(78)
"""
WORKING_SETUP = "import time; time.sleep(40)"
# Ends a moment after the agent's own container has started.
SHORT_LIVED = "import sys, time; time.sleep(5); sys.exit(4)"
SLOW_TO_STOP = """
import signal, sys, time
def stop(*_):
    time.sleep(3)
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
while True:
    time.sleep(1)
"""


def with_init(program: str, main: JsonDict, **init: Any) -> JsonDict:
    return template(main, initContainers=[container(program, name="setup", **init)])


def the_agents() -> list[JsonDict]:
    parked = BUDGET | {"exitCodeRules": [{"codes": [78], "action": "Park"}]}
    beside = template(container(STAY), container(SHORT_LIVED, name="proxy"))
    own = container(ends(3), restartPolicy="Always")
    works, unpulled = with_init(WORKING_SETUP, container(STAY)), with_init("", container(STAY), image=UNPULLABLE)
    native = with_init(SLOW_TO_STOP, container(ends(3)), restartPolicy="Always")
    return [
        agent("init-fails", template=with_init(FAILING_SETUP, container(STAY)), faultTolerance=parked),
        agent("init-works", template=works, startTimeoutSeconds=10, faultTolerance=BUDGET),
        agent("init-unpulled", template=unpulled, faultTolerance=BUDGET),
        agent("sidecar-dies", template=beside, faultTolerance=BUDGET),
        agent("sidecar-counts", template=beside, sidecarFailure="Fail", faultTolerance=BUDGET | {"maxFailures": 0}),
        agent("native", template=native, faultTolerance=BUDGET),
        agent("own-policy", template=template(own, restartPolicy="Always"), faultTolerance=BUDGET),
    ]


@pytest.fixture(scope="module")
def started(kube: Kube) -> Kube:
    kube.apply(*the_agents())
    return kube


def ready(status: JsonDict) -> JsonDict:
    return condition({"status": status}, "Ready")


def test_an_init_containers_exit_code_and_last_line_are_the_agents(started: Kube) -> None:
    seen = reached(started, "init-fails", "parked", lambda s: s.get("parkedAt"))
    assert failures(seen) == [("Crash", 78, True)]
    assert (seen["failures"][0]["container"], seen["failures"][0]["message"]) == ("setup", "no such model")
    assert ready(seen)["reason"] == "ParkedByRule"


def test_an_init_container_that_works_is_named_and_is_no_failure(started: Kube) -> None:
    seen = reached(started, "init-works", "named", lambda s: "setup runs since" in ready(s).get("message", ""))
    assert failures(seen) == []
    assert failures(running(started, "init-works", incarnation=1)) == []


def test_an_init_container_whose_image_is_missing_is_named(started: Kube) -> None:
    seen = reached(started, "init-unpulled", "named", lambda s: "init container setup" in ready(s).get("message", ""))
    assert ready(seen)["reason"] in ("ErrImagePull", "ImagePullBackOff")
    assert UNPULLABLE in ready(seen)["message"]


def test_a_sidecar_that_died_is_named_with_its_exit_code(started: Kube) -> None:
    seen = reached(started, "sidecar-dies", "named", lambda s: ready(s).get("reason") == "SidecarFailed")
    assert "container proxy ended with exit code 4" in ready(seen)["message"]
    assert (failures(seen), seen["pods"][0]["incarnation"]) == ([], 1)


def test_a_sidecar_that_died_counts_by_its_policy(started: Kube) -> None:
    seen = reached(started, "sidecar-counts", "parked", lambda s: s.get("parkedAt"))
    assert failures(seen) == [("SidecarFailed", 4, True)]
    assert seen["failures"][0]["container"] == "proxy"


def test_a_crashed_pod_with_a_native_sidecar_is_kept_for_its_log(started: Kube) -> None:
    seen = running(started, "native", incarnation=2)
    assert failures(seen) == [("Crash", 3, True)]
    old = started.get("pod", "native-0-1")
    assert (old["status"]["phase"], "deletionTimestamp" in old["metadata"]) == ("Failed", False)


def test_the_kubelet_restarts_no_container_of_the_operators_pods(started: Kube) -> None:
    seen = running(started, "own-policy", incarnation=2)
    assert is_ready(seen)
    assert failures(seen) == [("Crash", 3, True)]
    accepted = condition({"status": seen}, "Accepted")
    assert "`restartPolicy: Always`, `containers agent: restartPolicy`" in accepted["message"]
    pod = started.get("pod", "own-policy-0-2")
    assert "restartPolicy" not in pod["spec"]["containers"][0]
