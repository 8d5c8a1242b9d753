"""The parent's instruction: one of four cases, and what the child adopts of it."""

from typing import Any

import pytest

from mabeam.api.agent import Agent
from mabeam.api.supervision import Intent, Supervision
from mabeam.api.supervisor import Supervisor
from mabeam.core.snapshot import (
    Instructed,
    NoParent,
    Orphaned,
    ParentInstruction,
    WaitingFor,
    held_by,
    permanent_stop,
    supervision_of,
)
from mabeam.core.tree.instruction import adopt_instruction, parent_instruction
from mabeam.state.parse_objects import parse_agent, parse_supervisor
from support.tree import child_body, supervisor_body


def given(intent: Intent, token: int, supervisor: str = "crew") -> Supervision:
    return Supervision(supervisor=supervisor, intent=intent, token=token)


def a_child(parent: str | None = "crew", last: Supervision | None = None) -> Agent:
    agent = parse_agent(child_body("a", parent)).agent
    return agent.model_copy(update={"status": agent.status.model_copy(update={"supervision": last})})


def a_parent(*records: dict[str, Any], children: tuple[str, ...] = ("a",), **status: Any) -> dict[str, Supervisor]:
    body = supervisor_body("crew", *children)
    body["status"] |= {"children": list(records), **status}
    return {"crew": parse_supervisor(body).supervisor}


def a_record(intent: str, token: int, **fields: Any) -> dict[str, Any]:
    return {"kind": "Agent", "name": "a", "intent": intent, "token": token, **fields}


def test_an_agent_that_names_no_supervisor_has_no_parent() -> None:
    assert parent_instruction(a_child(parent=None), {}) == NoParent()


def test_a_new_child_waits_for_a_supervisor_that_is_not_there_yet() -> None:
    assert parent_instruction(a_child(), {}) == WaitingFor("Supervisor crew, which does not exist")


def test_a_new_child_waits_for_a_supervisor_that_does_not_list_it() -> None:
    waits = WaitingFor("Supervisor crew, which does not list it as a child")
    assert parent_instruction(a_child(), a_parent(children=("b",))) == waits


def test_a_new_child_waits_for_the_first_pass_of_its_supervisor() -> None:
    assert parent_instruction(a_child(), a_parent()) == WaitingFor("Supervisor crew")


def test_the_record_in_the_parents_status_is_the_instruction() -> None:
    assert parent_instruction(a_child(), a_parent(a_record("Start", 2))) == Instructed(given(Intent.START, 2))


def test_an_instruction_that_the_child_acts_on_already_is_the_very_same_object() -> None:
    last = given(Intent.START, 2)
    parent = parent_instruction(a_child(last=last), a_parent(a_record("Start", 2)))
    assert supervision_of(parent) is last


def test_a_listed_child_whose_record_was_lost_keeps_its_last_instruction() -> None:
    last = given(Intent.STOP, 2)
    assert parent_instruction(a_child(last=last), a_parent()) == Instructed(last)


@pytest.mark.parametrize(
    ("supervisors", "because"),
    [
        ({}, "Supervisor crew, which does not exist"),
        (a_parent(children=("b",)), "Supervisor crew, which does not list it as a child"),
    ],
)
def test_a_child_that_lost_its_parent_keeps_running_unsupervised(
    supervisors: dict[str, Supervisor], because: str
) -> None:
    parent = parent_instruction(a_child(last=given(Intent.STOP, 3)), supervisors)
    assert parent == Orphaned(given(Intent.START, 3), because)
    assert held_by(parent) is None


def test_a_stop_is_permanent_when_the_root_has_completed() -> None:
    stops = a_parent(a_record("Stop", 1), shutDownAt="2026-01-01T00:00:00Z")
    assert permanent_stop(parent_instruction(a_child(), stops)) == (
        "stopped for good: Supervisor crew has completed; releasing it starts all children again"
    )
    assert permanent_stop(parent_instruction(a_child(), a_parent(a_record("Stop", 1)))) is None


@pytest.mark.parametrize(
    ("parent", "whom"),
    [
        (NoParent(), None),
        (WaitingFor("Supervisor crew"), "Supervisor crew"),
        (Instructed(given(Intent.START, 1)), None),
        (Instructed(given(Intent.STOP, 1)), "Supervisor crew"),
        (Orphaned(given(Intent.START, 1), "…"), None),
    ],
)
def test_a_child_is_held_while_it_waits_and_after_a_stop(parent: ParentInstruction, whom: str | None) -> None:
    assert held_by(parent) == whom


@pytest.mark.parametrize(
    ("before", "instruction", "adopted", "restarts"),
    [
        (None, given(Intent.START, 4), given(Intent.START, 4), False),  # the first instruction restarts nothing
        (given(Intent.START, 9, "other"), given(Intent.START, 4), given(Intent.START, 4), False),
        (given(Intent.START, 4), None, None, False),
        (given(Intent.START, 4), given(Intent.START, 5), given(Intent.START, 5), True),
        (given(Intent.START, 4), given(Intent.STOP, 5), given(Intent.STOP, 4), False),  # the token comes with the start
        (given(Intent.START, 4), given(Intent.START, 3), given(Intent.START, 4), False),
        (given(Intent.START, 2_000_000_000), given(Intent.START, 3), given(Intent.START, 3), False),  # an edited status
    ],
)
def test_a_start_with_a_newer_token_restarts_the_child(
    before: Supervision | None, instruction: Supervision | None, adopted: Supervision | None, restarts: bool
) -> None:
    assert adopt_instruction(before, instruction) == (adopted, restarts)
