"""What carries decisions out: the status first, then each effect; one that fails stops only those that depend on it."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from mabeam.api.agent_status import AgentState, AgentStatus, PodRecord
from mabeam.api.base import JsonDict
from mabeam.api.names import Reason
from mabeam.core.conventions.metadata import owner_reference
from mabeam.core.decision import Decision, Effect, Event
from mabeam.core.snapshot import Key
from mabeam.core.supervision.pod_effects import expects_follow_up
from mabeam.shell.kube.errors import ApiError, NotLeading
from mabeam.shell.reconcile import applier
from mabeam.shell.reconcile.applier import Applied, Applier, NameTaken, PodCreateRefused
from mabeam.shell.reconcile.refused_writes import StoreRefused, WriteWithoutEffect
from mabeam.state.cache import AGENT, Cache, Change
from support.apiserver_in_memory import patched
from support.builders import agent_body

# --- carrying out ------------------------------------------------------------------------------------------------------------


class FakeCluster:
    """Remembers every call; answers with what was put, or with the trouble that was set for the verb."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.bodies: list[JsonDict] = []
        self.trouble: dict[str, Exception] = {}
        self.existing: JsonDict | None = None

    def _call(self, verb: str, kind: str, body: JsonDict) -> JsonDict:
        self.calls.append((verb, kind))
        self.bodies.append(body)
        if verb in self.trouble:
            raise self.trouble[verb]
        return body

    async def patch_status(self, kind: str, namespace: str, name: str, body: JsonDict) -> JsonDict:
        self._call("status", kind, body)
        return answered(status=body["status"])

    async def create(self, kind: str, namespace: str, body: JsonDict) -> JsonDict:
        return self._call("create", kind, body)

    async def patch(self, kind: str, namespace: str, name: str, body: JsonDict) -> JsonDict:
        self._call("patch", kind, body)
        return a_pod_body()

    async def delete(self, kind: str, namespace: str, name: str, uid: str | None, grace: int | None) -> JsonDict | None:
        return self._call("delete", kind, {"uid": uid, "grace": grace})

    async def get(self, kind: str, namespace: str, name: str) -> JsonDict | None:
        self.calls.append(("get", kind))
        return self.existing


class Recorder:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def record(self, regarding: object, events: tuple[Event, ...]) -> None:
        self.events.extend(events)


class Bench:
    """An Applier between fakes, and an agent in its cache."""

    def __init__(self) -> None:
        self.cluster, self.recorder, self.cache = FakeCluster(), Recorder(), Cache()
        self.rung: list[Change] = []
        self.foreseen: list[Key | None] = []
        self.applier = Applier(self.cluster, self.cache, self.recorder, self._hear)  # type: ignore[arg-type]
        self.cache.upsert(AGENT, answered(version=1))
        self.agent = self.cache.agents["team", "a"].agent

    def _hear(self, change: Change, foreseen_by: Key | None) -> None:
        self.rung.append(change)
        self.foreseen.append(foreseen_by)

    def decision(self, *effects: Effect, changed: bool = True) -> Decision[Any]:
        status = self.agent.status
        if changed:
            status = status.model_copy(update={"state": AgentState.RUNNING, "observed_generation": 1})
        events = (Event(Reason.AGENT_STARTED, "runs"),)
        return Decision(status, "running", effects, events, expects_follow_up=False)

    def apply(self, decision: Decision[Any]) -> bool:
        return asyncio.run(self._apply(decision))

    async def _apply(self, decision: Decision[Any]) -> bool:
        applied = await self.applier.apply(AGENT, self.agent.metadata, self.agent.status, decision)
        applied.raise_failure()
        return applied.status_written


def answered(version: int = 2, **words: Any) -> JsonDict:
    body = agent_body(**words)
    body["metadata"]["resourceVersion"] = str(version)
    return body


def a_pod_body(owner: str = "uid-of-a") -> JsonDict:
    return {
        "kind": "Pod",
        "metadata": {
            "name": "a-0-1",
            "namespace": "team",
            "uid": "pod-uid",
            "resourceVersion": "7",
            "ownerReferences": [owner_reference("Agent", "a", owner)],
        },
        "spec": {"containers": [{"name": "agent"}]},
        "status": {"phase": "Pending"},
    }


