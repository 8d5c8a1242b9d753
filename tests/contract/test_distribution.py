"""The two distributions, `mabeam-agent` and `mabeam`: what their wheels hold, and that an agent runs with the first alone."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mabeam import __version__

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/agent-contract.md").read_text()
LIMIT = 600

WRITER = """
class Writer:
    def __init__(self, agent):
        self.agent = agent

    def run(self):
        self.agent.perform(0.5)
        self.agent.progress(3)
"""
REPORT = {"generation": 0, "progress": 3.0, "performance": 0.5, "metrics": {}}


def load(name: str, path: Path) -> ModuleType:
    loader = SourceFileLoader(name, str(path))
    spec = importlib.util.spec_from_loader(name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def run(*command: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=LIMIT, check=False, **options
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done


def in_wheel(wheel: Path) -> set[str]:
    """The wheel's files but for its own metadata."""
    return {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}


@pytest.fixture(name="wheels", scope="module")
def built_wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    load("dist", ROOT / "hack/dist.py").build(folder)
    return folder


@pytest.fixture(name="sdk", scope="module")
def wheel_of_the_sdk(wheels: Path) -> Path:
    return wheels / f"mabeam_agent-{__version__}-py3-none-any.whl"


@pytest.fixture(name="index", scope="module")
def wheels_with_what_the_sdk_needs(wheels: Path, sdk: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder from which pip installs the SDK without an index."""
    folder = tmp_path_factory.mktemp("index")
    shutil.copy2(sdk, folder)
    (pinned,) = re.findall(r"^prometheus-client==\S+", (ROOT / "requirements/run.txt").read_text(), re.MULTILINE)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", folder]
    done = subprocess.run([*command, pinned], capture_output=True, text=True, timeout=LIMIT, check=False)
    if done.returncode != 0:
        pytest.fail(f"this test needs a package index, or {pinned} in pip's find-links: {done.stderr}")
    return folder


# ---- what the wheels hold


def test_every_file_of_the_package_belongs_to_exactly_one_distribution(wheels: Path, sdk: Path) -> None:
    agent, operator = in_wheel(sdk), in_wheel(wheels / f"mabeam-{__version__}-py3-none-any.whl")
    tree = {
        f"mabeam/{path.relative_to(ROOT / 'operator/mabeam').as_posix()}"
        for path in (ROOT / "operator/mabeam").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert agent & operator == set()
    assert agent | operator == tree
    assert {name for name in tree if name.startswith("mabeam/agent/")} | {"mabeam/__init__.py"} == agent


def test_the_operator_depends_on_the_sdk_of_its_own_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"mabeam-agent=={__version__}" in project["dependencies"]


def test_the_sdk_depends_on_prometheus_client_alone_as_the_operator_does() -> None:
    operator = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    sdk = tomllib.loads((ROOT / "packages/mabeam-agent/pyproject.toml").read_text())["project"]
    (needed,) = sdk["dependencies"]
    assert needed.startswith("prometheus-client")
    assert needed in operator["dependencies"]
    assert set(sdk["scripts"]) & set(operator["scripts"]) == set()
    assert (sdk["requires-python"], sdk["license"]) == (operator["requires-python"], operator["license"])


def test_the_same_tree_gives_the_same_wheel(sdk: Path, tmp_path: Path) -> None:
    load("dist", ROOT / "hack/dist.py").build(tmp_path)
    assert (tmp_path / sdk.name).read_bytes() == sdk.read_bytes()


# ---- installed


def test_an_agent_runs_in_an_environment_that_holds_the_sdk_alone(index: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "fresh")
    python = tmp_path / "fresh/bin/python"
    pip = (sys.executable, "-m", "pip", "--python", python)
    run(*pip, "install", "--no-index", "--find-links", index, "mabeam-agent")
    listed = json.loads(run(*pip, "list", "--format=json").stdout)
    assert {item["name"] for item in listed} == {"mabeam-agent", "prometheus_client"}
    assert "No broken requirements found" in run(*pip, "check").stdout
    (tmp_path / "press").mkdir()
    (tmp_path / "press/writer.py").write_text(WRITER)
    message = tmp_path / "termination-log"
    message.touch()
    done = run(
        tmp_path / "fresh/bin/mabeam-agent", "run", "press.writer:Writer", "--port", "0", "--directives", tmp_path,
        cwd=tmp_path, env={"MABEAM_TERMINATION_MESSAGE_PATH": str(message)},
    )  # fmt: skip
    assert f"last report: {json.dumps(REPORT)}" in done.stdout
    assert message.read_text().splitlines() == [json.dumps(REPORT), "normal"]


def test_both_distributions_fit_into_one_environment_and_each_can_be_removed(wheels: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "both")
    python = tmp_path / "both/bin/python"
    pip = (sys.executable, "-m", "pip", "--python", python)
    run(*pip, "install", "--no-index", "--no-deps", *sorted(wheels.iterdir()))
    versions = "import importlib.metadata as m; print(m.version('mabeam'), m.version('mabeam-agent'))"
    assert run(python, "-c", versions).stdout.split() == [__version__, __version__]
    assert {"mabeam", "mabeam-agent"} <= {path.name for path in (tmp_path / "both/bin").iterdir()}
    run(*pip, "uninstall", "--yes", "mabeam")
    assert run(python, "-c", "import mabeam; print(mabeam.__version__)").stdout.strip() == __version__
    assert (tmp_path / "both/bin/mabeam-agent").exists()


# ---- in an image of one's own


def documented_dockerfile() -> str:
    (text,) = re.findall(r"```dockerfile\n(.*?)```", PAGE, re.DOTALL)
    return str(text)


def test_the_documented_dockerfile_takes_the_sdk_by_its_name_and_runs_as_nobody_special() -> None:
    text = documented_dockerfile()
    assert re.search(r"^RUN pip install .*\bmabeam-agent$", text, re.MULTILINE)
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", text, re.MULTILINE)


def stand_in_for_python_slim(builder: str, folder: Path) -> str:
    """The name of an image, whose Dockerfile is written here: Debian's Python, whose pip wants a flag, without an index."""
    folder.mkdir()
    environment = "PIP_BREAK_SYSTEM_PACKAGES=1 PIP_NO_INDEX=1 PIP_ROOT_USER_ACTION=ignore"
    (folder / "Dockerfile").write_text(f"FROM localhost/{builder}\nENV {environment}\n")
    return "localhost/mabeam-test-python"


@pytest.mark.e2e
def test_the_documented_dockerfile_makes_an_image_that_runs_an_agent(index: Path, tmp_path: Path) -> None:
    (tmp_path / "context/press").mkdir(parents=True)
    (tmp_path / "context/press/writer.py").write_text(WRITER)
    (tmp_path / "context/Dockerfile").write_text(documented_dockerfile())
    shutil.copytree(index, tmp_path / "context/dist")
    build = load("image_build", ROOT / "hack/image/build")
    build.install_missing()
    cache = build.cache_folder()
    buildah = ("buildah", "--root", cache / "storage", "--runroot", cache / "run")
    with build.held(cache / "lock"):
        base = stand_in_for_python_slim(build.bases(buildah, cache)[1], tmp_path / "base")
        run(*buildah, "bud", "--quiet", "--tag", base, tmp_path / "base")
        image = "localhost/mabeam-test-press"
        arguments = ("--isolation", "chroot", "--build-arg", f"BASE={base}", "--tag", image)
        run(*buildah, "bud", *arguments, tmp_path / "context")
        container = run(*buildah, "from", image).stdout.strip()
        try:
            command = ("mabeam-agent", "run", "press.writer:Writer", "--port", "0")
            done = run(*buildah, "run", "--isolation", "chroot", container, "--", *command)
        finally:
            run(*buildah, "rm", container)
            run(*buildah, "rmi", image, base)
    assert f"last report: {json.dumps(REPORT)}" in done.stdout


def test_the_virtual_environment_of_the_repository_installs_both() -> None:
    installs = re.findall(r"--editable (\S+)", (ROOT / "Makefile").read_text())
    assert installs == [".", "packages/mabeam-agent"]


def test_a_wheel_is_built_of_nothing_that_lies_outside_of_its_inputs() -> None:
    dist = load("dist", ROOT / "hack/dist.py")
    assert all((ROOT / name).exists() for name in dist.INPUTS)
    assert os.path.samefile(ROOT / "packages/mabeam-agent/LICENSE", ROOT / "LICENSE")
