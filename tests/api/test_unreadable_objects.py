"""Objects that an apiserver stores and no parser of the operator's takes: they end nothing, stall nothing, and cost nobody else.

The apiserver takes what nests up to 10,000 levels deep, of anybody who may create an Agent or a variable.
"""

import json
import re

import pytest

from api.test_shell_operator import agent, alone, awaited, namespace, pods_of, says, variable  # noqa: F401 - a fixture
from support.hostile_json import TOO_DEEP, nested
from support.kube import JsonDict, Kube, until
from support.operator_process import OperatorProcess, operator

AGENTS, VARIABLES = "agents", "orchestrationvariables"
DEEP = "@deep@"
# LISTs are made so often that the test need not wait long for one.
RESYNC_SECONDS = "5"


def deep_json(body: JsonDict, depth: int) -> str:
    """The JSON of an object in which a value that nests so deep stands in for the string DEEP."""
    return json.dumps(body).replace(f'"{DEEP}"', nested(depth).decode())


def raw(kube: Kube, verb: str, plural: str, body: JsonDict, depth: int = TOO_DEEP) -> None:
    """Create or replace an object as it is: kubectl itself does not look into it."""
    name = f"/{body['metadata']['name']}" if verb == "replace" else ""
    path = f"/apis/mabeam.dev/v1alpha1/namespaces/{kube.namespace}/{plural}{name}"
    kube.run(verb, "--raw", path, "-f", "-", stdin=deep_json(body, depth))


def deep_agent(name: str) -> JsonDict:
    pod = {"containers": [{"name": "agent", "image": "nothing:1"}], "deep": DEEP}
    return agent(name, pod=pod, desiredState="Stopped")


def deep_variable(name: str) -> JsonDict:
    return variable(name, ["one"], paused=True, value=DEEP)


def met(process: OperatorProcess, kind: str) -> float:
    """How often the operator has passed over an object of the kind."""
    found = re.search(
        rf'^mabeam_unreadable_objects_total{{kind="{kind}"}} (\S+)$', process.ask("/metrics")[1], re.MULTILINE
    )
    return float(found[1]) if found is not None else 0.0


def serves(process: OperatorProcess, name: str) -> None:
    """A new agent gets its pod, and a new variable tells it a value."""
    process.kube.apply(agent(name), variable(f"v-{name}", [name], value=0.5))
    until(f"the pod of {name}", lambda: pods_of(process.kube, name) == [f"{name}-0-1"])
    until(f"the directives of {name}", lambda: process.kube.find("configmap", f"{name}-mabeam"))
    assert process.is_ready()


@pytest.mark.parametrize("depth", [1000, TOO_DEEP, 9000])
def test_an_object_that_nests_too_deep_ends_neither_the_start_nor_a_watch(alone: None, depth: int) -> None:  # noqa: F811
    with namespace("deep") as kube:
        raw(kube, "create", AGENTS, deep_agent("before"), depth)
        raw(kube, "create", VARIABLES, deep_variable("before"), depth)
        with operator(kube, resync_seconds=RESYNC_SECONDS) as process:
            until("it leads", process.leads)
            serves(process, "one")
            raw(kube, "create", AGENTS, deep_agent("after"), depth)
            raw(kube, "create", VARIABLES, deep_variable("after"), depth)
            serves(process, "two")
            kube.run("delete", "mba/before", "orchestrationvariables.mabeam.dev/after")
            serves(process, "three")
            if depth > 1024:
                for kind in ("Agent", "OrchestrationVariable"):
                    seen = met(process, kind)
                    assert seen > 0
                    until(f"the next LIST of {kind}", lambda kind=kind, seen=seen: met(process, kind) > seen)
            assert process.is_ready()


def test_an_agent_that_can_no_longer_be_read_keeps_its_pod(alone: None) -> None:  # noqa: F811
    with namespace("turned") as kube, operator(kube, resync_seconds=RESYNC_SECONDS) as process:
        until("it leads", process.leads)
        serves(process, "one")
        found = kube.get("mba", "one")
        body = agent("one", metadata={"resourceVersion": found["metadata"]["resourceVersion"]})
        body["spec"]["template"]["spec"]["deep"] = DEEP
        until("the last status", lambda: _replaced(kube, body))
        until("it is met by the watch and by a LIST", lambda: met(process, "Agent") >= 2)
        assert pods_of(kube, "one") == ["one-0-1"]
        serves(process, "two")
        kube.run("delete", "mba/one")
        until("its pod is gone with it", lambda: pods_of(kube, "one") == [])


def _replaced(kube: Kube, body: JsonDict) -> bool:
    """Whether the replacement was taken: a status that is written at the same time is newer, and it is tried again."""
    body["metadata"]["resourceVersion"] = kube.get("mba", body["metadata"]["name"])["metadata"]["resourceVersion"]
    try:
        raw(kube, "replace", AGENTS, body)
    except AssertionError:
        return False
    return True
