"""The executor: anneals berlin52 at the temperature the team agreed on, and says which one it would rather have."""

from __future__ import annotations

import logging
import os
import time

from annealers import wire
from annealers.annealer import Annealer
from annealers.control import AcceptanceWindow, wanted_temperature
from annealers.tsp import BERLIN52
from mabeam.agent import Agent, Directives, Refused

# 300 steps take about 0.3 ms: the pause is what keeps a team of these at one percent of a core each, and slow enough
# to watch.
STEPS = 300
PAUSE_SECONDS = 0.1
FIRST_TEMPERATURE = 100.0

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
        self._window = AcceptanceWindow()
        self._schedule = wire.Schedule()
        self._url = wire.evaluator_url(os.environ)

    def on_directives(self, directives: Directives) -> None:
        temperature = directives.number("temperature", self.temperature)
        if temperature <= 0:
            raise Refused(f"temperature {temperature} is not above 0")
        self.temperature = temperature
        log.info("temperature %g (directives of generation %d)", temperature, directives.generation)

    def run(self) -> None:
        log.info("annealing %s, tours go to %s", BERLIN52.name, self._url or "nobody: no evaluator was told")
        while not self.agent.stopping.wait(PAUSE_SECONDS):
            directives = self.agent.directives
            if directives.active:
                self.anneal()
                self.deliver(time.monotonic())
            else:
                with self.agent.waiting(2):
                    self.agent.wait_for_change(directives, timeout=1)

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
            self.agent.prefer("temperature", round(wanted_temperature(temperature, acceptance), 2))

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
