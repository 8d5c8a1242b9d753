"""Which generation of directives the status, the ConfigMap and the pods of an agent stand for."""

from typing import Final

from mabeam.api.base import JsonDict
from mabeam.api.directive import AgentDirectives
from mabeam.core.pods.lifecycle import is_live
from mabeam.core.snapshot import AgentSnapshot

# The last number a status can hold: it can have no successor, so nobody honest wrote it.
LAST_GENERATION: Final = 2**53


def stored_directives(snapshot: AgentSnapshot) -> AgentDirectives:
    """What the status holds; nothing, when nobody honest wrote it."""
    stored = snapshot.agent.status.directives
    return stored if stored is not None and stored.generation < LAST_GENERATION else AgentDirectives()


def config_map_document(snapshot: AgentSnapshot) -> JsonDict:
    """The document the ConfigMap holds; empty when there is none, or when it is not ours."""
    held = snapshot.config_map
    return held.document or {} if held is not None and held.ours else {}


def config_map_generation(snapshot: AgentSnapshot) -> int:
    """The generation of the ConfigMap; 0 when there is none, when it is not ours, or when nobody honest wrote it."""
    held = snapshot.config_map
    number = held.generation if held is not None and held.ours else 0
    return number if 0 <= number < LAST_GENERATION else 0


def annotated_generation(snapshot: AgentSnapshot) -> int:
    """The generation a pod was told to look at that neither the status nor the ConfigMap knows any more; else 0.

    The ConfigMap is never more than one ahead of the status: a higher number was written by nobody honest.
    """
    ahead = stored_directives(snapshot).generation + 1
    held = snapshot.config_map
    if (held is not None and not held.ours) or config_map_generation(snapshot) >= ahead:
        return 0
    return ahead if any(is_live(pod) and pod.generation == ahead for pod in snapshot.pods) else 0
