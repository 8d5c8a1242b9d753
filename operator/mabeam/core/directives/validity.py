"""The directives that the operator refuses itself, because the agent cannot carry them out (reason CannotBeDone)."""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from mabeam.api.agent import MAX_REPLICAS, Agent
from mabeam.api.base import QUANTITY_PATTERN, JsonDict
from mabeam.api.directive import DirectiveAction
from mabeam.core.directives.desired import NETWORK_PRIORITY, invalid_peers
from mabeam.core.directives.replicas import invalid_step
from mabeam.core.pods.resources import allotted_resources


def _wrong_replicas(agent: Agent, parameters: JsonDict) -> str | None:
    replicas = parameters.get("replicas")
    if agent.metadata.autoscaler:
        owner = agent.metadata.autoscaler
        return f"an autoscaler owns spec.replicas ({owner}); if it is gone, set spec.replicas to another number"
    if replicas is None and (wrong := invalid_step(parameters)) is not None:
        return wrong
    if not isinstance(replicas, int) or isinstance(replicas, bool) or not 0 <= replicas <= MAX_REPLICAS:
        return f"`replicas` must be a whole number from 0 to {MAX_REPLICAS}, not {replicas!r:.40}"
    return None


def _wrong_role(agent: Agent, parameters: JsonDict) -> str | None:
    role = parameters.get("role")
    if isinstance(role, str) and 0 < len(role) <= 63:
        return None
    return f"`role` must be the name of a role, not {role!r:.40}"


def _wrong_active(agent: Agent, parameters: JsonDict) -> str | None:
    active = parameters.get("active", True)
    return None if isinstance(active, bool) else f"`active` must be true or false, not {active!r:.40}"


def _wrong_resources(agent: Agent, parameters: JsonDict) -> str | None:
    amounts = {name: amount for name, amount in parameters.items() if name != NETWORK_PRIORITY}
    wrong = next((name for name, amount in amounts.items() if not _is_quantity(amount)), None)
    return f"the amount of {wrong} must be a quantity" if wrong else allotted_resources(agent.spec, parameters)[1]


def _is_quantity(amount: Any) -> bool:
    return isinstance(amount, str) and len(amount) <= 32 and re.match(QUANTITY_PATTERN, amount) is not None


# action → the problem with its parameters for that agent, None when there is none; an action without an entry is never refused
VALIDATORS: Final[Mapping[DirectiveAction, Callable[[Agent, JsonDict], str | None]]] = {
    DirectiveAction.SCALE_UP: _wrong_replicas,
    DirectiveAction.SCALE_DOWN: _wrong_replicas,
    DirectiveAction.CHANGE_ROLE: _wrong_role,
    DirectiveAction.ACTIVATE: _wrong_active,
    DirectiveAction.UPDATE_COMMUNICATION: lambda agent, parameters: invalid_peers(parameters),
    DirectiveAction.ALLOCATE_RESOURCES: _wrong_resources,
}
