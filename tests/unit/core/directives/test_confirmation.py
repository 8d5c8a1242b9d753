"""Directives about pods are acknowledged by the observed pods: one predicate for each action."""

from typing import Any

import pytest

from mabeam.api.agent_status import PodRecord
from mabeam.core.directives.confirmation import CONFIRMATIONS, RolloutState, infeasible_resize
from mabeam.core.pods.resources import ContainerResources
from support.builders import a_pod

HALF = ContainerResources({"cpu": "500m"})
WANTED = {"requests": {"cpu": "500m"}}


def record(state: str = "Running", **words: Any) -> PodRecord:
    return PodRecord.model_validate({"ordinal": 0, "name": "a-0-1", "incarnation": 1, "state": state, **words})


def confirmed(action: str, *ready: Any, records: Any = None, live: int | None = None, **seen: Any) -> bool:
    """Whether that is confirmed by these ready pods; records and live ones as many, unless told."""
    found = records if records is not None else [record() for _ in ready]
    facts = RolloutState(tuple(found), live=len(found) if live is None else live, **seen)
    return CONFIRMATIONS[action](facts, tuple(ready))  # type: ignore[index]


def test_started_is_every_replica_ready_and_of_none_there_is_nothing_to_start() -> None:
    assert confirmed("Start", a_pod())
    assert not confirmed("Start", a_pod(), replicas=2)
    assert not confirmed("Start", replicas=1, records=[record("Starting")])
    assert not confirmed("Start", replicas=0)


def test_stopped_is_that_nothing_runs() -> None:
    assert confirmed("Stop", records=[record("Stopped")], live=0)
    assert not confirmed("Stop", records=[record("Stopped")], live=1)
    assert not confirmed("Stop", records=[record("Starting")], live=0)


@pytest.mark.parametrize("action", ["ScaleUp", "ScaleDown"])
def test_scaled_is_as_many_as_are_wanted_and_no_other_that_still_ends(action: str) -> None:
    assert confirmed(action, a_pod(), a_pod("a-1-1"), replicas=2)
    assert not confirmed(action, a_pod(), a_pod("a-1-1"), replicas=2, live=3)
    assert confirmed(action, replicas=0)


def test_migrated_is_that_every_replica_moved_for_this_order() -> None:
    assert confirmed("Migrate", a_pod(), records=[record(migration=2)], migrations=2)
    assert not confirmed("Migrate", a_pod(), records=[record(migration=1)], migrations=2)
    assert not confirmed("Migrate", a_pod(), records=[record(migration=2, migratingFrom="node1")], migrations=2)
    assert not confirmed("Migrate", records=[record("Starting", migration=2)], migrations=2)


def test_reconfigured_is_that_every_pod_is_made_anew() -> None:
    assert confirmed("Reconfigure", a_pod(spec_hash="new"), shape="new")
    assert not confirmed("Reconfigure", a_pod(spec_hash="old"), shape="new")


@pytest.mark.parametrize(
    ("facts", "done"),
    [
        ({"resources": WANTED}, True),
        ({"resources": WANTED, "actual": WANTED}, True),
        ({"resources": {"requests": {"cpu": "0.5"}}}, True),
        ({"resources": WANTED, "actual": {"requests": {"cpu": "1"}}}, False),
        ({"resources": WANTED, "resize": "InProgress"}, False),
        ({"resources": {"requests": {"cpu": "1"}}}, False),
        ({}, False),
    ],
)
def test_resized_is_what_runs_and_not_what_was_asked_for(facts: Any, done: bool) -> None:
    assert confirmed("AllocateResources", a_pod(**facts), amounts=HALF) is done


def test_an_allotment_that_is_no_cpu_or_memory_needs_somebody_ready() -> None:
    assert confirmed("AllocateResources", a_pod())
    assert not confirmed("AllocateResources")


@pytest.mark.parametrize(
    ("facts", "late", "why"),
    [
        ({"resources": WANTED, "resize": "Infeasible", "resize_message": "too much"}, False, "a-0-1: too much"),
        ({"resources": WANTED, "resize": "Infeasible"}, False, "a-0-1: Infeasible"),
        ({"resources": WANTED, "resize": "Deferred"}, False, None),
        ({"resources": WANTED, "resize": "Deferred"}, True, "a-0-1: Deferred"),
        ({"resources": {"requests": {"cpu": "9"}}, "resize": "Infeasible"}, True, None),
        ({"resources": WANTED, "resize": "InProgress"}, True, None),
    ],
)
def test_infeasible_is_what_the_kubelet_says_of_these_very_amounts(facts: Any, late: bool, why: str | None) -> None:
    assert infeasible_resize(RolloutState(amounts=HALF), (a_pod(**facts),), late=late) == why


def test_where_nothing_was_asked_for_nothing_is_infeasible() -> None:
    assert infeasible_resize(RolloutState(), (a_pod(resize="Infeasible"),), late=True) is None
