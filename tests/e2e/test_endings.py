"""How agents end, and what follows: the table of docs/supervision.md on real containers, the budget, the backoff, the stops.

All agents of this module are started at once; each test then waits for its own. What takes time takes it once.
"""

import json
import time
from datetime import datetime
from typing import Any

import pytest

from e2e.agents import (
    DEAF,
    HUNGRY,
    PATIENCE,
    STAY,
    agent,
    container,
    ends,
    evict,
    failures,
    is_ready,
    reached,
    running,
    status,
    template,
)
from support.kube import JsonDict, Kube, condition, until

AT_ONCE: JsonDict = {"initialSeconds": 0, "maxSeconds": 0}
STRATEGIES = ("Permanent", "Transient", "Temporary")
# Short, but enough for a machine that starts a dozen containers at once.
START_TIMEOUT = 20
MISSING = {"secretKeyRef": {"name": "not-there", "key": "k"}}
MISSING_MAP = {"configMapKeyRef": {"name": "not-there", "key": "k"}}


def budget(allowed: int, backoff: JsonDict = AT_ONCE, window: int = 600) -> JsonDict:
    return {"maxFailures": allowed, "failureWindowSeconds": window, "backoff": backoff}


def unpullable(**spec: Any) -> JsonDict:
    return template(container(STAY, image="registry.invalid/nothing:1")) | spec


def wanting(source: JsonDict) -> JsonDict:
    main = container(STAY)
    return template(main | {"env": [{"name": "KEY", "valueFrom": source}]})


def the_agents() -> list[JsonDict]:
    found = []
    for strategy in STRATEGIES:
        word = strategy.lower()
        found += [
            agent(f"exit0-{word}", ends(0), restart=strategy),
            agent(f"exit3-{word}", ends(3), restart=strategy),
            agent(f"exit42-{word}", ends(42), restart=strategy, normalExitCodes=[42]),
            agent(f"evicted-{word}", STAY, restart=strategy),
            agent(f"deleted-{word}", STAY, restart=strategy),
        ]
    limited = container(HUNGRY, resources={"limits": {"memory": "48Mi"}, "requests": {"memory": "16Mi"}})
    return [
        agent("crasher", ends(7, "always"), faultTolerance=budget(2)),
        agent("patient", ends(9, "always"), faultTolerance=budget(3, {"initialSeconds": 2, "factor": 2, "jitter": 0})),
        agent("unpullable", template=unpullable()),
        agent("unpulled", template=unpullable(), startTimeoutSeconds=START_TIMEOUT, faultTolerance=budget(0)),
        agent("no-secret", template=wanting(MISSING), startTimeoutSeconds=START_TIMEOUT, faultTolerance=budget(0)),
        agent("no-map", template=wanting(MISSING_MAP), startTimeoutSeconds=START_TIMEOUT, faultTolerance=budget(0)),
        agent("hungry", template=template(limited), restart="Temporary"),
        agent(
            "homeless",
            template=template(container(STAY), nodeSelector={"test.mabeam.dev/home": "here"}),
            startTimeoutSeconds=START_TIMEOUT,
            faultTolerance=budget(0),
        ),
        agent("accompanied", template=template(container(STAY, name="proxy"), container(ends(5)))),
        agent("flipped", STAY),
        agent("graceful", DEAF, shutdown={"policy": "Graceful", "timeoutSeconds": 10}),
        agent("brutal", DEAF, shutdown={"policy": "Brutal", "timeoutSeconds": 10}),
        *found,
    ]


@pytest.fixture(scope="module")
def started(kube: Kube) -> Kube:
    kube.apply(*the_agents())
    return kube


def restarted_once(kube: Kube, name: str) -> JsonDict:
    seen = running(kube, name, incarnation=2)
    assert seen["restarts"] == 1
    assert seen["pods"][0]["name"] == f"{name}-0-2"
    return seen


def ended(kube: Kube, name: str, state: str, reason: str) -> JsonDict:
    seen = reached(
        kube, name, f"{state} for {reason}", lambda s: condition({"status": s}, "Ready").get("reason") == reason
    )
    assert seen["state"] == state
    assert seen["pods"][0]["incarnation"] == 1
    assert seen["restarts"] == 0
    return seen


def stalled(status: JsonDict) -> bool:
    return condition({"status": status}, "Stalled").get("status") == "True"


# --- the table -------------------------------------------------------------------------------------------------------


def test_a_permanent_agent_that_exits_normally_is_restarted_and_counted(started: Kube) -> None:
    assert failures(restarted_once(started, "exit0-permanent")) == [("NormalExit", 0, True)]


@pytest.mark.parametrize("strategy", ["transient", "temporary"])
def test_an_agent_that_may_end_is_done_after_a_normal_exit(started: Kube, strategy: str) -> None:
    seen = ended(started, f"exit0-{strategy}", "Stopped", "Completed")
    assert is_ready(seen)
    assert not stalled(seen)
    assert failures(seen) == []


