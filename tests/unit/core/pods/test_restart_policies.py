"""No pod that the operator makes lets the kubelet restart a container, native sidecars apart; and the user is told."""

from typing import Any

import pytest

from mabeam.core.pods.body import PodRequest, pod_body
from mabeam.core.pods.restart_policies import unused_restart_policies
from support.builders import an_agent

RULES = [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]
ALL = [{"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [42]}}]


def template(*, containers: list[Any] | None = None, **spec: Any) -> dict[str, Any]:
    agent = {"name": "agent", "image": "x", "restartPolicy": None}
    return {"containers": [agent, *(containers or [])], **spec}


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        (template(), None),
        (template(restartPolicy="Never"), None),
        (template(restartPolicy="Always"), "`restartPolicy: Always`"),
        (template(restartPolicy="OnFailure"), "`restartPolicy: OnFailure`"),
        (template(containers=[{"name": "b", "restartPolicy": "Always"}]), "`containers b: restartPolicy`"),
        (
            template(containers=[{"name": "b", "restartPolicy": "Never", "restartPolicyRules": RULES}]),
            "`containers b: restartPolicy`, `containers b: restartPolicyRules`",
        ),
        (template(initContainers=[{"name": "proxy", "restartPolicy": "Always"}]), None),
        (template(initContainers=[{"name": "i", "restartPolicy": "OnFailure"}]), "`initContainers i: restartPolicy`"),
        (
            template(initContainers=[{"name": "i", "restartPolicyRules": ALL}]),
            "`initContainers i: restartPolicyRules`",
        ),
    ],
)
def test_a_restart_policy_of_the_template_is_not_used_and_told(spec: dict[str, Any], told: str | None) -> None:
    note = unused_restart_policies(spec)
    assert (told is None) == (note is None)
    assert told is None or (note is not None and told in note)
    made = pod_body(PodRequest(agent=an_agent(template={"spec": spec}), ordinal=0, incarnation=1))["spec"]
    assert made["restartPolicy"] == "Never"
    for container in made["containers"]:
        assert container.get("restartPolicy") is None
        assert container.get("restartPolicyRules") is None
    for container in made.get("initContainers", ()):
        assert container.get("restartPolicy") in (None, "Always")
        assert container.get("restartPolicyRules") is None


def test_many_restart_policies_are_told_in_one_line() -> None:
    many = [{"name": f"c{n}", "restartPolicy": "Always"} for n in range(50)]
    assert "and 46 more" in (unused_restart_policies(template(containers=many)) or "")