CREATE = Effect("create", "Pod", "team", "a-0-1", "start", a_pod_body())
DELETE = Effect("delete", "Pod", "team", "a-0-0", "superseded", uid="old", grace_seconds=1)
ANNOTATE = Effect("patch", "Pod", "team", "a-0-1", "refresh", {"metadata": {"annotations": {"k": "v"}}})


def test_the_status_is_written_before_anything_is_done() -> None:
    bench = Bench()
    assert bench.apply(bench.decision(DELETE, CREATE)) is True
    assert bench.cluster.calls == [("status", "Agent"), ("delete", "Pod"), ("create", "Pod")]
    assert [event.reason for event in bench.recorder.events] == [Reason.AGENT_STARTED]


def test_the_status_write_is_guarded_by_the_version_it_was_decided_on_and_says_only_what_changed() -> None:
    bench = Bench()
    seen = AgentStatus.model_validate(bench.agent.status.to_wire() | {"observedGeneration": 0})
    bench.agent = bench.agent.model_copy(update={"status": seen})
    bench.apply(bench.decision())
    (body,) = bench.cluster.bodies
    assert body == {
        "metadata": {"resourceVersion": "1"},
        "status": {"state": "Running", "observedGeneration": 1},
    }


def test_the_first_status_is_written_whole_so_that_a_zero_is_shown_as_a_zero() -> None:
    bench = Bench()
    bench.apply(bench.decision())
    (body,) = bench.cluster.bodies
    assert (body["status"]["restarts"], body["status"]["observedGeneration"]) == (0, 1)


NEWER: JsonDict = {
    "observedGeneration": 0,
    "supervision": {"supervisor": "s", "intent": "Pause", "token": 1},
    "failures": [{"time": "2026-01-01T00:00:00Z", "cause": "GpuLost"}],
    "quotaClass": "gold",
}


def rolled_back() -> Bench:
    """A bench whose agent has a status of a newer version."""
    bench = Bench()
    body = agent_body(status=NEWER)
    body["metadata"]["resourceVersion"] = "1"
    bench.cache.remove(AGENT, ("team", "a"))
    bench.cache.upsert(AGENT, body)
    bench.agent = bench.cache.agents["team", "a"].agent
    return bench


def test_what_a_newer_version_stored_survives_the_status_write() -> None:
    bench = rolled_back()
    bench.apply(bench.decision())
    (body,) = bench.cluster.bodies
    after = patched(NEWER, body["status"])
    assert {key: after[key] for key in ("supervision", "failures", "quotaClass")} == {
        key: NEWER[key] for key in ("supervision", "failures", "quotaClass")
    }
    assert (after["state"], after["observedGeneration"]) == ("Running", 1)


