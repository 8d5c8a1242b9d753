"""The Helm chart, rendered by helm itself and read as objects."""

import json
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from mabeam import __version__
from mabeam.api.agent import Agent
from mabeam.api.crd import all_definitions
from mabeam.api.names import GROUP
from mabeam.api.supervisor import Supervisor
from mabeam.api.variable import OrchestrationVariable
from mabeam.core.conventions.metadata import child_labels
from mabeam.settings import BadSetting, Settings, from_environment
from support.rendered import CHART, NAMESPACE, ROOT, Document, helm, of_kind, the
from support.rendered import chart as rendered

CLUSTER_WIDE = {
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "Namespace",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
}
needs_helm = pytest.mark.chart

MANY_VALUES: Document = {
    "fullnameOverride": "overseer",
    "commonLabels": {"team": "platform"},
    "image": {"repository": "registry.example.org/mabeam", "digest": "sha256:" + "0" * 64, "pullPolicy": "Always"},
    "imagePullSecrets": [{"name": "pull"}],
    "replicas": 2,
    "watch": {"namespaces": ["red", "blue"]},
    "operator": {
        "logLevel": "debug",
        "logFormat": "json",
        "runnerImage": "registry.example.org/runner:1",
        "httpPort": 9090,
        "leaderElection": {"leaseName": "other", "leaseSeconds": 30},
        "prometheus": {"url": "http://prometheus.monitoring:9090", "tokenSecret": "prometheus"},
        "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy.example.org:3128"}],
    },
    "admissionPolicy": {"enabled": True, "validationActions": ["Warn", "Audit"]},
    "approvalPolicy": {"enabled": True, "validationActions": ["Warn"]},
    "serviceAccount": {"name": "given", "annotations": {"example.org/role": "r"}},
    "metrics": {"serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}}, "service": {"port": 80}},
    "podDisruptionBudget": {"maxUnavailable": "50%"},
    "networkPolicy": {"enabled": True, "from": [{"namespaceSelector": {}}]},
    "deploymentAnnotations": {"example.org/d": "1"},
    "podAnnotations": {"example.org/p": "1"},
    "podLabels": {"tier": "control"},
    "terminationGracePeriodSeconds": 10,
    "priorityClassName": "system-cluster-critical",
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [{"operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "topologySpreadConstraints": [
        {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}
    ],
    "extraVolumes": [{"name": "more", "emptyDir": {}}],
    "extraVolumeMounts": [{"name": "more", "mountPath": "/more"}],
    "extraObjects": [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a-map", "namespace": NAMESPACE}},
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: '{{ .Release.Name }}-text', namespace: mabeam-system}",
    ],
}


def pod_of(documents: list[Document]) -> Document:
    template: Document = the(documents, "Deployment")["spec"]["template"]
    return template


