"""The benchmark's cases: from samples to figures with bar and verdict. Nothing is measured here."""

import asyncio
import random
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import pytest

from benchmarks.arena.arena import Arena
from benchmarks.arena.arms import ARMS, BEFORE, Arm
from benchmarks.arena.audit import Request
from benchmarks.bench import is_quick, works
from benchmarks.cases import CASES
from benchmarks.cases.case import Plan, Samples
from benchmarks.cases.p01_scale import STOCK, Trial
from benchmarks.cases.p04_one_failure import BLOCKS, between, blocks, draw
from benchmarks.cases.p06_change import until_annotated
from benchmarks.cases.p06_types import CHANGES
from benchmarks.cases.p07_memory import settled
from benchmarks.cases.p09_restart import caught_up
from benchmarks.cases.p10_fairness import lag_samples
from benchmarks.measurements import Measurement


def by_measure(case: str, samples: Samples) -> dict[str, Measurement]:
    return {figure.measure: figure for figure in CASES[case].measurements(samples)}


def judged(case: str, samples: Samples) -> dict[str, bool]:
    """The measurements that have a bar, and whether it is met."""
    return {figure.measure: figure.met for figure in CASES[case].measurements(samples) if figure.met is not None}


# --- P1, P2, P8 -------------------------------------------------------------------------------------------------------


def trial(arm: str, running: float, **more: Any) -> dict[str, Any]:
    usual: dict[str, Any] = {
        "posted": running - 1,
        "created": 1.0,
        "deleting": 5.0,
        "cpu": {"operator": 0.5, "kube-controller-manager": 1.0, "kube-apiserver": 4.0},
        "cpu_until_running": 0.3,
        "writes": {"create pods": 100, "create events": 200, "patch agents/status": 100},
        "rss_before": 60,
        "rss_after": 70,
    }
    return asdict(Trial(arm=arm, size=100, running=running, **(usual | more)))


JOB_WRITES = {"create pods": 100, "create events": 100, "update jobs/status": 200, "patch pods": 100}
SCALE = {
    "100": {
        "trials": [
            trial("agents", 4.0),
            trial("jobs", 8.0, writes=JOB_WRITES),
            trial("replicasets", 4.0),
            trial("agents", 9.0),
            trial("jobs", 6.0, writes=JOB_WRITES),
            trial("replicasets", 3.0),
            trial(STOCK, 20.0, cpu={}, writes={}),
        ]
    }
}


def test_agents_are_compared_with_jobs_and_replicasets_of_the_same_round() -> None:
    found = by_measure("P1", SCALE)
    assert found["100 agents ÷ jobs, time until all run"].samples == (0.5, 1.5)
    assert found["100 agents ÷ replicasets, time until all run"].samples == (1.0, 3.0)
    assert found["100 agents → all pods run"].samples == (4.0, 9.0)


def test_the_arm_with_stock_limits_is_run_once_and_has_a_bar_of_its_own() -> None:
    figure = by_measure("P1", SCALE)["100 agents ÷ Jobs at stock limits"]
    assert figure.samples == (0.2, 0.45)
    assert figure.met is False


def test_an_arm_alone_has_times_but_nothing_to_be_compared_with() -> None:
    assert judged("P1", {"100": {"trials": [trial("agents", 4.0)]}}) == {}


def test_writes_are_counted_per_object_without_events() -> None:
    found = by_measure("P2", SCALE)
    assert found["writes per Agent, of 100"].samples == (2.0, 2.0)
    assert found["writes per Agent ÷ per Job, of 100"].median == 0.5
    assert all(judged("P2", SCALE).values())


def test_cpu_is_per_thousand_of_the_process_that_does_the_work() -> None:
    found = CASES["P8"].measurements(SCALE)
    assert {figure.measure.partition(":")[0]: figure.median for figure in found} == {
        "operator": 5.0,
        "kube-controller-manager": 10.0,
        "kube-apiserver": 1.0,  # agents ÷ jobs, agents ÷ replicasets
    }
    assert [figure.bar for figure in found] == [None] * 5  # a hundred are too few to be judged


FLOOR_CPU = {"floor": 0.1, "kube-controller-manager": 1.0, "kube-apiserver": 2.0}
BEFORE_CPU = {"before": 1.0, "kube-controller-manager": 1.0, "kube-apiserver": 8.0}
BESIDE = {
    "100": {
        "trials": [
            trial("agents", 6.0),
            trial("agents before", 12.0, cpu=BEFORE_CPU),
            trial("floor", 4.0, cpu=FLOOR_CPU, writes={"create pods": 100, "patch agents/status": 100}),
        ]
    }
}


