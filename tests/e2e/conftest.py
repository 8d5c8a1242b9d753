"""The tests in this folder run on real nodes and containers, with the operator installed by helm; `make test-e2e` runs them."""

import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.release import NAMESPACE, install, uninstall
from support.kube import Kube, create_namespace, delete_namespace, namespace
from support.shared import shared

RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session")
def operator(testrun_uid: str) -> Iterator[Kube]:
    """The namespace of the operator, which runs in the cluster as the chart installs it; one for all processes of this run."""

    def up() -> None:
        create_namespace(NAMESPACE, RESTRICTED)
        install()

    def down() -> None:
        uninstall()
        delete_namespace(NAMESPACE)

    with shared(Path(tempfile.gettempdir()) / f"mabeam-tests-{testrun_uid}", up, down):
        yield Kube(NAMESPACE)


@pytest.fixture(scope="module")
def kube(operator: Kube, request: pytest.FixtureRequest) -> Iterator[Kube]:
    """A namespace for the agents of one test module, as strict as Kubernetes has it."""
    module = request.module.__name__.rpartition("test_")[2].replace("_", "-")
    # No earlier run, whose namespace may still be going, has used this name.
    with namespace(f"e2e-{module}-{secrets.token_hex(3)}", RESTRICTED) as kube:
        yield kube
