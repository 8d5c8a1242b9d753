"""The short form of a plan: a line for each object, its writes counted, and what fails."""

from collections import Counter
from collections.abc import Iterator

from mabeam.api.base import ConditionStatus, JsonDict
from mabeam.api.names import ConditionType, Reason
from mabeam.core.coordination.gate import BY_FALLBACK
from mabeam.offline.plan import PLANNED_KINDS


def failures(plan: JsonDict) -> list[str]:
    """What makes `mabeam plan` exit with 1: objects that are not accepted, functions that fail. A parked agent is an outcome."""
    refused = [
        f"{kind}/{place}: {condition['message']}"
        for kind, place, status in _statuses(plan)
        for condition in status.get("conditions", ())
        if (condition["type"], condition["status"]) == (ConditionType.ACCEPTED, ConditionStatus.FALSE)
    ]
    failed = [
        f"{kind}/{place}: {last['rule']}: {last['message']}"
        for kind, place, status in _statuses(plan)
        if (last := status.get("lastDecision"))
        and last["rule"] == Reason.FUNCTION_FAILED
        and BY_FALLBACK not in last["message"]
    ]
    return refused + failed


def as_text(plan: JsonDict) -> str:
    """A line for each object with its Ready condition, then the writes by what they are, then Events and failures."""
    lines = [
        f"{kind}/{place}: {_ready(status)}{_value(status)}" for kind, place, status in sorted(_statuses(plan), key=str)
    ]
    writes = Counter(f"{write['verb']} {write['kind']}" for write in plan["writes"])
    lines += ["", "writes: " + (", ".join(f"{number} × {what}" for what, number in sorted(writes.items())) or "none")]
    lines += [
        f"  {write['verb']} {write['kind']} {write['namespace']}/{write['name']}: {write['reason']}"
        for write in plan["writes"]
    ]
    if plan["events"]:
        lines += ["", "events:"]
        lines += [
            f"  {event['type']} {event['reason']} {event['regarding']}: {event['note']}" for event in plan["events"]
        ]
    if failed := failures(plan):
        lines += ["", "fails:", *(f"  {text}" for text in failed)]
    if plan["requeueAfterSeconds"] is not None:
        lines += ["", f"looks again after {plan['requeueAfterSeconds']:g} s"]
    return "\n".join(lines)


def _statuses(plan: JsonDict) -> Iterator[tuple[str, str, JsonDict]]:
    for kind, part in PLANNED_KINDS.items():
        for place, status in plan.get(part, {}).items():
            yield kind, place, status


def _ready(status: JsonDict) -> str:
    conditions = {condition["type"]: condition for condition in status.get("conditions", ())}
    ready = conditions.get("Ready", {"status": "Unknown", "reason": "", "message": ""})
    state = f"{status['state']}, " if "state" in status else ""
    negation = "" if ready["status"] == "True" else "not "
    return f"{state}{negation}ready ({ready['reason']}{': ' + ready['message'] if ready['message'] else ''})"


def _value(status: JsonDict) -> str:
    return f"; value {status['value']}" if "value" in status else ""
