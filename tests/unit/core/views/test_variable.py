"""The record of a variable in /v1."""

from typing import Any

import pytest

from mabeam.api.variable import OrchestrationVariable
from mabeam.core.views.variable import ObservedVariable, variable_info
from support.overview import (
    temperature_body,
)


@pytest.mark.parametrize(
    ("spec", "status", "invalid", "active"),
    [
        ({}, {}, False, True),
        ({}, {}, True, False),
        ({"paused": True}, {}, False, False),
        ({"mode": "Advise"}, {}, False, False),
        ({}, {"value": None}, False, False),
        ({}, {"conditions": [{"type": "Accepted", "status": "False"}]}, False, False),
    ],
)
def test_a_variable_is_active_when_agents_are_told_a_value_of_it(
    spec: dict[str, Any], status: dict[str, Any], invalid: bool, active: bool
) -> None:
    body = temperature_body()
    body["spec"] |= spec
    body["status"] |= status
    assert variable_info(ObservedVariable(OrchestrationVariable.model_validate(body), invalid)).active is active


def test_a_coordination_error_is_told_by_its_name() -> None:
    body = temperature_body()
    body["status"]["conditions"] = [{"type": "Ready", "status": "False", "reason": "AgentUnavailable"}]
    info = variable_info(ObservedVariable(OrchestrationVariable.model_validate(body)))
    assert (info.error, info.converged) == ("AgentUnavailable", False)


def test_the_last_vote_is_told() -> None:
    body = temperature_body()
    body["status"]["consensus"] = {
        "proposal": "temperature-2",
        "outcome": "Rejected",
        "votes": [{"agent": "a", "choice": "No"}],
    }
    vote = variable_info(ObservedVariable(OrchestrationVariable.model_validate(body))).consensus
    assert vote is not None
    assert (vote.proposal, vote.outcome, vote.votes) == ("temperature-2", "Rejected", 1)
