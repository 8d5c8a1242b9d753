"""Variables and teams for tests: `a_variable(negotiation={})`, `told_agent("a", an_item())`, `Team(...)`.

A `Team` is a namespace in memory: variables, agents, their pods, ConfigMaps and reports. Statuses are kept as the JSON
an apiserver would hand out, so one that does not survive its own serialisation is found here.
"""

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from mabeam.api.agent import Agent
from mabeam.api.base import JsonDict
from mabeam.api.names import ANNOTATION_GENERATION, API_VERSION, DIRECTIVES_KEY, HISTORY_KEY, directives_config_map
from mabeam.api.variable import Domain, OrchestrationVariable
from mabeam.api.variable_status import Offer, OrchestrationVariableStatus
from mabeam.core.coordination.offers import GatheredOffers, gather_offers
from mabeam.core.coordination.strategies.interface import StrategyInputs, StrategyResult
from mabeam.core.decision import Decision, Effect, Event
from mabeam.core.directives.confirmation import RolloutState
from mabeam.core.directives.delivery import Delivery, deliver
from mabeam.core.directives.last_good import HealthChange
from mabeam.core.directives.overrides import spec_overrides
from mabeam.core.directives.working_set import DeliveryPass
from mabeam.core.functions import FunctionCall, FunctionResult
from mabeam.core.passes import variable as coordination
from mabeam.core.reports.report import DirectiveRefusal, Report
from mabeam.core.snapshot import AgentSnapshot, ConfigMapFacts, Key, PodFacts, SystemContext
from mabeam.shell.reconcile.early_writes import EarlyDelivery
from mabeam.state.cache import VARIABLE, Owned, OwnedPod
from mabeam.state.observe import Observer
from support.builders import START, a_pod, an_agent, stamp
from support.observed import FixedReports, observer_of

UNIT: JsonDict = {"type": "Number", "minimum": 0, "maximum": 1}
SIZES: JsonDict = {"type": "Choice", "choices": ["small", "medium", "large"]}


def variable_body(
    name: str = "temperature",
    agents: Sequence[str] = ("a",),
    *,
    labels: Mapping[str, str] | None = None,
    created: str | None = stamp(0),
    generation: int = 1,
    status: JsonDict | None = None,
    **spec: Any,
) -> JsonDict:
    """A variable as the apiserver would store it; further fields of the spec by their wire names."""
    chosen: JsonDict = {"names": list(agents)} if agents else {}
    if labels is not None:
        chosen["selector"] = {"matchLabels": dict(labels)}
    valued = spec.get("type", "Parameter") in ("Parameter", "AdaptationRate")
    decided = {"negotiation", "value", "function", "rate"} & spec.keys()
    fallback: JsonDict = {"value": 0.5} if valued and not decided else {}
    return {
        "apiVersion": API_VERSION,
        "kind": "OrchestrationVariable",
        "metadata": {
            "name": name,
            "namespace": "team",
            "uid": f"uid-of-{name}",
            "generation": generation,
            "creationTimestamp": created,
        },
        "spec": {"agents": chosen, **fallback, **spec},
        "status": status or {"observedGeneration": -1},
    }


def a_variable(name: str = "temperature", agents: Sequence[str] = ("a",), **words: Any) -> OrchestrationVariable:
    """The same, parsed."""
    return OrchestrationVariable.model_validate(variable_body(name, agents, **words))


def a_decided(name: str = "temperature", value: Any = 0.6, agents: Sequence[str] = ("a",), **words: Any) -> Any:
    """A variable with a value in force."""
    return a_variable(name, agents, status={"observedGeneration": 1, "value": value, "round": 1}, **words)


def ordering(name: str = "v", *told: Any, agent: str = "a", **words: Any) -> Any:
    """A Custom variable that orders these actions of the agent: `("Stop", {})`."""
    directives = [{"agent": agent, "action": action, "parameters": parameters} for action, parameters in told]
    status = {"observedGeneration": 1, "value": {"directives": directives}, "round": 1}
    return a_variable(name, ("a",), type="Custom", function={"cel": "x"}, status=status, **words)


def prefers(value: Any = None, variable: str = "temperature", **words: Any) -> JsonDict:
    """A static preference."""
    return {"variable": variable, **({} if value is None else {"value": value}), **words}


def offering(name: str, value: Any = None, **words: Any) -> Agent:
    """An agent with a static preference for `temperature`."""
    return an_agent(name, preferences=[prefers(value, **words)])


