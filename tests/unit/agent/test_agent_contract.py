"""The contract's own example keeps the contract: it is taken from the page and run."""

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from mabeam.agent import Agent, Coordinator, Directives, Peer, Proposal
from mabeam.agent.directives import parse as parse_directives
from mabeam.agent.report_server import exposition
from mabeam.agent.samples import FAMILIES
from mabeam.api.agent import Agent as AgentObject
from mabeam.api.directive import directives_document
from mabeam.api.variable import OrchestrationVariable
from mabeam.core.directives.desired import directives_for_value
from mabeam.core.directives.document import desired_content
from mabeam.core.directives.effective import effective_set
from mabeam.core.reports.openmetrics import parse
from mabeam.core.reports.report import DirectiveRefusal
from mabeam.core.snapshot import AgentSnapshot, PeerFacts
from mabeam.core.values import parse_topology
from support.builders import agent_body

PAGE = (Path(__file__).parents[3] / "docs" / "agent-contract.md").read_text()
DEADLINE = 30.0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def publish(directory: Path, text: str) -> None:
    (directory / "new.json").write_text(text)
    (directory / "new.json").replace(directory / "directives.json")


class Example:
    """The agent without the SDK, as a process."""

    def __init__(self, directory: Path) -> None:
        (source,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
        (directory / "coder.py").write_text(source)
        self.port = free_port()
        environment = {"MABEAM_DIRECTIVES_DIR": str(directory), "MABEAM_REPORT_PORT": str(self.port)}
        self.process = subprocess.Popen(
            [sys.executable, str(directory / "coder.py")], env={**os.environ, **environment}
        )

    def scrape(self) -> dict[str, tuple[dict[str, str], float]]:
        url = f"http://127.0.0.1:{self.port}/metrics"
        with urllib.request.urlopen(url, timeout=DEADLINE) as response:
            text = response.read().decode()
        families = text_string_to_metric_families(text)
        return {sample.name: (sample.labels, sample.value) for family in families for sample in family.samples}

    def reports(self, name: str, value: float) -> dict[str, tuple[dict[str, str], float]]:
        end = time.monotonic() + DEADLINE
        samples: dict[str, tuple[dict[str, str], float]] = {}
        while samples.get(name, ({}, None))[1] != value:
            assert time.monotonic() < end, f"{name} never was {value}: {samples}"
            try:
                samples = self.scrape()
            except urllib.error.URLError:  # not listening yet
                assert self.process.poll() is None
            time.sleep(0.02)
        return samples


@pytest.fixture
def example(tmp_path: Path) -> Iterator[Example]:
    running = Example(tmp_path)
    yield running
    running.process.kill()
    running.process.wait()


def test_the_example_applies_refuses_survives_nonsense_and_ends_on_sigterm(example: Example, tmp_path: Path) -> None:
    example.reports("mabeam_applied_generation", 0)
    publish(tmp_path, json.dumps({"generation": 1, "parameters": {"temperature": 0.6}}))
    assert "mabeam_refused" not in example.reports("mabeam_applied_generation", 1)
    publish(tmp_path, json.dumps({"generation": 2, "parameters": {"temperature": 3}}))
    refused = example.reports("mabeam_applied_generation", 2)["mabeam_refused"]
    assert refused == ({"variable": "temperature", "generation": "2", "reason": "above 2"}, 1)
    publish(tmp_path, '{"generation": 3, "parameters": {"temperature": "hot"}}')
    publish(tmp_path, json.dumps({"generation": 4}))
    assert example.reports("mabeam_applied_generation", 4)["mabeam_progress_total"][1] > 0
    example.process.terminate()
    assert example.process.wait(DEADLINE) == 0


def test_the_page_names_every_sample_that_the_sdk_reports() -> None:
    documented = set(re.findall(r"^\| `(mabeam_\w+)` \|", PAGE, re.MULTILINE))
    reported = {f"{name}_total" if family.type == "counter" else name for name, family in FAMILIES.items()}
    # The one that is the SDK's own affair: the operator does not read it.
    assert reported - {"mabeam_directives_malformed_total"} == documented


def test_the_operator_understands_every_answer_of_the_sdk() -> None:
    agent = Agent(port=0)
    agent.prefer("temperature", 0.4, weight=2)
    agent.prefer("model", {"small": 1, "large": 0.3})
    agent.bid("gpu", 3)
    agent.vote("temperature-3", "Yes")
    agent.perform(0.93)
    agent.perform(0.2, metric="loss")
    agent.progress(1e17)
    agent.waiting(30)
    agent.refuse(Directives(generation=7), 'no "GPU"\nhere', variable="gpu")
    agent.applied(Directives(generation=7))
    report = parse(exposition(agent._samples.families)())
    assert report.problems == ()
    assert report.numbers == {"temperature": 0.4}
    assert report.choices == {"model": {"small": 1, "large": 0.3}}
    assert report.weights == {"temperature": 2}
    assert report.bids == {"gpu": 3}
    assert report.votes == {"temperature-3": "Yes"}
    assert report.performance == {"": 0.93, "loss": 0.2}
    assert (report.progress, report.applied_generation) == (1e17, 7)
    assert report.waiting_until is not None
    assert report.refusals == (DirectiveRefusal("gpu", 7, 'no "GPU"\nhere'),)


def told_to(name: str) -> dict[str, Any]:
    """What the operator writes for one of three agents that are wired, elected, given memory, and asked for their vote."""
    agents = [AgentObject.model_validate(agent_body(who)) for who in ("coder", "planner", "reviewer")]
    about = {"agents": {"names": [agent.metadata.name for agent in agents]}}
    ring = {"pattern": "Ring", "members": [agent.metadata.name for agent in agents], "coordinator": "coder", "term": 4}
    vote = {"proposal": "temperature-3", "proposed": 0.6, "deadline": "2026-01-01T00:00:30Z", "outcome": "Pending"}
    variables = tuple(
        OrchestrationVariable.model_validate(
            {
                "metadata": {"name": variable, "namespace": "team", "uid": f"uid-{variable}", "generation": 1},
                "spec": about | spec,
                "status": {"observedGeneration": 1, "round": 1} | status,
            }
        )
        for variable, spec, status in (
            ("memory", {"type": "ResourceAllocation"}, {"value": {"coder": {"tokens": "25k"}}}),
            ("ring", {"type": "CoordinationPattern", "topology": {"pattern": "Ring"}}, {"value": ring}),
            ("temperature", {"value": 0.7, "consensus": {}}, {"value": 0.7, "consensus": vote}),
        )
    )
    agent = next(agent for agent in agents if agent.metadata.name == name)
    peers = {"planner": PeerFacts(role="Executor", addresses=("10.0.0.7",))}
    snapshot = AgentSnapshot(agent, variables=variables, peers=peers)
    told = effective_set(agent, variables, ())
    return directives_document(name, 7, desired_content(snapshot, told, told.resources))


def test_the_sdk_understands_all_that_the_operator_tells() -> None:
    deadline = datetime(2026, 1, 1, 0, 0, 30, tzinfo=UTC)
    proposals = (Proposal("temperature-3", "temperature", 0.6, deadline),)
    coordinator = Coordinator("coder", 4)
    planner = Peer("planner", "Executor", ("10.0.0.7",))
    assert parse_directives(json.dumps(told_to("coder")), Directives()) == Directives(
        agent="coder",
        generation=7,
        role="Coordinator",
        parameters={"temperature": 0.7},
        peers=(planner, Peer("reviewer")),
        resources={"tokens": "25k"},
        proposals=proposals,
        coordinator=coordinator,
        term=4,
    )
    others = parse_directives(json.dumps(told_to("reviewer")), Directives())
    assert (others.role, others.coordinator, others.term) == ("Executor", coordinator, 4)
    assert others.peers == (Peer("coder"), planner)


def test_the_page_names_every_field_that_the_operator_tells() -> None:
    documented = set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE))
    assert set(told_to("coder")) <= documented


def test_a_direction_is_told_where_only_one_of_two_may_begin() -> None:
    value = {"pattern": "Broadcast", "members": ["coder", "reviewer"], "hub": "coder"}
    peers = [dict(peer) for peer in instructions_of("coder", value)]
    document = directives_document("coder", 1, {"peers": peers})
    assert parse_directives(json.dumps(document), Directives()).peers == (Peer("reviewer", direction="Out"),)


def instructions_of(name: str, value: dict[str, Any]) -> list[dict[str, Any]]:
    variable = OrchestrationVariable.model_validate(
        {
            "metadata": {"name": "talk", "namespace": "team", "uid": "uid-talk", "generation": 1},
            "spec": {"agents": {"names": value["members"]}, "type": "CommunicationTopology"},
        }
    )
    (instruction,) = directives_for_value(variable, parse_topology(value))(name)
    return list(instruction.parameters["peers"])
