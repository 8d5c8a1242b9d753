"""The pods that the operator makes: names, labels, identity, security, ports and resources."""

from typing import Any

import pytest
from pydantic import ValidationError

from mabeam.core.pods.body import PodRequest, pod_body
from mabeam.core.snapshot import PodDefaults
from support.builders import WITH_SIDECAR, an_agent

DEFAULTS = PodDefaults("stock:1", "Never")


def body(**words: Any) -> dict[str, Any]:
    return pod_body(PodRequest(agent=an_agent(**words), ordinal=2, incarnation=7, defaults=DEFAULTS))


def main_of(pod: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = next(c for c in pod["spec"]["containers"] if c["name"] == "agent")
    return found


def env_of(pod: dict[str, Any]) -> dict[str, str]:
    return {variable["name"]: variable["value"] for variable in main_of(pod)["env"]}


# --- identity ---------------------------------------------------------------------------------------------------------


def test_the_pods_name_is_agent_ordinal_incarnation_and_its_owner_the_agent_alone() -> None:
    meta = body()["metadata"]
    assert (meta["name"], meta["namespace"]) == ("a-2-7", "team")
    assert meta["ownerReferences"] == [
        {"apiVersion": "mabeam.dev/v1alpha1", "kind": "Agent", "name": "a", "uid": "uid-of-a", "controller": True}
    ]


def test_the_pod_has_the_fixed_labels_and_none_of_its_owners() -> None:
    agent = an_agent()
    tracked = agent.model_copy(update={"metadata": agent.metadata.model_copy(update={"labels": {"argocd": "app"}})})
    labels = pod_body(PodRequest(agent=tracked, ordinal=0, incarnation=1))["metadata"]["labels"]
    assert labels == {
        "app.kubernetes.io/name": "mabeam",
        "app.kubernetes.io/component": "agent",
        "app.kubernetes.io/part-of": "mabeam",
        "app.kubernetes.io/managed-by": "mabeam",
        "mabeam.dev/agent": "a",
        "mabeam.dev/ordinal": "0",
        "mabeam.dev/incarnation": "1",
    }


def test_the_templates_own_labels_and_annotations_go_with_it() -> None:
    template = {**WITH_SIDECAR, "metadata": {"labels": {"team": "x"}, "annotations": {"note": "y"}}}
    meta = body(template=template)["metadata"]
    assert (meta["labels"]["team"], meta["annotations"]["note"]) == ("x", "y")


@pytest.mark.parametrize(
    ("containers", "main"),
    [
        ([{"name": "worker"}], "worker"),
        ([{"name": "proxy"}, {"name": "agent"}], "agent"),
        ([{"name": "one"}, {"name": "two"}], "one"),
    ],
)
def test_the_pod_says_which_container_is_the_agents_process(containers: Any, main: str) -> None:
    made = body(template={"spec": {"containers": containers}})
    assert made["metadata"]["annotations"]["mabeam.dev/main-container"] == main
    told = [c["name"] for c in made["spec"]["containers"] if any(e["name"] == "MABEAM_POD" for e in c.get("env", ()))]
    assert told == [main]
    assert body()["metadata"]["annotations"]["mabeam.dev/main-container"] == "agent"


def test_the_process_is_told_who_it_is() -> None:
    env = env_of(body(role="Custom", customRole="Poet", reports={"port": 1234}))
    assert {key: env[key] for key in sorted(env)} == {
        "MABEAM_AGENT": "a",
        "MABEAM_DIRECTIVES_DIR": "/etc/mabeam",
        "MABEAM_INCARNATION": "7",
        "MABEAM_NAMESPACE": "team",
        "MABEAM_ORDINAL": "2",
        "MABEAM_POD": "a-2-7",
        "MABEAM_REPORT_PORT": "1234",
        "MABEAM_ROLE": "Poet",
    }


# --- what the operator alone decides ------------------------------------------------------------------------------------


def test_the_kubelet_never_restarts_and_credentials_are_not_mounted() -> None:
    pod = body()["spec"]
    assert (pod["restartPolicy"], pod["automountServiceAccountToken"]) == ("Never", False)


def test_a_template_cannot_have_the_kubelet_restart_but_may_want_credentials() -> None:
    wanted = {**WITH_SIDECAR["spec"], "restartPolicy": "Always", "automountServiceAccountToken": True}
    pod = body(template={"spec": wanted})["spec"]
    assert (pod["restartPolicy"], pod["automountServiceAccountToken"]) == ("Never", True)


def test_directives_are_mounted_whole_and_optional() -> None:
    pod = body()
    volume = next(v for v in pod["spec"]["volumes"] if v["name"] == "mabeam-directives")
    mount = next(m for m in main_of(pod)["volumeMounts"] if m["name"] == "mabeam-directives")
    assert volume["configMap"] == {"name": "a-mabeam", "optional": True}
    assert mount == {"name": "mabeam-directives", "mountPath": "/etc/mabeam", "readOnly": True}


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        ({}, 5),
        ({"shutdown": {"timeoutSeconds": 30}}, 30),
        ({"shutdown": {"policy": "Brutal", "timeoutSeconds": 30}}, 1),
        ({"template": WITH_SIDECAR}, 5),
        ({"template": {"spec": {**WITH_SIDECAR["spec"], "terminationGracePeriodSeconds": 90}}}, 90),
        (
            {"template": {"spec": {**WITH_SIDECAR["spec"], "terminationGracePeriodSeconds": 90}}, "shutdown": {}},
            5,
        ),
    ],
)
def test_the_grace_is_the_shutdowns_where_there_is_one_else_the_templates(words: dict[str, Any], seconds: int) -> None:
    assert body(**words)["spec"]["terminationGracePeriodSeconds"] == seconds


