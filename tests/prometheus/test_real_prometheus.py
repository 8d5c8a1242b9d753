"""Agents of the SDK, scraped by a real Prometheus, and read there by the operator: it hears what it would hear of the pods."""

import asyncio
import contextlib
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from mabeam.core.reports.openmetrics import parse
from mabeam.core.reports.report import Report
from mabeam.shell.reports.prometheus import Prometheus
from mabeam.shell.reports.reader import ReportReader
from mabeam.shell.reports.targets import target_of
from support.agent_process import ROOT, Process
from support.builders import a_pod, an_agent
from support.prometheus_process import PrometheusProcess

pytestmark = pytest.mark.prometheus

PODS = ("a-0-1", "a-1-1")
NAMESPACE = "team"
WORKER = """
    class Worker:
        def __init__(self, agent):
            self.agent = agent
            print("port", agent.port)

        def on_directives(self, directives):
            if directives.parameters.get("temperature", 0) > 2:
                self.agent.refuse(directives, 'above 2: "too hot" \\\\ really', variable="temperature")

        def run(self):
            agent, own = self.agent, self.agent.identity.ordinal
            agent.prefer("temperature", 0.4 + own, weight=2)
            agent.prefer("model", {"small": 1, "large": 0.3})
            agent.bid("gpu", 3)
            agent.vote("temperature-3", "Yes")
            agent.perform(0.5 + own / 4)
            agent.perform(0.2, metric="loss")
            agent.progress(12 + own)
            print("running")
            agent.stopping.wait()
"""


@dataclass
class Scene:
    """Two agents, and the Prometheus that scrapes them."""

    agents: Mapping[str, Process]
    prometheus: PrometheusProcess

    def at_the_pods(self) -> dict[str, Report]:
        """What the operator reads of the processes themselves."""
        return {pod: parse(process.report()) for pod, process in self.agents.items()}

    def in_prometheus(self, query: str | None = None, count: int = len(PODS)) -> dict[str, Report]:
        """What the operator's own reader reads in Prometheus, once it has read that many reports."""
        return asyncio.run(self._read(query, count))

    async def _read(self, query: str | None, count: int) -> dict[str, Report]:
        outcomes: list[str] = []
        asked = Prometheus(self.prometheus.url, any_query=query is not None)
        reports = ReportReader(None, False, lambda *_: None, outcomes.append, prometheus=asked)
        agent = an_agent(reports={"source": "Prometheus"} | ({"query": query} if query else {}))
        pods = [a_pod(pod) for pod in PODS]
        targets = [target for pod in pods if (target := target_of(agent, pod)) is not None]
        reading = asyncio.create_task(reports.run())
        try:
            reports.follow(agent, [replace(target, period=60) for target in targets], awaiting=0)
            async with asyncio.timeout(30):
                while len(outcomes) < count:  # noqa: ASYNC110 - a metric rings no bell
                    await asyncio.sleep(0.01)
            return reports.of_pods(pods)
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)


@pytest.fixture(name="scene", scope="module")
def two_agents_and_a_prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with contextlib.ExitStack() as stack:
        agents = {}
        for ordinal, pod in enumerate(PODS):
            directory = tmp_path_factory.mktemp(pod)
            (directory / "worker.py").write_text(textwrap.dedent(WORKER))
            agents[pod] = started(directory, ordinal)
            stack.callback(agents[pod].process.wait)
            stack.callback(agents[pod].process.kill)
        for process in agents.values():
            process.says("running")
            process.tell(7, temperature=3)
            process.reports("mabeam_applied_generation 7.0")
        ports = {pod: process.port for pod, process in agents.items()}
        prometheus = PrometheusProcess(tmp_path_factory.mktemp("prometheus"), NAMESPACE, ports)
        stack.callback(prometheus.end)
        prometheus.waits_until("mabeam_applied_generation == 7", len(PODS))
        yield Scene(agents, prometheus)


def started(directory: Path, ordinal: int) -> Process:
    options = ("--port", "0", "--directives", str(directory))
    return Process(directory, "worker:Worker", *options, MABEAM_ORDINAL=str(ordinal))


def test_the_operator_hears_in_prometheus_what_it_would_hear_of_the_pods(scene: Scene) -> None:
    direct = scene.at_the_pods()
    assert scene.in_prometheus() == direct
    # And that is not nothing.
    assert [report.numbers for report in direct.values()] == [{"temperature": 0.4}, {"temperature": 1.4}]
    assert direct["a-0-1"].refusals[0].reason == 'above 2: "too hot" \\ really'
    assert all(report.problems == () and report.progress for report in direct.values())


@pytest.mark.parametrize(
    ("query", "heard"),
    [
        ('avg(mabeam_performance{namespace="$namespace", pod=~"$pod", metric=""})', {"": 0.625}),
        ('avg by (metric) (mabeam_performance{pod=~"$agent-.*"})', {"": 0.625, "loss": 0.2}),
        ("scalar(max(mabeam_progress_total))", {"": 13}),
    ],
)
def test_what_an_expression_leaves_is_the_performance(scene: Scene, query: str, heard: dict[str, float]) -> None:
    assert scene.in_prometheus(query) == dict.fromkeys(PODS, Report(performance=heard))


def test_a_number_is_given_another_name_of_the_contract_by_promql_itself(scene: Scene) -> None:
    renamed = 'label_replace(mabeam_performance{pod=~"$pod", metric=""}, "__name__", "mabeam_bid", "", "")'
    query = f'label_replace({renamed}, "variable", "gpu", "", "")'
    found = scene.in_prometheus(query)
    assert found == {"a-0-1": Report(bids={"gpu": 0.5}), "a-1-1": Report(bids={"gpu": 0.75})}


def test_the_contracts_own_example_of_a_query_is_one(scene: Scene) -> None:
    (example,) = re.findall(r"^  query: '(.+)'$", (ROOT / "docs/agent-contract.md").read_text(), re.MULTILINE)
    assert scene.in_prometheus(example) == scene.at_the_pods()


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("avg(", "parse error: unclosed left parenthesis"),
        ("mabeam_performance[1m]", "the query gives a matrix"),
        ('mabeam_performance{metric=""} / 0', "mabeam_performance: not a finite number"),
    ],
)
def test_a_query_that_gives_nothing_to_go_by_is_told(scene: Scene, query: str, told: str) -> None:
    for report in scene.in_prometheus(query).values():
        (problem,) = report.problems
        assert told in problem


# The last one: it ends one of the agents.
def test_an_acknowledgement_arrives_with_the_next_scrape_and_an_ended_process_is_forgotten(scene: Scene) -> None:
    gone = scene.agents["a-1-1"]
    for process in scene.agents.values():
        process.tell(8, temperature=1)
    scene.prometheus.waits_until("mabeam_applied_generation == 8", len(PODS))
    assert [report.applied_generation for report in scene.in_prometheus().values()] == [8, 8]
    gone.process.kill()
    scene.prometheus.waits_until("mabeam_applied_generation", 1)
    assert {pod: report.applied_generation for pod, report in scene.in_prometheus().items()} == {"a-0-1": 8}
