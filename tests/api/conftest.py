"""The tests in this folder talk to a real apiserver; `make test-api` runs them."""

import json
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.kube import Kube, namespace, until

ROOT = Path(__file__).resolve().parents[2]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.api)


@pytest.fixture(scope="session")
def crds() -> None:
    """The CRDs as shipped, applied server-side and established."""
    cluster = Kube("default")
    files = sorted(str(path) for path in (ROOT / "crds").glob("*.mabeam.dev.yaml"))
    for path in files:
        cluster.run("apply", "--server-side", "--force-conflicts", "-f", path)
    for plural in ("agents", "orchestrationvariables", "supervisors"):
        until(
            f"{plural} established",
            lambda plural=plural: any(
                c["type"] == "Established" and c["status"] == "True"
                for c in json.loads(cluster.run("get", "crd", f"{plural}.mabeam.dev", "-o", "json"))["status"][
                    "conditions"
                ]
            ),
        )


@pytest.fixture(scope="session")
def kube(crds: None) -> Iterator[Kube]:
    """A namespace without an operator's attention: only the apiserver's judgement counts here."""
    with namespace(f"mabeam-api-{secrets.token_hex(3)}") as ours:
        yield ours
