"""The kustomize base, its overlays and the samples."""

import importlib
import json
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from typer.testing import CliRunner

from mabeam import __version__
from mabeam.api.agent import Agent
from mabeam.api.names import GROUP
from mabeam.api.supervisor import ChildKind, Supervisor
from mabeam.api.variable import OrchestrationType, OrchestrationVariable
from mabeam.cli import app
from support.rendered import MANIFESTS, ROOT, Document, chart, the
from support.rendered import kustomized as built

SAMPLES = MANIFESTS / "samples"
SAMPLE_FILES = sorted(path for path in SAMPLES.glob("*.yaml") if path.name != "kustomization.yaml")
GITOPS_FILES = sorted((SAMPLES / "gitops").glob("*/*.yaml"))
needs_kubectl = pytest.mark.chart


def by_identity(documents: list[Document]) -> dict[tuple[str, str, str], Document]:
    return {(d["kind"], d["metadata"].get("namespace", ""), d["metadata"]["name"]): d for d in documents}


class Samples(NamedTuple):
    """What the samples hold, by name."""

    agents: dict[str, Agent]
    variables: dict[str, OrchestrationVariable]
    supervisors: dict[str, Supervisor]


def parsed(documents: list[Document]) -> Samples:
    """The agents, the variables and the Supervisors; anything else is no sample."""
    agents = [Agent.model_validate(d) for d in documents if d["kind"] == "Agent"]
    variables = [OrchestrationVariable.model_validate(d) for d in documents if d["kind"] == "OrchestrationVariable"]
    supervisors = [Supervisor.model_validate(d) for d in documents if d["kind"] == "Supervisor"]
    assert len(agents) + len(variables) + len(supervisors) == len(documents)
    return Samples(
        {a.metadata.name: a for a in agents},
        {v.metadata.name: v for v in variables},
        {s.metadata.name: s for s in supervisors},
    )


def all_samples() -> list[Document]:
    return [document for path in SAMPLE_FILES for document in yaml.safe_load_all(path.read_text())]


# ---- the base


@needs_kubectl
def test_the_base_is_the_chart_with_its_defaults() -> None:
    ours, theirs = by_identity(built(MANIFESTS / "base")), by_identity(chart())
    assert set(ours) == set(theirs) | {("Namespace", "", "mabeam-system")}
    for identity, document in theirs.items():
        mine = ours[identity]
        assert mine["apiVersion"] == document["apiVersion"]
        for part in ("rules", "roleRef", "subjects"):
            assert mine.get(part) == document.get(part), identity
    for identity in (i for i in theirs if i[0] == "CustomResourceDefinition"):
        assert ours[identity]["spec"] == theirs[identity]["spec"]


@needs_kubectl
def test_the_base_runs_the_same_pod_as_the_chart() -> None:
    ours, theirs = the(built(MANIFESTS / "base"), "Deployment"), the(chart(), "Deployment")
    assert ours["spec"]["template"]["spec"] == theirs["spec"]["template"]["spec"]
    assert ours["spec"]["template"]["metadata"]["annotations"] == theirs["spec"]["template"]["metadata"]["annotations"]
    assert {k: v for k, v in ours["spec"].items() if k not in {"selector", "template"}} == {
        k: v for k, v in theirs["spec"].items() if k not in {"selector", "template"}
    }


@needs_kubectl
def test_the_bases_service_leads_to_its_pod() -> None:
    base = built(MANIFESTS / "base")
    labels = the(base, "Deployment")["spec"]["template"]["metadata"]["labels"]
    service = the(base, "Service")
    assert service["spec"]["selector"].items() <= labels.items()
    assert service["spec"]["ports"] == the(chart(), "Service")["spec"]["ports"]
    assert the(base, "Deployment")["spec"]["selector"]["matchLabels"].items() <= labels.items()


@needs_kubectl
def test_the_bases_namespace_enforces_what_its_pod_meets() -> None:
    labels = the(built(MANIFESTS / "base"), "Namespace", "mabeam-system")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


