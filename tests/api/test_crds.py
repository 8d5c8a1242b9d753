"""The CRDs on a real apiserver: what is shipped is what lives there, and every rule is judged alike in CEL and in Python."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from mabeam.api.agent import Agent
from mabeam.api.supervisor import Supervisor
from mabeam.api.variable import OrchestrationVariable
from support.kube import Kube, Refused

ROOT = Path(__file__).resolve().parents[2]
KINDS = {"Agent": Agent, "OrchestrationVariable": OrchestrationVariable, "Supervisor": Supervisor}


def agent(name: str = "a", **spec: Any) -> dict[str, Any]:
    whole = {"module": "examples.echo:Echo"} | spec
    return {
        "apiVersion": "mabeam.dev/v1alpha1",
        "kind": "Agent",
        "metadata": {"name": name},
        "spec": {k: v for k, v in whole.items() if v is not None},
    }


def variable(name: str = "v", **spec: Any) -> dict[str, Any]:
    whole = {"agents": {"names": ["a"]}, "negotiation": {}} | spec
    return {
        "apiVersion": "mabeam.dev/v1alpha1",
        "kind": "OrchestrationVariable",
        "metadata": {"name": name},
        "spec": {k: v for k, v in whole.items() if v is not None},
    }


def supervisor(name: str = "s", **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "mabeam.dev/v1alpha1", "kind": "Supervisor", "metadata": {"name": name}, "spec": spec}


POD = {"spec": {"containers": [{"name": "agent", "image": "x"}]}}
SOUND = {
    "an agent by module": agent(),
    "an agent by template": agent(module=None, template=POD),
    "an agent with every supported field": agent(
        role="Custom",
        customRole="Critic",
        capabilities=["python"],
        image="x:1",
        replicas=3,
        desiredState="Stopped",
        restartStrategy="Transient",
        normalExitCodes=[42],
        startTimeoutSeconds=5,
        supervisor="team",
        supervisionStrategy="RestForOne",
        shutdown={"policy": "Brutal", "timeoutSeconds": 5},
        faultTolerance={
            "maxFailures": 0,
            "failureWindowSeconds": 1,
            "recoveryStrategy": "Restart",
            "escalationPolicy": "Escalate",
            "probeAfterSeconds": 600,
            "progressTimeoutSeconds": 120,
            "backoff": {"initialSeconds": 0.5, "factor": 1.5, "maxSeconds": 2, "jitter": 0, "resetAfterSeconds": 9},
        },
        resources={"requests": {"cpu": "100m", "memory": 1048576}, "limits": {"cpu": 1}},
        communication={"interfaces": [{"name": "http", "port": 80, "protocol": "TCP"}]},
        reports={"source": "Pod", "port": 9000, "path": "/m", "periodSeconds": 1},
        preferences=[{"variable": "t", "value": 0.4, "weight": 2, "bid": 3}, {"variable": "m", "value": "small"}],
        conflictResolution="PriorityBased",
    ),
    "an agent whose reports are in Prometheus": agent(reports={"source": "Prometheus", "periodSeconds": 15}),
    "a query of its own": agent(
        reports={"source": "Prometheus", "port": 9000, "path": "/metrics", "query": 'x{pod=~"$pod"}'}
    ),
    "a Supervisor of nobody": supervisor(),
    "a Supervisor with every field": supervisor(
        supervisor="root",
        strategy="OneForAll",
        maxRestarts=0,
        periodSeconds=1,
        autoShutdown="AllSignificant",
        children=[
            {"kind": "Agent", "name": "a", "significant": True},
            {"kind": "Supervisor", "name": "b"},
            {"name": "b"},
        ],
        restartFinished=False,
    ),
    "a variable with a value": variable(negotiation=None, value=0.7),
    "a variable with a selector": variable(agents={"selector": {"matchLabels": {"team": "alpha"}}}),
    "an auction": variable(negotiation={"strategy": "Auction", "payment": "SecondPrice", "reservePrice": 1}),
    "a choice": variable(domain={"type": "Choice", "choices": ["a", "b"]}, value="a"),
    "a bounded number": variable(
        domain={"minimum": 0, "maximum": 2, "step": 0.05}, value=1, priority=-3, mode="Advise", paused=True
    ),
}
# What is refused, and what the message must say: the field, and what is allowed.
UNSOUND = {
    "neither module nor template": (agent(module=None), "exactly one of `module`"),
    "both module and template": (agent(template=POD), "exactly one of `module`"),
    "an image with a template": (agent(module=None, template=POD, image="x"), "`image` goes with `module`"),
    "a custom role without a name": (agent(role="Custom"), "`customRole` must be set"),
    "a name for a role that is not custom": (agent(customRole="Critic"), "`customRole` must be set"),
    "another resolver": (agent(conflictResolution="Compromise"), "`conflictResolution` is not supported yet"),
    "resource bounds": (agent(resources={"bounds": [{"resource": "memory"}]}), "`bounds` is not supported yet"),
    "a query of the pods": (agent(reports={"query": "up"}), "`query` goes with the source Prometheus"),
    "a query of nobody": (agent(reports={"source": "None", "query": "up"}), "`query` goes with the source Prometheus"),
    "a query that asks nothing": (agent(reports={"source": "Prometheus", "query": ""}), "query"),
    "a path in Prometheus": (agent(reports={"source": "Prometheus", "path": "/m"}), "`path` goes with the source Pod"),
    "a vote": (agent(preferences=[{"variable": "t", "vote": "Yes"}]), "`vote` is not supported yet"),
    "a negative budget": (agent(faultTolerance={"maxFailures": -1}), "maxFailures"),
    "a restart strategy of another dialect": (agent(restartStrategy="Always"), "restartStrategy"),
    "a reserved label": (
        agent(module=None, template=POD | {"metadata": {"labels": {"mabeam.dev/agent": "other"}}}),
        "must not set the operator's own keys",
    ),
    "a reserved annotation": (
        agent(module=None, template=POD | {"metadata": {"annotations": {"mabeam.dev/spec-hash": "x"}}}),
        "must not set the operator's own keys",
    ),
    "a name that is too long": (agent("a" * 51), "at most 50 characters"),
    "a name with a dot": (agent("a.b"), "must not contain a dot"),
    "a module that is no class": (agent(module="nonsense"), "module"),
    "a significant child of a Supervisor that never ends": (
        supervisor(children=[{"name": "a", "significant": True}]),
        "needs `autoShutdown`",
    ),
    "a significant Supervisor": (
        supervisor(autoShutdown="AnySignificant", children=[{"kind": "Supervisor", "name": "b", "significant": True}]),
        "cannot be a significant child",
    ),
    "a Supervisor under itself": (supervisor("s", children=[{"kind": "Supervisor", "name": "s"}]), "its own child"),
    "a child of another kind": (supervisor(children=[{"kind": "Pod", "name": "a"}]), "kind"),
    "a child given twice": (supervisor(children=[{"name": "a"}, {"name": "a"}]), ""),
    "a budget below nothing": (supervisor(maxRestarts=-1), "maxRestarts"),
    "a type of a later time": (variable(type="AgentSelection"), "`type` is not supported yet"),
    "no agents": (variable(agents={}), "at least one of `names` and `selector`"),
    "a domain upside down": (variable(domain={"minimum": 2, "maximum": 1}), "`minimum` must not be above `maximum`"),
    "choices without the type": (variable(domain={"choices": ["a"]}), "`choices` must be set"),
    "a choice without choices": (variable(domain={"type": "Choice"}), "`choices` must be set"),
    "steps of a choice": (
        variable(domain={"type": "Choice", "choices": ["a"], "step": 1}),
        "go with the types Number and Integer",
    ),
    "an object": (variable(domain={"type": "Object"}), "`type` is not supported yet"),
    "an aggregation in an auction": (
        variable(negotiation={"strategy": "Auction", "aggregation": "Mean"}),
        "`aggregation` goes with",
    ),
    "a payment without an auction": (
        variable(negotiation={"payment": "FirstPrice"}),
        "`payment` and `reservePrice` go with",
    ),
    "consensus": (variable(consensus={}), "`consensus` is not supported yet"),
    "a function": (variable(function={"cel": "1"}), "`function` is not supported yet"),
    "adaptation": (variable(adaptation={}), "`adaptation` is not supported yet"),
    "rules": (variable(constraints={"rules": [{"cel": "true"}]}), "`rules` is not supported yet"),
}


@pytest.mark.parametrize("case", SOUND)
def test_what_is_sound_is_taken_by_the_apiserver_and_by_the_models(kube: Kube, case: str) -> None:
    document = SOUND[case]
    KINDS[document["kind"]].model_validate(document)
    kube.run("apply", "--dry-run=server", "-f", "-", stdin=json.dumps(document))


@pytest.mark.parametrize("case", UNSOUND)
def test_what_is_unsound_is_refused_by_both_with_the_same_lesson(kube: Kube, case: str) -> None:
    document, lesson = UNSOUND[case]
    with pytest.raises(Refused) as refused:
        kube.run("apply", "--dry-run=server", "-f", "-", stdin=json.dumps(document))
    assert lesson in str(refused.value)
    with pytest.raises(ValidationError) as invalid:
        KINDS[document["kind"]].model_validate(document)
    assert lesson.split(".")[-1] in str(invalid.value)


@pytest.mark.parametrize("plural", ["agents", "orchestrationvariables", "supervisors"])
def test_the_crd_that_was_applied_is_the_crd_that_lives(kube: Kube, plural: str) -> None:
    shipped = yaml.safe_load((ROOT / f"crds/{plural}.mabeam.dev.yaml").read_text())
    live = json.loads(kube.run("get", "crd", f"{plural}.mabeam.dev", "-o", "json"))
    assert live["spec"] == shipped["spec"]


@pytest.mark.parametrize("plural", ["agents", "orchestrationvariables", "supervisors"])
def test_plain_kubectl_apply_takes_the_crd(kube: Kube, plural: str) -> None:
    kube.run("apply", "--dry-run=server", "-f", str(ROOT / f"crds/{plural}.mabeam.dev.yaml"))


def test_a_fresh_object_is_not_taken_for_a_reconciled_one(kube: Kube) -> None:
    kube.apply(agent("unseen", desiredState="Stopped"))
    assert kube.get("mba", "unseen")["metadata"]["generation"] == 1
    # An operator may run on this cluster; what matters is the default that the apiserver itself put there.
    created = json.loads(
        kube.run("create", "--dry-run=server", "-o", "json", "-f", "-", stdin=json.dumps(agent("unseen2")))
    )
    assert created["status"] == {"observedGeneration": -1}


def test_the_short_names_and_the_category_work(kube: Kube) -> None:
    kube.apply(variable("named"))
    assert "named" in kube.run("get", "mov")
    kube.apply(supervisor("headed"))
    assert "headed" in kube.run("get", "msup")
    assert "named" in kube.run("get", "mabeam", "-o", "name")


def test_the_scale_subresource_speaks(kube: Kube) -> None:
    kube.apply(agent("scaled", desiredState="Stopped"))
    kube.run("scale", "mba/scaled", "--replicas=3")
    assert kube.get("mba", "scaled")["spec"]["replicas"] == 3


def test_kubectl_explain_teaches(kube: Kube) -> None:
    assert "restart" in kube.run("explain", "agents.spec", "--recursive").lower()
