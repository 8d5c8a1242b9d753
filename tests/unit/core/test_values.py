"""Values of variables: JSON → type → JSON, and what is left of JSON that somebody edited."""

from datetime import UTC, datetime
from typing import Any

import pytest

from mabeam.api.directive import DirectiveAction
from mabeam.api.variable import OrchestrationType
from mabeam.api.variable_blocks import CoordinationPattern
from mabeam.core.values import (
    PARSERS,
    AllocationValue,
    CustomDirectives,
    CustomValue,
    DesiredDirective,
    ElectionValue,
    ParameterValue,
    RateValue,
    SelectionValue,
    ThresholdEntry,
    ThresholdValue,
    TopologyValue,
    invalid_parameters,
    parse_directive,
    parse_value,
)

STOP = DesiredDirective(DirectiveAction.STOP)
T0 = datetime(2026, 1, 1, tzinfo=UTC)
RING = TopologyValue(CoordinationPattern.RING, ("a", "b"))

# What the strategies write into a status, and the value that it stands for.
WRITTEN: list[tuple[OrchestrationType, Any, Any]] = [
    (OrchestrationType.PARAMETER, 0.7, ParameterValue(0.7)),
    (OrchestrationType.ADAPTATION_RATE, 0.1, RateValue(0.1)),
    (OrchestrationType.AGENT_SELECTION, {"active": ["a", "b"]}, SelectionValue(("a", "b"))),
    (OrchestrationType.RESOURCE_ALLOCATION, {"a": {"cpu": "500m"}}, AllocationValue({"a": {"cpu": "500m"}})),
    (OrchestrationType.COMMUNICATION_TOPOLOGY, {"pattern": "Ring", "members": ["a", "b"]}, RING),
    (
        OrchestrationType.COMMUNICATION_TOPOLOGY,
        {"pattern": "Star", "members": ["a", "b"], "hub": "b"},
        TopologyValue(CoordinationPattern.STAR, ("a", "b"), hub="b"),
    ),
    (
        OrchestrationType.COMMUNICATION_TOPOLOGY,
        {"pattern": "Custom", "members": ["a", "b"], "edges": [["a", "b"]]},
        TopologyValue(CoordinationPattern.CUSTOM, ("a", "b"), edges=(("a", "b"),)),
    ),
    (
        OrchestrationType.COMMUNICATION_TOPOLOGY,
        {"pattern": "Custom", "members": ["a", "b"], "edges": []},
        TopologyValue(CoordinationPattern.CUSTOM, ("a", "b"), edges=()),
    ),
    (
        OrchestrationType.COORDINATION_PATTERN,
        {"pattern": "Ring", "members": ["a", "b"], "coordinator": "b", "term": 3},
        ElectionValue(RING, "b", 3),
    ),
    (
        OrchestrationType.PERFORMANCE_THRESHOLD,
        {"a": {"state": "Breached", "action": "Stop", "parameters": {}, "since": "2026-01-01T00:00:00Z"}},
        ThresholdValue({"a": ThresholdEntry("Breached", STOP, T0)}),
    ),
    (OrchestrationType.CUSTOM, {"any": [1]}, CustomValue({"any": [1]})),
    (
        OrchestrationType.CUSTOM,
        {"directives": [{"agent": "a", "action": "Stop", "parameters": {}}]},
        CustomDirectives({"a": (STOP,)}),
    ),
]


@pytest.mark.parametrize(("type_", "json", "value"), WRITTEN)
def test_what_a_strategy_writes_is_read_as_the_same_value(type_: OrchestrationType, json: Any, value: Any) -> None:
    assert parse_value(type_, json) == value
    assert value.to_json() == json


def test_every_type_of_value_has_an_example() -> None:
    assert {type_ for type_, _, _ in WRITTEN} == set(PARSERS)


@pytest.mark.parametrize("type_", PARSERS)
def test_null_is_no_value(type_: OrchestrationType) -> None:
    assert parse_value(type_, None) is None


# A status that was edited by hand, or written for another type: what can be read is kept.
EDITED: list[tuple[OrchestrationType, Any, Any]] = [
    (OrchestrationType.AGENT_SELECTION, 5, SelectionValue(())),
    (OrchestrationType.AGENT_SELECTION, {"active": "a"}, SelectionValue(())),
    (OrchestrationType.AGENT_SELECTION, {"active": ["a", 5, None]}, SelectionValue(("a",))),
    (OrchestrationType.RESOURCE_ALLOCATION, "all", None),
    (OrchestrationType.RESOURCE_ALLOCATION, {"a": {"cpu": "1"}, "b": "none"}, AllocationValue({"a": {"cpu": "1"}})),
    (OrchestrationType.COMMUNICATION_TOPOLOGY, ["a"], None),
    (OrchestrationType.COMMUNICATION_TOPOLOGY, {"pattern": "Tree", "members": ["a"]}, None),
    (OrchestrationType.COMMUNICATION_TOPOLOGY, {"pattern": ["Ring"], "members": ["a"]}, None),
    (
        OrchestrationType.COMMUNICATION_TOPOLOGY,
        {"pattern": "Star", "members": "a", "hub": 1, "edges": [["a"], ["a", "b"], "ab"]},
        TopologyValue(CoordinationPattern.STAR, (), edges=(("a", "b"),)),
    ),
    (OrchestrationType.COORDINATION_PATTERN, 1, None),
    (
        OrchestrationType.COORDINATION_PATTERN,
        {"pattern": "Ring", "members": ["a", "b"], "coordinator": 1, "term": True},
        ElectionValue(RING, None, None),
    ),
    (OrchestrationType.COORDINATION_PATTERN, {"coordinator": "a", "term": 7}, ElectionValue(None, "a", 7)),
    (OrchestrationType.PERFORMANCE_THRESHOLD, [1], None),
    (OrchestrationType.PERFORMANCE_THRESHOLD, {"a": 1, "b": {"state": "Breached"}}, ThresholdValue({})),
    (
        OrchestrationType.PERFORMANCE_THRESHOLD,
        {"a": {"state": 1, "action": "Stop", "since": "soon"}},
        ThresholdValue({"a": ThresholdEntry("", STOP, None)}),
    ),
    (
        OrchestrationType.CUSTOM,
        {"directives": [1, {"agent": "a", "action": "Jump"}, {"agent": "a", "action": "Stop"}]},
        CustomDirectives({"a": (STOP,)}),
    ),
    (OrchestrationType.CUSTOM, {"directives": "none"}, CustomValue({"directives": "none"})),
]


@pytest.mark.parametrize(("type_", "json", "value"), EDITED)
def test_of_an_edited_value_only_what_can_be_read_is_left(type_: OrchestrationType, json: Any, value: Any) -> None:
    assert parse_value(type_, json) == value


def test_an_election_without_a_readable_part_writes_only_the_others() -> None:
    assert ElectionValue(None, "a", None).to_json() == {"coordinator": "a"}


def test_a_directive_with_more_parameters_than_one_carries_is_not_read() -> None:
    many = {f"p{i}": i for i in range(65)}
    assert parse_directive({"action": "Reconfigure", "parameters": many}) is None
    assert invalid_parameters(many) == "with more than 64 parameters"


def test_a_directive_with_too_long_a_parameter_name_is_not_read() -> None:
    assert parse_directive({"action": "Reconfigure", "parameters": {"p" * 254: 1}}) is None


@pytest.mark.parametrize("json", [None, 1, [], {}, {"action": "Jump"}, {"action": ["Stop"]}])
def test_what_names_no_action_is_no_directive(json: Any) -> None:
    assert parse_directive(json) is None