def test_what_the_installed_crd_does_not_allow_any_more_is_dropped_so_that_the_status_can_be_written(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = rolled_back()
    refuse = [ApiError(422, "Invalid", "supervision.intent: Unsupported value")]
    write = bench.cluster.patch_status

    async def patch_status(kind: str, namespace: str, name: str, body: JsonDict) -> JsonDict:
        if refuse:
            raise refuse.pop()
        return await write(kind, namespace, name, body)

    bench.cluster.patch_status = patch_status  # type: ignore[method-assign]
    bench.apply(bench.decision())
    after = patched(NEWER, bench.cluster.bodies[0]["status"])
    assert not after.keys() & {"supervision", "quotaClass"}
    assert after["failures"] == []
    assert "unknown parts of the status are dropped" in caplog.text


def test_a_status_that_a_stranger_began_is_written_whole_as_well() -> None:
    bench = Bench()
    begun = AgentStatus.model_validate({"observedGeneration": 0})
    bench.agent = bench.agent.model_copy(update={"status": begun})
    bench.apply(bench.decision())
    (body,) = bench.cluster.bodies
    assert (body["status"]["restarts"], body["status"]["disruptions"]) == (0, 0)


def test_the_events_of_a_status_that_was_written_outlive_an_effect_that_fails() -> None:
    bench = Bench()
    bench.cluster.trouble["create"] = ApiError(429, "TooManyRequests", "busy")
    with pytest.raises(ApiError):
        bench.apply(bench.decision(CREATE))
    assert [event.reason for event in bench.recorder.events] == [Reason.AGENT_STARTED]


@pytest.mark.parametrize("trouble", [ApiError(409, "Conflict", "newer"), ApiError(500, "", ""), NotLeading("PATCH")])
def test_nothing_is_done_after_a_status_write_that_failed(trouble: Exception) -> None:
    bench = Bench()
    bench.cluster.trouble["status"] = trouble
    with pytest.raises(type(trouble)):
        bench.apply(bench.decision(DELETE, CREATE))
    assert bench.cluster.calls == [("status", "Agent")]
    assert bench.recorder.events == []
    assert bench.rung == []


def test_an_effect_that_fails_stops_no_other_and_is_raised_when_all_are_done() -> None:
    bench = Bench()
    bench.cluster.trouble["delete"] = ApiError(500, "InternalError", "etcd")
    with pytest.raises(ApiError, match="etcd"):
        bench.apply(bench.decision(DELETE, CREATE))
    assert bench.cluster.calls == [("status", "Agent"), ("delete", "Pod"), ("create", "Pod")]
    assert [pod.name for pod in bench.cache.pods_owned_by(bench.agent)] == ["a-0-1"]


def test_a_pod_is_not_told_of_a_config_map_that_could_not_be_written() -> None:
    bench = Bench()
    bench.cluster.trouble["create"] = ApiError(500, "InternalError", "etcd")
    written = replace(CREATE, kind="ConfigMap", name="a-mabeam")
    with pytest.raises(ApiError, match="etcd"):
        bench.apply(bench.decision(written, replace(ANNOTATE, needs_config_maps=True), DELETE))
    assert bench.cluster.calls == [("status", "Agent"), ("create", "ConfigMap"), ("delete", "Pod")]


def test_a_refused_pod_spares_the_apiserver_those_that_are_like_it_and_stops_nothing_else() -> None:
    bench = refused_create(403, "Forbidden", "exceeded quota")
    with pytest.raises(PodCreateRefused, match="exceeded quota"):
        bench.apply(bench.decision(CREATE, replace(CREATE, name="a-1-1"), DELETE))
    assert bench.cluster.calls == [("status", "Agent"), ("create", "Pod"), ("delete", "Pod")]


def test_of_several_failures_the_one_that_says_most_is_raised_and_the_others_are_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = refused_create(403, "Forbidden", "exceeded quota")
    bench.cluster.trouble["delete"] = ApiError(500, "InternalError", "etcd")
    with pytest.raises(PodCreateRefused, match="exceeded quota"):
        bench.apply(bench.decision(DELETE, CREATE))
    assert "delete team/a-0-0 failed as well: 500 InternalError: etcd" in caplog.text


def test_effects_that_take_long_to_fail_give_the_worker_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(applier, "MAX_FAILING_SECONDS", 0.005)
    bench = Bench()

    async def slow(kind: str, *_: object) -> JsonDict:
        bench.cluster.calls.append(("create", kind))
        await asyncio.sleep(0.01)
        raise ApiError(500, "InternalError", "failed calling webhook: context deadline exceeded")

    bench.cluster.create = slow  # type: ignore[method-assign]
    with pytest.raises(PodCreateRefused, match="deadline"):
        bench.apply(bench.decision(CREATE, replace(CREATE, name="a-1-1"), replace(CREATE, name="a-2-1")))
    assert bench.cluster.calls == [("status", "Agent"), ("create", "Pod")]


def test_nothing_more_is_written_once_the_lease_is_lost() -> None:
    bench = Bench()
    bench.cluster.trouble["delete"] = NotLeading("DELETE")
    with pytest.raises(NotLeading):
        bench.apply(bench.decision(DELETE, CREATE))
    assert bench.cluster.calls == [("status", "Agent"), ("delete", "Pod")]


def test_no_status_is_written_when_nothing_changed_and_effects_are_done_all_the_same() -> None:
    bench = Bench()
    assert bench.apply(bench.decision(CREATE, changed=False)) is False
    assert bench.cluster.calls == [("create", "Pod")]


def test_a_pass_reads_its_own_writes() -> None:
    bench = Bench()
    bench.apply(bench.decision(CREATE))
    assert bench.cache.agents["team", "a"].agent.status.state is AgentState.RUNNING
    assert [pod.name for pod in bench.cache.pods_owned_by(bench.agent)] == ["a-0-1"]
    assert [change.kind for change in bench.rung] == ["Agent", "Pod"]
    assert bench.foreseen == [Key(AGENT, "team", "a")] * 2  # nothing more is to be done before somebody else moves


def refused_create(code: int, reason: str = "", message: str = "no") -> Bench:
    bench = Bench()
    bench.cluster.trouble["create"] = ApiError(code, reason, message)
    return bench


def test_a_pod_that_is_there_already_and_is_ours_counts_as_created() -> None:
    bench = refused_create(409, "AlreadyExists")
    bench.cluster.existing = a_pod_body()
    assert bench.apply(bench.decision(CREATE)) is True
    assert [pod.name for pod in bench.cache.pods_owned_by(bench.agent)] == ["a-0-1"]


def test_an_own_object_that_lost_its_labels_gets_them_back_for_by_them_it_is_found() -> None:
    bench = refused_create(409, "AlreadyExists")
    stripped = a_pod_body()
    stripped["metadata"] = {**stripped["metadata"], "labels": {"theirs": "kept"}, "resourceVersion": "7"}
    bench.cluster.existing = stripped
    labels = {"app.kubernetes.io/managed-by": "mabeam"}
    made = replace(CREATE, body=CREATE.body | {"metadata": CREATE.body["metadata"] | {"labels": labels}})
    assert bench.apply(bench.decision(made)) is True
    assert bench.cluster.calls[-1] == ("patch", "Pod")
    assert bench.cluster.bodies[-1] == {"metadata": {"resourceVersion": "7", "labels": labels}}


@pytest.mark.parametrize(
    "existing",
    [a_pod_body("uid-of-another"), a_pod_body() | {"metadata": {"name": "a-0-1", "namespace": "team"}}, None],
    ids=["another agent's", "nobody's", "gone again"],
)
def test_a_name_that_someone_else_has_is_told(existing: JsonDict | None) -> None:
    bench = refused_create(409, "AlreadyExists")
    bench.cluster.existing = existing
    with pytest.raises(NameTaken, match="a-0-1"):
        bench.apply(bench.decision(CREATE))
    assert bench.cache.pods_owned_by(bench.agent) == ()


@pytest.mark.parametrize("code", [400, 403, 413, 422])
def test_a_pod_the_apiserver_does_not_take_is_told_in_its_own_words(code: int) -> None:
    bench = refused_create(code, "Invalid", "spec.containers: Required value")
    with pytest.raises(PodCreateRefused, match=r"spec\.containers: Required value"):
        bench.apply(bench.decision(CREATE))


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            403,
            'pods "a-0-1" is forbidden: unable to create new content in namespace team because it is being terminated',
        ),
        (429, "busy"),
        (409, "the object has been modified"),
    ],
)
def test_what_is_not_the_pods_fault_is_not_blamed_on_it(code: int, message: str) -> None:
    bench = refused_create(code, "SomeReason", message)
    with pytest.raises(ApiError) as error:
        bench.apply(bench.decision(CREATE))
    assert error.value.status == code


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (500, 'failed calling webhook "x": connection refused'),
        (503, "etcdserver: leader changed"),
        (403, 'pods "a-0-1" is forbidden: not yet ready to handle request'),
    ],
)
def test_a_server_that_cannot_make_a_pod_is_told_and_the_pod_is_not_blamed(code: int, message: str) -> None:
    bench = refused_create(code, "InternalError", message)
    with pytest.raises(PodCreateRefused) as problem:
        bench.apply(bench.decision(CREATE))
    assert (str(problem.value), problem.value.of_server) == (message, True)


