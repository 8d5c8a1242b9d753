"""Statuses → what happened, in words that a real cluster and a rehearsal share; times are left out."""

from collections.abc import Sequence

from mabeam.api.base import JsonDict


def happened(name: str, before: JsonDict, after: JsonDict) -> list[str]:
    """What a new status of an Agent or a Supervisor tells that the one before did not."""
    return [f"{name}: {what}" for what in (*_failures(before, after), *_restarts(before, after), *_ends(before, after))]


def at_rest(kind: str, status: JsonDict) -> JsonDict:
    """All of a status that a real cluster and a rehearsal must agree on once nothing moves."""
    found: JsonDict = {
        "state": status.get("state"),
        "conditions": sorted((c["type"], c["status"], c["reason"]) for c in status.get("conditions", [])),
        "supervision": status.get("supervision"),
        "parked": "parkedAt" in status,
    }
    if kind == "Supervisor":
        children = status.get("children", [])
        return found | {
            "restarts": [(one["child"], one.get("group")) for one in status.get("restarts", [])],
            "totalRestarts": status.get("totalRestarts", 0),
            "shutDown": "shutDownAt" in status,
            "children": [[c.get(k) for k in ("name", "intent", "token", "end", "started", "state")] for c in children],
        }
    return found | {
        "pods": [(p["name"], p.get("state"), p.get("reason")) for p in status.get("pods", [])],
        "counts": [status.get(count, 0) for count in ("restarts", "disruptions", "replicas", "readyReplicas")],
        "failures": [_failure(one) for one in status.get("failures", [])],
    }


def _failure(failure: JsonDict) -> str:
    code = f" {failure['exitCode']}" if "exitCode" in failure else ""
    counted = "counted" if failure.get("counted", True) else "not counted"
    return f"{failure['cause']}{code} of {failure['pod']}, {counted}" + (
        ", released" if failure.get("released") else ""
    )


def _failures(before: JsonDict, after: JsonDict) -> Sequence[str]:
    known = {(one["time"], one["pod"]) for one in before.get("failures", [])}
    return [_failure(one) for one in after.get("failures", []) if (one["time"], one["pod"]) not in known]


def _restarts(before: JsonDict, after: JsonDict) -> Sequence[str]:
    if after.get("totalRestarts", 0) > before.get("totalRestarts", 0):
        last = after["restarts"][-1]
        return [f"restart of {', '.join(last['group'])} for {last['child']}"]
    return ["restart"] if after.get("restarts", 0) != before.get("restarts", 0) and "pods" in after else []


def _ends(before: JsonDict, after: JsonDict) -> Sequence[str]:
    told = []
    was = {pod["name"]: pod.get("state") for pod in before.get("pods", [])}
    for pod in after.get("pods", []):
        if pod.get("state") == "Running" and was.get(pod["name"]) != "Running":
            told.append(f"{pod['name']} runs")
        if pod.get("reason") == "Completed" and was.get(pod["name"]) != pod.get("state"):
            told.append(f"{pod['name']} completed")
    if "parkedAt" in after and "parkedAt" not in before:
        stalled = any(c["type"] == "Stalled" and c["status"] == "True" for c in after["conditions"])
        told.append("parked" if stalled else "escalated")
    if "shutDownAt" in after and "shutDownAt" not in before:
        told.append("shut down")
    if "parkedAt" in before and "parkedAt" not in after:
        told.append("released")
    return told
