"""Which binaries the embedded cluster builds, and when it may use the ones it has."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from embedded import debian, tools
from embedded.errors import ClusterError
from embedded.tools import FAMILIES, Family, Toolbox, cache_key, supervisors_by_name


@dataclass(frozen=True)
class Moved(Family):
    """A family whose sources are somewhere else."""

    place: Path = Path()

    @property
    def directory(self) -> Path:
        return self.place


def moved(directory: Path) -> Moved:
    family = FAMILIES[1]
    return Moved(family.name, family.packages, family.variables, directory)


def test_every_family_is_pinned() -> None:
    for family in FAMILIES:
        assert (family.directory / "go.mod").is_file()
        if family.name not in ("pause", "probe"):
            assert (family.directory / "go.sum").is_file()


def test_versions_are_those_of_the_modules() -> None:
    wanted = {"kubernetes": tools.KUBERNETES, "etcd": tools.ETCD, "kwok": tools.KWOK, "helm": tools.HELM}
    for name, version in wanted.items():
        pins = (tools.SOURCE / "go" / name / "go.mod").read_text().splitlines()
        assert any(line.startswith("require ") and line.endswith(f" {version}") for line in pins), name


def test_staging_modules_are_replaced_by_the_same_release() -> None:
    pins = (tools.SOURCE / "go" / "kubernetes" / "go.mod").read_text().splitlines()
    versions = {line.split()[-1] for line in pins if "=>" in line}
    assert versions == {tools.KUBERNETES.replace("v1.", "v0.")}


def test_key_is_the_same_in_every_clone(tmp_path: Path) -> None:
    shutil.copytree(FAMILIES[1].directory, tmp_path / "clone")
    assert cache_key(moved(tmp_path / "clone"), "go1.26.8") == cache_key(FAMILIES[1], "go1.26.8")


@pytest.mark.parametrize("name", ["go.mod", "go.sum", "tools.go"])
def test_key_changes_with_every_source(tmp_path: Path, name: str) -> None:
    shutil.copytree(FAMILIES[1].directory, tmp_path / "clone")
    family = moved(tmp_path / "clone")
    before = cache_key(family, "go1.26.8")
    (family.directory / name).write_text((family.directory / name).read_text() + "\n")
    assert cache_key(family, "go1.26.8") != before


def test_key_changes_with_go_and_flags() -> None:
    family = FAMILIES[0]
    before = cache_key(family, "go1.26.8")
    assert cache_key(family, "go1.26.9") != before
    assert cache_key(replace(family, variables={"a": "b"}), "go1.26.8") != before


def test_tools_that_are_there_are_not_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "go_version", lambda: "go1.26.8")
    box = Toolbox(tmp_path)
    for tool in ("etcd", "kubectl"):
        box.path(tool).parent.mkdir(parents=True, exist_ok=True)
        box.path(tool).write_text("")
    assert set(box.ensure(["etcd", "kubectl", "etcd"])) == {"etcd", "kubectl"}
    assert not (tmp_path / "bin" / ".lock").exists()


def test_a_failed_build_says_what_go_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "go"
    fake.write_text("#!/bin/sh\necho 'go: go.mod requires go >= 1.26.0 (running go 1.20)' >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setattr(tools, "go_command", lambda: str(fake))
    monkeypatch.setattr(tools, "go_version", lambda: "go1.20")
    with pytest.raises(ClusterError, match=r"could not build etcd .*running go 1\.20"):
        Toolbox(tmp_path / "cache").ensure(["etcd"])
    assert list((tmp_path / "cache" / "bin").glob(".build-*")) == []


def test_without_go_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "go_command", lambda: "")
    with pytest.raises(ClusterError, match="CLUSTER=current"):
        tools.go_version()


def test_unknown_tool_lists_the_known_ones() -> None:
    with pytest.raises(ClusterError, match="kubectl"):
        supervisors_by_name("kubctl")


def test_the_kwok_stages_end_no_job() -> None:
    stages = (tools.SOURCE / "kwok" / "stages.yaml").read_text()
    assert "name: pod-ready" in stages
    assert "phase: Succeeded" not in stages


# --- programs out of Debian's packages -------------------------------------------------------------------------------


@pytest.fixture(name="apt")
def a_debian_of_our_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an `apt-get` and a `dpkg-deb` that note what they are asked, on a PATH of their own."""
    programs = tmp_path / "programs"
    programs.mkdir()
    log = tmp_path / "log"
    for name, act in (
        ("apt-get", "touch prometheus_1_amd64.deb"),
        ("dpkg-deb", 'mkdir -p "$3/usr/bin"; touch "$3/usr/bin/prometheus"'),
    ):
        (programs / name).write_text(f'#!/bin/sh\necho "{name} $*" >> {log}\n{act}\n')
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    return log


def test_a_package_is_fetched_and_unpacked_once_and_never_installed(tmp_path: Path, apt: Path) -> None:
    path = debian.ensure("prometheus", tmp_path / "cache")
    assert path.is_file()
    assert path.is_relative_to(tmp_path / "cache")
    assert debian.ensure("prometheus", tmp_path / "cache") == path
    assert [line.split()[0] for line in apt.read_text().splitlines()] == ["apt-get", "dpkg-deb"]
    assert "install" not in apt.read_text()
    assert sorted(found.name for found in (tmp_path / "cache/debian").iterdir()) == [".lock", "prometheus"]


def test_a_package_without_its_program_is_told(tmp_path: Path, apt: Path) -> None:
    (apt.parent / "programs/dpkg-deb").write_text('#!/bin/sh\nmkdir -p "$3"\n')
    with pytest.raises(ClusterError, match="package prometheus has no program usr/bin/prometheus"):
        debian.ensure("prometheus", tmp_path / "cache")


def test_where_there_is_no_apt_the_program_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ClusterError, match="there is no apt-get here"):
        debian.ensure("prometheus", tmp_path / "cache")
