"""The generation numbers of an agent's directives: in its status, in its ConfigMap, and in its pods' annotations."""

from typing import Final

from mabeam.api.base import JsonDict
from mabeam.api.directive import AgentDirectives
from mabeam.core.pods.lifecycle import is_live
from mabeam.core.snapshot import AgentSnapshot

# The bound of the status field. This number and above can have no successor: only a hand-edited or corrupted object holds one.
LAST_GENERATION: Final = 2**53


def stored_directives(snapshot: AgentSnapshot) -> AgentDirectives:
    """The directives of the stored status; empty when there are none or their generation is out of range."""
    stored = snapshot.agent.status.directives
    return stored if stored is not None and stored.generation < LAST_GENERATION else AgentDirectives()


def config_map_document(snapshot: AgentSnapshot) -> JsonDict:
    """`directives.json` of the ConfigMap; empty when there is none or another owner's."""
    held = snapshot.config_map
    return held.document or {} if held is not None and held.owned else {}


def config_map_generation(snapshot: AgentSnapshot) -> int:
    """The generation of the ConfigMap; 0 when there is none, it is another owner's, or the number is out of range."""
    held = snapshot.config_map
    number = held.generation if held is not None and held.owned else 0
    return number if 0 <= number < LAST_GENERATION else 0


def annotated_generation(snapshot: AgentSnapshot) -> int:
    """The generation in a pod's annotation that the status and the ConfigMap have both lost; else 0.

    The ConfigMap is one ahead of the status at most, so no higher number is the operator's.
    """
    ahead = stored_directives(snapshot).generation + 1
    held = snapshot.config_map
    if (held is not None and not held.owned) or config_map_generation(snapshot) >= ahead:
        return 0
    return ahead if any(is_live(pod) and pod.generation == ahead for pod in snapshot.pods) else 0
