"""The records of /v1: what is known of agents, variables and the whole, and nothing that a process said in its own words."""

import json
import re
from typing import Any

import pytest

from mabeam.api.agent import Agent
from mabeam.api.directive import DirectiveState
from mabeam.api.names import Reason
from mabeam.api.rest_openapi import OPERATIONS, document
from mabeam.api.variable import OrchestrationVariable
from mabeam.core.reports.report import Report
from mabeam.core.views import system
from mabeam.core.views.agent import MAX_SAMPLES, ObservedAgent, agent_info, count_directives
from mabeam.core.views.system import ProcessCounters, aggregate_of, efficiency, recovery_of, system_status
from mabeam.core.views.variable import ObservedVariable, variable_info
from support.builders import an_agent, at
from support.overview import (
    OPERATOR,
    books,
    critic,
    directive,
    planner,
    planner_body,
    temperature,
    temperature_body,
    told,
)
from support.rendered import ROOT

PAGE = (ROOT / "docs/api.md").read_text()


def whole(namespace: str | None = None) -> Any:
    return system_status(OPERATOR, [planner(), critic()], [temperature()], books(), at(90), namespace).to_wire()


def shown(path: str) -> Any:
    """The example that the page shows for a path."""
    found = re.search(rf"`GET {re.escape(path)}`.*?```json\n(.*?)```", PAGE, flags=re.DOTALL)
    assert found is not None
    return json.loads(found.group(1))


# --- the page


def test_the_examples_of_the_page_are_what_is_answered() -> None:
    assert shown("/v1/status") == whole()
    assert shown("/v1/agents/team/planner") == agent_info(planner()).to_wire()
    assert shown("/v1/variables/team/temperature") == variable_info(temperature()).to_wire()


@pytest.mark.parametrize("path", [path for path, *_ in OPERATIONS])
def test_every_path_is_on_the_page(path: str) -> None:
    assert f"`{path}`" in PAGE


# --- agents


def test_an_agent_that_was_never_looked_at_is_registered() -> None:
    info = agent_info(ObservedAgent(an_agent()))
    assert (info.state, info.active, info.replicas, info.ready_replicas) == ("Registered", False, 1, 0)
    assert info.to_wire().keys().isdisjoint({"usage", "lastFailure", "directives", "startTime", "invalid", "parkedAt"})


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


# --- variables


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


# --- the whole


def test_only_one_namespace_is_told_of_when_one_is_given() -> None:
    status = whole("elsewhere")
    assert (status["agents"]["total"], status["variables"]["total"], status["recentEvents"]) == (0, 0, [])
    assert status["namespace"] == "elsewhere"
    assert whole("team")["agents"] == whole()["agents"]


def test_a_system_of_which_nothing_is_known_has_no_figures_instead_of_zeros() -> None:
    status = system_status(OPERATOR, (), (), ProcessCounters(), at(0)).to_wire()
    assert status["communication"]["sinceStart"] == {}
    assert "efficiency" not in status["communication"]
    assert status["utilisation"] == {}
    assert status["recovery"] == {"count": 0}


def test_efficiency_is_of_the_directives_that_came_to_an_end() -> None:
    assert efficiency({"issued": 9, "acknowledged": 3, "expired": 1, "late": 1, "overruled": 5}) == 0.75
    assert efficiency({"acknowledged": 1, "refused": 1}) == 0.5
    assert efficiency({"issued": 4}) is None


def test_recovery_times_are_summed_up() -> None:
    assert recovery_of([1.0, 9.0, 2.0]).to_wire() == {
        "count": 3, "lastSeconds": 2, "meanSeconds": 4, "medianSeconds": 2,
    }  # fmt: skip


def test_a_mean_of_huge_samples_is_finite_and_between_them() -> None:
    both = aggregate_of([1.7e308, 1.7e308, 1.6e308])
    assert both.minimum <= both.mean <= both.maximum


def test_no_record_holds_the_words_of_a_process_or_a_template() -> None:
    body = planner_body()
    del body["spec"]["module"], body["spec"]["image"]
    env = [{"name": "TOKEN", "value": "a secret"}]
    body["spec"]["template"] = {"spec": {"containers": [{"name": "agent", "image": "i:1", "env": env}]}}
    seen = ObservedAgent(Agent.model_validate(body))
    events = tuple(told(1, reason, "a secret") for reason in Reason if reason not in system.PUBLISHED_NOTES)
    status = system_status(OPERATOR, [seen], [temperature()], ProcessCounters(events=events), at(9))
    assert "secret" in json.dumps(body)
    assert "secret" not in json.dumps([agent_info(seen).to_wire(), status.to_wire()])
    assert len(status.recent_events) == len(events)


@pytest.mark.parametrize(
    "reason", [Reason.AGENT_FAILED, Reason.AGENT_STOPPED, Reason.RESTART_BUDGET_EXHAUSTED, Reason.POD_REFUSED]
)
def test_notes_that_quote_others_are_left_out(reason: Reason) -> None:
    assert reason not in system.PUBLISHED_NOTES


# --- the OpenAPI document


def test_every_reference_of_the_document_leads_somewhere_and_every_record_is_described() -> None:
    told_ = document()
    schemas = told_["components"]["schemas"]
    references = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(told_)))
    assert references <= set(schemas)
    assert {model.__name__ for _, model, *_ in OPERATIONS} <= references
    assert all(schemas[name].get("description") for name in schemas)
    assert told_["openapi"].startswith("3.1")


@pytest.mark.parametrize(
    ("name", "record"),
    [
        ("SystemStatus", whole()),
        ("AgentInfo", agent_info(planner()).to_wire()),
        ("VariableInfo", variable_info(temperature()).to_wire()),
    ],
)
def test_what_is_answered_is_what_the_document_describes(name: str, record: dict[str, Any]) -> None:
    schema = document()["components"]["schemas"][name]
    assert set(record) <= set(schema["properties"])
    assert set(schema.get("required", ())) <= set(record)


def test_the_states_of_directives_all_have_a_place() -> None:
    assert set(count_directives([]).to_wire()) == {
        *(state.value.lower() for state in DirectiveState),
        "overruled",
    }