def an_offer(agent: str, value: Any, weight: float | None = 1, bid: float | None = None) -> Offer:
    """An offer as `gather` makes it."""
    return Offer(agent=agent, value=value, weight=weight, bid=bid)


def a_domain(**words: Any) -> Domain:
    """A domain, by its wire names."""
    return Domain.model_validate(words)


def an_item(variable: str = "temperature", state: str = "Issued", value: Any = 0.6, **words: Any) -> JsonDict:
    """A directive in an agent's status."""
    return {
        "variable": variable,
        "action": "AdjustParameters",
        "parameters": {variable: value},
        "timeoutSeconds": 30,
        "generation": 1,
        "issuedAt": stamp(0),
        "state": state,
        **words,
    }


def told_agent(name: str = "a", *items: JsonDict, conflicts: Sequence[JsonDict] = (), **words: Any) -> Agent:
    """An agent that runs, with directives in its status."""
    status: JsonDict = {"observedGeneration": 1, "state": "Running", "role": "Executor", "readyReplicas": 1}
    if items:
        generation = max(item["generation"] for item in items)
        status["directives"] = {"generation": generation, "items": list(items), "conflicts": list(conflicts)}
    status.update(words.pop("status", {}))
    return an_agent(name, status=status, **words)


def a_map(
    name: str = "a", generation: int = 1, *, owned: bool = True, role: str = "Executor", **parameters: Any
) -> Any:
    """The ConfigMap of an agent's directives, with these parameters."""
    document = {"agent": name, "generation": generation, "role": role, "active": True, "parameters": parameters}
    return ConfigMapFacts(directives_config_map(name), f"uid-of-map-{name}", "7", owned, document)


def applied(generation: int, *refusals: DirectiveRefusal, **words: Any) -> Report:
    """A report of what is in force."""
    return Report(applied_generation=generation, refusals=refusals, **words)


def condition_of(status: Any, type_: str) -> tuple[str, str, str]:
    """Status, reason and message of a condition."""
    found = next(c for c in status.conditions if c.type == type_)
    return str(found.status), found.reason, found.message


def a_round(
    *agents: Agent,
    reports: Mapping[str, Report] | None = None,
    context: SystemContext | None = None,
    answers: Mapping[str, FunctionResult] | None = None,
    asked: Sequence[FunctionCall] = (),
    now: datetime = START,
    **variable: Any,
) -> StrategyInputs:
    """What a strategy looks at: these agents, and a variable that selects them; `status` is what is stored of it."""
    names = [agent.metadata.name for agent in agents]
    found, said = a_variable("v", names or ["nobody"], **variable), reports or {}
    ranked = tuple(sorted(agents, key=lambda agent: agent.metadata.name))
    offers = gather_offers(found, ranked, said) if found.spec.negotiation is not None else GatheredOffers()
    return StrategyInputs(
        variable=found,
        agents=ranked,
        now=now,
        reports=said,
        gathered=offers,
        context=context or SystemContext(),
        function_results=answers or {},
        open_calls=tuple(asked),
    )


def in_json(result: StrategyResult) -> Any:
    """A strategy's result, with its value as the status stores it."""
    return replace(result, value=None if result.value is None else result.value.to_json())


def performing(**scores: float) -> dict[str, Report]:
    """Reports of the primary metric: `performing(a=0.5)`."""
    return {name: Report(performance={"": score}) for name, score in scores.items()}


def delivered(
    snapshot: AgentSnapshot,
    ready: tuple[PodFacts, ...],
    at_rest: bool,
    now: datetime,
    *,
    change: HealthChange = HealthChange.NONE,
) -> Delivery:
    """One delivery of the directives that the snapshot's variables desire, while no rollout is under way."""
    overrides = spec_overrides(snapshot)
    return deliver(DeliveryPass(snapshot, now, ready, at_rest, overrides, RolloutState(), change))


