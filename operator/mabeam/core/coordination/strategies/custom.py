"""The strategy of Custom: the value is what a function of the user returns."""

from collections.abc import Mapping
from typing import Any

from mabeam.api.base import JsonDict
from mabeam.api.directive import DirectiveAction
from mabeam.api.names import Reason
from mabeam.core.coordination.strategies.interface import StrategyInputs, StrategyResult
from mabeam.core.coordination.strategies.parameter import _of_domain, called
from mabeam.core.directives.desired import invalid_parameters
from mabeam.core.directives.replicas import absolute_replicas

# --- Custom ---------------------------------------------------------------------------------------------------------------


def custom(inputs: StrategyInputs) -> StrategyResult:
    """What the function says: a value, or `{directives: [{agent, action, parameters}]}`."""
    function = inputs.variable.spec.function
    if function is None:  # a rule of the CRD says that there is one
        text = "a variable of type Custom needs a function"
        return StrategyResult(Reason.INVALID_CONFIGURATION, text, error=Reason.INVALID_CONFIGURATION)
    return called(inputs, function, lambda answer: _custom(inputs, answer))


def _custom(inputs: StrategyInputs, answer: Any) -> tuple[Any, str | None]:
    if answer is None:
        return None, "gave null"
    if not isinstance(answer, dict) or "directives" not in answer:
        return _of_domain(inputs, answer) if "domain" in inputs.variable.spec.model_fields_set else (answer, None)
    if not isinstance(answer["directives"], list):
        return None, "gave `directives` that are no list"
    agents = {agent.metadata.name: agent for agent in inputs.agents}
    told: dict[tuple[str, DirectiveAction], JsonDict] = {}
    for number, one in enumerate(answer["directives"]):
        wrong = _wrong_with(one, agents)
        if wrong is not None:
            return None, f"gave a directive (number {number}) {wrong}"
        action, key = DirectiveAction(one["action"]), (one["agent"], DirectiveAction(one["action"]))
        if key in told:
            return None, f"gave {one['agent']} the action {action} twice"
        # From what the user asks for, not from what is in effect: a function that says the same again must order the same.
        parameters = absolute_replicas(action, one.get("parameters") or {}, agents[one["agent"]].spec.replicas)
        told[key] = {"agent": one["agent"], "action": str(action), "parameters": parameters}
    return {"directives": [told[key] for key in sorted(told)]}, None


def _wrong_with(one: Any, agents: Mapping[str, object]) -> str | None:
    if not isinstance(one, dict):
        return "that is no object"
    if one.get("agent") not in list(agents):
        return f"for {one.get('agent')!r:.60}, which is none of its agents"
    if one.get("action") not in list(DirectiveAction):
        return f"whose action is {one.get('action')!r:.60}; allowed: {', '.join(DirectiveAction)}"
    parameters = one.get("parameters")
    if not isinstance(parameters, dict | None):
        return "whose parameters are no object"
    return invalid_parameters(parameters or {})
