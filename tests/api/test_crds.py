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


def of_type(kind: str, **spec: Any) -> dict[str, Any]:
    """A variable of a type that reckons its value itself."""
    return variable(type=kind, negotiation=None, **spec)


RING = {"pattern": "Ring"}
WATCHED = {"below": 0.5, "onBreach": {"action": "Migrate"}}
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
        resources={
            "requests": {"cpu": "100m", "memory": 1048576},
            "limits": {"cpu": 1},
            "bounds": [{"resource": "memory", "min": "1Mi", "max": 2097152, "weight": 2}, {"resource": "tokens"}],
            "cpuWeight": 2.5,
            "networkPriority": "High",
        },
        communication={"interfaces": [{"name": "http", "port": 80, "protocol": "TCP"}]},
        reports={"source": "Pod", "port": 9000, "path": "/m", "periodSeconds": 1},
        preferences=[
            {"variable": "t", "value": 0.4, "weight": 2, "bid": 3, "vote": "Abstain"},
            {"variable": "m", "value": "small"},
        ],
        conflictResolution="a-plug-in-of-theirs",
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
    "an object of bounded entries": variable(
        domain={
            "type": "Object",
            "properties": {
                "heat": {"minimum": 0, "maximum": 2, "step": 0.1},
                "depth": {"type": "Integer"},
                "model": {"type": "Choice", "choices": ["small", "large"]},
            },
        }
    ),
    "a vote with every field": variable(
        consensus={
            "protocol": "Unanimous",
            "quorum": 1,
            "deadlineSeconds": 1,
            "absent": "No",
            "requireApproval": True,
            "vetoRoles": ["Evaluator"],
        }
    ),
    "a vote by a plug-in": variable(consensus={"protocol": "two-thirds"}),
    "a guarded value": variable(
        constraints={"timeoutSeconds": 5, "rules": [{"cel": "value < 2.0", "message": "not that hot"}]},
        faultTolerance={
            "maxFailures": 0,
            "recoveryStrategy": "Fallback",
            "fallbackValue": 1,
            "escalationPolicy": "Pause",
        },
        telemetry={"metrics": ["latency"], "storageBackend": "ConfigMap"},
    ),
    "a value of a function": variable(negotiation=None, function={"cel": "agents.size()"}),
    "a value of a webhook": variable(function={"webhook": {"url": "https://example.org/f", "timeoutSeconds": 1}}),
    "a value of a plug-in": variable(function={"plugin": {"name": "best"}}),
    "a custom variable": of_type("Custom", function={"cel": "{'directives': []}"}),
    "a custom variable with a domain": of_type(
        "Custom", function={"cel": "1"}, domain={"maximum": 2}, value=1, parameter="p"
    ),
    "a selection": of_type("AgentSelection"),
    "a selection with every field": of_type(
        "AgentSelection",
        taskRequirements={
            "roles": ["Executor", "Custom"],
            "capabilities": ["python"],
            "matchLabels": {"team": "alpha"},
            "minPerformance": -0.5,
            "hysteresis": 0,
            "inactivePolicy": "Stop",
        },
        resources={"requests": {"cpu": "100m"}},
        constraints={"maxConcurrent": 3},
    ),
    "a selection by a function": of_type("AgentSelection", function={"cel": "agents.map(a, a.name)"}),
    "an allocation": of_type("ResourceAllocation"),
    "an allocation with every field": of_type(
        "ResourceAllocation",
        budget=[{"resource": "memory", "amount": "2Gi"}, {"resource": "tokens-per-minute", "amount": 100000}],
        resources={"requests": {"memory": "1Mi"}, "limits": {"cpu": 2}, "cpuWeight": 2, "networkPriority": "Low"},
    ),
    "a topology": of_type("CommunicationTopology"),
    "a ring that is enforced": of_type("CommunicationTopology", topology=RING | {"enforcement": "NetworkPolicy"}),
    "edges": of_type("CommunicationTopology", topology={"pattern": "Custom", "edges": [{"from": "a", "to": "b"}]}),
    "a predicate": of_type("CommunicationTopology", topology={"pattern": "Custom", "cel": "from.role != to.role"}),
    "a pattern with a coordinator": of_type("CoordinationPattern", topology={"pattern": "Mesh"}),
    "a constant rate": of_type("AdaptationRate", value=0.1),
    "a scheduled rate": of_type(
        "AdaptationRate",
        rate={
            "schedule": {"type": "Exponential", "start": 0.1, "end": 0.001, "overSeconds": 60, "steps": 3},
            "load": {"target": 0, "floor": 1},
        },
    ),
    "a rate that stays": of_type("AdaptationRate", rate={"schedule": {"start": 0}}),
    "a rate that is negotiated": variable(type="AdaptationRate", domain={"minimum": 0}),
    "a threshold": of_type("PerformanceThreshold", threshold=WATCHED),
    "a threshold with every field": of_type(
        "PerformanceThreshold",
        threshold={
            "metric": "latency_seconds",
            "below": 0,
            "above": 0,
            "forSeconds": 0,
            "cooldownSeconds": 0,
            "onBreach": {"action": "ScaleUp", "parameters": {"by": 1, "max": 3}},
            "onRecovery": {"action": "AdjustParameters", "parameters": {"deep": {"er": [1, None]}}},
        },
    ),
}
# A block, and a type that has no use for it.
MISPLACED = {
    "parameter": ("AgentSelection", "p"),
    "domain": ("PerformanceThreshold", {}),
    "negotiation": ("Custom", {}),
    "function": ("ResourceAllocation", {"cel": "1"}),
    "rate": ("Parameter", {"load": {}}),
    "resources": ("CommunicationTopology", {}),
    "taskRequirements": ("Parameter", {}),
    "budget": ("AgentSelection", [{"resource": "cpu", "amount": "1"}]),
    "topology": ("AgentSelection", {}),
    "threshold": ("Parameter", WATCHED),
}


