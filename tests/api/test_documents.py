"""Every manifest that is shown and every sample, on a real apiserver: taken as it is, and given back unchanged."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from support.kube import JsonDict, Kube, namespace

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/coordination.md").read_text()
SAMPLES = sorted(path for path in (ROOT / "manifests/samples").glob("*.yaml") if path.name != "kustomization.yaml")
DOCUMENTS: dict[str, JsonDict] = {
    f"{source}: {document['kind']}/{document['metadata']['name']}": document
    for source, text in (
        *(("coordination.md", text) for text in re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)),
        *((path.name, path.read_text()) for path in SAMPLES),
    )
    for document in yaml.safe_load_all(text)
}
PLURALS = {"Agent": "mba", "OrchestrationVariable": "mov", "Supervisor": "msup"}
# What the CRDs themselves put in where it is left out (`x-crd-default` in the models).
DEFAULTS: dict[str, JsonDict] = {
    "Agent": {"replicas": 1, "restartStrategy": "Permanent"},
    "OrchestrationVariable": {"type": "Parameter"},
    "Supervisor": {"strategy": "OneForOne", "maxRestarts": 3, "periodSeconds": 60},
}


def stored(document: JsonDict) -> JsonDict:
    """The spec as the apiserver is to give it back."""
    spec: JsonDict = DEFAULTS[document["kind"]] | document["spec"]
    if document["kind"] == "Supervisor":
        spec["children"] = [{"kind": "Agent"} | child for child in spec["children"]]
    return spec


@pytest.fixture(scope="module")
def quiet(crds: None) -> Iterator[Kube]:
    """A namespace that takes no pods: an operator that runs on this cluster starts nothing of all this."""
    with namespace("mabeam-documents") as kube:
        nothing = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "nothing"}}
        kube.apply(nothing | {"spec": {"hard": {"pods": "0"}}})
        yield kube


def test_there_is_something_to_be_tried() -> None:
    assert {document["kind"] for document in DOCUMENTS.values()} == set(PLURALS)
    assert len(DOCUMENTS) > 30


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_manifest_is_taken_and_given_back_unchanged(quiet: Kube, name: str) -> None:
    document = DOCUMENTS[name]
    quiet.apply(document)
    found = quiet.get(PLURALS[document["kind"]], document["metadata"]["name"])
    assert found["spec"] == stored(document)
    meta = document["metadata"]
    assert found["metadata"].get("labels", {}) == meta.get("labels", {})
    assert meta.get("annotations", {}).items() <= found["metadata"]["annotations"].items()


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_manifest_that_is_applied_again_changes_nothing(quiet: Kube, name: str) -> None:
    """As a GitOps tool does it, every few minutes: no new generation, so nothing for the operator to do."""
    document = DOCUMENTS[name]
    place = PLURALS[document["kind"]], document["metadata"]["name"]
    quiet.apply(document)
    before = quiet.get(*place)["metadata"]["generation"]
    quiet.apply(document)
    assert quiet.get(*place)["metadata"]["generation"] == before