def test_agents_may_take_a_fifth_longer_than_the_floor_and_are_compared_with_the_operator_before() -> None:
    found = by_measure("P1", BESIDE)
    assert found["100 agents ÷ floor, time until all run"].samples == (1.5,)
    assert found["100 agents ÷ agents before, time until all run"].samples == (0.5,)
    assert judged("P1", BESIDE) == {"100 agents ÷ floor, time until all run": False}
    assert by_measure("P2", BESIDE)["writes per Agent of the floor, of 100"].samples == (2.0,)


def test_cpu_beside_the_floor_and_the_operator_before_is_a_ratio_of_the_same_round() -> None:
    found = by_measure("P8", BESIDE)
    assert found["kube-apiserver: CPU, agents ÷ floor, 100 at a time"].samples == (2.0,)
    assert found["kube-apiserver: CPU, agents ÷ agents before, 100 at a time"].samples == (0.5,)
    assert found["operator: CPU, agents ÷ agents before, 100 at a time"].samples == (0.5,)
    assert found["floor: CPU per 1000 floor created and deleted, 100 at a time"].samples == (1.0,)


def test_another_checkout_makes_a_trial_and_the_quick_run_measures_the_floor_once() -> None:
    assert Plan(before=Path()).partial
    assert [size for size in (100, 400) if Plan(quick=True).has_floor(size)] == [100]
    assert [size for size in (100, 1000, 5000) if Plan().has_floor(size)] == [100, 1000, 5000]


class Pods:
    """An arena of which only the pods are looked at."""

    async def pods_of(self, arm: Arm) -> dict[str, str]:
        return {f"{arm.population}-{number}": f"pod-{number}" for number in range(100)}


def test_no_pod_fails_for_two_operators_and_each_has_one_for_each_block() -> None:
    arms = [ARMS["agents"], BEFORE, ARMS["replicasets"]]
    drawn = asyncio.run(draw(cast("Arena", Pods()), arms, 40, random.Random(1)))
    assert {name: len(pods) for name, pods in drawn.items()} == {
        "agents": 40 + BLOCKS,
        "agents before": 40 + BLOCKS,
        "replicasets": 40,
    }
    assert not set(drawn["agents"]) & set(drawn["agents before"])
    assert blocks(10, 4) == [3, 3, 2, 2]
    assert blocks(2, 4) == [1, 1]


# --- P3 ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("writes", "met"), [({"patch leases": 60}, True), ({"patch leases": 60, "patch pods": 1}, False)]
)
def test_idle_agents_may_renew_the_lease_and_nothing_else(writes: dict[str, int], met: bool) -> None:
    samples = {"1000": {"agents": 1000, "seconds": 300, "writes": writes, "cpu": 3.0, "rss": 1}}
    assert list(judged("P3", samples).values()) == [met]
    assert by_measure("P3", samples)["1,000 idle agents, 300 s: operator's CPU"].median == 1.0


# --- P4, P5 -----------------------------------------------------------------------------------------------------------


def test_a_replacements_latency_is_between_two_answers_of_the_apiserver() -> None:
    from benchmarks.arena.audit import Request

    ours = [Request("get", "pods", 200, 0, 1), Request("patch", "pods/status", 200, 1, 2.0)]
    theirs = [Request("patch", "agents/status", 200, 2.1, 2.2), Request("create", "pods", 201, 2.2, 2.25)]
    assert between(ours, theirs) == pytest.approx(0.25)


def test_replacements_are_judged_at_the_median_and_the_99th_percentile() -> None:
    latencies = {"agents": [0.02] * 98 + [0.5] * 2, "replicasets": [0.01] * 100, "jobs": [10.0] * 100}
    found = judged("P4", {"1000": {"size": 1000, "latencies": latencies}})
    assert found == {
        "agents ÷ replicasets, p50": True,
        "agents ÷ jobs, p50": True,
        "agents ÷ replicasets, p99": False,
        "agents ÷ jobs, p99": True,
    }


def _all_failed(arm: str, replaced: float, refused: int = 0, in_flight: int = 64) -> dict[str, Any]:
    return {
        "arm": arm,
        "replaced": replaced,
        "patched": 1.0,
        "refused": refused,
        "in_flight": in_flight,
        "writes": {"create pods": 1000},
    }


