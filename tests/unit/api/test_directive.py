"""The records of directives in statuses, and those of the last release, which stored a sentence as `reason`."""

from typing import Any

import pytest

from mabeam.api.agent import Agent
from mabeam.api.crd import structural_schema
from mabeam.api.directive import AgentDirective, AgentDirectives, DirectiveReason, VariableDirectives

LOST = "variable hot sets temperature: its priority 5 is above 1"
UNRESOLVED = "not resolved: the last good stays"


def conflict(**fields: Any) -> dict[str, Any]:
    told = {"parameter": "temperature", "winner": "hot", "loser": "v", "resolver": "PriorityBased", "message": LOST}
    return told | fields


def stored(state: str, sentence: str, *conflicts: dict[str, Any]) -> AgentDirective:
    """The directive that an agent's status of the last release holds with this sentence."""
    item = {"variable": "v", "action": "AdjustParameters", "state": state, "reason": sentence}
    return AgentDirectives.model_validate({"items": [item], "conflicts": list(conflicts)}).items[0]


@pytest.mark.parametrize(
    ("state", "sentence", "reason", "message"),
    [
        ("Expired", "not delivered in time", "NotDelivered", "not delivered in time"),
        ("Expired", "not acknowledged in time", "NotAcknowledged", "not acknowledged in time"),
        ("Refused", "dropped: the agent failed after it came", "Dropped", "dropped: the agent failed after it came"),
        ("Refused", "cannot be done: no role", "CannotBeDone", "cannot be done: no role"),
        (
            "Refused",
            "ResourceExhausted: a-0-1: Infeasible",
            "ResourceExhausted",
            "ResourceExhausted: a-0-1: Infeasible",
        ),
        ("Refused", "too hot", "RefusedByAgent", "too hot"),
        ("Refused", "Overruled", "RefusedByAgent", "Overruled"),
        ("Refused", "says: cannot be done: ever", "RefusedByAgent", "cannot be done: ever"),
    ],
)
def test_a_sentence_of_the_last_release_is_read_as_its_reason(
    state: str, sentence: str, reason: str, message: str
) -> None:
    item = stored(state, sentence)
    assert (item.reason, item.message, item.overruled_by) == (DirectiveReason(reason), message, None)


def test_a_directive_of_the_last_release_that_lost_a_conflict_names_the_winner() -> None:
    item = stored("Refused", LOST, conflict(loser="other"), conflict())
    assert (item.reason, item.message, item.overruled_by) == ("Overruled", LOST, "hot")


@pytest.mark.parametrize("loser", ["v", "hot"])
def test_a_directive_of_the_last_release_in_an_unresolved_conflict_was_overruled_by_nobody(loser: str) -> None:
    winner = {"winner": loser, "value": 0.5}
    item = {"variable": loser, "action": "AdjustParameters", "state": "Refused", "reason": UNRESOLVED}
    status = {"items": [item], "conflicts": [conflict(message=UNRESOLVED, loser=loser, **winner)]}
    found = AgentDirectives.model_validate(status).items[0]
    assert (found.reason, found.message, found.overruled_by) == ("ConflictUnresolved", UNRESOLVED, None)


def test_a_compromise_of_the_last_release_is_lost_by_nobody() -> None:
    item = stored("Refused", LOST, conflict(value=0.5))
    assert (item.reason, item.overruled_by) == ("RefusedByAgent", None)


def test_a_variables_status_of_the_last_release_leaves_open_who_refused() -> None:
    items = [
        {"agent": "a", "action": "Stop", "state": "Refused", "reason": LOST},
        {"agent": "b", "action": "Stop", "state": "Refused", "reason": "the agent obeys 64 variables already"},
        {"agent": "c", "action": "Stop", "state": "Expired", "reason": "not acknowledged in time"},
        {"agent": "d", "action": "Stop", "state": "Acknowledged"},
    ]
    found = VariableDirectives.model_validate({"items": items}).items
    assert [one.reason for one in found] == [None, "LimitReached", "NotAcknowledged", None]
    assert [one.message for one in found] == [one.get("reason") for one in items]


@pytest.mark.parametrize("reason", list(DirectiveReason))
def test_a_reason_with_a_message_is_read_as_it_was_written(reason: DirectiveReason) -> None:
    item = AgentDirective(variable="v", action="Stop", state="Refused", reason=reason, message="cannot be done: x")
    status = AgentDirectives(items=(item,))
    assert AgentDirectives.model_validate(status.to_wire()) == status


@pytest.mark.parametrize("junk", [None, 5, "x", {"items": 5}, {"items": [5]}, {"items": [{"reason": "x"}]}])
def test_junk_is_refused_as_junk(junk: Any) -> None:
    with pytest.raises(ValueError, match="validation error"):
        AgentDirectives.model_validate(junk)


def test_a_status_of_the_last_release_stays_valid_in_the_crd() -> None:
    directives = structural_schema(Agent)["properties"]["status"]["properties"]["directives"]["properties"]
    reason = directives["items"]["items"]["properties"]["reason"]
    assert (reason["type"], reason["maxLength"], "enum" in reason) == ("string", 1024, False)
    assert all(str(one) in reason["description"] for one in DirectiveReason)
