"""What helm and kustomize make of the chart and the manifests, read as objects."""

import json
import re
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts/mabeam"
MANIFESTS = ROOT / "manifests"
NAMESPACE = "mabeam-system"

Document = dict[str, Any]


class Yaml(yaml.SafeLoader):
    """YAML as Kubernetes reads it: 1e-09, as kustomize writes it, is a number."""


Yaml.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+$"), list("-+0123456789"))


@cache
def tool(name: str) -> str:
    """The path of a tool that hack/cluster builds."""
    command = [str(ROOT / "hack/cluster/cluster"), "bin", name]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def helm(*arguments: str, values: Mapping[str, Any] | None = None) -> subprocess.CompletedProcess[str]:
    """What helm says to these arguments; the values are given as a file on standard input."""
    given = ["--values", "-"] if values is not None else []
    return subprocess.run(
        [tool("helm"), *arguments, *given],
        input=json.dumps(values) if values is not None else "",
        capture_output=True,
        text=True,
        check=False,
    )


def chart(values: Mapping[str, Any] | None = None) -> list[Document]:
    """The chart's objects with these values."""
    answer = helm("template", "mabeam", str(CHART), "--namespace", NAMESPACE, values=values or {})
    assert answer.returncode == 0, answer.stderr
    return [document for document in yaml.safe_load_all(answer.stdout) if document]


def kustomized(folder: Path) -> list[Document]:
    """What kustomize makes of a folder."""
    answer = subprocess.run([tool("kubectl"), "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    return list(yaml.load_all(answer.stdout, Yaml))


def of_kind(documents: list[Document], *kinds: str) -> list[Document]:
    """The objects of these kinds."""
    return [document for document in documents if document["kind"] in kinds]


def the(documents: list[Document], kind: str, name: str | None = None) -> Document:
    """The one object of a kind (and name)."""
    (found,) = [d for d in of_kind(documents, kind) if name is None or d["metadata"]["name"] == name]
    return found
