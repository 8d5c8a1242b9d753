"""The history of a variable (`spec.telemetry`): its decisions, and the metrics of its agents at the time.

By default there is none. `storageBackend: Status` keeps the last IN_STATUS decisions in the status; `ConfigMap` the last
IN_CONFIG_MAP decisions and samples; `Prometheus` keeps nothing here, since the operator's own metrics export the figures.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Final

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
# Half of what a ConfigMap holds; and of a status a part that leaves room for the value, its offers and its directives.
CONFIG_MAP_BYTES: Final = 512 * 1024
STATUS_BYTES: Final = 128 * 1024


def means(reports: Mapping[str, Report], metrics: tuple[str, ...]) -> dict[str, float]:
    """Metric → its mean over the agents that report it, to 6 digits; without `metrics` that of `performance`, the primary one."""
    found: dict[str, float] = {}
    for metric in metrics or ("performance",):
        keys = ("", "performance") if metric == "performance" else (metric,)
        values = [next((r.performance[k] for k in keys if k in r.performance), None) for r in reports.values()]
        known = [value for value in values if value is not None]
        if known:
            found[metric] = float(f"{sum(known) / len(known):.6g}")
    return found


def _telemetry(snapshot: VariableSnapshot, backend: StorageBackend) -> VariableTelemetry | None:
    """The variable's telemetry if it is enabled with this backend, else None."""
    telemetry = snapshot.variable.spec.telemetry
    return telemetry if telemetry is not None and telemetry.enabled and telemetry.storage_backend is backend else None


def _is_new_decision(snapshot: VariableSnapshot, status: OrchestrationVariableStatus) -> bool:
    return status.last_decision is not None and status.last_decision != snapshot.variable.status.last_decision


def history_of(
    snapshot: VariableSnapshot, status: OrchestrationVariableStatus, now: datetime
) -> tuple[HistoryEntry, ...]:
    """The entries of `status.history` after this pass, oldest first."""
    telemetry = _telemetry(snapshot, StorageBackend.STATUS)
    if telemetry is None:
        return ()
    before = snapshot.variable.status.history
    if not _is_new_decision(snapshot, status) or status.last_decision is None:
        return before
    entry = HistoryEntry(
        time=now.replace(microsecond=0),
        round=status.round,
        value=status.value,
        rule=status.last_decision.rule,
        metrics=means(snapshot.reports, telemetry.metrics),
    )
    kept = newest_within([one.to_wire() for one in (*before, entry)][-IN_STATUS:], STATUS_BYTES)
    return (*before, entry)[-len(kept) :]


def history_effects(
    snapshot: VariableSnapshot, status: OrchestrationVariableStatus, now: datetime
) -> tuple[Effect, ...]:
    """The write that adds an entry to the ConfigMap, for a new decision or a due sample; empty when there is neither."""
    telemetry = _telemetry(snapshot, StorageBackend.CONFIG_MAP)
    variable = snapshot.variable
    if telemetry is None or variable.spec.mode is Mode.ADVISE or variable.spec.paused:
        return ()
    found = _found(snapshot)
    if found is not None and not found.owned:
        return ()
    measured, decided = means(snapshot.reports, telemetry.metrics), _is_new_decision(snapshot, status)
    due = next_sample(snapshot, now)
    if not decided and not (measured and due is not None and due <= 0):
        return ()
    entry: JsonDict = {"time": format_time(now), "metrics": measured}
    if decided and status.last_decision is not None:
        entry |= {"round": status.round, "value": status.value, "rule": status.last_decision.rule}
    # The ConfigMap is written before the status: after a crash between the two, the same round is decided again.
    kept = [old for old in _entries(found) if "round" not in entry or old.get("round") != entry["round"]]
    entries = newest_within([*kept, entry][-IN_CONFIG_MAP:], CONFIG_MAP_BYTES)
    data = {HISTORY_KEY: json.dumps({"variable": variable.metadata.name, "history": entries}, sort_keys=True)}
    name = history_config_map(variable.metadata.name)
    return (config_map_effect(variable, name, found, component="history", reason="history", data=data),)


def next_sample(snapshot: VariableSnapshot, now: datetime) -> float | None:
    """Seconds until the next sample is due; None when no samples are taken."""
    exported = _telemetry(snapshot, StorageBackend.PROMETHEUS)
    if exported is not None:
        return float(exported.collection_interval_seconds)
    telemetry = _telemetry(snapshot, StorageBackend.CONFIG_MAP)
    if telemetry is None or snapshot.variable.spec.paused or snapshot.variable.spec.mode is Mode.ADVISE:
        return None
    refused = snapshot.refused_writes.get(f"ConfigMap {history_config_map(snapshot.variable.metadata.name)}")
    if refused is not None and not refused.is_retry_due:
        return refused.retry_in
    last = _last_time(_entries(_found(snapshot)))
    if last is None or last > now:
        return 0.0 if last is None else float(telemetry.collection_interval_seconds)
    return max(0.0, telemetry.collection_interval_seconds - (now - last).total_seconds())


def exported_metrics(snapshot: VariableSnapshot, status: OrchestrationVariableStatus) -> dict[str, float]:
    """Metric → figure for the operator's own /metrics: the value if it is a number, and the means; empty for other backends."""
    telemetry = _telemetry(snapshot, StorageBackend.PROMETHEUS)
    if telemetry is None:
        return {}
    value = to_decimal(status.value)
    own = {"value": float(value)} if value is not None else {}
    return own | means(snapshot.reports, telemetry.metrics)


def _found(snapshot: VariableSnapshot) -> ConfigMapFacts | None:
    name = history_config_map(snapshot.variable.metadata.name)
    return next((facts for facts in snapshot.config_maps if facts.name == name), None)


def _entries(found: ConfigMapFacts | None) -> list[JsonDict]:
    """The entries of the stored ConfigMap, oldest first, without what was edited into something else."""
    entries = (found.document or {}).get("history") if found is not None else None
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def _last_time(entries: list[JsonDict]) -> datetime | None:
    return parse_instant(entries[-1].get("time")) if entries else None


def newest_within(entries: list[JsonDict], most_bytes: int) -> list[JsonDict]:
    """The newest entries that fit into so many bytes of JSON, oldest first; the last one always."""
    size, kept = 0, 0
    for entry in reversed(entries):
        size += len(json.dumps(entry).encode()) + 2
        if kept and size > most_bytes:
            break
        kept += 1
    return entries[len(entries) - kept :]
