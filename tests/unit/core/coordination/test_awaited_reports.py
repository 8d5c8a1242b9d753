"""After a restart a round waits for the reports that counted before it, and not for ever."""

import pytest

from mabeam.api.variable import OrchestrationVariable
from mabeam.core.passes.variable import decide
from mabeam.core.reports.report import Report
from mabeam.core.snapshot import VariableSnapshot
from support.builders import at
from support.coordination import UNIT, told_agent, variable_body

AGENTS = tuple(told_agent(name) for name in ("a", "b"))


@pytest.mark.parametrize(("read_for", "value"), [(30, 0.3), (60, 0.9), (7200, 0.9)])
def test_an_agent_that_can_no_longer_be_read_holds_the_others_up_for_a_minute_only(
    read_for: float, value: float
) -> None:
    body = variable_body("temperature", ["a", "b"], negotiation={"periodSeconds": 5}, domain=UNIT)
    both = {"a": Report(numbers={"temperature": 0.2}), "b": Report(numbers={"temperature": 0.4})}
    first = decide(VariableSnapshot(OrchestrationVariable.model_validate(body), AGENTS, both), at(0))
    body["status"] = first.status.to_wire()
    snapshot = VariableSnapshot(
        OrchestrationVariable.model_validate(body),
        AGENTS,
        {"b": Report(numbers={"temperature": 0.9})},  # `a` is ready, and nobody can ask it since the operator started
        reading_since=at(100),
    )
    decision = decide(snapshot, at(100 + read_for))
    assert decision.status.value == value
