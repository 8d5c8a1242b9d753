"""What is kept of a variable's past is what somebody asked for, bounded, wherever it is kept."""

import json
from dataclasses import replace
from typing import Any

from mabeam.core.coordination.config_maps import history
from mabeam.core.passes import variable as coordination
from mabeam.core.reports.report import Report
from mabeam.core.snapshot import ConfigMapFacts, VariableSnapshot
from mabeam.shell.telemetry.metrics import Telemetry
from support.builders import an_agent, at
from support.coordination import a_variable


def looking(**spec: Any) -> VariableSnapshot:
    """A variable over two agents that perform at 0.2 and 0.6, one of which tells its loss."""
    reports = {"a": Report(performance={"": 0.2, "loss": 3.0}), "b": Report(performance={"": 0.6})}
    return VariableSnapshot(a_variable(agents=["a", "b"], **spec), (an_agent("a"), an_agent("b")), reports)


def after(snapshot: VariableSnapshot, seconds: float, **spec: Any) -> tuple[VariableSnapshot, Any]:
    """The snapshot after a pass that was carried out, and the decision."""
    decision = coordination.decide(snapshot, at(seconds))
    maps = {facts.name: facts for facts in snapshot.config_maps}
    for effect in (*decision.effects_before_status, *decision.effects):
        data = effect.body["data"]
        document = json.loads(data["history.json"]) if "history.json" in data else None
        maps[effect.name] = ConfigMapFacts(effect.name, "u", "1", True, document)
    variable = snapshot.variable.model_copy(update={"status": decision.status})
    return replace(snapshot, variable=variable, config_maps=tuple(maps.values())), decision


def with_value(snapshot: VariableSnapshot, value: float) -> VariableSnapshot:
    spec = snapshot.variable.spec.model_copy(update={"value": value})
    return replace(snapshot, variable=snapshot.variable.model_copy(update={"spec": spec}))


def lines(snapshot: VariableSnapshot) -> list[Any]:
    (found,) = (facts for facts in snapshot.config_maps if facts.name == "temperature-mabeam-history")
    assert found.document is not None
    return list(found.document["history"])


def test_nothing_is_kept_unless_it_is_asked_for() -> None:
    for spec in (
        {},
        {"telemetry": {"enabled": False}},
        {"telemetry": {"enabled": False, "storageBackend": "ConfigMap"}},
    ):
        snapshot, decision = after(looking(**spec), 0)
        assert decision.status.history == ()
        assert [facts.name for facts in snapshot.config_maps] == ["temperature-mabeam-decision"]
        assert decision.requeue_after is None


def test_a_status_holds_the_last_ten_decisions_with_what_was_measured_then() -> None:
    snapshot = looking(telemetry={"metrics": ["performance", "loss", "speed"]})
    for number in range(12):
        snapshot, _ = after(with_value(snapshot, number / 100), number)
    kept = snapshot.variable.status.history
    assert [entry.value for entry in kept] == [number / 100 for number in range(2, 12)]
    assert kept[-1].metrics == {"performance": 0.4, "loss": 3.0}
    again, decision = after(snapshot, 99)
    assert again.variable.status == snapshot.variable.status
    assert decision.effects == decision.effects_before_status == ()


def test_a_config_map_holds_decisions_and_samples_in_between() -> None:
    snapshot, decision = after(looking(telemetry={"storageBackend": "ConfigMap", "collectionIntervalSeconds": 20}), 0)
    assert decision.requeue_after == 0
    snapshot, decision = after(snapshot, 5)
    assert decision.requeue_after == 15
    snapshot, _ = after(snapshot, 20)
    snapshot, _ = after(with_value(snapshot, 0.9), 25)
    assert [(line.get("round"), line.get("value"), line["metrics"]) for line in lines(snapshot)] == [
        (1, 0.5, {"performance": 0.4}),
        (None, None, {"performance": 0.4}),
        (2, 0.9, {"performance": 0.4}),
    ]
    assert snapshot.variable.status.history == ()


def test_a_config_map_holds_no_more_than_two_hundred_lines() -> None:
    snapshot = looking(telemetry={"storageBackend": "ConfigMap", "collectionIntervalSeconds": 1})
    for number in range(0, 2 * history.IN_CONFIG_MAP + 20, 2):
        snapshot, _ = after(snapshot, number)
    assert len(lines(snapshot)) == history.IN_CONFIG_MAP


def test_a_round_that_is_decided_twice_for_a_crash_is_one_line() -> None:
    fresh = looking(telemetry={"storageBackend": "ConfigMap"})
    written, _ = after(fresh, 0)
    crashed = replace(fresh, config_maps=written.config_maps)  # the ConfigMap was written, the status was not
    again, _ = after(crashed, 1)
    assert [line["round"] for line in lines(again)] == [1]


def test_somebody_elses_config_map_is_left_alone() -> None:
    foreign = ConfigMapFacts("temperature-mabeam-history", "u", "1", False, None)
    snapshot = replace(looking(telemetry={"storageBackend": "ConfigMap"}), config_maps=(foreign,))
    names = [effect.name for effect in coordination.decide(snapshot, at(0)).effects_before_status]
    assert names == ["temperature-mabeam-decision"]


def test_a_variable_that_advises_or_pauses_keeps_no_config_map() -> None:
    for quiet in ({"mode": "Advise"}, {"paused": True}):
        snapshot = looking(telemetry={"storageBackend": "ConfigMap"}, **quiet)
        decision = coordination.decide(snapshot, at(0))
        assert "temperature-mabeam-history" not in [effect.name for effect in decision.effects_before_status]
        assert decision.requeue_after is None


def test_the_operators_metrics_tell_of_a_variable_that_asks_for_it_and_of_no_other() -> None:
    telemetry = Telemetry()
    snapshot, decision = after(looking(telemetry={"storageBackend": "Prometheus", "collectionIntervalSeconds": 7}), 0)
    assert decision.requeue_after == 7
    telemetry.set_variable_metrics("team", "temperature", history.exported_metrics(snapshot, decision.status))
    told = telemetry.exposition().decode()
    assert 'mabeam_variable{metric="value",namespace="team",variable="temperature"} 0.5' in told
    assert 'mabeam_variable{metric="performance",namespace="team",variable="temperature"} 0.4' in told
    telemetry.set_variable_metrics("team", "temperature", history.exported_metrics(looking(), decision.status))
    assert 'variable="temperature"' not in telemetry.exposition().decode()
