"""A whole team through seeded histories: no pass fails, nothing ticks, and what agents read is what is in force."""

import copy
import json
import random
from typing import Any

import pytest

from mabeam.api.agent_status import AgentStatus
from mabeam.api.names import directives_config_map
from mabeam.api.variable_status import OrchestrationVariableStatus
from mabeam.core.directives.desired import peers_named_by
from mabeam.core.directives.document import content_of_document
from mabeam.core.functions import FunctionResult
from mabeam.core.reports.report import Report
from support.builders import agent_body
from support.coordination import Team, performing, prefers, variable_body

NAMES = ("a", "b", "c", "d", "e")
UNIT = {"type": "Number", "minimum": 0, "maximum": 1, "step": 0.1}
BREACH = {"below": 0.4, "forSeconds": 5, "cooldownSeconds": 10}
KINDS: tuple[dict[str, Any], ...] = (
    {"negotiation": {"periodSeconds": 5}, "domain": UNIT},
    {"negotiation": {"periodSeconds": 5}, "domain": UNIT, "consensus": {"deadlineSeconds": 10}},
    {"negotiation": {"periodSeconds": 5}, "consensus": {"quorum": 0, "absent": "Yes", "requireApproval": True}},
    {"type": "AgentSelection", "constraints": {"maxConcurrent": 2}},
    {"type": "AgentSelection", "constraints": {"maxConcurrent": 2}, "consensus": {"quorum": 0, "absent": "Yes"}},
    {"type": "ResourceAllocation", "budget": [{"resource": "tokens", "amount": "100"}]},
    {"type": "CommunicationTopology", "topology": {"pattern": "Ring"}},
    {"type": "CoordinationPattern", "topology": {"pattern": "Star"}},
    {
        "type": "PerformanceThreshold",
        "threshold": {**BREACH, "onBreach": {"action": "ScaleUp", "parameters": {"max": 4}}},
    },
    {"type": "PerformanceThreshold", "threshold": {**BREACH, "onBreach": {"action": "Migrate"}}},
    {"type": "AdaptationRate", "rate": {"schedule": {"type": "Linear", "start": 1, "end": 0, "overSeconds": 60}}},
    {
        "type": "Custom",
        "function": {"cel": "1"},
        "faultTolerance": {"recoveryStrategy": "Retry", "escalationPolicy": "Freeze"},
    },
)
# What somebody may write into a status that is not theirs.
JUNK: tuple[Any, ...] = (
    True, 7, "x", [], [[1]], {}, {"a": 1}, {"active": [[], "a"]}, {"pattern": [], "members": 5}, {"directives": [1]},
    {"pattern": "Ring", "members": ["a", 1, "b"], "edges": 7, "coordinator": {"x": 1}, "hub": []},
    {"a": {"state": "Breached", "action": [], "since": "2026-01-01"}}, {"a": {"state": "x" * 500}}, {"a": "2026-01-01"},
    {"directives": [{"agent": "a", "action": "UpdateCommunication", "parameters": {"peers": [1]}}]},
    {"directives": [{"agent": "a", "action": "AdjustParameters", "parameters": {f"p{n}": n for n in range(70)}}]},
)  # fmt: skip
RESOLVERS = ("PriorityBased", "Compromise", "LeaderElection")


