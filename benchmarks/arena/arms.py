"""The arms: an Agent, a Job of one pod and a ReplicaSet of one replica, with the same pod template; and who works for them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from support.async_api import JsonDict

NODES: Final = 20
PODS_PER_NODE: Final = 1000


def failed() -> JsonDict:
    """The patch of a pod's status with which its container has ended with exit code 1, as a kubelet would tell it."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    ended = {"exitCode": 1, "reason": "Error", "startedAt": now, "finishedAt": now}
    container = {
        "name": "agent",
        "image": "example.org/worker:1",
        "imageID": "",
        "ready": False,
        "restartCount": 0,
        "state": {"terminated": ended},
    }
    conditions = [
        {"type": kind, "status": "False", "reason": "PodFailed", "lastTransitionTime": now}
        for kind in ("Ready", "ContainersReady")
    ]
    return {"status": {"phase": "Failed", "conditions": conditions, "containerStatuses": [container]}}


def pod_spec() -> JsonDict:
    """What every arm's pod is made of: one container, for the fake nodes only."""
    return {
        "containers": [
            {
                "name": "agent",
                "image": "example.org/worker:1",
                "resources": {"requests": {"cpu": "1m", "memory": "1Mi"}},
            }
        ],
        "nodeSelector": {"type": "kwok"},
        "tolerations": [{"key": "kwok.x-k8s.io/node", "operator": "Equal", "value": "fake", "effect": "NoSchedule"}],
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 5,
    }


def _agent(name: str) -> JsonDict:
    # The budget is never spent and no restart is delayed: the native arms know neither.
    tolerance = {
        "maxFailures": 200,
        "failureWindowSeconds": 1,
        "backoff": {"initialSeconds": 0, "maxSeconds": 0},
    }
    return {
        "apiVersion": "mabeam.dev/v1alpha1",
        "kind": "Agent",
        "metadata": {"name": name, "labels": {"team": "bench"}},
        "spec": {"template": {"spec": pod_spec()}, "faultTolerance": tolerance},
    }


def _job(name: str) -> JsonDict:
    template = {"spec": {**pod_spec(), "restartPolicy": "Never"}}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"backoffLimit": 1000, "template": template},
    }


def _replica_set(name: str) -> JsonDict:
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {"name": name},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": pod_spec()},
        },
    }


@dataclass(frozen=True)
class Arm:
    """One arm: where its objects are, how one is written, who works for it."""

    name: str
    one: str
    prefix: str
    plural: str
    body: Callable[[str], JsonDict]
    client: str
    process: str  # whose CPU is counted: a component of the cluster, or a controller of the arena
    controller: str = "operator"  # the controller of the arena that runs meanwhile
    suffix: str = ""  # of the namespace; the arm's name when empty

    @property
    def namespace(self) -> str:
        """The namespace that holds nothing but this arm's objects."""
        return f"bench-{self.suffix or self.name}"

    @property
    def population(self) -> str:
        """The arm whose objects it works with: its own name, or `agents` for an arm with another controller."""
        return "agents" if self.controller != "operator" else self.name

    @property
    def path(self) -> str:
        """The collection of its objects."""
        return f"{self.prefix}/namespaces/{self.namespace}/{self.plural}"

    def named(self, name: str) -> str:
        """One of its objects."""
        return f"{self.path}/{name}"

    @property
    def pods(self) -> str:
        """The collection of its pods."""
        return f"/api/v1/namespaces/{self.namespace}/pods"


ARMS: Final[Mapping[str, Arm]] = {
    arm.name: arm
    for arm in (
        Arm("agents", "Agent", "/apis/mabeam.dev/v1alpha1", "agents", _agent, "operator", "operator"),
        Arm("jobs", "Job", "/apis/batch/v1", "jobs", _job, "job controller", "kube-controller-manager"),
        Arm(
            "replicasets",
            "ReplicaSet",
            "/apis/apps/v1",
            "replicasets",
            _replica_set,
            "replicaset controller",
            "kube-controller-manager",
        ),
    )
}


# Agents that a variable directs: each has a ConfigMap of directives; their namespace is their own.
DIRECTED: Final = Arm(
    "directed agents", "Agent", "/apis/mabeam.dev/v1alpha1", "agents", _agent, "operator", "operator", suffix="directed"
)
POPULATIONS: Final[Mapping[str, Arm]] = {**ARMS, DIRECTED.name: DIRECTED}

# The same Agents, but the operator of another checkout runs (`--before`), or the client that only writes (floor.py).
BEFORE: Final = replace(ARMS["agents"], name="agents before", process="before", controller="before", suffix="agents")
FLOOR: Final = replace(
    ARMS["agents"], name="floor", client="floor", process="floor", controller="floor", suffix="agents"
)


def names(count: int, first: int = 0) -> list[str]:
    """So many objects' names, from the number `first` on."""
    return [f"w-{number:05}" for number in range(first, first + count)]
