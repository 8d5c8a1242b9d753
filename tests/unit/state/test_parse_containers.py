"""Containers in a pod's body → facts: the main one's first process, those beside it, and what the kubelet may restart."""

from typing import Any

import pytest

from mabeam.core.snapshot import ContainerFacts, OtherContainer
from mabeam.state.parse_containers import main_container_facts, other_containers, restarts_in_place
from support.builders import at, stamp

ENDED = {"terminated": {"exitCode": 3, "reason": "Error", "startedAt": stamp(1), "finishedAt": stamp(9)}}
ENDED_FACTS = ContainerFacts("terminated", "Error", None, 3, at(1), at(9))
BACK_OFF = {"waiting": {"reason": "CrashLoopBackOff"}}


@pytest.mark.parametrize(
    ("status", "facts"),
    [
        ({"state": {"running": {"startedAt": stamp(1)}}}, ContainerFacts("running", started_at=at(1))),
        ({"state": ENDED, "restartCount": 0}, ENDED_FACTS),
        ({"state": {"running": {}}, "lastState": ENDED, "restartCount": 1}, ENDED_FACTS),
        ({"state": BACK_OFF, "lastState": ENDED, "restartCount": 7}, ENDED_FACTS),
        ({"state": BACK_OFF, "lastState": {}, "restartCount": 7}, ContainerFacts("waiting", "CrashLoopBackOff")),
        ({}, ContainerFacts()),
    ],
)
def test_an_incarnation_is_its_first_process_whatever_the_kubelet_started_after_it(
    status: dict[str, Any], facts: ContainerFacts
) -> None:
    assert main_container_facts(status) == facts


def test_the_containers_beside_the_main_one_have_their_role_image_and_last_end() -> None:
    spec = {
        "initContainers": [{"name": "setup", "image": "s"}, {"name": "proxy", "image": "p", "restartPolicy": "Always"}],
        "containers": [{"name": "agent", "image": "a"}, {"name": "log", "image": "l"}],
    }
    status = {
        "initContainerStatuses": [
            {"name": "setup", "state": ENDED},
            {"name": "proxy", "state": BACK_OFF, "lastState": ENDED, "restartCount": 2},
        ],
        "containerStatuses": [{"name": "agent", "state": {}}, {"name": "log", "ready": True, "state": {"running": {}}}],
    }
    assert other_containers(spec, status, "agent") == (
        OtherContainer("setup", "init", "s", ENDED_FACTS),
        OtherContainer("proxy", "native", "p", ContainerFacts("waiting", "CrashLoopBackOff"), ENDED_FACTS),
        OtherContainer("log", "regular", "l", ContainerFacts("running"), ready=True),
    )


@pytest.mark.parametrize(
    ("spec", "restarts", "expected"),
    [
        ({}, 0, False),
        ({"restartPolicy": "Never"}, 0, False),
        ({"restartPolicy": "Always"}, 0, True),
        ({"restartPolicy": "OnFailure"}, 0, True),
        ({"containers": [{"name": "agent", "restartPolicy": "Never"}]}, 0, False),
        ({"containers": [{"name": "agent", "restartPolicy": "Always"}]}, 0, True),
        ({"containers": [{"name": "agent"}, {"name": "b", "restartPolicy": "OnFailure"}]}, 0, True),
        ({"containers": [{"name": "agent", "restartPolicy": "Never", "restartPolicyRules": [{}]}]}, 0, True),
        ({"initContainers": [{"name": "i", "restartPolicy": "Always"}]}, 0, False),
        ({"initContainers": [{"name": "i", "restartPolicy": "OnFailure"}]}, 0, True),
        ({"initContainers": [{"name": "i", "restartPolicyRules": [{"action": "RestartAllContainers"}]}]}, 0, True),
        ({"containers": [{"name": "agent"}]}, 1, True),
    ],
)
def test_a_container_restarts_in_place_by_a_policy_of_the_pod_or_of_a_container(
    spec: dict[str, Any], restarts: int, expected: bool
) -> None:
    status = {"containerStatuses": [{"name": "agent", "restartCount": restarts}, {"name": "b", "restartCount": 9}]}
    assert restarts_in_place(spec, status, "agent") is expected
