"""When a refused pod is asked for again, and which refusals are told."""

from mabeam.core.snapshot import PodRefused
from mabeam.shell.reconcile.refused_pods import MAX_RETRY_SECONDS, Refusals

OBJECTS = (
    'pods "a-0-2" is forbidden: exceeded quota: q, requested: count/pods=1, used: count/pods=1, limited: count/pods=1'
)
AMOUNTS = 'pods "a-0-2" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1'


def retry_in(refusals: Refusals, now: float) -> float | None:
    found = refusals.of("uid", "hash", now)
    assert found is not None
    return found.retry_in


def test_a_refused_pod_is_asked_for_ever_more_seldom_up_to_half_a_minute() -> None:
    refusals, waits = Refusals(), []
    for _ in range(6):
        refusals.record("uid", "team", "a-0-2", "no", spec_hash="hash", now=100.0)
        waits.append(retry_in(refusals, 100.0))
    assert waits == [5.0, 10.0, 20.0, MAX_RETRY_SECONDS, MAX_RETRY_SECONDS, MAX_RETRY_SECONDS]


def test_another_spec_is_asked_for_at_once() -> None:
    refusals = Refusals()
    refusals.record("uid", "team", "a-0-2", "no", spec_hash="hash", now=100.0)
    assert refusals.of("uid", "another", 100.0) is None


def test_one_failure_of_the_server_is_not_told_and_a_second_one_is() -> None:
    refusals = Refusals()
    refusals.record("uid", "team", "a-0-2", "webhook", spec_hash="hash", now=100.0, of_server=True)
    assert refusals.of("uid", "hash", 100.0) is None
    refusals.record("uid", "team", "a-0-2", "webhook", spec_hash="hash", now=101.0, of_server=True)
    assert refusals.of("uid", "hash", 101.0) == PodRefused("webhook", 2.0, "a-0-2", of_server=True)


def test_a_changed_quota_has_the_refused_pods_of_its_namespace_asked_for_soon() -> None:
    refusals = Refusals()
    for _ in range(4):
        refusals.record("uid", "team", "a-0-2", AMOUNTS, spec_hash="hash", now=100.0)
    refusals.record("other", "elsewhere", "a-0-2", AMOUNTS, spec_hash="hash", now=100.0)
    assert refusals.retry_soon("team") == {"uid": 101.0}
    assert retry_in(refusals, 100.0) == 1.0
    assert refusals.refused["other"].retry_at == 105.0


def test_only_the_quota_on_objects_is_one_that_ended_pods_fill() -> None:
    refusals = Refusals()
    refusals.record("uid", "team", "a-0-2", OBJECTS, spec_hash="hash", now=100.0)
    refusals.record("other", "team", "a-0-2", AMOUNTS, spec_hash="hash", now=100.0)
    assert refusals.by_pod_quota("team") == {"uid"}
    assert refusals.by_pod_quota("elsewhere") == frozenset()
