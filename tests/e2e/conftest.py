"""The tests in this folder run on real nodes and containers, with the operator installed by helm; `make test-e2e` runs them."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.release import NAMESPACE, install, uninstall
from support.kube import Kube, namespace

RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session")
def operator() -> Iterator[Kube]:
    """The namespace of the operator, which runs in the cluster as the chart installs it."""
    with namespace(NAMESPACE, RESTRICTED) as kube:
        install()
        yield kube
        uninstall()


@pytest.fixture(scope="module")
def kube(operator: Kube, request: pytest.FixtureRequest) -> Iterator[Kube]:
    """A namespace for the agents of one test module, as strict as Kubernetes has it."""
    module = request.module.__name__.rpartition("test_")[2].replace("_", "-")
    # No earlier run, whose namespace may still be going, has used this name.
    with namespace(f"e2e-{module}-{secrets.token_hex(3)}", RESTRICTED) as kube:
        yield kube
