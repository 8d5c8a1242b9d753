#!/usr/bin/env python3
"""Writes what comes from the code: the CRDs and the RBAC rules, and every copy of them. Run by `make generate`.

    crds/*.yaml, charts/mabeam/files/crds/*.yaml   what `mabeam crds` prints
    charts/mabeam/files/rbac-SCOPE.yaml            what `mabeam rbac --scope SCOPE` prints
    manifests/base/role-SCOPE.yaml                 the same rules, below the object's own header

With --check nothing is written; exit code 1 and the names of the files that are out of date.
"""

import sys
from pathlib import Path

sys.dont_write_bytecode = True
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "operator"))

from mabeam.api.crd import all_definitions  # noqa: E402 - the path has to be set first
from mabeam.cli import dump_yaml  # noqa: E402
from mabeam.shell.kube import rbac  # noqa: E402

CRD_FOLDERS = (ROOT / "crds", ROOT / "charts/mabeam/files/crds")
RULES = {"workload": rbac.WORKLOAD_RULES, "nodes": rbac.NODE_RULES, "lease": rbac.LEASE_RULES}


def wanted() -> dict[Path, str]:
    """Every generated file and its text."""
    files = ROOT / "charts/mabeam/files"
    definitions = {f"{crd['metadata']['name']}.yaml": dump_yaml(crd) for crd in all_definitions()}
    found = {folder / name: text for folder in CRD_FOLDERS for name, text in definitions.items()}
    found[ROOT / "crds/kustomization.yaml"] = dump_yaml(
        {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": sorted(definitions)}
    )
    for scope, rules in RULES.items():
        text = dump_yaml({"rules": [rule.to_wire() for rule in rules]})
        role = ROOT / f"manifests/base/role-{scope}.yaml"
        header = role.read_text().partition("rules:")[0]
        found |= {files / f"rbac-{scope}.yaml": text, role: header + text}
    return found


def main(arguments: list[str]) -> int:
    """The exit code."""
    files = wanted()
    stale = {path for path, text in files.items() if not path.exists() or path.read_text() != text}
    gone = {path for folder in CRD_FOLDERS for path in folder.glob("*.yaml")} - set(files)
    if arguments == ["--check"]:
        for path in sorted(stale | gone):
            print(f"out of date: {path.relative_to(ROOT)}; run `make generate`")
        return 1 if stale | gone else 0
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(files[path])
    for path in gone:
        path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