def leaves(values: Mapping[str, Any], schema: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Every value by its dotted path; an object whose keys the schema leaves open is one value."""
    found = {}
    for key, value in values.items():
        inner = schema["properties"][key]
        if isinstance(value, dict) and "properties" in inner and key not in {"resources"}:
            found |= leaves(value, inner, f"{path}{key}.")
        else:
            found[f"{path}{key}"] = value
    return found


def keys_of(schema: Mapping[str, Any], path: str = "") -> set[str]:
    found = set()
    for key, inner in schema.get("properties", {}).items():
        found |= keys_of(inner, f"{path}{key}.") if inner.get("properties") and key != "resources" else {f"{path}{key}"}
    return found


SCHEMA: Document = json.loads((CHART / "values.schema.json").read_text())
VALUES: Document = yaml.safe_load((CHART / "values.yaml").read_text())


# ---- without helm


def test_every_value_has_a_place_in_the_schema_and_the_other_way_round() -> None:
    assert set(leaves(VALUES, SCHEMA)) == keys_of(SCHEMA) - {"global"}


def test_the_schema_is_strict_wherever_it_names_keys() -> None:
    def loose(schema: Mapping[str, Any], path: str) -> list[str]:
        inner = schema.get("properties", {})
        here = [path] if inner and schema.get("additionalProperties") is not False and "items" not in path else []
        return here + [name for key, child in inner.items() for name in loose(child, f"{path}.{key}")]

    assert loose(SCHEMA, "values") == []


@pytest.mark.parametrize(
    ("path", "variable"),
    [
        ("leaderElection.leaseSeconds", "MABEAM_LEASE_SECONDS"),
        ("resyncSeconds", "MABEAM_RESYNC_SECONDS"),
        ("maxInFlight", "MABEAM_MAX_IN_FLIGHT"),
        ("workers", "MABEAM_WORKERS"),
    ],
)
def test_a_number_is_bounded_as_the_operator_bounds_it(path: str, variable: str) -> None:
    schema = SCHEMA["properties"]["operator"]
    for key in path.split("."):
        schema = schema["properties"][key]
    for allowed in (schema["minimum"], schema["maximum"]):
        from_environment({variable: str(allowed)})
    for refused in (schema["minimum"] - 1, schema["maximum"] + 1):
        with pytest.raises(BadSetting):
            from_environment({variable: str(refused)})


@pytest.mark.parametrize(
    ("path", "variable"),
    [
        ("logLevel", "MABEAM_LOG_LEVEL"),
        ("logFormat", "MABEAM_LOG_FORMAT"),
        ("runnerImagePullPolicy", "MABEAM_RUNNER_IMAGE_PULL_POLICY"),
        ("prometheus.queries", "MABEAM_PROMETHEUS_QUERIES"),
    ],
)
def test_a_choice_is_offered_only_if_the_operator_knows_it(path: str, variable: str) -> None:
    schema = SCHEMA["properties"]["operator"]
    for key in path.split("."):
        schema = schema["properties"][key]
    for choice in schema["enum"]:
        from_environment({variable: choice})


def test_the_chart_carries_the_version_of_the_operator() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == __version__
    assert chart["version"] == __version__


def test_the_examples_shown_by_artifact_hub_are_valid() -> None:
    annotations = yaml.safe_load((CHART / "Chart.yaml").read_text())["annotations"]
    for example in yaml.safe_load(annotations["artifacthub.io/crdsExamples"]):
        {"Agent": Agent, "OrchestrationVariable": OrchestrationVariable, "Supervisor": Supervisor}[
            example["kind"]
        ].model_validate(example)
    told = {crd["name"] for crd in yaml.safe_load(annotations["artifacthub.io/crds"])}
    assert told == {definition["metadata"]["name"] for definition in all_definitions()}


def test_people_may_see_and_edit_every_kind_with_the_clusters_own_roles() -> None:
    plurals = {definition["spec"]["names"]["plural"] for definition in all_definitions()}
    for scope in ("view", "edit"):
        rules = yaml.safe_load((CHART / f"files/rbac-{scope}.yaml").read_text())["rules"]
        assert {group for rule in rules for group in rule["apiGroups"]} == {GROUP}
        assert plurals == {name.partition("/")[0] for rule in rules for name in rule["resources"]}
        assert not any(scope == "edit" and "/status" in name for rule in rules for name in rule["resources"])


def test_every_value_is_in_the_table_of_the_install_guide() -> None:
    guide = (ROOT / "docs/install.md").read_text()
    table = guide.partition("## Values\n")[2].partition("\n## ")[0]
    told = dict(re.findall(r"^\| `([A-Za-z.]+)` \| `(.+?)` \|", table, flags=re.MULTILINE))
    assert told == {path: json.dumps(default) for path, default in leaves(VALUES, SCHEMA).items()}


def test_every_variable_of_the_environment_is_in_the_install_guide() -> None:
    guide = (ROOT / "docs/install.md").read_text()
    told = set(re.findall(r"^\| `(MABEAM_[A-Z_]+)` \|", guide, flags=re.MULTILINE))
    assert told == {f"MABEAM_{field.name.upper()}" for field in fields(Settings)}


# ---- with helm


@needs_helm
def test_helm_lints_the_chart_strictly() -> None:
    answer = helm("lint", "--strict", str(CHART))
    assert answer.returncode == 0, answer.stdout + answer.stderr


@needs_helm
@pytest.mark.parametrize("values", [{}, MANY_VALUES], ids=["defaults", "many values"])
def test_every_object_is_complete_and_belongs_to_the_release(values: Document) -> None:
    extra = {"a-map", "mabeam-text"}
    seen = set()
    for document in rendered(values):
        identity = (document["kind"], document["metadata"].get("namespace"), document["metadata"]["name"])
        assert identity not in seen, "rendered twice"
        seen.add(identity)
        assert document["apiVersion"]
        if document["metadata"]["name"] in extra:
            continue
        labels = document["metadata"]["labels"]
        assert labels["app.kubernetes.io/managed-by"] == "Helm"
        assert labels["app.kubernetes.io/instance"] == "mabeam"
        if document["kind"] in CLUSTER_WIDE:
            assert "namespace" not in document["metadata"]
        else:
            assert document["metadata"]["namespace"] in {NAMESPACE, *values.get("watch", {}).get("namespaces", ())}


@needs_helm
@pytest.mark.parametrize("values", [{}, MANY_VALUES], ids=["defaults", "many values"])
def test_nothing_can_hang_an_uninstall_and_nothing_is_random(values: Document) -> None:
    documents = rendered(values)
    assert documents == rendered(values)
    assert not {d["kind"] for d in documents} & {
        "ValidatingWebhookConfiguration",
        "MutatingWebhookConfiguration",
        "Secret",
    }
    assert not any("finalizers" in d["metadata"] for d in documents)
    assert not any("helm.sh/hook" in d["metadata"].get("annotations", {}) for d in documents)


@needs_helm
def test_every_role_of_the_operator_is_bound_to_its_service_account() -> None:
    for values in ({}, MANY_VALUES):
        documents = rendered(values)
        account = the(documents, "ServiceAccount")["metadata"]
        bindings = [d for d in documents if d["kind"].endswith("RoleBinding")]
        bound = {(b["metadata"].get("namespace"), b["roleRef"]["kind"], b["roleRef"]["name"]) for b in bindings}
        roles = {
            (d["metadata"].get("namespace"), d["kind"], d["metadata"]["name"])
            for d in documents
            if d["kind"].endswith("Role") and not d["metadata"]["name"].endswith(("-edit", "-view"))
        }
        assert bound == roles
        for binding in bindings:
            assert binding["subjects"] == [
                {"kind": "ServiceAccount", "name": account["name"], "namespace": account["namespace"]}
            ]
        assert pod_of(documents)["spec"]["serviceAccountName"] == account["name"]


@needs_helm
@pytest.mark.parametrize("values", [{}, MANY_VALUES], ids=["defaults", "many values"])
def test_the_pod_meets_the_restricted_pod_security_standard(values: Document) -> None:
    spec = pod_of(rendered(values))["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
    assert all(set(volume) <= {"name", "emptyDir", "secret"} for volume in spec["volumes"])
    for container in spec["containers"]:
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}


@needs_helm
def test_the_operator_starts_with_its_own_defaults() -> None:
    (container,) = pod_of(rendered())["spec"]["containers"]
    literal = {variable["name"]: variable["value"] for variable in container["env"] if "value" in variable}
    assert from_environment(literal) == Settings(runner_image=container["image"])
    from_pod = {v["name"]: v["valueFrom"]["fieldRef"]["fieldPath"] for v in container["env"] if "valueFrom" in v}
    assert from_pod == {"MABEAM_LEASE_NAMESPACE": "metadata.namespace", "MABEAM_IDENTITY": "metadata.name"}


@needs_helm
def test_every_value_of_the_operator_arrives_in_its_settings() -> None:
    given = {
        "logLevel": "error",
        "logFormat": "json",
        "runnerImage": "registry.example.org/runner:1",
        "runnerImagePullPolicy": "Always",
        "httpPort": 9090,
        "leaderElection": {"enabled": False, "leaseName": "other", "leaseSeconds": 31},
        "resyncSeconds": 61,
        "maxInFlight": 7,
        "workers": 3,
        "prometheus": {"url": "https://prometheus:9090/p", "queries": "any", "tokenSecret": "given"},
    }
    (container,) = pod_of(rendered({"operator": given, "watch": {"namespaces": ["red", "blue"]}}))["spec"]["containers"]
    literal = {variable["name"]: variable["value"] for variable in container["env"] if "value" in variable}
    assert from_environment(literal) == Settings(
        log_level="error",
        log_format="json",
        watch_namespaces=("red", "blue"),
        runner_image="registry.example.org/runner:1",
        runner_image_pull_policy="Always",
        http_port=9090,
        leader_election=False,
        lease_name="other",
        lease_seconds=31,
        resync_seconds=61,
        max_in_flight=7,
        workers=3,
        prometheus_url="https://prometheus:9090/p",
        prometheus_queries="any",
        prometheus_token_file="/etc/mabeam-prometheus/token",
        service_endpoint=f"http://mabeam.{NAMESPACE}.svc:8080",
    )
    assert container["ports"] == [{"name": "http", "containerPort": 9090, "protocol": "TCP"}]


@needs_helm
@pytest.mark.parametrize(
    ("values", "endpoint"),
    [
        ({}, "http://mabeam.mabeam-system.svc:8080"),
        ({"fullnameOverride": "overseer"}, "http://overseer.mabeam-system.svc:8080"),
        ({"metrics": {"service": {"port": 80}}}, "http://mabeam.mabeam-system.svc:80"),
        ({"metrics": {"service": {"enabled": False}}}, ""),
    ],
)
def test_the_operator_tells_of_the_service_that_is_there(values: Document, endpoint: str) -> None:
    documents = rendered(values)
    (container,) = pod_of(documents)["spec"]["containers"]
    literal = {variable["name"]: variable["value"] for variable in container["env"] if "value" in variable}
    assert from_environment({**literal, "MABEAM_LEASE_NAMESPACE": NAMESPACE}).endpoint == endpoint
    for service in of_kind(documents, "Service"):
        meta = service["metadata"]
        assert endpoint == f"http://{meta['name']}.{meta['namespace']}.svc:{service['spec']['ports'][0]['port']}"


@needs_helm
def test_many_values_arrive_where_they_belong() -> None:
    documents = rendered(MANY_VALUES)
    deployment, pod = the(documents, "Deployment"), pod_of(documents)
    (container,) = pod["spec"]["containers"]
    assert deployment["metadata"]["name"] == "overseer"
    assert deployment["metadata"]["annotations"] == {"example.org/d": "1"}
    assert pod["metadata"]["annotations"]["example.org/p"] == "1"
    assert pod["metadata"]["labels"]["tier"] == "control"
    assert pod["metadata"]["labels"]["team"] == "platform"
    assert container["image"] == "registry.example.org/mabeam@sha256:" + "0" * 64
    assert container["imagePullPolicy"] == "Always"
    assert {"name": "HTTPS_PROXY", "value": "http://proxy.example.org:3128"} in container["env"]
    assert {"name": "more", "mountPath": "/more"} in container["volumeMounts"]
    assert {"name": "more", "emptyDir": {}} in pod["spec"]["volumes"]
    (token,) = [volume["secret"] for volume in pod["spec"]["volumes"] if volume["name"] == "prometheus-token"]
    assert token == {"secretName": "prometheus", "items": [{"key": "token", "path": "token"}]}
    assert {"name": "prometheus-token", "mountPath": "/etc/mabeam-prometheus", "readOnly": True} in container[
        "volumeMounts"
    ]
    for key in ("imagePullSecrets", "nodeSelector", "tolerations", "affinity", "topologySpreadConstraints"):
        assert pod["spec"][key] == MANY_VALUES[key]
    assert pod["spec"]["priorityClassName"] == "system-cluster-critical"
    assert pod["spec"]["terminationGracePeriodSeconds"] == 10
    assert the(documents, "ServiceAccount")["metadata"]["annotations"] == {"example.org/role": "r"}
    assert the(documents, "Service")["spec"]["ports"][0]["port"] == 80
    assert the(documents, "PodDisruptionBudget")["spec"]["maxUnavailable"] == "50%"
    assert the(documents, "NetworkPolicy")["spec"]["ingress"][0]["from"] == [{"namespaceSelector": {}}]
    monitor = the(documents, "ServiceMonitor")
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    assert {d["metadata"]["name"] for d in of_kind(documents, "ConfigMap")} == {"a-map", "mabeam-text"}


@needs_helm
def test_what_selects_the_operators_pod_selects_it_and_no_agents_pod() -> None:
    documents = rendered(MANY_VALUES)
    labels = pod_of(documents)["metadata"]["labels"]
    selectors = [
        the(documents, "Deployment")["spec"]["selector"]["matchLabels"],
        the(documents, "Service")["spec"]["selector"],
        the(documents, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        the(documents, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
    ]
    agent = child_labels("agent", "mabeam")
    for selector in selectors:
        assert selector.items() <= labels.items()
        assert not selector.items() <= agent.items()
    monitored = the(documents, "ServiceMonitor")["spec"]["selector"]["matchLabels"]
    assert monitored.items() <= the(documents, "Service")["metadata"]["labels"].items()


@needs_helm
def test_the_crds_are_those_of_the_code_and_outlive_the_release() -> None:
    wanted = {definition["metadata"]["name"]: definition for definition in all_definitions()}
    found = {d["metadata"]["name"]: d for d in of_kind(rendered(), "CustomResourceDefinition")}
    assert set(found) == set(wanted)
    for name, document in found.items():
        assert document["spec"] == wanted[name]["spec"]
        assert document["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    unkept = of_kind(rendered({"crds": {"keep": False}}), "CustomResourceDefinition")
    assert len(unkept) == len(wanted)
    assert not any("annotations" in d["metadata"] for d in unkept)
    assert of_kind(rendered({"crds": {"enabled": False}}), "CustomResourceDefinition") == []


@needs_helm
def test_a_disruption_budget_comes_with_the_second_replica() -> None:
    assert of_kind(rendered({"replicas": 1}), "PodDisruptionBudget") == []
    assert len(of_kind(rendered({"replicas": 2}), "PodDisruptionBudget")) == 1
    assert of_kind(rendered({"replicas": 2, "podDisruptionBudget": {"enabled": False}}), "PodDisruptionBudget") == []


@needs_helm
@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("rbac.create", "ClusterRoleBinding"),
        ("serviceAccount.create", "ServiceAccount"),
        ("metrics.service.enabled", "Service"),
    ],
)
def test_what_is_switched_off_is_not_rendered(value: str, kind: str) -> None:
    values: Any = False
    for key in reversed(value.split(".")):
        values = {key: values}
    assert of_kind(rendered(), kind)
    assert of_kind(rendered(values), kind) == []


@needs_helm
def test_without_the_lease_old_and_new_never_run_at_once() -> None:
    without = {"operator": {"leaderElection": {"enabled": False}}}
    assert the(rendered(), "Deployment")["spec"]["strategy"] == {"type": "RollingUpdate"}
    assert the(rendered(without), "Deployment")["spec"]["strategy"] == {"type": "Recreate"}
    answer = helm("template", "mabeam", str(CHART), values={"replicas": 2, **without})
    assert answer.returncode != 0
    assert "replicas > 1 needs operator.leaderElection.enabled=true" in answer.stderr


@needs_helm
@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"replica": 2}, "replica"),
        ({"operator": {"logLvel": "debug"}}, "logLvel"),
        ({"image": {"tags": "1"}}, "tags"),
        ({"watch": {"namespace": "red"}}, "namespace"),
        ({"operator": {"leaderElection": {"lease": 15}}}, "lease"),
        ({"operator": {"logLevel": "loud"}}, "logLevel"),
        ({"operator": {"workers": 0}}, "workers"),
        ({"operator": {"workers": "16"}}, "workers"),
        ({"operator": {"prometheus": {"url": "prometheus:9090"}}}, "url"),
        ({"operator": {"prometheus": {"queries": "some"}}}, "queries"),
        ({"image": {"digest": "0abc"}}, "digest"),
        ({"watch": {"namespaces": ["Red"]}}, "namespaces"),
        ({"crds": {"keep": "yes"}}, "keep"),
        ({"admissionPolicy": {"validationActions": ["Refuse"]}}, "validationActions"),
    ],
)
def test_a_wrong_value_is_refused_by_name(values: Document, named: str) -> None:
    answer = helm("template", "mabeam", str(CHART), values=values)
    assert answer.returncode != 0
    assert named in answer.stderr
    assert "mabeam:" in answer.stderr


@needs_helm
def test_a_chart_that_uses_this_one_may_pass_it_globals() -> None:
    assert rendered({"global": {"anything": 1}}) == rendered()


@pytest.fixture(name="notes")
def notes_of_the_chart(tmp_path: Path) -> Callable[[Document], str]:
    """NOTES.txt with given values. Only an installation prints it, so a copy of the chart carries it in a ConfigMap."""
    copy = tmp_path / "mabeam"
    shutil.copytree(CHART, copy)
    (copy / "templates/notes.yaml").write_text(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: notes}\n"
        'data:\n  text: |\n    {{- include (print $.Template.BasePath "/NOTES.txt") . | nindent 4 }}\n'
    )

    def told(values: Document) -> str:
        answer = helm("template", "mabeam", str(copy), "--namespace", "n", values=values)
        assert answer.returncode == 0, answer.stderr
        text: str = the(list(yaml.safe_load_all(answer.stdout)), "ConfigMap", "notes")["data"]["text"]
        return text

    return told


@needs_helm
def test_the_notes_tell_what_to_do_next_with_objects_that_are_valid(notes: Callable[[Document], str]) -> None:
    told = notes({"watch": {"namespaces": ["red"]}})
    assert "kubectl --namespace n rollout status deployment/mabeam" in told
    assert "kubectl --namespace red get orchestrationvariables.mabeam.dev temperature --watch" in told
    example = told.partition("<<'YAML'\n")[2].partition("YAML\n")[0]
    assert "WARNING" not in told
    agents, variables = [], []
    for document in yaml.safe_load_all(example):
        if document["kind"] == "Agent":
            agents.append(Agent.model_validate(document).metadata.name)
        else:
            variables.append(OrchestrationVariable.model_validate(document))
    assert [tuple(agents)] == [variable.spec.agents.names for variable in variables]


@needs_helm
@pytest.mark.parametrize(
    ("values", "warning"),
    [
        ({"crds": {"keep": False}}, "will delete every Agent and variable"),
        ({"crds": {"enabled": False}}, "must be installed, and upgraded, by you"),
        ({"operator": {"leaderElection": {"enabled": False}}}, "Never run a second operator"),
        ({"rbac": {"create": False}}, "Bind the rules"),
        ({"image": {"tag": "latest"}}, "need not be the same program"),
        ({"replicas": 0}, "Nothing is supervised"),
    ],
)
def test_the_notes_warn_of_a_risky_value(notes: Callable[[Document], str], values: Document, warning: str) -> None:
    assert warning in notes(values).partition("WARNING: ")[2]
