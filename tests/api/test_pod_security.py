"""Pod Security `restricted`, judged by a real apiserver: what this project makes gets in, what asks for more is told so."""

import json
import secrets
from collections.abc import Iterator
from typing import Any, Final

import pytest
import yaml

from e2e import agents as on_nodes
from mabeam.api.agent import Agent
from mabeam.core.pods.body import PodRequest, pod_body
from mabeam.core.snapshot import PodDefaults
from support.kube import JsonDict, Kube, Refused, condition, namespace, until
from support.operator_process import operator
from support.rendered import MANIFESTS, ROOT, chart, kustomized, the

RESTRICTED: Final = {"pod-security.kubernetes.io/enforce": "restricted"}
SHIPPED: Final = sorted({*(MANIFESTS / "samples").glob("*.yaml"), *(ROOT / "examples").rglob("*.yaml")})
OPERATORS: Final = {
    "the chart": lambda: chart(),
    "the chart with all its extras": lambda: chart({"replicas": 2, "networkPolicy": {"enabled": True}}),
    "the manifests": lambda: kustomized(MANIFESTS / "base"),
    "the namespaced manifests": lambda: kustomized(MANIFESTS / "overlays/namespaced"),
}
NOWHERE: Final = {"test.mabeam.dev/node": "none"}


def shipped_agents() -> dict[str, JsonDict]:
    """Every Agent in the samples and the examples, by file and name."""
    found = {}
    for path in SHIPPED:
        for document in yaml.safe_load_all(path.read_text()):
            if document and document.get("kind") == "Agent":
                found[f"{path.relative_to(ROOT)}: {document['metadata']['name']}"] = document
    return found


DEFAULTS: Final = PodDefaults(image="mabeam:test", image_pull_policy="IfNotPresent")
AGENTS: Final = shipped_agents()


@pytest.fixture(scope="module")
def strict(crds: None) -> Iterator[Kube]:
    """A namespace that enforces `restricted`, with the service account of the operator's pod."""
    with namespace(f"strict-{secrets.token_hex(3)}", RESTRICTED) as kube:
        kube.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "mabeam"}})
        until("the default service account", lambda: kube.find("serviceaccount", "default"))
        yield kube


def pod_of(kube: Kube, document: JsonDict) -> JsonDict:
    """The pod that the operator would make of the Agent in that namespace."""
    uid = {"uid": "00000000-0000-0000-0000-000000000001"}
    metadata = {**document["metadata"], "namespace": kube.namespace, **uid}
    model = Agent.model_validate({**document, "metadata": metadata})
    return pod_body(PodRequest(agent=model, ordinal=0, incarnation=1, defaults=DEFAULTS))


def admit(kube: Kube, pod: JsonDict) -> None:
    """Ask for the pod, without making it; raises Refused with the apiserver's words."""
    kube.run("create", "--dry-run=server", "-f", "-", stdin=json.dumps(pod))


def agent(**spec: Any) -> JsonDict:
    return {"apiVersion": "mabeam.dev/v1alpha1", "kind": "Agent", "metadata": {"name": "a"}, "spec": spec}


def test_the_namespace_refuses_what_asks_for_nothing_of_the_standard(strict: Kube) -> None:
    plain = agent(template={"spec": {"containers": [{"name": "agent", "image": "nothing:1"}]}})
    with pytest.raises(Refused, match='violates PodSecurity "restricted:latest"'):
        admit(strict, pod_of(strict, plain))


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"image": "registry.example.org/mine:1"},
        {"communication": {"interfaces": [{"name": "http", "port": 80}]}, "resources": {"limits": {"memory": "1Gi"}}},
        {"shutdown": {"policy": "Brutal"}, "reports": {"port": 9000}},
    ],
    ids=["alone", "with an image", "with ports and resources", "with a shutdown and reports"],
)
def test_the_pod_of_a_module_agent_is_admitted(strict: Kube, spec: JsonDict) -> None:
    admit(strict, pod_of(strict, agent(module="annealers.executor:Executor", **spec)))


@pytest.mark.parametrize("name", AGENTS)
def test_the_pod_of_every_agent_that_is_shipped_is_admitted(strict: Kube, name: str) -> None:
    admit(strict, pod_of(strict, AGENTS[name]))


def test_the_pods_of_the_tests_on_real_nodes_are_admitted(strict: Kube) -> None:
    admit(strict, pod_of(strict, on_nodes.agent("a")))


@pytest.mark.parametrize("installed", OPERATORS)
def test_the_operators_pod_is_admitted(strict: Kube, installed: str) -> None:
    template = the(OPERATORS[installed](), "Deployment")["spec"]["template"]
    metadata = {**template["metadata"], "name": "operator"}
    admit(strict, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]})


def test_a_template_that_asks_for_privilege_is_refused_in_the_apiservers_words_and_a_modest_one_runs(
    strict: Kube,
) -> None:
    greedy = {"name": "agent", "image": "nothing:1", "securityContext": {"privileged": True}}
    modest = pod_of(strict, agent(module="annealers.executor:Executor"))["spec"]
    security = {"securityContext": modest["securityContext"], "nodeSelector": NOWHERE}
    contained = {"name": "agent", "image": "nothing:1", "securityContext": modest["containers"][0]["securityContext"]}
    with operator(strict):
        strict.apply(agent(template={"spec": {"containers": [greedy], **security}}))
        refused = until("it is refused", lambda: told(strict, "Accepted", "False"))
        assert refused["reason"] == "PodRefused"
        assert 'violates PodSecurity "restricted:latest": privileged' in refused["message"]
        assert told(strict, "Stalled", "True")
        assert strict.list("pod") == []
        strict.apply(agent(template={"spec": {"containers": [contained], **security}}))
        until("its pod", lambda: strict.find("pod", "a-0-1"))
        until("it is accepted", lambda: told(strict, "Accepted", "True"))


def told(kube: Kube, type_: str, status: str) -> JsonDict:
    """The Agent's condition, while it has that status."""
    found = condition(kube.get("mba", "a"), type_)
    return found if found.get("status") == status else {}
