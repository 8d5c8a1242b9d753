"""`mabeam explain` and `mabeam replay`: how a value was decided, as text, and the decision repeated from its record."""

import json
from collections.abc import Iterator
from typing import Any

from mabeam.api.base import JsonDict, format_time
from mabeam.api.names import decision_config_map
from mabeam.api.variable import OrchestrationVariable
from mabeam.core.algorithms.domain import format_value
from mabeam.core.coordination.config_maps.decision import (
    ReplayedRecord,
    UnreadableRecord,
    canonical,
    moment_of,
    read_record,
    snapshot_of,
)
from mabeam.core.passes import variable as coordination
from mabeam.core.snapshot import NamespacedName
from mabeam.offline.documents import InvalidWorld
from mabeam.offline.world import World
from mabeam.state.cache import CONFIG_MAP


def chosen(world: World, name: str | None) -> list[tuple[NamespacedName, OrchestrationVariable]]:
    """The variables of that name (all of them without one), in order; raises InvalidWorld when there is none."""
    found = [(place, variable) for place, variable in sorted(world.variables.items()) if name in (None, place[1])]
    if not found:
        there = ", ".join(sorted(place[1] for place in world.variables)) or "none"
        raise InvalidWorld(f"no OrchestrationVariable {name or 'at all'} in it; there are: {there}")
    return found


def record_in(world: World, place: NamespacedName) -> JsonDict | None:
    """The record of the variable's last decision, None when there is none; raises UnreadableRecord when it cannot be read."""
    body = world.bodies.get(CONFIG_MAP, {}).get((place[0], decision_config_map(place[1])))
    return read_record(body.get("data") or {}) if body is not None else None


# --- explain ------------------------------------------------------------------------------------------------------------------


def explained(world: World, name: str | None) -> list[JsonDict]:
    """For each variable the last decision: its value and rule, what it rested on, who was weighed, who voted, who lost."""
    return [_explained(world, place, variable) for place, variable in chosen(world, name)]


def _explained(world: World, place: NamespacedName, variable: OrchestrationVariable) -> JsonDict:
    status, last = variable.status, variable.status.last_decision
    wire = status.to_wire()
    try:
        record = record_in(world, place)
        kept = "in full" if record is not None and "inputs" in record else "only in the status"
    except UnreadableRecord as problem:
        record, kept = None, f"unreadable: {problem}"
    current = record if record is not None and record.get("round") == status.round else None
    inputs = (current or {}).get("inputs") or {}
    return {
        "variable": "/".join(place),
        "type": str(variable.spec.type),
        "value": status.value,
        "previousValue": status.previous_value,
        "round": status.round,
        "decided": format_time(last.time) if last is not None else None,
        "rule": last.rule if last is not None else None,
        "because": last.message if last is not None else "nothing was decided yet",
        "valueInForce": status.value_in_force,
        "origin": wire.get("valueOrigin"),
        "inputs": {
            "hash": last.inputs_hash if last is not None else None,
            "record": kept,
            "reports": inputs.get("reports") or {},
            "context": wire.get("context") or {},
        },
        "candidates": [c.to_wire() for c in last.candidates] if last is not None else [],
        "negotiation": wire.get("negotiation"),
        "consensus": wire.get("consensus"),
        "losers": _losers(world, place),
        "failures": wire.get("failures") or [],
        "directives": {k: v for k, v in (wire.get("directives") or {}).items() if k != "items"},
    }


def _losers(world: World, place: NamespacedName) -> list[JsonDict]:
    """The conflicts on agents in which the variable won or lost."""
    found = []
    for (space, agent), body in sorted(world.agents.items()):
        held = body.status.directives
        for conflict in held.conflicts if held is not None and space == place[0] else ():
            if place[1] in (conflict.winner, conflict.loser):
                found.append({"agent": agent, **conflict.to_wire()})
    return found


def as_text(one: JsonDict) -> str:
    """The explanation for people."""
    return "\n".join(_lines(one)) + "\n"