@needs_kubectl
def test_the_base_names_the_image_of_this_version() -> None:
    (container,) = the(built(MANIFESTS / "base"), "Deployment")["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"mabeam:{__version__}"


# ---- the overlay


@needs_kubectl
def test_the_namespaced_overlay_takes_no_right_outside_of_its_namespace_but_reading_nodes() -> None:
    documents = built(MANIFESTS / "overlays/namespaced")
    wide = [d["roleRef"]["name"] for d in documents if d["kind"] == "ClusterRoleBinding"]
    assert wide == ["mabeam-nodes"]
    binding = the(documents, "RoleBinding", "mabeam")
    (container,) = the(documents, "Deployment")["spec"]["template"]["spec"]["containers"]
    env = {variable["name"]: variable.get("value") for variable in container["env"]}
    watched = yaml.safe_load((ROOT / "manifests/overlays/namespaced/watch.yaml").read_text().partition("---")[0])
    assert binding["metadata"]["namespace"] == env["MABEAM_WATCH_NAMESPACES"] == watched["data"]["namespace"]
    assert binding["roleRef"] == {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "mabeam"}
    assert binding["subjects"] == the(documents, "ClusterRoleBinding", "mabeam-nodes")["subjects"]
    assert not [d for d in documents if d["kind"] == "ConfigMap"]


@needs_kubectl
def test_the_install_guides_overlay_puts_an_image_of_ones_own_in_both_places(tmp_path: Path) -> None:
    guide = (ROOT / "docs/install.md").read_text().partition("## Kustomize")[2]
    overlay = yaml.safe_load(guide.partition("```yaml\n")[2].partition("```")[0])
    assert overlay["resources"] == ["../mabeam/manifests/base"]
    (tmp_path / "mabeam").symlink_to(ROOT)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/kustomization.yaml").write_text(json.dumps(overlay))
    (container,) = the(built(tmp_path / "mine"), "Deployment")["spec"]["template"]["spec"]["containers"]
    env = {variable["name"]: variable.get("value") for variable in container["env"]}
    assert container["image"] == env["MABEAM_RUNNER_IMAGE"] == "registry.example.org/mabeam:0.1.0"
    # kustomize reads the name in a field path as a regular expression, unanchored.
    assert env["MABEAM_RUNNER_IMAGE_PULL_POLICY"] == "IfNotPresent"


# ---- the samples


@pytest.mark.parametrize("path", SAMPLE_FILES, ids=lambda path: path.stem)
def test_a_sample_is_valid(path: Path) -> None:
    assert any(parsed(list(yaml.safe_load_all(path.read_text()))))


@pytest.mark.parametrize("path", SAMPLE_FILES, ids=lambda path: path.stem)
def test_a_sample_can_be_synced_together_with_the_operator(path: Path) -> None:
    for document in yaml.safe_load_all(path.read_text()):
        options = document["metadata"]["annotations"]["argocd.argoproj.io/sync-options"]
        assert options == "SkipDryRunOnMissingResource=true"


def test_the_samples_know_each_other() -> None:
    agents, variables, _ = parsed(all_samples())
    for variable in variables.values():
        assert set(variable.spec.agents.names) <= set(agents)
    for agent in agents.values():
        assert {preference.variable for preference in agent.spec.preferences} <= set(variables)


def test_the_samples_tree_is_one_with_a_supervisor_below_another() -> None:
    supervisors = parsed(all_samples()).supervisors
    assert any(child.kind is ChildKind.SUPERVISOR for one in supervisors.values() for child in one.spec.children)


# What each sample decides before anything was reported; the first two are about the agents of agents.yaml.
DECIDED = {
    "negotiation": ("temperature", 100, "SpecValue"),
    "auction": ("model", "large", "SecondPrice"),
    "consensus": ("depth", 6, "WeightedMean"),
    "selection": ("searching", {"active": ["searcher-a", "searcher-b"]}, "Ranked"),
    "allocation": (
        "budget",
        {
            "large": {"memory": "128Mi", "tokens-per-minute": "45k"},
            "small": {"memory": "64Mi", "tokens-per-minute": "15k"},
        },
        "WeightedMaxMin",
    ),
    "topology": ("ring", {"pattern": "Ring", "members": ["ring-a", "ring-b", "ring-c"]}, "Wired"),
    "rate": ("cooling", 100, "Schedule"),
    "threshold": ("reheat", {}, "Threshold"),
    "pattern": (
        "council",
        {"pattern": "Star", "members": ["chair", "member-a", "member-b"], "coordinator": "chair", "term": 1},
        "Elected",
    ),
    "custom": (
        "ladder",
        {
            "directives": [
                {"agent": f"rung-{i}", "action": "AdjustParameters", "parameters": {"temperature": 20 * i}}
                for i in (1, 2, 3)
            ]
        },
        "Function",
    ),
}


@pytest.mark.parametrize("sample", DECIDED)
def test_a_samples_variable_is_decided_by_its_file_alone(sample: str) -> None:
    agents = ["-f", str(SAMPLES / "agents.yaml")] if sample in ("negotiation", "auction") else []
    world = ["-f", str(SAMPLES / f"{sample}.yaml"), *agents]
    result = CliRunner().invoke(app, ["plan", *world, "--now", "2026-01-01T00:00:00Z", "-o", "json"])
    assert (result.exit_code, result.stderr) == (0, "")
    variable, value, rule = DECIDED[sample]
    ((name, status),) = json.loads(result.stdout)["variables"].items()
    assert (name, status["value"], status["lastDecision"]["rule"]) == (f"default/{variable}", value, rule)
    assert status["agents"]["missing"] == []


def test_every_sample_of_a_variable_says_what_it_decides_and_every_type_has_one() -> None:
    kinds = {path.stem: {d["kind"] for d in yaml.safe_load_all(path.read_text())} for path in SAMPLE_FILES}
    assert {sample for sample, found in kinds.items() if "OrchestrationVariable" in found} == set(DECIDED)
    assert {variable.spec.type for variable in parsed(all_samples()).variables.values()} == set(OrchestrationType)


@pytest.mark.parametrize("path", SAMPLE_FILES, ids=lambda path: path.stem)
def test_a_sample_has_no_fault(path: Path) -> None:
    linted = CliRunner().invoke(app, ["lint", "-f", str(path)])
    assert linted.exit_code == 0, linted.output
    assert not [line for line in linted.output.splitlines() if line.startswith("warning")]


def test_all_samples_together_are_decided_as_each_alone() -> None:
    files = [word for path in SAMPLE_FILES for word in ("-f", str(path))]
    result = CliRunner().invoke(app, ["plan", *files, "--now", "2026-01-01T00:00:00Z", "-o", "json"])
    found = {name: status["value"] for name, status in json.loads(result.stdout)["variables"].items()}
    assert found == {f"default/{variable}": value for variable, value, _ in DECIDED.values()}


def test_the_samples_modules_exist() -> None:
    agents = parsed(all_samples()).agents
    modules = [agent.spec.module for agent in agents.values() if agent.spec.module]
    assert modules
    for target in modules:
        module, _, name = target.partition(":")
        assert callable(getattr(importlib.import_module(module), name).run)


def test_the_samples_show_each_way_to_give_a_pod_and_each_strategy_of_negotiation() -> None:
    agents, variables, _ = parsed(all_samples())
    assert {agent.spec.module is None for agent in agents.values()} == {True, False}
    told = {variable.spec.negotiation.strategy for variable in variables.values() if variable.spec.negotiation}
    assert {strategy.value for strategy in told} == {"WeightedConsensus", "Auction"}


def test_a_samples_template_meets_the_restricted_pod_security_standard() -> None:
    agents = parsed(all_samples()).agents
    for template in (agent.spec.template for agent in agents.values() if agent.spec.template):
        assert template.spec["securityContext"]["runAsNonRoot"] is True
        assert template.spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in template.spec["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_every_sample_is_in_the_kustomization_and_in_the_readme() -> None:
    listed = yaml.safe_load((SAMPLES / "kustomization.yaml").read_text())["resources"]
    assert sorted(listed) == [path.name for path in SAMPLE_FILES]
    assert all(f"`{name}`" in (SAMPLES / "README.md").read_text() for name in listed)


@needs_kubectl
def test_kustomize_builds_the_samples() -> None:
    assert by_identity(built(SAMPLES)) == by_identity(all_samples())


# ---- GitOps


@pytest.mark.parametrize("path", GITOPS_FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_gitops_sample_points_at_what_is_in_the_repository(path: Path) -> None:
    for document in yaml.safe_load_all(path.read_text()):
        assert document["apiVersion"]
        assert document["metadata"]["namespace"]
        spec = document.get("spec", {})
        named = [
            spec.get("path"),
            spec.get("source", {}).get("path"),
            spec.get("chart", {}).get("spec", {}).get("chart"),
        ]
        for folder in filter(None, named):
            assert (ROOT / folder).is_dir()


def test_the_gitops_samples_give_the_chart_only_values_it_knows() -> None:
    known = json.loads((ROOT / "charts/mabeam/values.schema.json").read_text())["properties"]
    application = yaml.safe_load((SAMPLES / "gitops/argocd/operator.yaml").read_text())
    release = yaml.safe_load((SAMPLES / "gitops/flux/helmrelease.yaml").read_text())
    for values in (application["spec"]["source"]["helm"]["valuesObject"], release["spec"]["values"]):
        assert set(values) <= set(known)
        assert set(values["image"]) <= set(known["image"]["properties"])


def test_argo_cds_health_check_covers_every_kind() -> None:
    data = yaml.safe_load((SAMPLES / "gitops/argocd/health.yaml").read_text())["data"]
    kinds = [Agent.__name__, OrchestrationVariable.__name__]
    assert set(data) == {f"resource.customizations.health.{GROUP}_{kind}" for kind in kinds}
    assert len(set(data.values())) == 1
