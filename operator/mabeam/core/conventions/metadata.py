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
    """The fixed labels of a child; never its owner's."""
    labels = {
        LABEL_NAME: "mabeam",
        LABEL_COMPONENT: component,
        LABEL_PART_OF: "mabeam",
        LABEL_MANAGED_BY: MANAGED_BY,
    }
    return labels | ({LABEL_AGENT: agent} if agent else {})


def pod_labels(agent: str, ordinal: int, incarnation: int) -> dict[str, str]:
    """The fixed labels of a pod: by them it is found; that it is the agent's own is proven by its owner reference."""
    return child_labels("agent", agent) | {LABEL_ORDINAL: str(ordinal), LABEL_INCARNATION: str(incarnation)}


def owner_reference(kind: str, name: str, uid: str) -> JsonDict:
    """The controller reference of a child; without `blockOwnerDeletion`, so that no deletion ever waits for us."""
    return {"apiVersion": API_VERSION, "kind": kind, "name": name, "uid": uid, "controller": True}


def release_command(resource: str, metadata: ObjectMeta) -> str:
    """The kubectl command that releases the object; `resource` is its short name: mba, mov or msup."""
    target = f"{resource} {metadata.name} -n {metadata.namespace}"
    return f'kubectl annotate {target} --overwrite {ANNOTATION_RELEASE}="$(date +%s)"'


# As much of an annotation as a status can remember; an annotation may be far longer.
ANNOTATION_LENGTH: Final = 1024


def annotation_request(metadata: ObjectMeta, annotation: str) -> str:
    """The value of an annotation that asks for something, as much of it as a status can remember; each value asks once."""
    return metadata.annotations.get(annotation, "")[:ANNOTATION_LENGTH]