def test_when_all_fail_time_refusals_and_requests_at_once_are_judged() -> None:
    good = [_all_failed("agents", 6.0), _all_failed("replicasets", 4.0)]
    assert all(judged("P5", {"1000": {"size": 1000, "rounds": good}}).values())
    bad = [_all_failed("agents", 9.0, refused=1, in_flight=65), _all_failed("replicasets", 4.0)]
    assert not any(judged("P5", {"1000": {"size": 1000, "rounds": bad}}).values())


# --- P6, P9 -----------------------------------------------------------------------------------------------------------


def _change(seconds: float, size: int, writes: int = 3) -> dict[str, Any]:
    counted = {"patch agents/status": size * writes, "patch orchestrationvariables/status": 2, "create events": 1}
    until = size * writes
    return {
        "seconds": seconds,
        "writes": counted,
        "writes_until_annotated": until,
        "status_writes_a_second": 1,
        "cpu": 1.0,
    }


def _changes(large: float, writes: int = 3) -> dict[str, Any]:
    return {
        "1000": {"size": 1000, "rounds": [_change(2.0, 1000, writes)]},
        "10000": {"size": 10_000, "rounds": [_change(large, 10_000, writes)]},
    }


@pytest.mark.parametrize(("large", "met"), [(30.0, True), (31.0, False)])
def test_ten_times_as_many_agents_may_take_fifteen_times_as_long(large: float, met: bool) -> None:
    assert judged("P6", _changes(large))["T(10,000) ÷ T(1,000)"] is met


def test_writes_per_changed_agent_leave_out_events_and_the_variables_own() -> None:
    assert by_measure("P6", _changes(20.0))["… and after it, with the reminder of a silent agent, of 1,000"].median == 3


def test_writes_until_an_agent_is_annotated_are_judged() -> None:
    assert judged("P6", _changes(20.0, writes=3))["writes per changed agent until annotated, of 1,000"] is True
    assert judged("P6", _changes(20.0, writes=4))["writes per changed agent until annotated, of 1,000"] is False


def test_an_agents_writes_are_counted_up_to_the_first_one_of_its_pod() -> None:
    def patch(resource: str, name: str, answered: float) -> Request:
        return Request("patch", resource, 200, answered, answered, name)

    seen = [
        patch("configmaps", "a-mabeam", 1.0),
        patch("pods", "a-0-1", 2.0),
        patch("agents/status", "a", 3.0),
        patch("pods", "a-0-1", 4.0),
        patch("agents/status", "b-1", 1.0),
        patch("configmaps", "b-1-mabeam", 2.0),
        patch("pods", "b-1-0-7", 3.0),
        patch("orchestrationvariables/status", "load", 0.5),
    ]
    assert until_annotated(seen) == 5


def test_growth_is_not_computed_for_sizes_that_were_not_measured() -> None:
    few = {"10": {"size": 10, "rounds": [_change(1.0, 10)]}}
    assert not any("÷" in measure for measure in by_measure("P6", few))


def _restarts(seconds: float, writes: dict[str, int]) -> dict[str, Any]:
    return {"size": 1, "rounds": [{"seconds": seconds, "leads": 1.0, "cpu": 1.0, "writes": writes}]}


def test_a_restart_may_write_nothing_and_grow_by_twelve() -> None:
    samples = {"1000": _restarts(2.0, {}), "10000": _restarts(24.0, {"patch pods": 1})}
    samples["1000"]["size"], samples["10000"]["size"] = 1000, 10_000
    assert judged("P9", samples) == {
        "writes after it, 1,000 agents, Lease apart": True,
        "writes after it, 10,000 agents, Lease apart": False,
        "T(10,000) ÷ T(1,000)": True,
    }


@pytest.mark.parametrize(("passes", "depth", "done"), [(10, 0, True), (9, 0, False), (12, 1, False)])
def test_it_has_caught_up_when_every_agent_was_passed_over_and_nothing_waits(
    passes: float, depth: float, done: bool
) -> None:
    seen = {
        "mabeam_reconcile_duration_seconds_count": {'kind="Agent",outcome="ok"': passes, 'kind="Node"': 99.0},
        "mabeam_workqueue_depth": {"": depth},
    }
    assert caught_up(seen, 10) is done


# --- P7 ---------------------------------------------------------------------------------------------------------------


