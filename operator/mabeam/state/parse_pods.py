"""The door for pods: a pod's body as a dict comes in, the facts that a decision may rest on go out."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Final

from mabeam.api.base import JsonDict
from mabeam.api.names import (
    ANNOTATION_FAILED,
    ANNOTATION_GENERATION,
    ANNOTATION_MAIN_CONTAINER,
    ANNOTATION_NUDGE,
    ANNOTATION_SPEC_HASH,
    ENV_POD,
    LABEL_AGENT,
    LABEL_ENDED,
    MAIN_CONTAINER,
    pod_name,
)
from mabeam.core.conventions.metadata import pod_labels
from mabeam.core.conventions.times import parse_instant
from mabeam.core.snapshot import PodFacts
from mabeam.state.parse_containers import main_container_facts, other_containers, restarts_in_place

MAX_GRACE_SECONDS: Final = 10**9  # 31 years; subtracted from 1970 it is a date still
# What a status can record of a pod (api/agent.py); the operator never makes one beyond.
MAX_ORDINAL: Final = 1000
MAX_INCARNATION: Final = 2**31 - 2


def parse_pod(body: JsonDict) -> PodFacts | None:
    """The facts about a pod, None when its name is not `<agent>-<ordinal>-<incarnation>`."""
    meta: Mapping[str, Any] = body.get("metadata") or {}
    name = str(meta.get("name", ""))
    head, ordinal, incarnation = _name_parts(name)
    if not head or name != pod_name(head, ordinal, incarnation):
        return None
    labelled = (meta.get("labels") or {}).get(LABEL_AGENT)
    if labelled is not None and labelled != head:
        return None
    spec: Mapping[str, Any] = body.get("spec") or {}
    status: Mapping[str, Any] = body.get("status") or {}
    names = _container_names(spec, status)
    written = _written_main(meta.get("annotations") or {}, spec)
    main = written or (MAIN_CONTAINER if MAIN_CONTAINER in names else next(iter(names), ""))
    facts = _facts(name, ordinal, incarnation, main=main, body=body)
    if written is not None or len(names) < 2:
        return facts
    # Made before the name was written on pods: by the pod alone a proxy that came first cannot be excluded.
    others = {other: _facts(name, ordinal, incarnation, main=other, body=body) for other in names}
    return replace(facts, candidates=others)


def _facts(name: str, ordinal: int, incarnation: int, *, main: str, body: JsonDict) -> PodFacts:
    """The facts about the pod, with the named container as the agent's process."""
    meta: Mapping[str, Any] = body.get("metadata") or {}
    spec: Mapping[str, Any] = body.get("spec") or {}
    status: Mapping[str, Any] = body.get("status") or {}
    conditions = {c.get("type"): c for c in status.get("conditions") or ()}
    scheduled = conditions.get("PodScheduled") or {}
    deletion = parse_instant(meta.get("deletionTimestamp"))
    return PodFacts(
        name=name,
        uid=str(meta.get("uid", "")),
        ordinal=ordinal,
        incarnation=incarnation,
        phase=status.get("phase") or "Pending",
        reason=status.get("reason"),
        message=status.get("message"),
        node=spec.get("nodeName"),
        ip=status.get("podIP"),
        host_network=bool(spec.get("hostNetwork")),
        created_at=parse_instant(meta.get("creationTimestamp")),
        scheduled_at=_scheduled_at(spec, status, scheduled, meta),
        unschedulable=scheduled.get("message") if scheduled.get("reason") == "Unschedulable" else None,
        deleting=bool(meta.get("deletionTimestamp")),
        deletion_requested_at=_requested_at(deletion, meta.get("deletionGracePeriodSeconds")),
        ready=_is_ready(status, conditions),
        main_name=main,
        **_containers(main, spec, status, conditions),
        **_disruption(conditions),
        **_annotated(meta.get("annotations") or {}),
        marked_ended=LABEL_ENDED in (meta.get("labels") or {}),
        **_resources(main, spec, status, conditions),
    )


def is_orphan(body: JsonDict, pod: PodFacts) -> bool:
    """Whether the pod has all labels that its Agent's operator gave it, and no controller any more."""
    meta: Mapping[str, Any] = body.get("metadata") or {}
    if any(reference.get("controller") for reference in meta.get("ownerReferences") or ()):
        return False
    labels = meta.get("labels") or {}
    return pod_labels(pod.name.rsplit("-", 2)[0], pod.ordinal, pod.incarnation).items() <= labels.items()


def _disruption(conditions: Mapping[str, Any]) -> dict[str, Any]:
    """Why and since when the pod is disrupted: by an eviction, a preemption, a drain or the loss of its node."""
    disrupted = conditions.get("DisruptionTarget") or {}
    if disrupted.get("status") != "True":
        return {}
    return {
        "disruption": str(disrupted.get("reason") or ""),
        "disrupted_at": parse_instant(disrupted.get("lastTransitionTime")),
    }


def _annotated(annotations: Mapping[str, str]) -> dict[str, Any]:
    """The facts that the operator, or an observer of the process, wrote on the pod."""
    return {
        "spec_hash": annotations.get(ANNOTATION_SPEC_HASH),
        "generation": _whole(annotations.get(ANNOTATION_GENERATION)),
        "nudge": annotations.get(ANNOTATION_NUDGE),
        "reported_failed": annotations.get(ANNOTATION_FAILED),
    }


# Conditions of a pod that is being resized (KEP-1287), and what each says.
_RESIZING: Final = (("PodResizePending", None), ("PodResizeInProgress", "InProgress"))