def _misplaced(block: str) -> tuple[dict[str, Any], str]:
    kind, content = MISPLACED[block]
    basis = (
        {"function": {"cel": "1"}}
        if kind == "Custom"
        else {"threshold": WATCHED}
        if kind == "PerformanceThreshold"
        else {}
    )
    value = {"value": 1} if kind == "Parameter" else {}
    return variable(
        type=kind, **{"negotiation": None} | basis | value | {block: content}
    ), f"`{block}` goes with the type"


# What is refused, and what the message must say: the field, and what is allowed.
UNSOUND = {
    "neither module nor template": (agent(module=None), "exactly one of `module`"),
    "both module and template": (agent(template=POD), "exactly one of `module`"),
    "an image with a template": (agent(module=None, template=POD, image="x"), "`image` goes with `module`"),
    "a custom role without a name": (agent(role="Custom"), "`customRole` must be set"),
    "a name for a role that is not custom": (agent(customRole="Critic"), "`customRole` must be set"),
    "a query of the pods": (agent(reports={"query": "up"}), "`query` goes with the source Prometheus"),
    "a query of nobody": (agent(reports={"source": "None", "query": "up"}), "`query` goes with the source Prometheus"),
    "a query that asks nothing": (agent(reports={"source": "Prometheus", "query": ""}), "query"),
    "a path in Prometheus": (agent(reports={"source": "Prometheus", "path": "/m"}), "`path` goes with the source Pod"),
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
    "no agents": (variable(agents={}), "at least one of `names` and `selector`"),
    "a domain upside down": (variable(domain={"minimum": 2, "maximum": 1}), "`minimum` must not be above `maximum`"),
    "choices without the type": (variable(domain={"choices": ["a"]}), "`choices` must be set"),
    "a choice without choices": (variable(domain={"type": "Choice"}), "`choices` must be set"),
    "steps of a choice": (
        variable(domain={"type": "Choice", "choices": ["a"], "step": 1}),
        "go with the types Number and Integer",
    ),
    "an aggregation in an auction": (
        variable(negotiation={"strategy": "Auction", "aggregation": "Mean"}),
        "`aggregation` goes with",
    ),
    "a payment without an auction": (
        variable(negotiation={"payment": "FirstPrice"}),
        "`payment` and `reservePrice` go with",
    ),
    "adaptation": (variable(adaptation={}), "`adaptation` is not supported yet"),
    **{f"{block} of a type that has no use for it": _misplaced(block) for block in MISPLACED},
    "seats for a value": (variable(constraints={"maxConcurrent": 2}), "`constraints.maxConcurrent` goes with"),
    "a custom variable without a function": (
        of_type("Custom", value=1),
        "gets its value from `function`: it must be set",
    ),
    "a threshold variable without one": (of_type("PerformanceThreshold"), "needs a `threshold`"),
    "a type of another dialect": (variable(type="Selection"), "type"),
    "an entry upside down": (
        variable(domain={"type": "Object", "properties": {"x": {"minimum": 2, "maximum": 1}}}),
        "`minimum` must not be above `maximum`",
    ),
    "an entry with choices and no type": (
        variable(domain={"type": "Object", "properties": {"x": {"choices": ["a"]}}}),
        "`choices` must be set",
    ),
    "entries of a number": (variable(domain={"properties": {"x": {}}}), "`properties` goes with the type Object"),
    "bounds of an object": (
        variable(domain={"type": "Object", "minimum": 0}),
        "go with the types Number and Integer",
    ),
    "a function of two minds": (
        variable(function={"cel": "1", "plugin": {"name": "p"}}),
        "exactly one of `cel`, `webhook` and `plugin`",
    ),
    "a function of no mind": (variable(function={}), "exactly one of `cel`, `webhook` and `plugin`"),
    "a webhook in the clear": (variable(function={"webhook": {"url": "http://example.org"}}), "url"),
    "a quorum above all": (variable(consensus={"quorum": 1.5}), "quorum"),
    "a deadline at once": (variable(consensus={"deadlineSeconds": 0}), "deadlineSeconds"),
    "edges of a ring": (
        of_type("CommunicationTopology", topology=RING | {"edges": [{"from": "a", "to": "b"}]}),
        "if, and only if, `pattern` is Custom",
    ),
    "a custom topology of nothing": (
        of_type("CommunicationTopology", topology={"pattern": "Custom", "edges": []}),
        "if, and only if, `pattern` is Custom",
    ),
    "a topology of two minds": (
        of_type(
            "CoordinationPattern", topology={"pattern": "Custom", "cel": "true", "edges": [{"from": "a", "to": "b"}]}
        ),
        "at most one of `edges` and `cel`",
    ),
    "a threshold without a bound": (
        of_type("PerformanceThreshold", threshold={"onBreach": {"action": "Stop"}}),
        "at least one of `below` and `above`",
    ),
    "a threshold that all breach": (
        of_type("PerformanceThreshold", threshold=WATCHED | {"above": 0.4}),
        "`below` must not be greater than `above`",
    ),
    "a threshold that nothing follows": (of_type("PerformanceThreshold", threshold={"below": 1}), "onBreach"),
    "a threshold that wires": (
        of_type("PerformanceThreshold", threshold=WATCHED | {"onRecovery": {"action": "UpdateCommunication"}}),
        "must not be UpdateCommunication or AllocateResources",
    ),
    "a constant rate with an end": (
        of_type("AdaptationRate", rate={"schedule": {"start": 1, "end": 2}}),
        "`end` must be set if, and only if,",
    ),
    "a schedule without an end": (
        of_type("AdaptationRate", rate={"schedule": {"type": "Linear", "start": 1}}),
        "`end` must be set if, and only if,",
    ),
    "an exponential to nothing": (
        of_type("AdaptationRate", rate={"schedule": {"type": "Exponential", "start": 1, "end": 0}}),
        "must start and end above 0",
    ),
    "a budget of two sizes": (
        of_type("ResourceAllocation", budget=[{"resource": "cpu", "amount": "1"}, {"resource": "cpu", "amount": "2"}]),
        "",
    ),
    "an amount that is none": (of_type("ResourceAllocation", budget=[{"resource": "cpu", "amount": "much"}]), "amount"),
    "bounds of no resource": (agent(resources={"bounds": [{"resource": ""}]}), "resource"),
    "a vote that is none": (agent(preferences=[{"variable": "t", "vote": "Perhaps"}]), "vote"),
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