def _lines(one: JsonDict) -> Iterator[str]:
    was = "" if one["previousValue"] is None else f" (before: {format_value(one['previousValue'])})"
    yield f"{one['variable']} ({one['type']}) = {format_value(one['value'])}{was}"
    if "(decided: " in (one["valueInForce"] or ""):
        yield f"  in force  {one['valueInForce']}"
    if one["decided"] is None:
        yield f"  {one['because']}"
        return
    yield f"  decided   {one['decided']}, round {one['round']}, by {one['rule']}: {one['because']}"
    origin = one["origin"]
    if origin and (origin["rule"], origin["message"]) != (one["rule"], one["because"]):
        yield f"  value     since {origin['time']}, round {origin['round']}, by {origin['rule']}: {origin['message']}"
    yield f"  inputs    {one['inputs']['hash']}; recorded {one['inputs']['record']}"
    if one["inputs"]["context"]:
        yield f"  system    {json.dumps(one['inputs']['context'])}"
    yield from _table("scores", ("name", "score", "chosen", "reason"), one["candidates"])
    session = one["negotiation"]
    if session:
        won = (
            f", won by {session['winner']} who pays {format_value(session.get('payment'))}"
            if session.get("winner")
            else ""
        )
        yield f"  offers    {session['strategy']}, {session['state']}: {session['reason']}{won}"
        yield from _table("", ("agent", "value", "weight", "bid", "source", "clamped"), session["offers"])
        for dropped in session["dropped"]:
            yield f"            dropped: {dropped}"
    vote = one["consensus"]
    if vote:
        proposed = format_value(vote.get("proposed"))
        yield f"  vote      {vote['proposal']} = {proposed}: {vote['outcome']}; {vote.get('reason', '')}"
        yield from _table("", ("agent", "choice", "weight"), vote["votes"])
    for loser in one["losers"]:
        about = loser.get("action") or loser["parameter"]
        yield f"  conflict  on {loser['agent']} over {about}: {loser['winner']} before {loser['loser']}; {loser['message']}"
    for failure in one["failures"][-3:]:
        yield f"  failure   {failure['time']} {failure['error']}: {failure['message']}"
    counts = one["directives"]
    if counts:
        yield f"  delivery  {', '.join(f'{key} {count}' for key, count in counts.items())}"


def _table(title: str, columns: tuple[str, ...], rows: list[JsonDict]) -> Iterator[str]:
    shown = [column for column in columns if any(row.get(column) not in (None, "") for row in rows)]
    cells = [[_cell(row.get(column)) for column in shown] for row in rows]
    widths = [max(len(column), *(len(row[at]) for row in cells)) for at, column in enumerate(shown) if cells]
    for number, row in enumerate([list(shown), *cells] if cells else []):
        head = title if number == 0 else ""
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        yield f"  {head:<10}{line}"


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else format_value(value)


# --- replay -------------------------------------------------------------------------------------------------------------------


def replayed(world: World, name: str | None) -> list[tuple[str, ReplayedRecord]]:
    """Each variable's recorded decision made again; raises InvalidWorld naming the one whose record is missing or unreadable."""
    found = []
    for place, _ in chosen(world, name):
        called = "/".join(place)
        try:
            record = record_in(world, place)
            if record is None:
                raise UnreadableRecord(f"there is no ConfigMap {decision_config_map(place[1])} beside it")
            if "inputs" not in record:
                raise UnreadableRecord("the inputs were too large to be kept")
            found.append((called, remake(record)))
        except UnreadableRecord as problem:
            raise InvalidWorld(f"{called}: its decision cannot be replayed: {problem}") from None
    return found


def remake(record: JsonDict) -> ReplayedRecord:
    """The decision that the record's inputs lead to, beside the one on record; raises UnreadableRecord."""
    snapshot = snapshot_of(record["inputs"])
    status = coordination.decide(snapshot, moment_of(record)).status
    made, recorded = canonical(status), str(record.get("outcome"))
    try:
        known = json.loads(recorded)
    except ValueError:
        raise UnreadableRecord("its outcome is no JSON") from None
    return ReplayedRecord(made == recorded, known, json.loads(made))


def difference(remade: ReplayedRecord) -> list[str]:
    """Where the two differ, a line each."""
    keys = sorted(remade.recorded.keys() | remade.made.keys())
    return [
        f"{key}: recorded {json.dumps(remade.recorded.get(key))[:300]}, now {json.dumps(remade.made.get(key))[:300]}"
        for key in keys
        if remade.recorded.get(key) != remade.made.get(key)
    ]
