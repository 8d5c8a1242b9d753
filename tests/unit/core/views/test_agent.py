"""The record of an agent in /v1: what is known of it, and nothing that a process said in its own words."""

from typing import Any

import pytest

from mabeam.api.agent import Agent
from mabeam.api.directive import DirectiveState
from mabeam.core.reports.report import Report
from mabeam.core.views.agent import MAX_SAMPLES, ObservedAgent, agent_info
from support.builders import an_agent
from support.overview import (
    directive,
    planner_body,
)


def test_an_agent_that_was_never_looked_at_is_registered() -> None:
    info = agent_info(ObservedAgent(an_agent()))
    assert (info.state, info.active, info.replicas, info.ready_replicas) == ("Registered", False, 1, 0)
    assert info.to_wire().keys().isdisjoint({"usage", "lastFailure", "directives", "startTime", "invalid", "parkedAt"})


@pytest.mark.parametrize(
    ("condition", "told"),
    [
        ({"status": "True", "reason": "ReportsOk"}, None),
        ({"status": "False", "reason": "Unreachable", "message": "a cannot be read"}, "a cannot be read"),
        ({"status": "False", "reason": "BadReport", "message": "words of the process"}, "BadReport"),
    ],
)
def test_a_report_that_cannot_be_used_is_told_without_the_words_of_the_process(
    condition: dict[str, str], told: str | None
) -> None:
    agent = an_agent(status={"conditions": [{"type": "ReportsValid", **condition}]})
    assert agent_info(ObservedAgent(agent)).report_problem == told


def test_an_agent_whose_spec_cannot_be_read_says_so_and_nothing_of_its_placeholder() -> None:
    info = agent_info(ObservedAgent(Agent.model_validate(planner_body()), invalid=True))
    assert info.invalid
    assert info.requested is None


@pytest.mark.parametrize(
    ("change", "active"),
    [
        ({}, True),
        ({"active": False}, False),
        ({"readyReplicas": 0}, False),
        ({"state": "Stopping"}, False),
        ({"effective": {"replicas": 0}}, False),
        ({"effective": {"replicas": 2}}, False),
    ],
)
def test_an_agent_is_active_when_all_of_it_works_and_nobody_left_it_idle(change: dict[str, Any], active: bool) -> None:
    body = planner_body()
    agent = Agent.model_validate({**body, "status": {**body["status"], **change}})
    assert agent_info(ObservedAgent(agent)).active is active


def test_directives_are_counted_by_how_far_they_came_and_those_set_aside_apart() -> None:
    items = [
        *(directive(state.value, f"v-{state.value.lower()}") for state in DirectiveState),
        directive("Refused", "cold", reason="Overruled", message="its priority is lower", overruledBy="other"),
        directive("Refused", "old", dropped=True, reason="Dropped", message="dropped"),
    ]
    body = planner_body()
    body["status"]["directives"] = {"generation": 3, "appliedGeneration": 2, "items": items}
    told_ = agent_info(ObservedAgent(Agent.model_validate(body))).directives
    assert told_ is not None
    assert told_.counts.to_wire() == {
        "issued": 1, "delivered": 1, "acknowledged": 1, "refused": 1, "expired": 1, "overruled": 2,
    }  # fmt: skip


def test_the_unlabelled_sample_is_performance_and_what_a_process_makes_up_is_bounded() -> None:
    many = {f"m{number:03}": 1.0 for number in range(500)}
    report = Report(
        performance={**many, "": 2.0, "performance": 1.0},
        numbers=many,
        choices={"m000": {f"c{number:03}": float(number) for number in range(500)}},
    )
    info = agent_info(ObservedAgent(an_agent(), report=report))
    assert info.performance["performance"] == 2.0
    assert len(info.performance) == len(info.preferences) == MAX_SAMPLES
    choices = info.preferences["m000"].choices
    assert choices is not None
    assert list(choices)[:2] == ["c499", "c498"]
    assert len(choices) == MAX_SAMPLES
