"""The hashes of a spec: which change replaces pods, which releases an agent, and which does neither."""

from typing import Any

import pytest

from mabeam.api.agent import AgentSpec
from mabeam.core.pods.body import PodRequest, pod_body
from mabeam.core.pods.spec_hash import POD_FIELDS, pod_hash, spec_hash
from mabeam.core.snapshot import PodDefaults
from support.builders import WITH_SIDECAR, an_agent

DEFAULTS = PodDefaults("stock:1", "Never")


def body(**words: Any) -> dict[str, Any]:
    return pod_body(PodRequest(agent=an_agent(**words), ordinal=2, incarnation=7, defaults=DEFAULTS))


def spec(**words: Any) -> AgentSpec:
    return an_agent(**words).spec


CHANGES: dict[str, tuple[dict[str, Any], bool, bool]] = {
    # what changes: (the field, does it replace pods, does it release)
    "role": ({"role": "Evaluator"}, True, True),
    "custom_role": ({"role": "Custom", "customRole": "Poet"}, True, True),
    "module": ({"module": "team.work:Other"}, True, True),
    "image": ({"image": "worker:2"}, True, True),
    "env": ({"env": [{"name": "A", "value": "1"}]}, True, True),
    "env_from": ({"envFrom": [{"secretRef": {"name": "keys"}}]}, True, True),
    "volumes": ({"volumes": [{"name": "data", "emptyDir": {}}]}, True, True),
    "volume_mounts": (
        {"volumes": [{"name": "data", "emptyDir": {}}], "volumeMounts": [{"name": "data", "mountPath": "/data"}]},
        True,
        True,
    ),
    "service_account_name": ({"serviceAccountName": "worker"}, True, True),
    "template": ({"template": WITH_SIDECAR}, True, True),
    "resources": ({"resources": {"requests": {"cpu": "1"}}}, True, True),
    "communication": ({"communication": {"interfaces": [{"name": "http", "port": 80}]}}, True, True),
    "reports": ({"reports": {"port": 1}}, True, True),
    "shutdown": ({"shutdown": {"timeoutSeconds": 9}}, True, True),
    "replicas": ({"replicas": 9}, False, False),
    "desired_state": ({"desired": "Stopped"}, False, True),
    "capabilities": ({"capabilities": ["python"]}, False, True),
    "restart_strategy": ({"restart": "Transient"}, False, True),
    "normal_exit_codes": ({"normalExitCodes": [3]}, False, True),
    "start_timeout_seconds": ({"startTimeoutSeconds": 9}, False, True),
    "sidecar_failure": ({"sidecarFailure": "Fail"}, False, True),
    "fault_tolerance": ({"max_failures": 9}, False, True),
    "supervisor": ({"supervisor": "crew"}, False, True),
    "supervision_strategy": ({"supervisionStrategy": "OneForAll"}, False, True),
    "migration_strategy": ({"migrationStrategy": "MakeBeforeBreak"}, False, True),
    "preferences": ({"preferences": [{"variable": "t", "value": 1}]}, False, True),
}
NOT_YET = {"conflict_resolution"}


def test_every_field_of_the_spec_is_known_to_shape_the_pod_or_not() -> None:
    assert set(CHANGES) | NOT_YET == set(AgentSpec.model_fields)
    assert {name for name, (_, replaces, _) in CHANGES.items() if replaces} == set(POD_FIELDS)


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_replaces_the_pods_and_releases_as_it_should(name: str) -> None:
    words, replaces, releases = CHANGES[name]
    assert (pod_hash(spec(**words)) != pod_hash(spec())) == replaces
    assert (spec_hash(spec(**words)) != spec_hash(spec())) == releases


def test_what_an_allocation_may_do_with_resources_replaces_no_pod() -> None:
    bounds = {"bounds": [{"resource": "memory", "max": "1Gi", "weight": 2}], "cpuWeight": 3}
    assert pod_hash(spec(resources=bounds)) == pod_hash(spec())
    requests = {"requests": {"cpu": "1"}}
    assert pod_hash(spec(resources=requests | bounds)) == pod_hash(spec(resources=requests))
    assert pod_hash(spec(resources=bounds | {"networkPriority": "High"})) != pod_hash(spec())


def test_how_a_report_is_read_replaces_no_pod() -> None:
    for reading in (
        {"periodSeconds": 60},
        {"path": "/report"},
        {"source": "None"},
        {"source": "Prometheus", "query": "up"},
    ):
        assert pod_hash(spec(reports=reading)) == pod_hash(spec())
        assert body(reports=reading)["spec"] == body()["spec"]
    assert pod_hash(spec(reports={"port": 1, "periodSeconds": 60})) == pod_hash(spec(reports={"port": 1}))


def test_a_default_that_is_written_out_changes_nothing() -> None:
    written = {
        "shutdown": {"policy": "Graceful", "timeoutSeconds": 5},
        "role": "Executor",
        "supervisionStrategy": "OneForOne",
    }
    assert pod_hash(spec(**written)) == pod_hash(spec())
    assert spec_hash(spec(**written)) == spec_hash(spec())


def test_the_hashes_are_pinned_so_that_an_upgrade_replaces_and_releases_nothing() -> None:
    assert (pod_hash(spec()), spec_hash(spec())) == ("79a34ac3989f036a", "f78e557cc6f28b7d")


def test_the_pod_says_which_spec_it_was_made_from() -> None:
    assert body()["metadata"]["annotations"]["mabeam.dev/spec-hash"] == pod_hash(spec())
