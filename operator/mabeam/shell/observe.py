"""Key → Snapshot: every fact a pass may need, always all of them, from the cache and the reports."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from mabeam.api.names import directives_config_map
from mabeam.api.supervisor import ChildKind
from mabeam.core import family
from mabeam.core.objects import pod_hash
from mabeam.core.questions import Answers
from mabeam.core.snapshot import AgentSnapshot, PodDefaults, PodRefused, SupervisorSnapshot, VariableSnapshot
from mabeam.shell.cache import AGENT, VARIABLE, Cache
from mabeam.shell.parse import ParsedVariable
from mabeam.shell.reports import Reports
from mabeam.shell.workqueue import Key

FIRST_ASK_AGAIN_SECONDS: Final = 15.0
MAX_ASK_AGAIN_SECONDS: Final = 300.0


@dataclass(frozen=True, slots=True)
class Refusal:
    """What the apiserver said of an agent's pod, of which spec, and when to ask it again."""

    message: str
    spec_hash: str
    ask_again_at: float
    tries: int = 1


@dataclass
class Refusals:
    """What the apiserver would not take, by agent uid. Memory, not truth: after a restart the question is asked once more."""

    refused: dict[str, Refusal] = field(default_factory=dict)
    names_taken: dict[str, str] = field(default_factory=dict)

    def refuse(self, uid: str, spec_hash: str, message: str, now: float) -> None:
        """Remember a refusal, and when to ask again: later each time."""
        known = self.refused.get(uid)
        tries = known.tries + 1 if known is not None and known.spec_hash == spec_hash else 1
        delay = min(FIRST_ASK_AGAIN_SECONDS * float(1 << min(tries - 1, 8)), MAX_ASK_AGAIN_SECONDS)
        self.refused[uid] = Refusal(message, spec_hash, now + delay, tries)

    def accept(self, uid: str) -> None:
        """The apiserver took a pod of the agent."""
        self.refused.pop(uid, None)
        self.names_taken.pop(uid, None)

    def of(self, uid: str, spec_hash: str, now: float) -> PodRefused | None:
        """What was refused of the spec as it is now."""
        known = self.refused.get(uid)
        if known is None or known.spec_hash != spec_hash:
            return None
        return PodRefused(known.message, known.ask_again_at - now)


@dataclass
class Observer:
    """Builds snapshots. `monotonic` is read for the refusals' patience only; decisions get their time from the caller.

    `answers_for` gives what is known of the questions that were asked for a key.
    """

    cache: Cache
    reports: Reports
    refusals: Refusals
    defaults: PodDefaults
    answers_for: Callable[[Key], Answers]

    def agent(self, namespace: str, name: str, monotonic: float) -> AgentSnapshot | None:
        """All there is to know about an Agent, None when there is no such Agent (any more)."""
        parsed = self.cache.agents.get((namespace, name))
        if parsed is None:
            return None
        agent = parsed.agent
        uid = agent.metadata.uid
        pods = self.cache.pods_owned_by(agent)
        known = self.cache.config_maps.get((namespace, directives_config_map(name)))
        config_map = None
        if known is not None:
            facts, owner = known
            config_map = replace(facts, ours=owner == uid)
        told = family.word_for(agent, self.cache.family_of(namespace)) if agent.spec.supervisor else family.Told()
        return AgentSnapshot(
            agent=agent,
            pods=pods,
            config_map=config_map,
            variables=self.cache.variables_of(agent),
            reports=self.reports.of_pods(pods),
            progress=self.reports.progress_of(pods),
            nodes=self.cache.node_names,
            cordoned=self.cache.cordoned,
            refused=self.refusals.of(uid, pod_hash(agent.spec), monotonic),
            name_taken=self.refusals.names_taken.get(uid),
            **told._asdict(),
            invalid=parsed.invalid,
            defaults=self.defaults,
            answers=self.answers_for(Key(AGENT, namespace, name)),
        )

    def supervisor(self, namespace: str, name: str) -> SupervisorSnapshot | None:
        """All there is to know about a Supervisor, None when there is no such Supervisor (any more)."""
        parsed = self.cache.supervisors.get((namespace, name))
        if parsed is None:
            return None
        listed = (child.name for child in parsed.supervisor.spec.children if child.kind is ChildKind.AGENT)
        agents = {
            child: self.cache.agents[namespace, child].agent
            for child in listed
            if (namespace, child) in self.cache.agents
        }
        supervisors = self.cache.family_of(namespace)
        told = family.word_for(parsed.supervisor, supervisors)
        return SupervisorSnapshot(parsed.supervisor, agents, supervisors, *told, parsed.invalid)

    def variable(self, namespace: str, name: str) -> tuple[VariableSnapshot, ParsedVariable] | None:
        """All there is to know about a variable, None when there is no such variable (any more)."""
        parsed = self.cache.variables.get((namespace, name))
        if parsed is None:
            return None
        agents = tuple(found.agent for found in self.cache.agents_of(parsed.variable) if found.invalid is None)
        config_maps = self.cache.config_maps_owned_by(parsed.variable)
        reports = self.reports.of_agents(agents)
        answers = self.answers_for(Key(VARIABLE, namespace, name))
        return VariableSnapshot(parsed.variable, agents, reports, config_maps, answers), parsed
