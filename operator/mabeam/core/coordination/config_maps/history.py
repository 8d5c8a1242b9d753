"""What is kept of a variable's past: its decisions, and what its agents measured then (`telemetry`).

By default nothing: a history is what somebody asks for. In the status the last ten decisions; in a ConfigMap the last two hundred
lines, decisions and samples in between; with Prometheus nothing here, for there the operator's own metrics tell it.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from mabeam.api.base import JsonDict, format_time
from mabeam.api.names import HISTORY_KEY, history_config_map
from mabeam.api.variable import Mode
from mabeam.api.variable_blocks import StorageBackend, VariableTelemetry
from mabeam.api.variable_status import HistoryEntry, OrchestrationVariableStatus
from mabeam.core.algorithms.domain import to_decimal
from mabeam.core.conventions.times import parse_instant
from mabeam.core.coordination.config_maps.write import config_map_effect
from mabeam.core.decision import Effect
from mabeam.core.reports.report import Report
from mabeam.core.snapshot import ConfigMapFacts, VariableSnapshot

IN_STATUS: Final = 10
IN_CONFIG_MAP: Final = 200


def means(reports: Mapping[str, Report], metrics: tuple[str, ...]) -> dict[str, float]:
    """The mean of each metric over the agents that report it; `performance` is the primary one, and the default."""
    found: dict[str, float] = {}
    for metric in metrics or ("performance",):
        keys = ("", "performance") if metric == "performance" else (metric,)
        values = [next((r.performance[k] for k in keys if k in r.performance), None) for r in reports.values()]
        known = [value for value in values if value is not None]
        if known:
            found[metric] = float(f"{sum(known) / len(known):.6g}")
    return found


def _kept(snapshot: VariableSnapshot, backend: StorageBackend) -> VariableTelemetry | None:
    """What is to be kept there, None when nothing is."""
    telemetry = snapshot.variable.spec.telemetry
    return telemetry if telemetry is not None and telemetry.enabled and telemetry.storage_backend is backend else None


def _decided(snapshot: VariableSnapshot, status: OrchestrationVariableStatus) -> bool:
    return status.last_decision is not None and status.last_decision != snapshot.variable.status.last_decision


def history_of(
    snapshot: VariableSnapshot, status: OrchestrationVariableStatus, now: datetime
) -> tuple[HistoryEntry, ...]:
    """The history that the status carries."""
    telemetry = _kept(snapshot, StorageBackend.STATUS)
    if telemetry is None:
        return ()
    before = snapshot.variable.status.history
    if not _decided(snapshot, status) or status.last_decision is None:
        return before
    entry = HistoryEntry(
        time=now.replace(microsecond=0),
        round=status.round,
        value=status.value,
        rule=status.last_decision.rule,
        metrics=means(snapshot.reports, telemetry.metrics),
    )
    return (*before, entry)[-IN_STATUS:]


def history_effects(
    snapshot: VariableSnapshot, status: OrchestrationVariableStatus, now: datetime
) -> tuple[Effect, ...]:
    """The write that adds a line to the ConfigMap: for a decision, and when a sample is due."""
    telemetry = _kept(snapshot, StorageBackend.CONFIG_MAP)
    variable = snapshot.variable
    if telemetry is None or variable.spec.mode is Mode.ADVISE or variable.spec.paused:
        return ()
    found = _found(snapshot)
    if found is not None and not found.owned:
        return ()
    measured, decided = means(snapshot.reports, telemetry.metrics), _decided(snapshot, status)
    due = next_sample(snapshot, now)
    if not decided and not (measured and due is not None and due <= 0):
        return ()
    line: JsonDict = {"time": format_time(now), "metrics": measured}
    if decided and status.last_decision is not None:
        line |= {"round": status.round, "value": status.value, "rule": status.last_decision.rule}
    # Written before the status is: a process that ended between the two decides the same round again.
    kept = [old for old in _lines(found) if "round" not in line or old.get("round") != line["round"]]
    lines = [*kept, line][-IN_CONFIG_MAP:]
    data = {HISTORY_KEY: json.dumps({"variable": variable.metadata.name, "history": lines}, sort_keys=True)}
    return (config_map_effect(variable, history_config_map(variable.metadata.name), "history", "history", data, found),)


def next_sample(snapshot: VariableSnapshot, now: datetime) -> float | None:
    """In how many seconds the next sample is due, None when none is taken."""
    exported_metrics = _kept(snapshot, StorageBackend.PROMETHEUS)
    if exported_metrics is not None:
        return float(exported_metrics.collection_interval_seconds)
    telemetry = _kept(snapshot, StorageBackend.CONFIG_MAP)
    if telemetry is None or snapshot.variable.spec.paused or snapshot.variable.spec.mode is Mode.ADVISE:
        return None
    last = _moment(_lines(_found(snapshot)))
    if last is None or last > now:
        return 0.0 if last is None else float(telemetry.collection_interval_seconds)
    return max(0.0, telemetry.collection_interval_seconds - (now - last).total_seconds())


def exported_metrics(snapshot: VariableSnapshot, status: OrchestrationVariableStatus) -> dict[str, float]:
    """What the operator's own metrics tell: the value when that is a number, and the means; nothing unless asked."""
    telemetry = _kept(snapshot, StorageBackend.PROMETHEUS)
    if telemetry is None:
        return {}
    value = to_decimal(status.value)
    own = {"value": float(value)} if value is not None else {}
    return own | means(snapshot.reports, telemetry.metrics)


def _found(snapshot: VariableSnapshot) -> ConfigMapFacts | None:
    name = history_config_map(snapshot.variable.metadata.name)
    return next((facts for facts in snapshot.config_maps if facts.name == name), None)


def _lines(found: ConfigMapFacts | None) -> list[Any]:
    lines = (found.document or {}).get("history") if found is not None else None
    return [line for line in lines if isinstance(line, dict)] if isinstance(lines, list) else []


def _moment(lines: list[Any]) -> datetime | None:
    return parse_instant(lines[-1].get("time")) if lines else None
