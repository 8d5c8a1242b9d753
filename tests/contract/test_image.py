"""The image: what its build may know, what it holds, and when it is built again."""

import email
import importlib.util
import json
import os
import re
import shutil
import subprocess
import tarfile
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mabeam import __version__

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "hack/image/build"
DOCKERFILE = (ROOT / "Dockerfile").read_text()
MOST_BYTES = 195_000_000
BILL = "/usr/share/doc/mabeam/sbom.cdx.json"
METADATA = ".dist-info/METADATA"


@pytest.fixture(name="build", scope="module")
def build_as_a_module() -> ModuleType:
    loader = SourceFileLoader("image_build", str(BUILD))
    spec = importlib.util.spec_from_loader("image_build", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


@pytest.fixture(name="tree")
def copy_of_the_inputs(build: ModuleType, tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    build.snapshot(ROOT, tree)
    (tree / "hack/image").mkdir(parents=True)
    shutil.copy2(BUILD, tree / "hack/image/build")
    shutil.copytree(ROOT / "hack/cluster/embedded", tree / "hack/cluster/embedded")
    return tree


@pytest.fixture(name="quiet")
def without_pips_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    for name in [*os.environ]:
        if name.startswith("PIP_") or name in {"REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"}:
            monkeypatch.delenv(name)
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "none"))
    return monkeypatch


def tag_of(tree: Path, *arguments: str) -> str:
    command = [str(tree / "hack/image/build"), "--print-tag", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def last_stage() -> str:
    return re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)[-1]


# ---- the tag


def test_the_tag_is_made_of_the_content(tree: Path) -> None:
    first = tag_of(tree)
    assert re.fullmatch(r"mabeam:[0-9a-f]{12}", first)
    assert tag_of(tree) == first


@pytest.mark.parametrize(
    "name",
    [
        "Dockerfile",
        "requirements/run.txt",
        "pyproject.toml",
        "operator/mabeam/__init__.py",
        "examples/annealers/annealers/__init__.py",
        "hack/image/build",
    ],
)
def test_any_change_of_an_input_changes_the_tag(tree: Path, name: str) -> None:
    before = tag_of(tree)
    with (tree / name).open("a") as file:
        file.write("# more\n")
    assert tag_of(tree) != before


def test_a_new_file_changes_the_tag_and_bytecode_does_not(tree: Path) -> None:
    before = tag_of(tree)
    (tree / "operator/mabeam/__pycache__").mkdir()
    (tree / "operator/mabeam/__pycache__/x.cpython-311.pyc").write_bytes(b"x")
    (tree / "docs").mkdir()
    (tree / "docs/more.md").write_text("more")
    assert tag_of(tree) == before
    (tree / "operator/mabeam/more.py").write_text("")
    assert tag_of(tree) != before


def test_a_name_can_be_chosen(tree: Path) -> None:
    assert tag_of(tree, "--tag", "mabeam:dev") == "mabeam:dev"


def test_a_missing_input_is_named(tree: Path) -> None:
    shutil.rmtree(tree / "examples")
    answer = subprocess.run(
        [str(tree / "hack/image/build"), "--print-tag"], capture_output=True, text=True, check=False
    )
    assert answer.returncode == 1
    assert "examples/annealers/annealers is missing" in answer.stderr


# ---- the Dockerfile


def test_the_image_runs_as_a_numbered_user_who_is_not_root() -> None:
    (user,) = re.findall(r"^USER (.+)$", last_stage(), flags=re.MULTILINE)
    assert re.fullmatch(r"[1-9][0-9]+:[1-9][0-9]+", user)


def test_the_last_stage_runs_nothing_so_that_its_base_needs_no_shell() -> None:
    assert re.findall(r"^(RUN|ENTRYPOINT)\b", last_stage(), flags=re.MULTILINE) == []
    assert 'CMD ["mabeam", "run"]' in last_stage()


