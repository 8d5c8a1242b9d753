"""examples/hello on real nodes: its manifest, with the class from a ConfigMap in the place of an image of its own."""

import copy

import yaml

from e2e.agents import container, decided, is_converged, running, template
from support.kube import JsonDict, Kube, until
from support.operator_process import ROOT

HELLO = ROOT / "examples/hello"
CODE: JsonDict = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "hello-code"},
    "data": {"hello.py": (HELLO / "hello.py").read_text()},
}


def from_config_map(agent: JsonDict) -> JsonDict:
    """The Agent, its class run in the tests' image, to which a volume adds what the example's Dockerfile copies."""
    agent = copy.deepcopy(agent)
    spec = agent["spec"]
    mounts = [{"name": "tmp", "mountPath": "/tmp"}, {"name": "app", "mountPath": "/app"}]
    command = ["mabeam-agent", "run", spec.pop("module")]
    del spec["image"]
    pod = template(container("", env={"PYTHONPATH": "/app"}, command=command, volumeMounts=mounts))
    pod["spec"]["volumes"].append({"name": "app", "configMap": {"name": "hello-code"}})
    return {**agent, "spec": {**spec, "template": pod, "reports": {"source": "Pod"}}}


def test_the_example_runs_and_its_process_acknowledges_the_value(kube: Kube) -> None:
    agent, variable = yaml.safe_load_all((HELLO / "hello.yaml").read_text())
    kube.apply(CODE, from_config_map(agent), variable)
    running(kube, "hello")
    status = decided(kube, "seconds", "acknowledged", is_converged)
    assert status["value"] == 2
    assert status["directives"]["acknowledged"] == status["directives"]["issued"] == 1
    until("the greeting has the value's pace", lambda: "hello, every 2 s" in kube.run("logs", "hello-0-1"))
