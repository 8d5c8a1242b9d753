"""examples/hello: the class in a real process of the SDK, and the manifest through `mabeam plan`."""

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from mabeam.cli import app
from support.agent_process import Start
from support.agent_process import start_agent as start_agent

HELLO = Path(__file__).parents[1]
README = (HELLO / "README.md").read_text()
AGENT, VARIABLE = yaml.safe_load_all((HELLO / "hello.yaml").read_text())
# Prints the port, which a test does not know beforehand; the class is the example's own.
SHOWS_ITS_PORT = """
    from hello import Hello

    class Worker(Hello):
        def __init__(self, agent):
            super().__init__(agent)
            print("port", agent.port, flush=True)
"""


def test_the_process_applies_its_value_refuses_what_it_cannot_do_and_ends_when_it_is_stopped(
    start: Start, tmp_path: Path
) -> None:
    shutil.copy(HELLO / "hello.py", tmp_path)
    hello = start(SHOWS_ITS_PORT)
    hello.reports("mabeam_applied_generation 0.0")
    hello.tell(1, seconds=0.05)
    hello.reports("mabeam_applied_generation 1.0")
    hello.says("hello, every 0.05 s")
    hello.tell(2, seconds=0)
    hello.reports('mabeam_refused{generation="2",reason="the time between two greetings must be positive"')
    hello.reports("mabeam_applied_generation 1.0")
    hello.process.terminate()
    assert hello.exit_code() == 0


def test_the_class_that_the_manifest_names_is_the_one_in_the_file_and_in_the_image() -> None:
    module, _, name = AGENT["spec"]["module"].partition(":")
    assert f"class {name}:" in (HELLO / f"{module}.py").read_text()
    dockerfile = (HELLO / "Dockerfile").read_text()
    assert f"COPY {module}.py /app/{module}.py" in dockerfile
    assert f"docker build -t {AGENT['spec']['image']} ." in README


def test_the_operator_would_create_the_pod_and_decide_the_value(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["plan", "-f", str(HELLO / "hello.yaml"), "-o", "json"])
    assert result.exit_code == 0, result.output
    plan = json.loads(result.stdout)
    assert plan["agents"]["default/hello"]["state"] == "Starting"
    assert plan["variables"]["default/seconds"]["value"] == VARIABLE["spec"]["value"]


def test_the_agent_is_short_enough_to_be_copied() -> None:
    assert len((HELLO / "hello.py").read_text().splitlines()) <= 30


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\((?!https?://)([^)#]+)", README))))
def test_links_of_the_page_lead_somewhere(target: str) -> None:
    assert (HELLO / target).exists()
