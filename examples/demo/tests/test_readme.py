"""What the README shows is what there is: its example, its links, its commands' output."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from mabeam.agent import Agent, Directives, Identity
from mabeam.cli import app

ROOT = Path(__file__).parents[3]
README = (ROOT / "README.md").read_text()


def block(language: str, containing: str = "") -> str:
    blocks = re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)
    return next(text for text in blocks if containing in text)


def test_the_example_is_the_file_that_is_named() -> None:
    assert block("yaml") == (ROOT / "examples/demo/quickstart.yaml").read_text()
    assert len(block("yaml").splitlines()) <= 25


def test_the_plan_says_what_the_readme_says_it_does() -> None:
    shown = block("console", "mabeam plan").splitlines()
    command = shown[0].removeprefix("$ .venv/bin/mabeam ").partition(" | ")[0].split()

    result = CliRunner().invoke(app, [word if word != command[2] else str(ROOT / word) for word in command])

    assert result.exit_code == 0
    assert "\n".join(shown[1:]) in result.output


def test_the_example_comes_to_the_value_that_is_shown() -> None:
    result = CliRunner().invoke(app, ["plan", "-f", str(ROOT / "examples/demo/quickstart.yaml")])
    assert yaml.safe_load(result.output)["variables"]["default/creativity"]["value"] == 0.6
    assert re.search(r"/creativity +True +Parameter +0\.6 ", README)


def test_the_team_of_llm_agents_is_planned_as_the_readme_says(tmp_path: Path) -> None:
    world = tmp_path / "press.yaml"
    world.write_text(block("yaml", "model-provider"))
    planned = yaml.safe_load(CliRunner().invoke(app, ["plan", "-f", str(world)]).output)
    assert planned["variables"]["default/tokens"]["value"] == {"writer": {"tokens-per-minute": "60k"}}
    assert planned["agents"]["default/writer"]["state"] == "Starting"


def test_the_agent_in_python_applies_and_reports_what_the_readme_promises(monkeypatch: pytest.MonkeyPatch) -> None:
    names: dict[str, Any] = {}
    exec(compile(block("python"), "README.md", "exec"), names)
    agent = Agent(Identity())
    coder = names["Coder"](agent)

    coder.on_directives(Directives(generation=1, parameters={"creativity": 0.6}))
    assert coder.creativity == 0.6

    rounds = iter([False, True])
    monkeypatch.setattr(agent.stopping, "wait", lambda seconds: next(rounds))
    coder.run()
    assert list(rounds) == []


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\((?!https?://)([^)#]+)", README))))
def test_links_lead_somewhere(target: str) -> None:
    assert (ROOT / target).exists()


def test_every_make_target_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"`(?:[A-Z]+=\S+ )*make ([a-z-]+)", README)) | {"demo", "test"}:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
