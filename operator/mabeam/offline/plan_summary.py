"""The short form of a plan: a line for each object, its writes counted, and what fails."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from mabeam.api.base import JsonDict

# How a status is found in a plan, and what its object's kind is called.
_KINDS: Final[Mapping[str, str]] = {
    "agents": "Agent",
    "supervisors": "Supervisor",
    "variables": "OrchestrationVariable",
}


# In the note of a decision whose function failed and whose author had said what holds then.
FALLBACK: Final = " by fallbackValue: "


def failures(plan: JsonDict) -> list[str]:
    """What makes `mabeam plan` exit with 1: objects that are not accepted, functions that fail. A parked agent is an outcome."""
    refused = [
        f"{kind}/{place}: {condition['message']}"
        for kind, place, status in _statuses(plan)
        for condition in status.get("conditions", ())
        if (condition["type"], condition["status"]) == ("Accepted", "False")
    ]
    failed = [
        f"{event['regarding']}: {event['note']}"
        for event in plan["events"]
        if " by FunctionFailed: " in event["note"] and FALLBACK not in event["note"]
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
    for part, kind in _KINDS.items():
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