def test_every_library_is_installed_by_its_hash() -> None:
    lines = DOCKERFILE.replace("\\\n", " ")
    installs = re.findall(r"pip --python \S+ install (.+?)(?:&&|$)", lines, flags=re.MULTILINE)
    hashed = [words for words in installs if "--require-hashes" in words]
    (program,) = set(installs) - set(hashed)
    assert [re.findall(r"-r (\S+)", words) for words in hashed] == [["requirements/run.txt"], ["requirements/sbom.txt"]]
    assert "--no-deps" in program


def test_pips_settings_are_secrets_of_the_build_and_never_arguments() -> None:
    assert set(re.findall(r"^ARG (\w+)", DOCKERFILE, flags=re.MULTILINE)) == {"BASE", "BUILDER", "VERSION"}
    assert set(re.findall(r"type=secret,id=(\w+)", DOCKERFILE)) == {"pip", "ca"}


def test_the_image_carries_the_version_of_the_operator() -> None:
    assert f"ARG VERSION={__version__}\n" in last_stage()


def test_the_dockerfile_copies_the_inputs_and_the_context_lets_them_in(build: ModuleType) -> None:
    copied = {
        word
        for line in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, flags=re.MULTILINE)
        for word in line.split()
    }
    assert copied | {"Dockerfile"} == set(build.INPUTS)
    allowed = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), flags=re.MULTILINE)
    assert all(any(name == way or name.startswith(f"{way}/") for way in allowed) for name in copied)


# ---- what pip is told