@pytest.mark.parametrize("strategy", ["permanent", "transient"])
def test_a_crash_is_restarted_and_counted(started: Kube, strategy: str) -> None:
    seen = restarted_once(started, f"exit3-{strategy}")
    assert failures(seen) == [("Crash", 3, True)]
    assert seen["failures"][0]["pod"] == f"exit3-{strategy}-0-1"
    assert seen["failures"][0]["node"].startswith("node-")


def test_a_temporary_agent_that_crashes_stays_down_and_says_so(started: Kube) -> None:
    seen = ended(started, "exit3-temporary", "Failed", "Failed")
    assert stalled(seen)
    assert failures(seen) == [("Crash", 3, False)]
    assert "exit code 3" in condition({"status": seen}, "Ready")["message"]


def test_a_listed_exit_code_is_a_normal_exit(started: Kube) -> None:
    assert failures(restarted_once(started, "exit42-permanent")) == [("NormalExit", 42, True)]
    for strategy in ("transient", "temporary"):
        assert failures(ended(started, f"exit42-{strategy}", "Stopped", "Completed")) == []


def test_an_evicted_agent_is_replaced_and_not_counted(started: Kube) -> None:
    for strategy in STRATEGIES:
        running(started, f"evicted-{strategy.lower()}", incarnation=1)
        evict(started, f"evicted-{strategy.lower()}-0-1")
    for strategy in ("permanent", "transient"):
        seen = running(started, f"evicted-{strategy}", incarnation=2)
        assert (seen["restarts"], seen["disruptions"]) == (0, 1)
        assert [(cause, counted) for cause, _, counted in failures(seen)] == [("Evicted", False)]
    seen = ended(started, "evicted-temporary", "Stopped", "Disrupted")
    assert is_ready(seen)


def test_a_pod_that_somebody_deletes_counts_as_a_failure(started: Kube) -> None:
    for strategy in STRATEGIES:
        running(started, f"deleted-{strategy.lower()}", incarnation=1)
        started.run("delete", "pod", f"deleted-{strategy.lower()}-0-1", "--wait=false")
    for strategy in ("permanent", "transient"):
        seen = restarted_once(started, f"deleted-{strategy}")
        assert [(cause, counted) for cause, _, counted in failures(seen)] == [("DeletedByOther", True)]
    seen = ended(started, "deleted-temporary", "Failed", "Failed")
    assert stalled(seen)


# --- what the kubelet does -------------------------------------------------------------------------------------------


def test_a_process_that_eats_more_than_its_limit_ran_out_of_memory(started: Kube) -> None:
    seen = ended(started, "hungry", "Failed", "Failed")
    assert failures(seen) == [("OOM", 137, False)]
    assert seen["failures"][0]["reason"] == "OOMKilled"


def test_an_image_that_cannot_be_pulled_is_told_and_is_no_failure_yet(started: Kube) -> None:
    seen = reached(started, "unpullable", "the reason", lambda s: "Pull" in condition({"status": s}, "Ready")["reason"])
    assert not is_ready(seen)
    assert condition({"status": seen}, "Ready")["reason"] in ("ErrImagePull", "ImagePullBackOff")
    assert "registry.invalid/nothing:1" in condition({"status": seen}, "Ready")["message"]
    assert failures(seen) == []


def parked(kube: Kube, name: str, times: int) -> JsonDict:
    seen = reached(
        kube, name, f"parked after {times} failures", lambda s: len(s.get("failures", [])) >= times and stalled(s)
    )
    assert seen["state"] == "Failed"
    assert condition({"status": seen}, "Stalled")["reason"] == "RestartBudgetExhausted"
    return seen


def test_a_pod_that_cannot_start_in_time_is_a_counted_failure(started: Kube) -> None:
    assert failures(parked(started, "unpulled", 1)) == [("ImageError", None, True)]
    assert failures(parked(started, "no-secret", 1)) == [("ConfigError", None, True)]
    seen = parked(started, "no-map", 1)
    assert failures(seen) == [("ConfigError", None, True)]
    assert seen["failures"][0]["reason"] == "CreateContainerConfigError"
    assert "not-there" in condition({"status": seen}, "Ready")["message"]


def test_an_agent_without_a_node_waits_however_long_it_takes(started: Kube) -> None:
    seen = reached(
        started, "homeless", "no node", lambda s: condition({"status": s}, "Ready").get("reason") == "Unschedulable"
    )
    assert not stalled(seen)
    created = datetime.fromisoformat(started.get("pod", "homeless-0-1")["metadata"]["creationTimestamp"])
    until("it waited for longer than its start may take", lambda: time.time() - created.timestamp() > START_TIMEOUT + 1)
    nodes = Kube("default")
    nodes.run("label", "node", "node-1", "test.mabeam.dev/home=here", "--overwrite")
    try:
        seen = running(started, "homeless", incarnation=1)
    finally:
        nodes.run("label", "node", "node-1", "test.mabeam.dev/home-")
    assert failures(seen) == []
    assert seen["pods"][0]["node"] == "node-1"


