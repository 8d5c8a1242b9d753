"""The crasher: fails on purpose, to show what a restart budget does."""

from __future__ import annotations

from mabeam.agent import Agent, Directives

SECONDS_TO_LIVE = 1.0


class Crasher:
    """Lives a moment, then raises: exit code 1, every time."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent

    def on_directives(self, directives: Directives) -> None:
        """Anything goes: what it is told is in force for the moment that it lives."""

    def run(self) -> None:
        if not self.agent.stopping.wait(SECONDS_TO_LIVE):
            raise RuntimeError("crashing on purpose")
