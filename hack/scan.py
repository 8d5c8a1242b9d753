#!/usr/bin/env python3
"""The security scans; run by `make scan`. Exit code 0 only when no scanner found anything.

    bandit      the operator's source, by the settings in pyproject.toml
    checkov     what helm and kustomize render, by .checkov.yaml
    pip-audit   requirements/run.txt against known vulnerabilities; left out with --offline

pip-audit needs an advisory service. Where none answers, that is said and is no pass; --need-advisories makes it a failure.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

ROOT = Path(__file__).resolve().parents[1]
BIN = ROOT / ".venv-scan/bin"
LOCKED = ROOT / "requirements/run.txt"
OUTPUTS: Final[dict[str, tuple[str, ...]]] = {
    "chart": ("helm", "template", "mabeam", "charts/mabeam", "--namespace", "mabeam-system"),
    "chart-namespaced": (
        "helm", "template", "mabeam", "charts/mabeam", "--namespace", "mabeam-system", "--set", "watch.namespaces={red,blue}",
        "--set", "replicas=2", "--set", "admissionPolicy.enabled=true", "--set", "networkPolicy.enabled=true",
    ),
    "base": ("kubectl", "kustomize", "manifests/base"),
    "namespaced": ("kubectl", "kustomize", "manifests/overlays/namespaced"),
    "samples": ("kubectl", "kustomize", "manifests/samples"),
}  # fmt: skip
AUDIT: Final = ("--disable-pip", "--format", "json", "--progress-spinner", "off", "--timeout", "10")
PATIENCE: Final = 300


class NotAsked(Exception):
    """No advisory service answered; the reason."""


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """The ended process, with what it printed."""
    words = [str(word) for word in command]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False)


def bandit() -> str:
    """What bandit found in the operator's source; empty when nothing."""
    ended = run(BIN / "bandit", "--quiet", "--recursive", "--configfile", "pyproject.toml", "operator")
    return "" if ended.returncode == 0 else ended.stdout + ended.stderr


def checkov() -> str:
    """What checkov found in the rendered manifests; empty when nothing."""
    with tempfile.TemporaryDirectory() as folder:
        for name, command in OUTPUTS.items():
            (Path(folder) / f"{name}.yaml").write_text(rendered(command))
        ended = run(BIN / "checkov", "--config-file", ".checkov.yaml", "--directory", folder)
    return "" if ended.returncode == 0 else ended.stdout + ended.stderr


def rendered(command: Sequence[str]) -> str:
    """The manifests, by a tool that hack/cluster builds."""
    tool = subprocess.run(
        [ROOT / "hack/cluster/cluster", "bin", command[0]], check=True, stdout=subprocess.PIPE, text=True
    )
    ended = run(tool.stdout.strip(), *command[1:])
    if ended.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed:\n{ended.stderr}")
    return ended.stdout


def pip_audit() -> str:
    """The known vulnerabilities of the locked libraries; empty when there are none; raises NotAsked."""
    with tempfile.TemporaryDirectory() as folder:
        # An index without advisories says "not found" to each question, and pip-audit then passes: one question is enough.
        probe = Path(folder) / "one.txt"
        probe.write_text(next(line.split(" ")[0] for line in LOCKED.read_text().splitlines() if "==" in line) + "\n")
        judged(run(BIN / "pip-audit", "--requirement", probe, "--no-deps", *AUDIT))
    return judged(run(BIN / "pip-audit", "--requirement", LOCKED, "--require-hashes", *AUDIT))


def judged(ended: subprocess.CompletedProcess[str]) -> str:
    """The vulnerabilities in pip-audit's answer, a line each; raises NotAsked when there are none and some package is unknown."""
    try:
        packages = json.loads(ended.stdout)["dependencies"]
    except (ValueError, KeyError):
        reason = (ended.stderr.strip().splitlines() or ["no answer"])[-1]
        raise NotAsked(reason) from None
    found = [
        f"{package['name']} {package['version']}: {known['id']}, fixed in {', '.join(known['fix_versions']) or 'no version'}"
        for package in packages
        for known in package.get("vulns", ())
    ]
    unknown = [package["skip_reason"] for package in packages if "skip_reason" in package]
    if not found and (unknown or not packages):
        raise NotAsked(f"{len(unknown)} of {len(packages)} packages: {unknown[0] if unknown else 'none was looked at'}")
    return "\n".join(found)


OFFLINE: Final[dict[str, Callable[[], str]]] = {"bandit": bandit, "checkov": checkov}
ONLINE: Final[dict[str, Callable[[], str]]] = {"pip-audit": pip_audit}


def main(arguments: Sequence[str]) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="hack/scan.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--offline", action="store_true", help="leave out what asks an advisory service")
    parser.add_argument("--need-advisories", action="store_true", help="fail when no advisory service answers")
    options = parser.parse_args(arguments)
    failed = False
    for name, scan in (OFFLINE if options.offline else OFFLINE | ONLINE).items():
        try:
            found = scan()
        except NotAsked as reason:
            print(f"· {name}: NOT CHECKED, no advisory service answered ({reason})")
            failed |= options.need_advisories
            continue
        print(f"· {name}: {found or 'nothing found'}")
        failed |= bool(found)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