@dataclass
class Team:
    """A namespace: `look`s at its variables and agents by the operator's own passes, and carries out what they decide.

    `hears` says which agents' processes apply what is delivered, at once; the others are silent. An operator that is
    `implying` delivers before it stores, as the shell does; of the effects of a pass it `lives` to carry out so many.
    `function` answers what is asked, between two passes; what it does not answer stays under way.
    """

    variables: dict[str, JsonDict]
    agents: dict[str, JsonDict]
    now: datetime = START
    hears: bool = True
    said: dict[str, Report] = field(default_factory=dict)
    pods: dict[str, PodFacts] = field(default_factory=dict)
    applied_by: dict[str, int] = field(default_factory=dict)
    read: dict[str, JsonDict] = field(default_factory=dict)
    maps: dict[str, ConfigMapFacts] = field(default_factory=dict)
    effects: list[Effect] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    status_writes: int = 0
    implying: bool = True
    context: SystemContext = field(default_factory=SystemContext)
    function: Callable[[FunctionCall], FunctionResult | None] = lambda ask: None
    answers: dict[str, dict[str, FunctionResult]] = field(default_factory=dict)
    asked: dict[str, tuple[FunctionCall, ...]] = field(default_factory=dict)
    heard_at: dict[str, datetime] = field(default_factory=dict)
    early_delivery: EarlyDelivery = field(default_factory=EarlyDelivery)
    lives: int | None = None
    health_changes: dict[str, HealthChange] = field(default_factory=dict)

    @classmethod
    def of(cls, variable: JsonDict, *agents: JsonDict, **words: Any) -> "Team":
        """A team of running agents around one variable."""
        named = {body["metadata"]["name"]: body for body in agents}
        team = cls({variable["metadata"]["name"]: variable}, named, **words)
        for name in named:
            team.pods[f"{name}-0-1"] = a_pod(f"{name}-0-1")
            named[name]["status"] = {
                "observedGeneration": 1,
                "state": "Running",
                "role": named[name]["spec"].get("role", "Executor"),
                "readyReplicas": 1,
            }
        return team

    def variable(self, name: str = "temperature") -> OrchestrationVariable:
        """The variable as it is stored."""
        return OrchestrationVariable.model_validate(copy.deepcopy(self.variables[name]))

    def agent(self, name: str) -> Agent:
        """The agent as it is stored."""
        return Agent.model_validate(copy.deepcopy(self.agents[name]))

    def parameters(self, agent: str) -> JsonDict:
        """What the agent's processes read."""
        held = self.maps.get(directives_config_map(agent))
        return (held.document or {}).get("parameters", {}) if held else {}

    def ready(self, name: str = "temperature") -> tuple[str, str, str]:
        """The variable's condition Ready."""
        return condition_of(self.variable(name).status, "Ready")

    def observer(self) -> Observer:
        """The operator's observer, over all that the team has now."""
        reports = FixedReports({pod: applied(generation) for pod, generation in self.applied_by.items()}, self.said)
        found = observer_of(*self.variables.values(), *self.agents.values(), reports=reports, functions=self)
        uids = {name: body["metadata"]["uid"] for name, body in self.agents.items()}
        for name, pod in self.pods.items():
            agent = name.rsplit("-", 2)[0]
            found.cache.put("Pod", ("team", name), OwnedPod(pod, uids.get(agent, f"uid-of-{agent}"), agent))
        owners = {directives_config_map(name): uid for name, uid in uids.items()}
        for name, facts in self.maps.items():
            variable = self.variables.get(name.partition("-mabeam-")[0], {"metadata": {"uid": ""}})
            owner = owners.get(name) or variable["metadata"]["uid"]
            found.cache.put("ConfigMap", ("team", name), Owned(facts, owner))
        return found

    def results_for(self, key: Key) -> Mapping[str, FunctionResult]:
        """The results known of the key's calls, by id."""
        return self._answers_to(key.name) if key.kind == VARIABLE else {}

    def unused_calls(self, key: Key) -> tuple[FunctionCall, ...]:
        """The calls of the key's present decision."""
        return self.asked.get(key.name, ()) if key.kind == VARIABLE else ()

    def completed_at(self, key: Key) -> datetime | None:
        """When the key's decision last used the results of all its calls."""
        return self.heard_at.get(key.name) if key.kind == VARIABLE else None

    def pass_variable(self, name: str = "temperature") -> Decision[OrchestrationVariableStatus]:
        """One pass over a variable, carried out."""
        snapshot = self.observer().variable("team", name)
        assert snapshot is not None
        variable, asked = snapshot.variable, snapshot.open_calls
        decision = coordination.decide(replace(snapshot, context=self.context), self.now)
        if asked and not decision.function_calls:
            self.heard_at[name] = self.now
        fresh = {ask.id: ask for ask in (*asked, *decision.function_calls)}
        self.asked[name] = tuple(fresh.values()) if decision.function_calls else ()
        self._carry_out(decision.effects_before_status)
        if self.lives is not None and self.lives < len(decision.effects_before_status):
            return decision  # it died before the status was written
        if decision.status != variable.status:
            self.status_writes += 1
            self.variables[name]["status"] = json.loads(json.dumps(decision.status.to_wire()))
            self.events.extend(decision.events)
        self._carry_out(decision.effects)
        return decision

    def pass_agent(self, name: str) -> Delivery:
        """One delivery to an agent, carried out."""
        snapshot = self.observer().agent("team", name, 0.0)
        assert snapshot is not None
        agent, ready = snapshot.agent, tuple(pod for pod in snapshot.pods if pod.ready)
        change = self.health_changes.pop(name, HealthChange.NONE)
        delivery = delivered(snapshot, ready, agent.status.state == "Stopped", self.now, change=change)
        status = agent.status.model_copy(update={"directives": delivery.directives})
        decision = Decision(status, "", delivery.effects)
        if self.implying and change is HealthChange.NONE:  # a failure is in the status too, which then comes first
            decision = self.early_delivery.before_status(Key("Agent", "team", name), snapshot, decision)
        if decision.status != agent.status:
            self.status_writes += 1
            assert delivery.directives is not None
            wire = json.loads(json.dumps(delivery.directives.to_wire()))
            self.agents[name].setdefault("status", {})["directives"] = wire
        self._carry_out(decision.effects)
        return delivery

    def settle(self, most: int = 20) -> int:
        """Passes until nothing changes any more; how many rounds of passes that took."""
        for count in range(most):
            before = self.status_writes, len(self.effects)
            for name in self.variables:
                self.pass_variable(name)
            for name in self.agents:
                self.pass_agent(name)
            if before == (self.status_writes, len(self.effects)) and not self._has_news():
                return count
        raise AssertionError(f"still busy after {most} rounds")

    def refresh(self, pod: str) -> None:
        """The pod's process reads its ConfigMap, if there is one, and applies what it holds."""
        agent = pod.rsplit("-", 2)[0]
        held = self.maps.get(directives_config_map(agent))
        if held is not None:
            self.applied_by[pod], self.read[pod] = held.generation, self.parameters(agent)

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)

    def _answers_to(self, name: str) -> dict[str, FunctionResult]:
        """What is known of the variable's questions; as in the shell a failure is forgotten once it was used."""
        asked = {ask.id: ask for ask in self.asked.get(name, ())}
        known = self.answers.get(name, {})
        found = {id_: known.get(id_) or self.function(ask) for id_, ask in asked.items()}
        kept = {id_: answer for id_, answer in known.items() if answer.error is None}
        self.answers[name] = kept | {id_: answer for id_, answer in found.items() if answer is not None}
        return self.answers[name]

    def _has_news(self) -> bool:
        """Whether an answer came that its variable did not look at yet."""
        return any(ask.id in self._answers_to(name) for name, asks in self.asked.items() for ask in asks)

    def _carry_out(self, effects: Sequence[Effect]) -> None:
        for effect in effects[: self.lives]:
            self.effects.append(effect)
            _DO[effect.verb](self, effect)

    def _write_map(self, effect: Effect) -> None:
        held = self.maps.get(effect.name)
        assert (held is None) == (effect.verb == "create"), f"{effect.verb} of a ConfigMap that is {held}"
        assert held is None or held.resource_version == effect.resource_version, "a write over somebody else's"
        version = str(int(held.resource_version) + 1 if held else 1)
        text = effect.body["data"].get(DIRECTIVES_KEY) or effect.body["data"].get(HISTORY_KEY)
        document = json.loads(text) if text else None
        self.maps[effect.name] = ConfigMapFacts(effect.name, f"uid-of-{effect.name}", version, True, document)

    def _delete_map(self, effect: Effect) -> None:
        del self.maps[effect.name]

    def _annotate(self, effect: Effect) -> None:
        [(key, value)] = effect.body["metadata"]["annotations"].items()
        pod = self.pods[effect.name]
        is_generation = key == ANNOTATION_GENERATION
        self.pods[effect.name] = replace(pod, generation=int(value)) if is_generation else replace(pod, nudge=value)
        if self.hears:
            self.refresh(pod.name)


_DO = {
    "create": Team._write_map,
    "apply": Team._write_map,
    "delete": Team._delete_map,
    "patch": Team._annotate,
}
