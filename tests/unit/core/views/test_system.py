"""The record of the whole system in /v1, and the page and the document that describe all records."""

import json
import re
from typing import Any

import pytest

from mabeam.api.agent import Agent
from mabeam.api.directive import DirectiveState
from mabeam.api.names import Reason
from mabeam.api.rest_openapi import OPERATIONS, document
from mabeam.core.views import system
from mabeam.core.views.agent import ObservedAgent, agent_info, count_directives
from mabeam.core.views.system import ProcessCounters, aggregate_of, efficiency, recovery_of, system_status
from mabeam.core.views.variable import variable_info
from support.builders import at
from support.overview import (
    OPERATOR,
    books,
    critic,
    planner,
    planner_body,
    temperature,
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
