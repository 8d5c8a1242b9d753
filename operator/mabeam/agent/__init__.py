"""The Python SDK for agents: what an agent process needs inside its pod. It imports nothing of the operator.

An agent is a class that takes an `Agent` and has a `run`; `mabeam-agent run module:Class` starts it:

    from mabeam.agent import Agent, Directives

    class Executor:
        def __init__(self, agent: Agent) -> None:
            self.agent = agent
            self.temperature = 1.0

        def on_directives(self, directives: Directives) -> None:        # returning is the acknowledgement
            self.temperature = directives.number("temperature", self.temperature)

        def run(self) -> None:                                          # or: async def run
            while not self.agent.stopping.wait(0.1):
                self.agent.perform(work(self.temperature))
                self.agent.prefer("temperature", 0.4, weight=2)
                self.agent.progress()

        def terminate(self, reason: str) -> None:                       # "normal", "shutdown" or "error: ..."
            save(self.temperature)

The pod is Ready once `__init__` has returned: load what the agent needs there. A class that is ready later has
`ready_by_call = True` and calls `self.agent.ready()`.

The contract underneath, for any language, is docs/agent-contract.md.
"""

from mabeam.agent.agent import Agent
from mabeam.agent.directives import Coordinator, Directives, Malformed, Peer, Proposal, Refused
from mabeam.agent.identity import Identity

__all__ = ["Agent", "Coordinator", "Directives", "Identity", "Malformed", "Peer", "Proposal", "Refused"]