def _memory(leak_per_minute: float) -> dict[str, Any]:
    warm = [(float(second), 150_000_000) for second in range(0, 600, 10)]
    then = [(second, round(100e6 + leak_per_minute * 1e6 * second / 60)) for second in range(600, 1801, 10)]
    return {"agents": 1000, "base": 70_000_000, "grown": 90_000_000, "course": warm + then, "seconds": 1800}


def test_memory_is_judged_by_base_growth_and_the_slope_after_the_warm_up() -> None:
    found = by_measure("P7", {"1000": _memory(0.01)})
    assert found["RSS with no agents"].median == 70
    assert found["RSS growth per 1000 agents, with 1,000"].median == 20
    assert found["RSS slope over 30 min of churn"].median == pytest.approx(0.3, abs=0.01)
    assert all(judged("P7", {"1000": _memory(0.01)}).values())


@pytest.mark.parametrize("leak", [0.05, -0.05])
def test_memory_may_neither_grow_nor_shrink_under_churn(leak: float) -> None:
    assert judged("P7", {"1000": _memory(leak)})["RSS slope over 30 min of churn"] is False


def test_the_first_third_of_the_course_is_warm_up() -> None:
    assert settled([(float(at), 0) for at in range(0, 91, 10)])[0][0] == 30


# --- P10 --------------------------------------------------------------------------------------------------------------


def _fairness(busy: float, lag: float) -> dict[str, Any]:
    events = {"sent": 10_000, "seconds": 10.0}
    one = {"idle": [0.01] * 100, "busy": [busy] * 100, "lag": [lag] * 100, "events": events}
    return {"1000": {"size": 1000, "rounds": [one | {"arm": "agents"}, one | {"arm": "replicasets"}]}}


def test_fairness_is_judged_for_agents_and_shown_for_replicasets() -> None:
    assert list(judged("P10", _fairness(0.03, 0.1)).values()) == [True, True]
    assert list(judged("P10", _fairness(0.04, 0.11)).values()) == [False, False]
    assert "the same, under load ÷ idle, replicasets" in by_measure("P10", _fairness(0.03, 0.1))


def test_lags_are_the_bounds_of_the_buckets_that_filled_up_between_two_looks() -> None:
    name = "mabeam_event_loop_lag_seconds_bucket"
    before = {name: {'le="0.01"': 5.0, 'le="0.1"': 6.0, 'le="+Inf"': 6.0}}
    after = {name: {'le="0.01"': 7.0, 'le="0.1"': 9.0, 'le="+Inf"': 10.0}}
    assert lag_samples(before, after) == [0.01, 0.01, 0.1, float("inf")]
    assert lag_samples({}, {}) == []


# --- the plan ---------------------------------------------------------------------------------------------------------


def test_a_row_read_off_another_is_measured_with_that_one_and_only_once() -> None:
    assert [one.name for one in works(["P8", "P1", "P2"], Plan(quick=True))] == ["P1-100", "P1-400"]


def test_one_part_of_a_row_can_be_asked_for() -> None:
    assert [one.name for one in works(["P6T-Custom"], Plan())] == ["P6T-Custom"]
    assert [one.name for one in works(["P6-1000", "P1-5000", "P6-1000"], Plan())] == ["P1-5000", "P6-1000"]


def test_populations_only_grow_through_the_rows_that_share_them() -> None:
    order = [one.name for one in works(list(CASES), Plan())]
    ordered = [name for name in order if name.startswith(("P6", "P9"))]
    types = [f"P6T-{one}" for one in CHANGES]
    assert ordered == ["P6-10", "P6-100", "P6-1000", *types, "P9-1000", "P9-5000", "P6-10000", "P9-10000"]
    assert order[-1] == "P7-1000"  # half an hour alone comes last


@pytest.mark.parametrize("quick", [True, False])
def test_every_row_measures_something_or_is_read_off_one_that_does(quick: bool) -> None:
    for case in CASES.values():
        source = CASES[case.source or case.id]
        assert source.run is not None
        assert source.parts(Plan(quick=quick))
        assert case.source or case.left_out, f"{case.id} does not say what the quick run leaves out"


def test_the_quick_run_is_thought_to_take_ten_minutes_at_most() -> None:
    plan = Plan(quick=True)
    assert sum(one.case.estimate(plan, one.part) for one in works(list(CASES), plan) if is_quick(one)) <= 600


def test_other_sizes_are_not_the_benchmark() -> None:
    assert Plan(sizes=(10,)).partial
    assert Plan(arms=("agents",)).partial
    assert not Plan(quick=True).partial