def test_a_sidecar_does_not_keep_a_dead_agent_alive(started: Kube) -> None:
    seen = restarted_once(started, "accompanied")
    assert failures(seen) == [("Crash", 5, True)]
    until("the pod with the dead agent went away", lambda: started.find("pod", "accompanied-0-1") is None, PATIENCE)


def test_the_last_words_of_a_failed_pod_can_still_be_read(started: Kube) -> None:
    running(started, "exit3-permanent", incarnation=2)
    assert "last words of incarnation 1" in started.run("logs", "exit3-permanent-0-1", "-c", "agent")
    ended(started, "exit3-temporary", "Failed", "Failed")
    assert "last words of incarnation 1" in started.run("logs", "exit3-temporary-0-1", "-c", "agent")


# --- the budget ------------------------------------------------------------------------------------------------------


def test_an_agent_is_parked_after_exactly_one_failure_more_than_it_may_have(started: Kube) -> None:
    seen = parked(started, "crasher", 3)
    assert failures(seen) == [("Crash", 7, True)] * 3
    assert (seen["restarts"], seen["pods"][0]["incarnation"]) == (2, 3)
    message = condition({"status": seen}, "Stalled")["message"]
    assert message.startswith("3 failures in 600 s (allowed: 2). Last: exit code 7.")
    assert "mabeam.dev/release" in message
    assert seen["parkedAt"]
    assert started.find("pod", "crasher-0-4") is None
    assert "last words of incarnation 3" in started.run("logs", "crasher-0-3")


def test_a_released_agent_has_its_whole_budget_again(started: Kube) -> None:
    parked(started, "crasher", 3)
    started.run("annotate", "mba", "crasher", "mabeam.dev/release=once", "--overwrite")
    seen = parked(started, "crasher", 6)
    assert seen["releasedBy"] == "once"
    assert seen["pods"][0]["incarnation"] == 6
    assert seen["restarts"] == 4
    events = json.loads(started.run("get", "events", "-o", "json"))["items"]
    told = [e["reason"] for e in events if e["involvedObject"]["name"] == "crasher"]
    assert "AgentReleased" in told
    assert "RestartBudgetExhausted" in told


def test_restarts_wait_longer_and_longer_except_the_first(started: Kube) -> None:
    seen = parked(started, "patient", 4)
    ledger = seen["failures"]
    ends_at = [datetime.fromisoformat(f["time"]) for f in ledger]
    starts_at = [datetime.fromisoformat(f["startTime"]) for f in ledger]
    waited = [(start - end).total_seconds() for end, start in zip(ends_at, starts_at[1:], strict=False)]
    assert len(waited) == 3
    assert waited[1] >= 2
    assert waited[2] >= 4


# --- stops -----------------------------------------------------------------------------------------------------------


def test_an_agent_is_stopped_and_started_by_its_user_without_a_failure(started: Kube) -> None:
    running(started, "flipped", incarnation=1)
    started.run("patch", "mba", "flipped", "--type=merge", "-p", '{"spec": {"desiredState": "Stopped"}}')
    seen = reached(started, "flipped", "Stopped", lambda s: s["state"] == "Stopped")
    assert is_ready(seen)
    assert condition({"status": seen}, "Ready")["reason"] == "Stopped"
    until("its pod went away", lambda: started.find("pod", "flipped-0-1") is None, PATIENCE)
    started.run("patch", "mba", "flipped", "--type=merge", "-p", '{"spec": {"desiredState": "Running"}}')
    seen = running(started, "flipped", incarnation=2)
    assert (failures(seen), seen["restarts"]) == ([], 0)


def test_a_graceful_stop_waits_for_the_process_and_a_brutal_one_does_not(started: Kube) -> None:
    for name in ("graceful", "brutal"):
        running(started, name, incarnation=1)
    asked = time.monotonic()
    for name in ("graceful", "brutal"):
        started.run("patch", "mba", name, "--type=merge", "-p", '{"spec": {"desiredState": "Stopped"}}')
    gone: dict[str, float] = {}

    def look() -> bool:
        there = {pod["metadata"]["name"] for pod in started.list("pod")}
        for name in ("graceful", "brutal"):
            if f"{name}-0-1" not in there:
                gone.setdefault(name, time.monotonic() - asked)
        return len(gone) == 2

    until("both are gone", look, PATIENCE)
    assert gone["brutal"] < gone["graceful"]
    assert gone["graceful"] >= 9  # whole seconds on the wire
    assert [failures(status(started, name)) for name in gone] == [[], []]