def _resources(
    name: str, spec: Mapping[str, Any], status: Mapping[str, Any], conditions: Mapping[str, Any]
) -> dict[str, Any]:
    """What the main container is to have and what it has, and how far a resize is."""
    wanted = next((c.get("resources") for c in spec.get("containers") or () if c.get("name") == name), None)
    actual = next((c.get("resources") for c in status.get("containerStatuses") or () if c.get("name") == name), None)
    found: dict[str, Any] = {"resources": _shared(wanted), "actual": _shared(actual)}
    for type_, state in _RESIZING:
        condition = conditions.get(type_) or {}
        if condition.get("status") == "True":
            reason = str(condition.get("reason") or "")
            message = str(condition.get("message") or "")[:256] or None
            # What went wrong in actuating it the kubelet tries again: a process may need less memory in a moment.
            error = type_ == "PodResizeInProgress" and reason == "Error"
            known = "Deferred" if error else state or (reason if reason in ("Infeasible", "Deferred") else None)
            return found | {"resize": known, "resize_message": message}
    return found


def _shared(resources: Any) -> JsonDict | None:
    """The amounts, as the one object that all equal ones share: agents of a fleet have the same."""
    if not isinstance(resources, dict) or not resources:
        return {} if isinstance(resources, dict) else None
    kept = {side: resources[side] for side in ("requests", "limits") if isinstance(resources.get(side), dict)}
    text = json.dumps(kept, sort_keys=True)
    return _amounts(text)


@lru_cache(maxsize=1024)
def _amounts(text: str) -> JsonDict:
    found: JsonDict = json.loads(text)
    return found


def _requested_at(deletion: datetime | None, grace_seconds: int | None) -> datetime | None:
    # The grace period is an int64 of the user's; the deletion it leads to is then beyond all years, and no time at all.
    return deletion - timedelta(seconds=min(grace_seconds or 0, MAX_GRACE_SECONDS)) if deletion else None


def _name_parts(name: str) -> tuple[str, int, int]:
    """Agent, ordinal and incarnation; no agent when the name is not one that the operator could have given."""
    parts = name.rsplit("-", 2)
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() and len(part) <= 10 for part in parts[1:]):
        return "", 0, 0
    head, ordinal, incarnation = parts[0], int(parts[1]), int(parts[2])
    return (head, ordinal, incarnation) if ordinal <= MAX_ORDINAL and incarnation <= MAX_INCARNATION else ("", 0, 0)


def _whole(text: str | None) -> int:
    # Anyone who may annotate a pod writes this: `isdigit` alone takes "²", and int() refuses more than 4300 digits.
    return int(text) if text and len(text) <= 18 and text.isascii() and text.isdigit() else 0


def _scheduled_at(
    spec: Mapping[str, Any], status: Mapping[str, Any], scheduled: Mapping[str, Any], meta: Mapping[str, Any]
) -> datetime | None:
    if scheduled.get("status") == "True":
        return parse_instant(scheduled.get("lastTransitionTime")) or parse_instant(status.get("startTime"))
    if scheduled.get("status") == "False" or not spec.get("nodeName"):
        return None
    return parse_instant(status.get("startTime")) or parse_instant(meta.get("creationTimestamp"))


def _is_ready(status: Mapping[str, Any], conditions: Mapping[str, Any]) -> bool:
    ready = conditions.get("Ready")
    if ready is not None:
        return bool(ready.get("status") == "True")
    # A hand-written world may leave the condition out; the kubelet never does.
    return status.get("phase") == "Running" and all(c.get("ready", True) for c in status.get("containerStatuses") or ())


def _container_names(spec: Mapping[str, Any], status: Mapping[str, Any]) -> list[str]:
    """The names of the pod's containers; those of their statuses in a world that leaves the spec out."""
    names = [str(c.get("name", "")) for c in spec.get("containers") or ()]
    return names or [str(s.get("name", "")) for s in status.get("containerStatuses") or ()]


def _written_main(annotations: Mapping[str, str], spec: Mapping[str, Any]) -> str | None:
    """The name of the main container as the pod itself has it: in its annotation, else by the variable that names the pod.

    Never by the order of the containers: admission webhooks put theirs first (Istio, holdApplicationUntilProxyStarts).
    None: the pod does not say.
    """
    containers = [c for c in spec.get("containers") or () if isinstance(c, dict)]
    named = annotations.get(ANNOTATION_MAIN_CONTAINER)
    if any(c.get("name") == named for c in containers):
        return named
    return next((str(c.get("name", "")) for c in containers if _has_variable(c, ENV_POD)), None)


def _has_variable(container: Mapping[str, Any], name: str) -> bool:
    return any(isinstance(one, dict) and one.get("name") == name for one in container.get("env") or ())


def _containers(
    name: str, spec: Mapping[str, Any], status: Mapping[str, Any], conditions: Mapping[str, Any]
) -> dict[str, Any]:
    """What the kubelet says of the main container, of those beside it, and of when they can start."""
    statuses = {s.get("name"): s for s in status.get("containerStatuses") or ()}
    containers: list[dict[str, Any]] = spec.get("containers") or []
    declared: dict[str, Any] = next((c for c in containers if c.get("name") == name), {})
    ready = conditions.get("PodReadyToStartContainers") or {}
    return {
        "main": main_container_facts(statuses.get(name) or {}),
        "main_image": declared.get("image"),
        "has_start_hook": bool((declared.get("lifecycle") or {}).get("postStart")),
        "others": other_containers(spec, status, name),
        "restarts_in_place": restarts_in_place(spec, status, name),
        "containers_ready_at": parse_instant(ready.get("lastTransitionTime"))
        if ready.get("status") == "True"
        else None,
        "grace_seconds": spec.get("terminationGracePeriodSeconds"),
    }
