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
from pathlib import Path

import pytest
from mabeam.agent.answers import FAMILIES
from prometheus_client.openmetrics.parser import text_string_to_metric_families

PAGE = (Path(__file__).parents[2] / "docs" / "agent-contract.md").read_text()
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
