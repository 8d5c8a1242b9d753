"""The smallest agent: it prints a greeting, as often as an OrchestrationVariable says."""

from mabeam.agent import Agent, Directives, Refused


class Hello:
    """One process of the agent; `mabeam-agent run hello:Hello` makes it and calls its methods."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.seconds = 1.0

    def on_directives(self, directives: Directives) -> None:
        """Apply the new values: returning acknowledges them, raising Refused refuses them with a reason."""
        seconds = directives.number("seconds", 1.0)
        if seconds <= 0:
            raise Refused("the time between two greetings must be positive")
        self.seconds = seconds

    def run(self) -> None:
        """Work until the pod is stopped; an exception is a failure, which the operator counts and restarts."""
        while not self.agent.stopping.wait(self.seconds):
            print(f"hello, every {self.seconds:g} s", flush=True)
            self.agent.progress()
