"""The executor: anneals berlin52 at the temperature the team agreed on, and says which one it would rather have.

It votes on every change of it, trades tours with its neighbours in the ring, and shows what it was told.
"""

from __future__ import annotations

import logging
import os
import time
from typing import Any

from annealers import memory, ring, wire
from annealers.annealer import Annealer
from annealers.control import AcceptanceWindow, vote_on, wanted_temperature
from annealers.tsp import BERLIN52
from mabeam.agent import Agent, Directives, Proposal, Refused

# 300 steps take about 0.3 ms: the pause is what keeps a team of these at one percent of a core each, and slow enough
# to watch.
STEPS = 300
PAUSE_SECONDS = 0.1
FIRST_TEMPERATURE = 100.0
TEMPERATURE = "temperature"
COORDINATOR = "Coordinator"

log = logging.getLogger("annealers.executor")


class Executor:
    """One annealer of the team.

    Its performance is optimum / length of its best tour: 1 is perfect, every instance has the same scale, and a
    threshold such as 0.9 means the same to everybody. (Where no optimum is known, -length would do: only the order
    matters to the operator.) The tour at hand, which follows the temperature up and down, is the metric `current`.
    """

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.temperature = FIRST_TEMPERATURE
        who = agent.identity
        # The incarnation belongs to the seed: a restarted annealer should not walk into the same valley again.
        self.annealer = Annealer(BERLIN52, seed=f"{who.agent}:{who.ordinal}:{who.incarnation}")
        self.wanted: float | None = None
        self.obeyed = agent.directives
        # Not EXECUTOR_PORT: next to a Service called executor, Kubernetes would set that to a URL.
        self.port = int(os.environ.get("EXECUTOR_LISTEN_PORT", ring.PORT))
        self._visits = ring.Visits()
        self._voted: dict[str, str] = {}
        self._window = AcceptanceWindow()
        self._schedule = wire.Schedule()
        self._url = wire.evaluator_url(os.environ)

    def on_directives(self, directives: Directives) -> None:
        temperature = directives.number(TEMPERATURE, self.temperature)
        if temperature <= 0:
            raise Refused(f"temperature {temperature} is not above 0")
        self.temperature = temperature
        log.info("temperature %g (directives of generation %d)", temperature, directives.generation)
        self._tell_news(self.obeyed, directives)
        self.obeyed = directives
        # Before this returns: whoever reads the acknowledgement reads the vote with it.
        self.vote(directives.proposals)

    def _tell_news(self, before: Directives, now: Directives) -> None:
        """Log what is new besides the temperature."""
        self.agent.perform(float(now.role == COORDINATOR), metric="coordinator")
        if now.coordinator is not None and now.coordinator != before.coordinator:
            who = "this agent coordinates" if now.role == COORDINATOR else f"{now.coordinator.name} coordinates"
            log.info("%s, term %d", who, now.coordinator.term)
        if (names := [peer.name for peer in now.peers]) != [peer.name for peer in before.peers]:
            log.info("in the ring next to: %s", ", ".join(names) or "nobody")
        if (share := now.resources.get("memory")) != before.resources.get("memory"):
            log.info("memory: %s", share or "as the spec has it")

    def run(self) -> None:
        log.info("annealing %s, tours go to %s", BERLIN52.name, self._url or "nobody: no evaluator was told")
        with ring.shown(self.port, {"/best": self.best, "/directives": self.told}) as self.port:
            while not self.agent.stopping.wait(PAUSE_SECONDS):
                directives = self.agent.directives
                if directives.active:
                    self.anneal()
                    self.visit(time.monotonic())
                    self.deliver(time.monotonic())
                else:
                    with self.agent.waiting(2):
                        self.agent.wait_for_change(directives, timeout=1)

    def best(self) -> dict[str, Any]:
        """What a neighbour is shown."""
        annealer = self.annealer
        return {"agent": self.agent.identity.agent, "tour": list(annealer.best), "length": annealer.best_length}

    def told(self) -> dict[str, Any]:
        """What is in force in this process, for whoever wants to know it from itself."""
        directives, coordinator = self.obeyed, self.obeyed.coordinator
        return {
            "generation": directives.generation,
            "temperature": self.temperature,
            "role": directives.role,
            "coordinator": coordinator.name if coordinator is not None else None,
            "term": directives.term,
            "peers": [peer.name for peer in directives.peers],
            "toursHeard": self._visits.heard,
            "memory": directives.resources.get("memory"),
            "memoryLimitBytes": memory.limit(),
        }

    def anneal(self) -> None:
        """One batch of steps, and what there is to say after it."""
        temperature = self.temperature
        batch = self.annealer.run(STEPS, temperature)
        self.agent.progress(batch.proposed)
        self.agent.perform(BERLIN52.quality(self.annealer.best_length))
        self.agent.perform(BERLIN52.quality(self.annealer.length), metric="current")
        acceptance = self._window.observe(batch, temperature)
        if acceptance is not None:
            self.agent.perform(acceptance, metric="acceptance")
            self.wanted = round(wanted_temperature(temperature, acceptance), 2)
            self.agent.prefer(TEMPERATURE, self.wanted)
            # Who has no wish yet has no vote either: what was proposed before is judged now.
            self.vote(self.agent.proposals)

    def vote(self, proposals: tuple[Proposal, ...]) -> None:
        """Judge the temperatures that are proposed, each of them once."""
        wanted, present = self.wanted, self.temperature
        self._voted = {proposal.id: self._voted.get(proposal.id, "") for proposal in proposals}
        for proposal in proposals:
            if wanted is None or proposal.variable != TEMPERATURE or self._voted.get(proposal.id):
                continue
            choice = vote_on(proposal.proposed, present, wanted)
            self._voted[proposal.id] = choice
            self.agent.vote(proposal.id, choice)
            log.info("%s to %s: %s, from %g, wanting %g", choice, proposal.id, proposal.proposed, present, wanted)

    def visit(self, now: float) -> None:
        """Ask a neighbour for its best tour when it is time, and walk on from there if it is shorter."""
        found = self._visits.ask(self.agent.peers, now)
        if found is None:
            return
        name, tour = found
        if BERLIN52.is_tour(tour) and self.annealer.adopt(tour):
            log.info("tour of length %d, from %s", self.annealer.best_length, name)

    def deliver(self, now: float) -> None:
        """Push the best tour when it is due. An evaluator that is away is no reason to stop annealing."""
        length = self.annealer.best_length
        if self._url is None or not self._schedule.due(length, now):
            return
        try:
            wire.push(self._url, self.agent.identity.agent or "executor", self.annealer.best)
        except (wire.Unreachable, wire.Rejected) as error:
            log.warning("tour of length %d not delivered: %s", length, error)
            self._schedule.failed(now)
        else:
            self._schedule.pushed(length, now)
