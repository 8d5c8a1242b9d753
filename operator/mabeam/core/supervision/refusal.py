"""The apiserver's refusal of a pod: while it counts, and how it is worded in conditions and Events."""

import re
from collections.abc import Iterable
from typing import Final

from mabeam.api.agent_status import AgentStatus, PodRecord
from mabeam.api.names import ConditionType, Reason
from mabeam.core.decision import Event
from mabeam.core.snapshot import AgentSnapshot, PodRefused

# The quota on the number of objects; `pods` and the quotas on amounts do not count pods that have ended.
# Source: kubernetes pkg/quota/v1/evaluator/core/pods.go, and plugin/pkg/admission/resourcequota/controller.go for the words.
_OBJECT_QUOTA: Final = re.compile(r"exceeded quota: [^,]+, requested: [^ ]*\bcount/pods=")


def refusal_in_force(snapshot: AgentSnapshot, records: Iterable[PodRecord]) -> PodRefused | None:
    """The refusal while a record wants a pod that does not exist; None once no pod is to be created any more."""
    if snapshot.refused is None:
        return None
    there = {pod.name for pod in snapshot.pods}
    wanted = any(record.is_alive and record.name not in there for record in records)
    return snapshot.refused if wanted else None


def refusal_message(refused: PodRefused) -> str:
    """Who is at fault, in the apiserver's own words."""
    did = "could not create" if refused.of_server else "refused"
    return f"the apiserver {did} the pod: {refused.message}"


def refusal_events(snapshot: AgentSnapshot, status: AgentStatus) -> tuple[Event, ...]:
    """The Event of a refusal that the stored conditions do not tell yet."""
    refused = refusal_in_force(snapshot, status.pods)
    if refused is None:
        return ()
    message = refusal_message(refused)
    stored = snapshot.agent.status.conditions
    known = any(
        c.type == ConditionType.READY and (c.reason, c.message) == (Reason.POD_REFUSED, message) for c in stored
    )
    return () if known else (Event(Reason.POD_REFUSED, message, "Warning", action="Start"),)


def is_pod_quota_used_up(message: str) -> bool:
    """Whether a refusal is about the number of pod objects in the namespace, to which ended pods belong."""
    return _OBJECT_QUOTA.search(message) is not None