MAP = replace(CREATE, kind="ConfigMap", name="a-mabeam")
TAKEN = {"metadata": {"name": "a-mabeam", "namespace": "team", "uid": "x", "resourceVersion": "3"}}


def applied(bench: Bench, decision: Decision[Any]) -> Applied:
    return asyncio.run(bench.applier.apply(AGENT, bench.agent.metadata, bench.agent.status, decision))


@pytest.mark.parametrize(
    ("status", "reason", "message", "text"),
    [
        (403, "Forbidden", "exceeded quota", "ConfigMap a-mabeam is refused by the API server: exceeded quota"),
        (413, "RequestEntityTooLarge", "limit is 3145728", "refused by the API server: limit is 3145728"),
        (422, "Invalid", "must have at most 1048576 bytes", "refused by the API server: must have at most"),
        (500, "InternalError", "etcdserver: request is too large", "etcdserver: request is too large"),
        (409, "AlreadyExists", "", "ConfigMap a-mabeam has another owner; delete or rename it"),
    ],
)
def test_a_config_map_that_is_refused_stops_nothing_and_is_told(
    status: int, reason: str, message: str, text: str
) -> None:
    bench = refused_create(status, reason, message)
    bench.cluster.existing = TAKEN
    done = applied(bench, bench.decision(MAP, DELETE))
    assert ("delete", "Pod") in bench.cluster.calls
    ((effect, problem),) = done.failures
    assert (effect, type(problem)) == (MAP, StoreRefused)
    assert text in str(problem)
    done.raise_failure()


