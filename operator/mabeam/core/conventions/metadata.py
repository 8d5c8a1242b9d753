"""Labels, owner references and annotations of the objects that the operator writes or reads."""

from typing import Final

from mabeam.api.base import JsonDict, ObjectMeta
from mabeam.api.names import (
    ANNOTATION_RELEASE,
    API_VERSION,
    LABEL_AGENT,
    LABEL_COMPONENT,
    LABEL_INCARNATION,
    LABEL_MANAGED_BY,
    LABEL_NAME,
    LABEL_ORDINAL,
    LABEL_PART_OF,
    MANAGED_BY,
)


def child_labels(component: str, agent: str | None = None) -> dict[str, str]:
    """The fixed labels of an object that the operator creates; its owner's labels are never copied."""
    labels = {
        LABEL_NAME: "mabeam",
        LABEL_COMPONENT: component,
        LABEL_PART_OF: "mabeam",
        LABEL_MANAGED_BY: MANAGED_BY,
    }
    return labels | ({LABEL_AGENT: agent} if agent else {})


def pod_labels(agent: str, ordinal: int, incarnation: int) -> dict[str, str]:
    """The fixed labels of a pod, by which it is listed and watched; its owner reference alone proves whose it is."""
    return child_labels("agent", agent) | {LABEL_ORDINAL: str(ordinal), LABEL_INCARNATION: str(incarnation)}


def owner_reference(kind: str, name: str, uid: str) -> JsonDict:
    """The controller reference of a created object; without `blockOwnerDeletion`, so that no deletion waits for the operator."""
    return {"apiVersion": API_VERSION, "kind": kind, "name": name, "uid": uid, "controller": True}


# --- annotations that request something ---------------------------------------------------------------------------------

# The longest annotation value, in characters, that a status stores; an annotation itself may have 256 KiB.
ANNOTATION_LENGTH: Final = 1024


def annotation_request(metadata: ObjectMeta, annotation: str) -> str:
    """The first 1024 characters of an annotation, empty without one; each new value is one request."""
    return metadata.annotations.get(annotation, "")[:ANNOTATION_LENGTH]


def released_by(metadata: ObjectMeta, stored: str | None) -> str | None:
    """The value of the release annotation for the next status; `stored`, that of the last one, when there is none."""
    return annotation_request(metadata, ANNOTATION_RELEASE) or stored


def release_source(metadata: ObjectMeta, stored: str | None, *, spec_changed: bool) -> str | None:
    """What releases the object in this pass, as a noun phrase for its Event; None when nothing does.

    It is a release annotation with another value than `stored`, the last one that was used, or else a changed spec.
    """
    if released_by(metadata, stored) != stored:
        return f"the annotation {ANNOTATION_RELEASE}"
    return "a spec change" if spec_changed else None


def release_command(resource: str, metadata: ObjectMeta) -> str:
    """The kubectl command that releases the object; `resource` is its short name: mba, mov or msup."""
    target = f"{resource} {metadata.name} -n {metadata.namespace}"
    return f'kubectl annotate {target} --overwrite {ANNOTATION_RELEASE}="$(date +%s)"'
