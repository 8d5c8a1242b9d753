"""A resize that the apiserver does not make: remembered with its words, and asked for again when the quota changes."""

import copy
from typing import Any

import pytest

from mabeam.api.base import JsonDict
from mabeam.core.decision import Effect
from mabeam.core.snapshot import ResizeRefused
from mabeam.shell.kube.errors import ApiError
from mabeam.shell.reconcile.applier import Applied, PodResizeRefused
from mabeam.shell.reconcile.refused_pods import Refusals
from tests.unit.shell.reconcile.test_applier import Bench, a_pod_body, applied

ALLOTTED = {"requests": {"memory": "200Mi"}}
BODY = {"spec": {"containers": [{"name": "agent", "resources": ALLOTTED}]}}
RESIZE = Effect("patch", "Pod", "team", "a-0-1", "resize", BODY, uid="pod-uid", subresource="resize")
WORDS = 'pods "a-0-1" is forbidden: maximum memory usage per Container is 128Mi'


def resized(answer: JsonDict | ApiError) -> Applied:
    bench = Bench()

    async def resize(namespace: str, name: str, body: JsonDict) -> JsonDict:
        if isinstance(answer, ApiError):
            raise answer
        return answer

    bench.cluster.resize = resize  # type: ignore[attr-defined]
    return applied(bench, bench.decision(RESIZE))


def a_pod_with(resources: dict[str, Any]) -> JsonDict:
    body = copy.deepcopy(a_pod_body())
    body["spec"]["containers"][0]["resources"] = resources
    return body


def test_a_refused_resize_is_no_failed_pass_and_its_words_are_kept() -> None:
    done = resized(ApiError(403, "Forbidden", WORDS))
    done.raise_failure()
    assert done.refused_resizes() == {"a-0-1": ResizeRefused(ALLOTTED, WORDS)}


def test_a_resize_that_a_webhook_turns_into_another_one_is_refused() -> None:
    done = resized(a_pod_with({"requests": {"memory": "64Mi"}}))
    assert [type(problem) for _, problem in done.failures] == [PodResizeRefused]
    assert "stored other amounts" in str(done.failures[0][1])


def test_a_resize_to_which_others_add_is_made() -> None:
    assert resized(a_pod_with({"requests": {"memory": "200Mi", "cpu": "1"}})).failures == ()


@pytest.mark.parametrize(
    "error",
    [ApiError(500, "InternalError", "webhook"), ApiError(403, "Forbidden", "not yet ready to handle request")],
)
def test_a_server_that_cannot_resize_yet_is_asked_again(error: ApiError) -> None:
    with pytest.raises(ApiError):
        resized(error).raise_failure()


def test_a_refused_resize_is_due_again_when_the_quota_of_its_namespace_changes() -> None:
    refusals = Refusals()
    refusals.record_resize("uid", "team", "a-0-1", ResizeRefused(ALLOTTED, WORDS))
    assert refusals.retry_soon("elsewhere") == {}
    assert refusals.retry_soon("team") == {"uid": 0.0}
    assert refusals.of_resizes("uid", "team")["a-0-1"].is_retry_due
    refusals.forget_resizes("uid", "team", {"a-0-1"})
    assert (refusals.of_resizes("uid", "team"), refusals.resizes) == ({}, {})