def test_pip_is_told_of_this_machines_index_and_certificates(
    build: ModuleType, quiet: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bundle = tmp_path / "ca.crt"
    bundle.write_text("certificates")
    quiet.setenv("PIP_INDEX_URL", "https://user:secret@index.example.org/simple")
    quiet.setenv("PIP_CERT", str(bundle))
    options = build.build_secrets(tmp_path)
    assert options == ["--secret", f"id=ca,src={bundle}", "--secret", f"id=pip,src={tmp_path / 'pip.conf'}"]
    told = (tmp_path / "pip.conf").read_text()
    assert "index-url = https://user:secret@index.example.org/simple" in told
    assert "cert = /run/secrets/ca.crt" in told
    assert "secret" not in " ".join(options).replace("--secret", "")


def test_pips_environment_wins_over_its_files(build: ModuleType, quiet: pytest.MonkeyPatch, tmp_path: Path) -> None:
    written = tmp_path / "pip.conf"
    written.write_text("[global]\nindex-url = https://one.example.org\ntimeout = 5\nrequire-virtualenv = true\n")
    quiet.setenv("PIP_CONFIG_FILE", str(written))
    assert build.pip_settings()["index-url"] == "https://one.example.org"
    quiet.setenv("PIP_INDEX_URL", "https://two.example.org")
    assert build.pip_settings()["index-url"] == "https://two.example.org"
    assert "require-virtualenv" not in build.pip_settings()


def test_folders_of_this_machine_are_not_looked_for_inside_the_build(
    build: ModuleType, quiet: pytest.MonkeyPatch
) -> None:
    quiet.setenv("PIP_FIND_LINKS", "/some/wheels https://links.example.org")
    assert build.pip_settings()["find-links"] == "https://links.example.org"
    quiet.setenv("PIP_FIND_LINKS", "/some/wheels")
    assert "find-links" not in build.pip_settings()


# ---- the image itself


class Archive:
    """A docker-archive, read."""

    def __init__(self, path: Path) -> None:
        with tarfile.open(path) as outer:
            (self.manifest,) = json.load(outer.extractfile("manifest.json"))  # type: ignore[arg-type]
            self.config: dict[str, Any] = json.load(outer.extractfile(self.manifest["Config"]))  # type: ignore[arg-type]
            self.files: dict[str, tarfile.TarInfo] = {}
            self.texts: dict[str, str] = {}
            for name in self.manifest["Layers"]:
                self._read(outer, name)

    def _read(self, outer: tarfile.TarFile, name: str) -> None:
        with tarfile.open(fileobj=outer.extractfile(name)) as layer:
            for member in layer:
                path = "/" + member.name.removeprefix("./").strip("/")
                self.files[path] = member
                if member.isfile() and (path.startswith("/etc/") or path.endswith(METADATA) or path == BILL):
                    self.texts[path] = layer.extractfile(member).read().decode(errors="replace")  # type: ignore[union-attr]


@pytest.fixture(name="image", scope="module")
def the_built_image() -> Archive:
    answer = subprocess.run([str(BUILD)], check=True, stdout=subprocess.PIPE, text=True)
    return Archive(Path(answer.stdout.strip().splitlines()[-1]))


@pytest.mark.e2e
def test_the_image_is_what_the_pods_ask_for(image: Archive) -> None:
    assert len(image.manifest["RepoTags"]) == 1
    assert image.config["config"]["User"] == "65532:65532"
    assert image.config["config"]["Labels"]["org.opencontainers.image.version"] == __version__
    assert "/opt/mabeam/bin" in image.config["config"]["Env"][0]
    for name in ("mabeam", "mabeam-agent"):
        assert image.files[f"/opt/mabeam/bin/{name}"].mode & 0o111
    assert "/opt/mabeam/lib/python3.11/site-packages/annealers/__init__.py" in image.files


@pytest.mark.e2e
def test_the_image_is_small_and_holds_no_tools_of_its_making(image: Archive) -> None:
    assert sum(member.size for member in image.files.values() if member.isfile()) < MOST_BYTES
    unwanted = re.compile(r"/(site|dist)-packages/(pip|setuptools|pytest|mypy)/|/bin/(gcc|cc|pip3?|apt-get)$")
    assert [path for path in image.files if unwanted.search(path)] == []


@pytest.mark.e2e
def test_every_module_of_the_program_is_compiled(image: Archive) -> None:
    package = "/opt/mabeam/lib/python3.11/site-packages/mabeam/"
    sources = [path for path in image.files if path.startswith(package) and path.endswith(".py")]
    assert sources
    for path in sources:
        folder, _, name = path.rpartition("/")
        assert f"{folder}/__pycache__/{name.removesuffix('.py')}.cpython-311.pyc" in image.files


@pytest.mark.e2e
def test_the_image_knows_nothing_of_the_machine_that_built_it(image: Archive) -> None:
    told = json.dumps(image.config) + "".join(t for path, t in image.texts.items() if not path.endswith(METADATA))
    assert "PIP_" not in told
    for variable in ("PIP_INDEX_URL", "PIP_FIND_LINKS", "HTTP_PROXY", "HTTPS_PROXY"):
        assert not os.environ.get(variable) or os.environ[variable] not in told
    assert not {"/etc/pip.conf", "/etc/resolv.conf", "/run/secrets/ca.crt"} & {
        path for path, member in image.files.items() if member.size
    }


@pytest.mark.e2e
def test_the_bill_of_materials_names_every_distribution_in_the_image_with_its_version_and_licence(
    image: Archive,
) -> None:
    bill = json.loads(image.texts[BILL])
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    told = {item["name"]: item for item in (bill["metadata"]["component"], *bill["components"])}
    there = [email.message_from_string(text) for path, text in image.texts.items() if path.endswith(METADATA)]
    assert {item["Name"]: item["Version"] for item in there} == {name: item["version"] for name, item in told.items()}
    assert {"mabeam", "aiohttp", "kopf", "pydantic"} < set(told)
    for item in there:
        named = item["License-Expression"] or item["License"] or "License ::" in str(item.get_all("Classifier"))
        assert not named or told[item["Name"]]["licenses"]


@pytest.mark.e2e
def test_the_image_does_not_hold_what_made_its_bill_and_lists_debians_packages(image: Archive) -> None:
    assert not [path for path in image.files if "/cyclonedx" in path or path.startswith(("/opt/bill", "/bill"))]
    assert image.files["/var/lib/dpkg/status"].size > 0
