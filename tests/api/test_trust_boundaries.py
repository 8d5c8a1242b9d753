"""What an author of Agents cannot reach through the operator, on a real apiserver."""

import asyncio
import json
from typing import Final

import pytest

from mabeam.shell.kube.client import Client
from mabeam.shell.kube.connection import connect
from mabeam.shell.kube.errors import ApiError
from support.kube import Kube

# Every one of them is a `reports.path` that the CRD admits; resolved, each would be a document of the apiserver's own.
AWAY: Final = (
    "/../../../../../../../version",
    "/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/version",
    "/..%2f..%2f..%2f..%2f..%2f..%2f..%2fversion",
    "//../../../../../../../../version",
    "/./../../../../../../.././version",
)


def report_of(kube: Kube, path: str) -> bytes:
    """What the operator, outside of the cluster, reads at that path of a pod that does not exist."""

    async def read() -> bytes:
        async with Client(await connect()) as cluster:
            return await cluster.read_report(kube.namespace, "no-pod", 9464, path, 4096)

    return asyncio.run(read())


@pytest.mark.parametrize("path", AWAY)
def test_a_report_path_full_of_dots_leads_nowhere_but_to_its_pod(kube: Kube, path: str) -> None:
    assert json.loads(kube.run("get", "--raw", "/version"))["major"] == "1"
    document = {
        "apiVersion": "mabeam.dev/v1alpha1",
        "kind": "Agent",
        "metadata": {"name": "a"},
        "spec": {"module": "annealers.executor:Executor", "reports": {"path": path}},
    }
    kube.run("create", "--dry-run=server", "-f", "-", stdin=json.dumps(document))
    with pytest.raises(ApiError) as refused:
        report_of(kube, path)
    assert (refused.value.status, refused.value.message) == (404, "HTTP 404 from no-pod")


@pytest.mark.parametrize(
    "metadata",
    [
        {"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "a", "uid": "u", "controller": True}]},
        {"finalizers": ["example.org/never"]},
        {"name": "other", "namespace": "kube-system"},
    ],
    ids=["owner", "finalizer", "name"],
)
def test_a_template_gives_its_pods_no_owner_no_finalizer_and_no_name(kube: Kube, metadata: dict[str, object]) -> None:
    template = {"metadata": metadata, "spec": {"containers": [{"name": "agent", "image": "nothing:1"}]}}
    document = {
        "apiVersion": "mabeam.dev/v1alpha1",
        "kind": "Agent",
        "metadata": {"name": "a"},
        "spec": {"template": template},
    }
    words = ("create", "--dry-run=server", "--validate=ignore", "-o", "json", "-f", "-")
    stored = json.loads(kube.run(*words, stdin=json.dumps(document)))
    assert stored["spec"]["template"]["metadata"] == {}
