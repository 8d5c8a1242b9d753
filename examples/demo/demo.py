"""What every step has at hand: the page, the programs, the apiserver, and questions that several of them ask."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from examples.demo import facts
from examples.demo.facts import JsonDict
from examples.demo.page import Page
from examples.demo.tools import CLUSTER_TOOL, Api, Tools

OPERATOR_NAMESPACE = "mabeam-system"
RELEASE = "mabeam"
GROUP = "/apis/mabeam.dev/v1alpha1"
EXECUTORS = ("executor-a", "executor-b", "executor-c")
TEAM = ("evaluator", *EXECUTORS, "polisher")
TEAM_FILE = "examples/annealers/team.yaml"
CRASHER_FILE = "examples/annealers/crasher.yaml"
HOTHEAD_FILE = "examples/demo/hothead.yaml"
REPORT_PORT = 9464
# Where an executor shows what it was told.
RING_PORT = 8081


@dataclass(frozen=True)
class Demo:
    """One run of the demo."""

    page: Page
    tools: Tools
    api: Api
    namespace: str
    image: str
    picture: Path

    # --- words -----------------------------------------------------------------------------------------------------------

    @property
    def kubectl(self) -> str:
        """How a person runs kubectl against this cluster from the checkout."""
        if self.tools.current:
            return "kubectl"
        name = "" if self.tools.cluster == "mabeam" else f" --name {self.tools.cluster}"
        return f"{CLUSTER_TOOL} kubectl{name}"

    def look(self, words: str) -> str:
        """A command to look for oneself, in the team's namespace."""
        return f"{self.kubectl} {words} -n {self.namespace}"

    # --- questions -------------------------------------------------------------------------------------------------------

    def agent(self, name: str) -> JsonDict:
        """An Agent, empty when there is none."""
        return self.api.json(f"{GROUP}/namespaces/{self.namespace}/agents/{name}")

    def agents(self) -> dict[str, JsonDict]:
        """The team's Agents by name."""
        items = self.api.json(f"{GROUP}/namespaces/{self.namespace}/agents").get("items") or []
        return {item["metadata"]["name"]: item for item in items}

    def variable(self, name: str = "temperature") -> JsonDict:
        """An OrchestrationVariable, empty when there is none."""
        return self.api.json(f"{GROUP}/namespaces/{self.namespace}/orchestrationvariables/{name}")

    def supervisor(self, name: str) -> JsonDict:
        """A Supervisor, empty when there is none."""
        return self.api.json(f"{GROUP}/namespaces/{self.namespace}/supervisors/{name}")

    def pods(self, agent: str = "") -> list[JsonDict]:
        """The pods of the team, or of one agent."""
        selector = f"?labelSelector=mabeam.dev%2Fagent%3D{agent}" if agent else ""
        return list(self.api.json(f"/api/v1/namespaces/{self.namespace}/pods{selector}").get("items") or [])

    def operator_pods(self) -> list[JsonDict]:
        """The operator's pods."""
        where = f"/api/v1/namespaces/{OPERATOR_NAMESPACE}/pods?labelSelector=app.kubernetes.io%2Finstance%3D{RELEASE}"
        return list(self.api.json(where).get("items") or [])

    def operator_lives(self) -> dict[str, int]:
        """Each operator pod's name, and how often its process was started anew in it."""
        pods = self.operator_pods()
        return {pod["metadata"]["name"]: facts.container_restarts(pod) for pod in pods}

    def lease_holder(self) -> str:
        """Who leads."""
        where = f"/apis/coordination.k8s.io/v1/namespaces/{OPERATOR_NAMESPACE}/leases/mabeam"
        return str((self.api.json(where).get("spec") or {}).get("holderIdentity") or "")

    def log(self, pod: str) -> str:
        """What a process has logged, as far as it is kept."""
        return self.api.text(f"/api/v1/namespaces/{self.namespace}/pods/{pod}/log") or ""

    def report(self, pod: str) -> str:
        """What a process says on its report port, asked directly (by way of the apiserver)."""
        return self.api.text(f"/api/v1/namespaces/{self.namespace}/pods/{pod}:{REPORT_PORT}/proxy/metrics") or ""

    def tracks(self) -> dict[str, facts.Track]:
        """The track of every agent of the team."""
        pods = self.pods()
        return {name: facts.track(agent, pods) for name, agent in self.agents().items()}

    def told_to(self, names: Sequence[str]) -> dict[str, JsonDict]:
        """What each executor's process says that it was told, asked directly; empty when it does not answer."""
        agents = self.agents()
        pods = {name: facts.current_pod(agents.get(name, {})) for name in names}
        pages = f"/api/v1/namespaces/{self.namespace}/pods"
        return {name: self.api.json(f"{pages}/{pod}:{RING_PORT}/proxy/directives") for name, pod in pods.items()}

    def ballots(self) -> dict[str, str]:
        """Each executor's last vote, as its log has it."""
        agents = self.agents()
        logs = {name: self.log(facts.current_pod(agents.get(name, {}))) for name in EXECUTORS}
        return {name: facts.logged(log, " to temperature-") or "nothing" for name, log in logs.items()}

    def containers(self, names: Sequence[str]) -> dict[str, tuple[str, str, int]]:
        """Each executor's live pod, its container, and how often that was started anew."""
        agents, pods = self.agents(), {pod["metadata"]["name"]: pod for pod in self.pods()}
        return {name: facts.container(pods.get(facts.current_pod(agents.get(name, {})), {})) for name in names}

    # --- looks that several steps wait for ---------------------------------------------------------------------------------

    def all_ready(self, *names: str) -> tuple[bool, str]:
        """Whether these Agents are Ready, and what is seen of them."""
        agents = self.agents()
        seen = ", ".join(f"{name} {facts.state_of(agents.get(name, {}))}" for name in names)
        return all(facts.is_ready(agents.get(name, {})) for name in names), seen

    def temperatures(self) -> dict[str, facts.Obeyed | None]:
        """What each executor's process says of the temperature, in its own log."""
        agents = self.agents()
        return {name: facts.obeyed(self.log(facts.current_pod(agents.get(name, {})))) for name in EXECUTORS}


def told(temperatures: dict[str, facts.Obeyed | None]) -> str:
    """The temperatures in words."""
    return ", ".join(
        f"{name}: {'none yet' if one is None else f'{one.temperature:g}'}" for name, one in temperatures.items()
    )