@pytest.mark.parametrize(("status", "reason"), [(403, "Forbidden"), (409, "AlreadyExists"), (413, "TooLarge")])
def test_a_record_that_is_refused_stops_no_decision(status: int, reason: str) -> None:
    bench = refused_create(status, reason, "no")
    done = applied(bench, replace(bench.decision(), effects_before_status=(MAP,)))
    assert done.status_written
    assert bench.cluster.calls[-1] == ("status", "Agent")
    assert [event.reason for event in bench.recorder.events] == [Reason.AGENT_STARTED]
    assert [effect for effect, _ in done.failures] == [MAP]


def test_a_record_that_could_not_be_asked_for_is_tried_again_with_its_decision() -> None:
    bench = refused_create(500, "InternalError", "etcd leader changed")
    with pytest.raises(ApiError, match="leader"):
        bench.apply(replace(bench.decision(), effects_before_status=(MAP,)))
    assert ("status", "Agent") not in bench.cluster.calls


def test_a_status_that_is_taken_back_again_and_again_is_written_more_and_more_seldom(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench, counted = Bench(), []
    bench.applier.without_effect.count = counted.append

    async def taken_back(kind: str, namespace: str, name: str, body: JsonDict) -> JsonDict:
        bench.cluster.calls.append(("status", kind))
        return answered(version=10 + len(bench.cluster.calls))

    bench.cluster.patch_status = taken_back  # type: ignore[method-assign]
    for _ in range(2):
        assert applied(bench, bench.decision()).status_written
    with pytest.raises(WriteWithoutEffect, match="something takes them back") as waits:
        applied(bench, bench.decision())
    assert (bench.cluster.calls, counted) == ([("status", AGENT)] * 2, [AGENT] * 2)
    assert 0 < waits.value.retry_after <= 5
    assert "Agent team/a is written again and again" in caplog.text


def test_a_pod_that_went_away_needs_no_annotation() -> None:
    bench = Bench()
    bench.cluster.trouble["patch"] = ApiError(404, "NotFound", "")
    assert bench.apply(bench.decision(ANNOTATE, CREATE)) is True
    assert bench.cluster.calls[-1] == ("create", "Pod")


def test_a_deletion_names_the_uid_and_the_grace() -> None:
    bench = Bench()
    bench.apply(bench.decision(DELETE))
    assert bench.cluster.bodies[-1] == {"uid": "old", "grace": 1}


def test_a_config_map_is_replaced_only_as_it_was_seen() -> None:
    bench = Bench()
    body = {"data": {"directives.json": "{}"}, "metadata": {"name": "a-mabeam"}}
    effect = Effect("apply", "ConfigMap", "team", "a-mabeam", "directives", body, resource_version="5")
    apply: Callable[..., Any] = bench.apply
    apply(bench.decision(effect))
    assert bench.cluster.bodies[-1] == {
        "metadata": {"resourceVersion": "5"},
        "data": {"directives.json": "{}"},
    }


def test_an_intent_that_was_stored_is_acted_on_in_a_pass_of_its_own() -> None:
    bench = Bench()
    record = PodRecord(ordinal=0, name="a-0-1", incarnation=1, state=AgentState.STARTING)
    status = bench.agent.status.model_copy(update={"observed_generation": 1, "pods": (record,)})
    assert bench.apply(Decision(status, "starting", expects_follow_up=expects_follow_up(bench.agent.status, status)))
    assert bench.foreseen == [None]


def test_an_answer_that_is_read_after_the_watch_told_of_the_end_brings_nothing_back() -> None:
    bench = Bench()
    bench.cache.upsert("Pod", a_pod_body())

    async def the_watch_is_faster(kind: str, *_: object) -> JsonDict:
        bench.cache.remove("Pod", ("team", "a-0-1"), "pod-uid")
        return a_pod_body()

    bench.cluster.delete = the_watch_is_faster  # type: ignore[method-assign]
    bench.apply(bench.decision(DELETE, changed=False))
    assert bench.cache.pods == {}
    assert bench.rung == []