# --- module and template --------------------------------------------------------------------------------------------------


def test_a_module_runs_restricted_in_its_image() -> None:
    pod = body()
    container = main_of(pod)
    assert (container["image"], container["command"]) == ("worker:1", ["mabeam-agent", "run", "team.work:Worker"])
    assert "imagePullPolicy" not in container
    assert pod["spec"]["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def test_a_modules_pod_has_no_local_storage_that_kubectl_drain_would_refuse() -> None:
    assert not any("emptyDir" in volume for volume in body()["spec"]["volumes"])


def test_a_module_without_an_image_runs_in_the_stock_one() -> None:
    container = main_of(body(image=None))
    assert (container["image"], container["imagePullPolicy"]) == ("stock:1", "Never")


def test_a_template_is_taken_as_it_is_and_never_changed() -> None:
    template = {
        "spec": {"containers": [{"name": "agent", "image": "x:1", "env": [{"name": "MABEAM_ROLE", "value": "mine"}]}]}
    }
    agent = an_agent(template=template)
    first, second = (pod_body(PodRequest(agent=agent, ordinal=0, incarnation=1)) for _ in range(2))
    assert first == second
    assert env_of(first)["MABEAM_ROLE"] == "mine"
    assert agent.spec.template is not None
    assert agent.spec.template.spec == template["spec"]


@pytest.mark.parametrize(
    ("containers", "main"),
    [
        ([{"name": "proxy"}, {"name": "agent"}], "agent"),
        ([{"name": "worker"}, {"name": "proxy"}], "worker"),
    ],
)
def test_the_main_container_is_the_one_named_agent_else_the_first(containers: Any, main: str) -> None:
    pod = body(template={"spec": {"containers": containers}})
    assert [c["name"] for c in pod["spec"]["containers"] if "env" in c] == [main]


@pytest.mark.parametrize("containers", [[], "none", ["odd"], [{}], None])
def test_a_template_without_a_container_is_refused_before_it_is_a_pod(containers: Any) -> None:
    with pytest.raises(ValidationError, match="at least one container"):
        an_agent(template={"spec": {"containers": containers}})


@pytest.mark.parametrize("interface", [{"name": "mabeam-report", "port": 9464}, {"name": "http", "port": 9464}])
def test_an_interface_on_the_report_port_is_not_declared_twice(interface: dict[str, Any]) -> None:
    (container,) = body(communication={"interfaces": [interface]})["spec"]["containers"]
    assert [port["containerPort"] for port in container["ports"]] == [9464]


def test_only_the_main_container_is_equipped() -> None:
    proxy = body(template=WITH_SIDECAR)["spec"]["containers"][0]
    assert proxy == {"name": "proxy", "image": "proxy:1"}


def test_ports_are_the_interfaces_and_for_a_module_the_report() -> None:
    communication = {"interfaces": [{"name": "http", "port": 8080}]}
    report = {"name": "mabeam-report", "containerPort": 9464, "protocol": "TCP"}
    http = {"name": "http", "containerPort": 8080, "protocol": "TCP"}
    assert main_of(body(communication=communication))["ports"] == [http, report]
    assert main_of(body(communication=communication, template=WITH_SIDECAR))["ports"] == [http]
    assert "ports" not in main_of(body(template=WITH_SIDECAR))


def test_resources_go_to_the_main_container_and_the_templates_own_win() -> None:
    resources = {"requests": {"cpu": "100m", "memory": "1Gi"}, "limits": {"cpu": 1}}
    own = {"spec": {"containers": [{"name": "agent", "resources": {"requests": {"cpu": "2"}}}]}}
    assert main_of(body(resources=resources, template=own))["resources"] == {
        "requests": {"cpu": "2", "memory": "1Gi"},
        "limits": {"cpu": "1"},
    }


def test_a_pod_of_an_agent_that_was_told_something_carries_the_generation() -> None:
    annotations = pod_body(PodRequest(agent=an_agent(), ordinal=0, incarnation=1, generation=9))["metadata"][
        "annotations"
    ]
    assert annotations["mabeam.dev/directives-generation"] == "9"
    assert "mabeam.dev/directives-generation" not in body()["metadata"]["annotations"]


def test_a_modules_pod_is_ready_when_its_sdk_says_so_and_is_never_ended_for_being_late() -> None:
    container = body(module="team.work:Worker", reports={"port": 9000})["spec"]["containers"][0]
    ready = {"path": "/readyz", "port": 9000}
    assert (container["startupProbe"]["httpGet"], container["readinessProbe"]["httpGet"]) == (ready, ready)
    years = container["startupProbe"]["failureThreshold"] * container["startupProbe"]["periodSeconds"] / (365 * 86_400)
    assert years > 60
    assert "livenessProbe" not in container


def test_a_template_keeps_its_own_probes_and_gets_none() -> None:
    probe = {"tcpSocket": {"port": 80}}
    spec = {"containers": [{"name": "agent", "image": "x", "readinessProbe": probe}, {"name": "b", "image": "x"}]}
    own, other = body(template={"spec": spec})["spec"]["containers"]
    assert own["readinessProbe"] == probe
    assert {"startupProbe", "livenessProbe"}.isdisjoint(own)
    assert {"readinessProbe", "startupProbe"}.isdisjoint(other)


def test_a_modules_pod_gets_its_environment_its_volumes_and_its_account_and_stays_restricted() -> None:
    key = {"name": "API_KEY", "valueFrom": {"secretKeyRef": {"name": "llm", "key": "token", "optional": True}}}
    plain = {"name": "HOME", "value": "/data"}
    volume = {"name": "data", "persistentVolumeClaim": {"claimName": "cache"}}
    mount = {"name": "data", "mountPath": "/data"}
    pod = body(
        env=[key, plain],
        envFrom=[{"configMapRef": {"name": "settings"}, "prefix": "APP_"}],
        volumes=[volume],
        volumeMounts=[mount],
        serviceAccountName="worker",
    )["spec"]
    [container] = pod["containers"]
    assert container["env"][:2] == [key, plain]
    assert {"MABEAM_AGENT", "MABEAM_POD"} <= {variable["name"] for variable in container["env"]}
    assert container["envFrom"] == [{"configMapRef": {"name": "settings"}, "prefix": "APP_"}]
    assert (volume in pod["volumes"], mount in container["volumeMounts"]) == (True, True)
    assert pod["serviceAccountName"] == "worker"
    assert "automountServiceAccountToken" not in pod
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert body()["spec"]["automountServiceAccountToken"] is False


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"env": [{"name": "MABEAM_POD", "value": "x"}]}, "`name` must not begin with MABEAM_"),
        ({"env": [{"name": "A", "value": "x"}, {"name": "A", "value": "y"}]}, "`env` must not hold A twice"),
        (
            {"env": [{"name": "A", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]},
            "only one of",
        ),
        ({"env": [{"name": "A", "valueFrom": {}}]}, "exactly one of `secretKeyRef`"),
        ({"envFrom": [{}]}, "exactly one of `secretRef`"),
        ({"volumes": [{"name": "mabeam-directives", "emptyDir": {}}]}, "`name` must not be mabeam-directives"),
        ({"volumes": [{"name": "host", "hostPath": {"path": "/"}}]}, "hostPath"),
        ({"volumes": [{"name": "data"}]}, "exactly one of `secret`"),
        ({"volumeMounts": [{"name": "data", "mountPath": "/data"}]}, "must name one of the `volumes`"),
        (
            {"volumes": [{"name": "d", "emptyDir": {}}], "volumeMounts": [{"name": "d", "mountPath": "/etc/mabeam/x"}]},
            "neither /etc/mabeam nor below it",
        ),
        ({"serviceAccountName": "w", "template": WITH_SIDECAR}, "go with `module`"),
    ],
)
def test_what_the_operator_sets_itself_is_refused_in_words(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as refused:
        an_agent(**spec)
    assert message in str(refused.value)
