"""The strategy of Custom: the value is what the user's function returns."""

from collections.abc import Mapping
from typing import Any

from mabeam.api.agent import Agent
from mabeam.api.directive import DirectiveAction
from mabeam.api.names import Reason
from mabeam.core.coordination.strategies.interface import StrategyInputs, StrategyResult, failure
from mabeam.core.coordination.strategies.parameter import call_function, in_domain
from mabeam.core.directives.replicas import absolute_replicas
from mabeam.core.values import CustomDirectives, CustomValue, DesiredDirective, Value, invalid_parameters


def custom(inputs: StrategyInputs) -> StrategyResult:
    """`CustomDirectives` when the function returns `{directives: [{agent, action, parameters}]}`, else a `CustomValue`."""
    function = inputs.variable.spec.function
    if function is None:  # a rule of the CRD requires one
        return failure(Reason.INVALID_CONFIGURATION, "a variable of type Custom needs a function")
    return call_function(inputs, function, lambda result: _parse_result(inputs, result))


def _parse_result(inputs: StrategyInputs, result: Any) -> Value | str:
    """The value in a function's result, or what is wrong with the result."""
    if result is None:
        return "gave null"
    if not isinstance(result, dict) or "directives" not in result:
        if "domain" not in inputs.variable.spec.model_fields_set:
            return CustomValue(result)
        fitted = in_domain(inputs, result)
        return fitted if isinstance(fitted, str) else CustomValue(fitted.value)
    if not isinstance(result["directives"], list):
        return "gave `directives` that are not a list"
    return _parse_directives({agent.metadata.name: agent for agent in inputs.agents}, result["directives"])


def _parse_directives(agents: Mapping[str, Agent], listed: list[Any]) -> CustomDirectives | str:
    found: dict[tuple[str, DirectiveAction], DesiredDirective] = {}
    for number, item in enumerate(listed):
        wrong = _problem(item, agents)
        if wrong is not None:
            return f"gave a directive (number {number}) {wrong}"
        name, action = item["agent"], DirectiveAction(item["action"])
        if (name, action) in found:
            return f"gave {name} the action {action} twice"
        # Counted from the replicas of the spec, not from those in effect: the same result must always order the same number.
        parameters = absolute_replicas(action, item.get("parameters") or {}, agents[name].spec.replicas)
        found[name, action] = DesiredDirective(action, parameters)
    by_agent: dict[str, tuple[DesiredDirective, ...]] = {}
    for name, action in sorted(found):
        by_agent[name] = (*by_agent.get(name, ()), found[name, action])
    return CustomDirectives(by_agent)


def _problem(item: Any, agents: Mapping[str, Agent]) -> str | None:
    """What is wrong with one listed directive, as a phrase; None when nothing is."""
    if not isinstance(item, dict):
        return "that is not an object"
    if item.get("agent") not in list(agents):
        return f"for {item.get('agent')!r:.60}, which is not one of its agents"
    if item.get("action") not in list(DirectiveAction):
        return f"whose action is {item.get('action')!r:.60}; allowed: {', '.join(DirectiveAction)}"
    parameters = item.get("parameters")
    if not isinstance(parameters, dict | None):
        return "whose parameters are not an object"
    return invalid_parameters(parameters or {})
