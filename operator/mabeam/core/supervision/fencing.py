"""Fencing: at most one process per ordinal, also of pods that the apiserver cannot vouch for."""

from mabeam.api.agent_status import PodRecord
from mabeam.core.pods import lifecycle
from mabeam.core.snapshot import AgentSnapshot, PodFacts


def may_still_run(snapshot: AgentSnapshot, pod: PodFacts) -> bool:
    """Whether a process of a pod that is being deleted may run: until its object is gone, or its node is."""
    return snapshot.nodes is None or pod.node is None or pod.node in snapshot.nodes


def blocking_namesake(snapshot: AgentSnapshot, record: PodRecord) -> PodFacts | None:
    """The pod of a deleted Agent of the same name that the record's pod waits for; None when there is none.

    It runs as the same ordinal, or it has the very name. The garbage collector deletes it, for its owner is gone.
    """
    return next(
        (
            pod
            for pod in snapshot.namesake_pods
            if pod.name == record.name
            or (pod.ordinal == record.ordinal and lifecycle.is_live(pod) and may_still_run(snapshot, pod))
        ),
        None,
    )


def nodes_in_question(snapshot: AgentSnapshot) -> frozenset[str]:
    """The nodes whose existence this pass's decision depends on: of pods that are to end, and of records without their pod."""
    there = {pod.name for pod in snapshot.pods}
    ending = {pod.node for pod in snapshot.pods if pod.deleting} | {pod.node for pod in snapshot.namesake_pods}
    lost = {record.node for record in snapshot.agent.status.pods if record.is_alive and record.name not in there}
    return frozenset(name for name in ending | lost if name)
