"""A small world for `/v1`: two agents, one that failed and came back, and the variable that they negotiated."""

from mabeam.api.agent import Agent
from mabeam.api.base import JsonDict
from mabeam.api.names import API_VERSION, Reason
from mabeam.api.rest import Capacity, Load, OperatorInfo, Source, Usage
from mabeam.api.variable import OrchestrationVariable
from mabeam.core.decision import RecordedEvent
from mabeam.core.reports.report import Report
from mabeam.core.views.agent import ObservedAgent
from mabeam.core.views.system import ProcessCounters
from mabeam.core.views.variable import ObservedVariable
from support.builders import agent_body, at, stamp

READY: JsonDict = {"type": "Ready", "status": "True", "reason": "Running", "message": "1/1 ready"}
OPERATOR = OperatorInfo(version="0.1.0", identity="mabeam-0", leader=True, since=at(0))


def directive(state: str, variable: str = "temperature", **more: object) -> JsonDict:
    """An item of an agent's directives."""
    return {"variable": variable, "action": "AdjustParameters", "state": state, "generation": 1, **more}


def planner_body(name: str = "planner") -> JsonDict:
    """An agent that crashed once, runs again, and applied what it was told."""
    status = {
        "observedGeneration": 1,
        "state": "Running",
        "role": "Coordinator",
        "conditions": [READY],
        "pods": [{"ordinal": 0, "name": f"{name}-0-2", "incarnation": 2, "state": "Running", "node": "node1",
                  "startTime": stamp(70)}],
        "restarts": 1,
        "replicas": 1,
        "readyReplicas": 1,
        "failures": [{"time": stamp(60), "cause": "Crash", "exitCode": 2, "pod": f"{name}-0-1", "node": "node1",
                      "message": "KeyError: 'a secret'", "reason": "Error"}],
        "effective": {"replicas": 1, "desiredState": "Running"},
        "directives": {"generation": 1, "appliedGeneration": 1, "items": [directive("Acknowledged")]},
    }  # fmt: skip
    return agent_body(
        name,
        status=status,
        role="Coordinator",
        resources={"requests": {"cpu": "250m", "memory": "64Mi"}},
    )


def critic_body(name: str = "critic") -> JsonDict:
    """An agent that starts still, and did not hear in time."""
    told = {"generation": 1, "appliedGeneration": 0, "items": [directive("Expired")]}
    status = {"observedGeneration": 1, "state": "Starting", "readyReplicas": 0, "directives": told}
    return agent_body(name, status=status)


def temperature_body() -> JsonDict:
    """The variable of both."""
    return {
        "apiVersion": API_VERSION,
        "kind": "OrchestrationVariable",
        "metadata": {"name": "temperature", "namespace": "team", "uid": "uid-of-temperature", "generation": 1},
        "spec": {
            "agents": {"names": ["critic", "planner"]},
            "domain": {"minimum": 0, "maximum": 1},
            "negotiation": {"strategy": "WeightedConsensus"},
        },
        "status": {
            "observedGeneration": 1,
            "conditions": [{"type": "Ready", "status": "False", "reason": "Delivering", "message": "1/2 applied"}],
            "value": 0.4,
            "round": 1,
            "agents": {"selected": 2, "names": ["critic", "planner"]},
            "negotiation": {
                "id": "temperature-1",
                "state": "Completed",
                "strategy": "WeightedConsensus",
                "participants": ["planner"],
            },
            "directives": {"issued": 0, "acknowledged": 1, "expired": 1},
            "lastDecision": {"time": stamp(80), "rule": "WeightedMean", "message": "0.4 from 1 offer"},
        },
    }


def planner() -> ObservedAgent:
    """With what it reports and uses."""
    report = Report(performance={"": 0.9, "latency": 12.0}, numbers={"temperature": 0.4}, weights={"temperature": 2.0})
    usage = Usage(cpu=0.2, memory=33_554_432, pods=1, source=Source.METRICS_API)
    return ObservedAgent(Agent.model_validate(planner_body()), report=report, usage=usage)


def critic() -> ObservedAgent:
    """Of which nothing is heard yet."""
    return ObservedAgent(Agent.model_validate(critic_body()))


def temperature() -> ObservedVariable:
    """As it is stored."""
    return ObservedVariable(OrchestrationVariable.model_validate(temperature_body()))


def told(seconds: float, reason: Reason, note: str, name: str = "planner", kind: str = "Agent") -> RecordedEvent:
    """An Event that was told."""
    type_ = "Warning" if reason is Reason.AGENT_FAILED else "Normal"
    return RecordedEvent(at(seconds), type_, str(reason), kind, "team", name, "Reconcile", note)


def books() -> ProcessCounters:
    """What the process counted meanwhile."""
    return ProcessCounters(
        directives={"issued": 2, "acknowledged": 1, "expired": 1},
        recoveries=(10.0,),
        events=(
            told(60, Reason.AGENT_FAILED, "planner-0-1 failed with exit code 2: KeyError: 'a secret'"),
            told(70, Reason.AGENT_STARTED, "planner-0-2 runs on node1"),
        ),
        nodes=Capacity(nodes=2, cpu=0.25, memory=0.5),
        load=Load(value=0.25, source=Source.METRICS_API),
    )
