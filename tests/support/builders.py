"""Agents and pods for tests, in words: `an_agent(restart="Transient")`, `a_pod("a-0-1", crashed(2))`."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from mabeam.api.agent import Agent
from mabeam.api.base import JsonDict, format_time
from mabeam.api.names import API_VERSION
from mabeam.core.snapshot import ContainerFacts, OtherContainer, PodFacts

START = datetime(2026, 1, 1, tzinfo=UTC)
NO_BACKOFF: JsonDict = {"initialSeconds": 0, "maxSeconds": 0}
PLAIN_BACKOFF: JsonDict = {"initialSeconds": 1, "factor": 2, "maxSeconds": 60, "jitter": 0, "resetAfterSeconds": 300}
WITH_SIDECAR: JsonDict = {
    "spec": {"containers": [{"name": "proxy", "image": "proxy:1"}, {"name": "agent", "image": "agent:1"}]}
}


def at(seconds: float) -> datetime:
    """The test's clock: so many seconds after the start of the world."""
    return START + timedelta(seconds=seconds)


def stamp(seconds: float) -> str:
    """The same as `at`, as an API object carries it."""
    return format_time(at(seconds))


def agent_body(
    name: str = "a",
    *,
    restart: str = "Permanent",
    replicas: int = 1,
    max_failures: int = 3,
    window: int = 60,
    backoff: Mapping[str, Any] = NO_BACKOFF,
    desired: str = "Running",
    annotations: Mapping[str, str] | None = None,
    generation: int = 1,
    status: JsonDict | None = None,
    **spec: Any,
) -> JsonDict:
    """An Agent as the apiserver would store it; further fields of the spec by their wire names."""
    shape: JsonDict = {} if "template" in spec else {"module": "team.work:Worker", "image": "worker:1"}
    return {
        "apiVersion": API_VERSION,
        "kind": "Agent",
        "metadata": {
            "name": name,
            "namespace": "team",
            "uid": f"uid-of-{name}",
            "generation": generation,
            "annotations": dict(annotations or {}),
        },
        "spec": {
            **shape,
            "replicas": replicas,
            "desiredState": desired,
            "restartStrategy": restart,
            "faultTolerance": {
                "maxFailures": max_failures,
                "failureWindowSeconds": window,
                "backoff": dict(backoff),
            },
            **spec,
        },
        "status": status or {"observedGeneration": -1},
    }


def an_agent(name: str = "a", **words: Any) -> Agent:
    """The same, parsed."""
    return Agent.model_validate(agent_body(name, **words))


def a_pod(name: str = "a-0-1", main: ContainerFacts | None = None, **facts: Any) -> PodFacts:
    """A pod that runs and is ready on node1 since the start, unless told otherwise."""
    _, ordinal, incarnation = name.rsplit("-", 2)
    main = main or running()
    phase = {"running": "Running", "waiting": "Pending", "unknown": "Pending"}.get(main.state)
    usual: dict[str, Any] = {
        "uid": f"uid-of-{name}",
        "ordinal": int(ordinal),
        "incarnation": int(incarnation),
        "phase": phase or ("Succeeded" if main.exit_code == 0 else "Failed"),
        "node": "node1",
        "created_at": START,
        "scheduled_at": START,
        "ready": main.state == "running",
        "main": main,
    }
    return PodFacts(name=name, **{**usual, **facts})


def a_sidecar(now: ContainerFacts, name: str = "proxy", **facts: Any) -> OtherContainer:
    """A container beside the main one, in the given state; regular and of the image `y` unless told otherwise."""
    return OtherContainer(name, **{"image": "y", "now": now, "ready": now.state == "running", **facts})


def an_init(now: ContainerFacts, name: str = "setup", **facts: Any) -> OtherContainer:
    """An init container in the given state."""
    return a_sidecar(now, name, **{"role": "init", **facts})


def running(since: float = 0) -> ContainerFacts:
    """A main container that runs."""
    return ContainerFacts("running", started_at=at(since))


def exited(code: int, when: float = 10, reason: str | None = None, message: str | None = None) -> ContainerFacts:
    """A main container that ended with a code, and what it left to the kubelet."""
    word = reason or ("Completed" if code == 0 else "Error")
    return ContainerFacts("terminated", word, message, code, at(0), at(when))


def waiting(reason: str | None = None, message: str | None = None) -> ContainerFacts:
    """A main container that waits to be started."""
    return ContainerFacts("waiting", reason, message)
