"""How a value comes about, where a golden world would not show it."""

from typing import Any

from mabeam.core.coordination.strategies.custom import custom
from mabeam.core.coordination.strategies.interface import StrategyInputs, function_inputs
from mabeam.core.functions import FunctionResult, function_call
from support.builders import START, an_agent
from support.coordination import a_variable, in_json


def answered(round_: StrategyInputs, answer: Any) -> Any:
    """The custom value that follows from a function's answer."""
    function = round_.variable.spec.function
    assert function is not None
    ask = function_call(function, function_inputs(round_, round_.before.value))
    known = StrategyInputs(
        variable=round_.variable,
        agents=round_.agents,
        now=round_.now,
        function_results={ask.id: FunctionResult(answer)},
    )
    return in_json(custom(known)).value


def test_a_function_that_says_the_same_again_orders_the_same() -> None:
    variable = a_variable("v", type="Custom", function={"cel": "1"}, value=None)
    one_more = {"directives": [{"agent": "a", "action": "ScaleUp", "parameters": {"by": 1}}]}
    for effective in (2, 3, 4):
        status = {"observedGeneration": 1, "effective": {"replicas": effective, "desiredState": "Running"}}
        agent = an_agent("a", replicas=2, status=status)
        told = answered(StrategyInputs(variable=variable, agents=(agent,), now=START), one_more)
        assert told["directives"][0]["parameters"] == {"replicas": 3}
