"""`make scan`: nothing is skipped without a reason, and a scanner that could not ask has not said "nothing found"."""

import importlib.util
import json
import re
import subprocess
from types import ModuleType
from typing import Any

import pytest
import yaml

from support.rendered import ROOT

CHECKOV = (ROOT / ".checkov.yaml").read_text()
SOUND = {"name": "aiohttp", "version": "3.14.5", "vulns": []}
UNKNOWN = {"name": "aiohttp", "skip_reason": "Dependency not found on PyPI and could not be audited: aiohttp (3.14.5)"}
BROKEN = {"name": "yarl", "version": "1.0", "vulns": [{"id": "PYSEC-0000-1", "fix_versions": ["1.1"]}]}


@pytest.fixture(name="scan", scope="module")
def the_program_as_a_module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hack_scan", ROOT / "hack/scan.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def answer(*packages: dict[str, Any]) -> "subprocess.CompletedProcess[str]":
    """pip-audit's, which exits with 0 also when it knew none of the packages."""
    return subprocess.CompletedProcess([], 0, json.dumps({"dependencies": packages, "fixes": []}), "")


def test_every_check_that_checkov_leaves_out_has_its_reason() -> None:
    lines = re.findall(r"^- (\S+)(.*)$", CHECKOV, flags=re.MULTILINE)
    assert [name for name, _ in lines] == yaml.safe_load(CHECKOV)["skip-check"]
    assert all(re.fullmatch(r" +# .{20,}", reason) for _, reason in lines)


def test_packages_that_are_known_to_be_sound_pass(scan: ModuleType) -> None:
    assert scan.judged(answer(SOUND)) == ""


def test_a_vulnerability_is_named_even_beside_packages_nobody_knows(scan: ModuleType) -> None:
    assert scan.judged(answer(UNKNOWN, BROKEN, SOUND)) == "yarl 1.0: PYSEC-0000-1, fixed in 1.1"


@pytest.mark.parametrize(
    "said",
    [answer(UNKNOWN), answer(SOUND, UNKNOWN), answer(), subprocess.CompletedProcess([], 1, "", "no route to host")],
    ids=["unknown", "partly unknown", "nothing looked at", "unreachable"],
)
def test_an_advisory_service_that_did_not_answer_is_no_pass(
    scan: ModuleType, said: "subprocess.CompletedProcess[str]"
) -> None:
    with pytest.raises(scan.NotAsked):
        scan.judged(said)


@pytest.mark.parametrize(("words", "code"), [([], 0), (["--need-advisories"], 1)], ids=["told", "needed"])
def test_it_is_said_aloud_and_can_be_made_a_failure(
    scan: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    code: int,
) -> None:
    def nobody() -> str:
        raise scan.NotAsked("no route to host")

    monkeypatch.setattr(scan, "OFFLINE", {"bandit": lambda: ""})
    monkeypatch.setattr(scan, "ONLINE", {"pip-audit": nobody})
    assert scan.main(words) == code
    assert "pip-audit: NOT CHECKED, no advisory service answered (no route to host)" in capsys.readouterr().out


def test_what_a_scanner_finds_is_told_and_fails(
    scan: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(scan, "OFFLINE", {"bandit": lambda: "a hole", "checkov": lambda: ""})
    assert scan.main(["--offline"]) == 1
    assert capsys.readouterr().out.splitlines() == ["· bandit: a hole", "· checkov: nothing found"]


def test_the_scanners_are_locked_by_hash_and_name_no_index() -> None:
    for name in ("scan", "sbom", "run", "dev"):
        locked = (ROOT / f"requirements/{name}.txt").read_text()
        packages = re.findall(r"^[a-z0-9][^ \n]*==\S+ \\\n    --hash=sha256:[0-9a-f]{64}", locked, flags=re.MULTILINE)
        assert len(packages) == len(re.findall(r"^[a-z0-9]", locked, flags=re.MULTILINE)) > 0
        assert not re.search(r"--(extra-)?index-url|--find-links|--trusted-host", locked)