class History:
    """A team, what happens to it, and what must hold whenever it has come to rest."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.names = list(NAMES[: self.chance.randint(3, 5)])
        resolver = self.chance.choice(RESOLVERS)
        agents = [self._new(name, resolver) for name in self.names]
        self.team = Team.of(variable_body("v0", self.names, **self._kind()), *agents)
        for number in range(1, self.chance.randint(3, 4)):
            words = self._kind()
            if words.get("type") in (None, "AdaptationRate", "Custom"):
                words |= {"parameter": "v0", "priority": self.chance.randint(0, 3)}  # so that some conflict
            name = f"v{number}"
            self.team.variables[name] = variable_body(name, self.names, **words)
        self.team.function = self._answer
        self.terms: dict[str, int] = {}
        self.generations: dict[str, int] = {}
        self.broken = False

    def _kind(self) -> dict[str, Any]:
        return copy.deepcopy(self.chance.choice(KINDS))

    def _new(self, name: str, resolver: str) -> dict[str, Any]:
        wanted = [
            prefers(round(self.chance.random(), 1), f"v{number}", vote=self.chance.choice(["Yes", "No"]))
            for number in (0, 1)
        ]
        return agent_body(name, preferences=wanted, conflictResolution=resolver)

    def _answer(self, ask: Any) -> FunctionResult:
        return FunctionResult(error="it is broken") if self.broken else FunctionResult(value=len(ask.inputs["agents"]))

    # --- what happens ---------------------------------------------------------------------------------------------------

    def happen(self) -> None:
        """Something happens."""
        doing = self.chance.choice([
            self._report, self._report, self._report, self._rest, self._park, self._back, self._leave, self._edit, self._pause,
            self._wait, self._wait, self._crash, self._restart, self._break, self._approve, self._advise, self._clock,
            self._vandalise,
        ])  # fmt: skip
        doing()

    def _report(self) -> None:
        name = self.chance.choice(self.names)
        score = self.chance.choice([0.1, 0.39, 0.5, 0.52, 0.9, 1e300, -1e300])
        votes = {
            v["status"].get("consensus", {}).get("proposal", "x"): self.chance.choice(["Yes", "No", "Abstain", "?"])
            for v in self.team.variables.values()
        }
        numbers = {"v0": self.chance.random(), "v1": 7.0}
        self.team.said[name] = Report(performance=performing(x=score)["x"].performance, numbers=numbers, votes=votes)

    def _state(self, name: str, **status: Any) -> None:
        if name in self.team.agents:
            self.team.agents[name]["status"] |= status

    def _rest(self) -> None:
        self._state(self.chance.choice(self.names), state="Stopped", readyReplicas=0)

    def _park(self) -> None:
        self._state(self.chance.choice(self.names), state="Failed", readyReplicas=0, parkedAt="2026-01-01T00:00:00Z")

    def _back(self) -> None:
        name = self.chance.choice(self.names)
        if name not in self.team.agents:
            self.team.agents[name] = self._new(name, "PriorityBased")
            self.team.agents[name]["status"] = {"observedGeneration": 1, "role": "Executor"}
        self._state(name, state="Running", readyReplicas=1, parkedAt=None)

    def _leave(self) -> None:
        name = self.chance.choice(self.names)
        self.team.agents.pop(name, None)
        self.team.said.pop(name, None)
        self.team.maps.pop(directives_config_map(name), None)
        self.generations.pop(name, None)
        for pod in [pod for pod in self.team.applied_by if pod.startswith(f"{name}-")]:
            del self.team.applied_by[pod]

    def _edit(self) -> None:
        variable = self.team.variables[self.chance.choice(list(self.team.variables))]
        kept = {key: variable["spec"][key] for key in ("agents",)}
        if self.chance.random() < 0.5:
            variable["spec"]["priority"] = self.chance.randint(-1, 5)
        else:
            variable["spec"] = kept | variable_body("x", **self._kind())["spec"] | kept
        variable["metadata"]["generation"] += 1

    def _pause(self) -> None:
        variable = self.team.variables[self.chance.choice(list(self.team.variables))]
        variable["spec"]["paused"] = not variable["spec"].get("paused", False)
        variable["metadata"]["generation"] += 1

    def _advise(self) -> None:
        variable = self.team.variables[self.chance.choice(list(self.team.variables))]
        variable["spec"]["mode"] = "Advise" if variable["spec"].get("mode", "Active") == "Active" else "Active"
        variable["metadata"]["generation"] += 1

    def _wait(self) -> None:
        self.team.wait(self.chance.choice([0.3, 1, 5, 11, 40]))

    def _clock(self) -> None:
        self.team.wait(-self.chance.choice([1, 30, 100]))

    def _crash(self) -> None:
        self.team.lives = self.chance.randint(0, 2)
        for name in list(self.team.agents):
            self.team.pass_agent(name)
        self.team.lives = None
        self._restart()

    def _restart(self) -> None:
        self.team.early_delivery.keys.clear()
        self.team.asked.clear()
        self.team.answers.clear()

    def _break(self) -> None:
        self.broken = not self.broken

    def _approve(self) -> None:
        for variable in self.team.variables.values():
            vote = variable["status"].get("consensus", {})
            variable["metadata"]["annotations"] = {"mabeam.dev/approve": vote.get("proposal", "")}

    def _vandalise(self) -> None:
        name = self.chance.choice(list(self.team.variables))
        status, junk = self.team.variables[name]["status"], copy.deepcopy(self.chance.choice(JUNK))
        status |= {"value": junk} if self.chance.random() < 0.5 else {}
        status |= {"watching": junk} if isinstance(junk, dict) else {}
        if "consensus" in status:
            status["consensus"]["proposed"] = junk
        self.terms.pop(name, None)

    # --- what must hold -------------------------------------------------------------------------------------------------

    def rests(self) -> None:
        """It comes to rest, and then everything is as it must be."""
        team = self.team
        team.settle(40)
        effects, writes = len(team.effects), team.status_writes
        for name in team.variables:
            team.pass_variable(name)
        for name in team.agents:
            delivery = team.pass_agent(name)
            assert delivery.requeue_after is None or delivery.requeue_after > 0
        assert (len(team.effects), team.status_writes) == (effects, writes)
        for name, body in team.variables.items():
            self._is_sound(name, body["status"])
        for name in team.agents:
            self._is_told(name)

    def _is_sound(self, name: str, status: dict[str, Any]) -> None:
        parsed = OrchestrationVariableStatus.model_validate(json.loads(json.dumps(status, allow_nan=False)))
        assert parsed.to_wire() == status
        value, spec = status.get("value"), self.team.variables[name]["spec"]
        if spec.get("type") == "AgentSelection" and isinstance(value, dict) and not spec.get("paused"):
            assert len(value.get("active", [])) <= 2
        if isinstance(value, dict) and isinstance(value.get("term"), int):
            assert value["term"] >= self.terms.get(name, 0)
            self.terms[name] = value["term"]
        if spec.get("type") not in ("CoordinationPattern",):
            self.terms.pop(name, None)
        peers = peers_named_by(self.team.variable(name))
        for one in NAMES:
            assert all(one in peers(other) for other in peers(one))

    def _is_told(self, name: str) -> None:
        status = self.team.agents[name]["status"]
        parsed = AgentStatus.model_validate(json.loads(json.dumps(status, allow_nan=False)))
        directives = parsed.directives
        if directives is None:
            return
        assert directives.generation >= self.generations.get(name, 0)
        assert directives.applied_generation <= directives.generation
        self.generations[name] = directives.generation
        held = self.team.maps.get(directives_config_map(name))
        if held is None or held.document is None:
            assert directives.generation == 0 or not directives.items
            return
        assert held.generation == directives.generation
        content = content_of_document(held.document)
        lost = {(c.loser, c.parameter) for c in directives.conflicts if c.value is None}
        together = {c.parameter: c.value for c in directives.conflicts if c.value is not None}
        wanted: dict[str, Any] = {}
        active = True
        for item in directives.items:
            if item.action == "AdjustParameters":
                wanted |= {p: v for p, v in item.parameters.items() if (item.variable, p) not in lost}
            elif item.action == "Activate" and (item.variable, "active") not in lost:
                active = active and bool(item.parameters["active"])
        assert content["parameters"] == wanted | together
        assert content["active"] is active
        self._agrees_with_the_variables(name, directives)

    def _agrees_with_the_variables(self, name: str, directives: Any) -> None:
        """Each variable that may speak tells this agent exactly what the agent holds of it."""
        told = {(i.variable, str(i.action)): i.parameters for i in directives.items}
        for variable, body in self.team.variables.items():
            spec = body["spec"]
            if spec.get("paused") or spec.get("mode") == "Advise" or name not in spec["agents"]["names"]:
                continue
            said = {
                i["action"]: i.get("parameters", {})
                for i in body["status"]["directives"].get("items", [])
                if i["agent"] == name
            }
            assert said == {action: p for (whose, action), p in told.items() if whose == variable}


@pytest.mark.parametrize("seed", range(30))
def test_whatever_happens_to_a_team_it_comes_to_rest_and_agents_read_what_is_in_force(seed: int) -> None:
    history = History(seed)
    history.rests()
    for _ in range(30):
        for _ in range(history.chance.randint(1, 3)):
            history.happen()
        history.rests()
