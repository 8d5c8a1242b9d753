"""The floor: it writes for every new Agent what the operator would plan for it, and reads no more than a name and a uid."""

import json

from benchmarks.arena.arms import ARMS
from benchmarks.arena.floor import added, planned_bodies

EVENT = {
    "type": "ADDED",
    "object": {
        "apiVersion": "mabeam.dev/v1alpha1",
        "kind": "Agent",
        "metadata": {
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "managedFields": [{"manager": "benchmark", "fieldsV1": {"f:metadata": {"f:name": {}}}}],
            "name": "w-00042",
            "namespace": "bench-agents",
            "resourceVersion": "7",
            "uid": "11111111-2222-3333-4444-555555555555",
        },
        "spec": {"template": {"spec": {"containers": [{"name": "agent"}]}}},
    },
}


def line(event: object) -> bytes:
    return json.dumps(event, separators=(",", ":")).encode()


def test_the_creation_of_an_agent_is_recognised_by_name_and_uid() -> None:
    assert added(line(EVENT)) == (b"w-00042", b"11111111-2222-3333-4444-555555555555")


def test_no_other_event_is_written_for() -> None:
    assert added(line({**EVENT, "type": "MODIFIED"})) is None
    assert added(line({**EVENT, "type": "DELETED"})) is None


def test_the_bodies_are_the_operators_own() -> None:
    pod, status = (json.loads(body) for body in planned_bodies())
    assert pod["metadata"]["name"] == "w-00000-0-1"
    assert pod["metadata"]["ownerReferences"][0]["uid"] == "00000000-0000-0000-0000-000000000000"
    assert pod["spec"]["nodeSelector"] == ARMS["agents"].body("w-00000")["spec"]["template"]["spec"]["nodeSelector"]
    assert status["status"]["pods"][0]["name"] == "w-00000-0-1"
    assert {condition["type"] for condition in status["status"]["conditions"]} >= {"Ready", "Accepted"}
