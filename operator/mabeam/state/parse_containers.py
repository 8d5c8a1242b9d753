"""The containers of a pod's body: the facts about the main one, and about those beside it."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from mabeam.core.conventions.times import parse_instant
from mabeam.core.snapshot import ContainerFacts, OtherContainer

_RESTARTING_POLICIES: Final = ("Always", "OnFailure")


def container_facts(state: Mapping[str, Any] | None) -> ContainerFacts:
    """The facts in a `state` or `lastState` of a container's status."""
    state = state or {}
    if "terminated" in state:
        ended = state["terminated"] or {}
        return ContainerFacts(
            "terminated",
            ended.get("reason"),
            ended.get("message"),
            ended.get("exitCode", 0),
            parse_instant(ended.get("startedAt")),
            parse_instant(ended.get("finishedAt")),
        )
    if "running" in state:
        return ContainerFacts("running", started_at=parse_instant((state["running"] or {}).get("startedAt")))
    if "waiting" in state:
        waiting = state["waiting"] or {}
        return ContainerFacts("waiting", waiting.get("reason"), waiting.get("message"))
    return ContainerFacts()


def main_container_facts(status: Mapping[str, Any]) -> ContainerFacts:
    """The facts about the main container's first process: one incarnation is one process.

    A later one, which the kubelet started by a restart policy of the container's own (KEP-5307), is no incarnation.
    """
    last_end = _last_end(status)
    return last_end if last_end is not None and status.get("restartCount") else container_facts(status.get("state"))


def other_containers(
    spec: Mapping[str, Any], status: Mapping[str, Any], main: str | None
) -> tuple[OtherContainer, ...]:
    """The containers beside the main one of which the kubelet has reported a status, init containers first."""
    return (*_init_containers(spec, status), *_regular_containers(spec, status, main))


def restarts_in_place(spec: Mapping[str, Any], status: Mapping[str, Any], main: str | None) -> bool:
    """Whether the kubelet may start a container again that has ended, or has done so with the main one.

    The operator makes no such pod: older ones did have it from their template, and webhooks can set it.
    """
    if spec.get("restartPolicy") in _RESTARTING_POLICIES:
        return True
    regular, init = _listed(spec, "containers"), _listed(spec, "initContainers")
    if any(c.get("restartPolicyRules") for c in (*regular, *init)):
        return True
    native = "Always"  # of an init container: a native sidecar, which ends with the pod
    policies = (
        *(c.get("restartPolicy") for c in regular),
        *(c.get("restartPolicy") for c in init if c.get("restartPolicy") != native),
    )
    if any(policy in _RESTARTING_POLICIES for policy in policies):
        return True
    return any(s.get("name") == main and s.get("restartCount") for s in _listed(status, "containerStatuses"))


def _init_containers(spec: Mapping[str, Any], status: Mapping[str, Any]) -> Iterator[OtherContainer]:
    declared = {c.get("name"): c for c in _listed(spec, "initContainers")}
    for found in _listed(status, "initContainerStatuses"):
        container = declared.get(found.get("name")) or {}
        native = container.get("restartPolicy") == "Always"
        yield _other(found, container, "native" if native else "init")


def _regular_containers(
    spec: Mapping[str, Any], status: Mapping[str, Any], main: str | None
) -> Iterator[OtherContainer]:
    declared = {c.get("name"): c for c in _listed(spec, "containers")}
    for found in _listed(status, "containerStatuses"):
        if found.get("name") != main:
            yield _other(found, declared.get(found.get("name")) or {}, "regular")


def _other(status: Mapping[str, Any], container: Mapping[str, Any], role: Any) -> OtherContainer:
    return OtherContainer(
        name=str(status.get("name", "")),
        role=role,
        image=container.get("image") or status.get("image") or None,
        now=container_facts(status.get("state")),
        last_end=_last_end(status),
        ready=bool(status.get("ready")),
    )


def _last_end(status: Mapping[str, Any]) -> ContainerFacts | None:
    found = container_facts(status.get("lastState"))
    return found if found.state == "terminated" else None


def _listed(holder: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    return holder.get(key) or []
