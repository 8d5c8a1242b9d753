"""R8's and R10's own instruments: a schema that admits everything, or a judge who is content with it, would pass every plan."""

import asyncio
import copy
import json
import random
from typing import Any

import pytest

from faults import hostile_reports, schema
from faults.apiserver import Api
from faults.campaigns.hostile_objects import open_ends, p
from faults.campaigns.namespace_deletion import UNDER_WAY_SECONDS, Creates
from faults.generated_specs import Draw
from faults.hostile_reports import Seen, judged
from faults.in_memory_specs import agent_spec, supervisor_spec, try_worlds, variable_spec
from faults.in_memory_world import unsaid
from faults.observer import Observer
from faults.proxy import Answer, Request
from mabeam.core.reports.report import MAX_PROBLEM_LENGTH, MAX_PROBLEMS, Report
from support.async_api import JsonDict

# --- what a schema admits -----------------------------------------------------------------------------------------------

KEYED: JsonDict = {
    "type": "array",
    "maxItems": 2,
    "items": {"type": "object", "properties": {"k": {"type": "string"}}},
    schema.LIST_TYPE: "map",
    schema.LIST_KEYS: ["k"],
}


@pytest.mark.parametrize("kind", ["Agent", "OrchestrationVariable", "Supervisor"])
def test_what_is_drawn_is_what_the_schema_admits(kind: str) -> None:
    shape = schema.of(kind, "spec")
    spec_of = {"Agent": agent_spec, "OrchestrationVariable": variable_spec, "Supervisor": supervisor_spec}[kind]
    for number in range(200):
        draw = Draw(random.Random(number))
        assert schema.problem(shape, draw.admitted(shape, {"template": draw.pod_template})) is None
        assert schema.problem(shape, spec_of(draw, whole=True)) is None


def test_a_number_draws_the_same_world_every_time_and_another_one_another() -> None:
    def drawn(number: int) -> str:
        return json.dumps(agent_spec(Draw(random.Random(number))))

    assert [drawn(number) for number in range(20)] == [drawn(number) for number in range(20)]
    assert len({drawn(number) for number in range(20)}) > 15


@pytest.mark.parametrize(
    ("shape", "value"),
    [
        ({"type": "string"}, None),
        ({"type": "string"}, 1),
        ({"type": "string", "maxLength": 2}, "abc"),
        ({"type": "string", "pattern": "^a$"}, "a\n"),
        ({"type": "string", "format": "date-time"}, "soon"),
        ({"type": "string", "enum": ["a"]}, "b"),
        ({"type": "string"}, "\ud800"),
        ({"type": "integer", "minimum": 0, "maximum": 3}, 4),
        ({"type": "integer"}, True),
        ({"type": "integer"}, 1.5),
        ({"type": "number"}, float("inf")),
        ({schema.INT_OR_STRING: True}, 1.5),
        ({"type": "object", "properties": {}}, {"unknown": 1}),
        ({"type": "object", "properties": {}, "required": ["a"]}, {}),
        ({schema.PRESERVE: True}, {"deep": [float("nan")]}),
        (KEYED, [{"k": "a"}, {"k": "a"}]),
        (KEYED, [{"k": "a"}, {"k": "b"}, {"k": "c"}]),
    ],
)
def test_what_the_apiserver_would_refuse_or_prune_is_a_problem(shape: JsonDict, value: Any) -> None:
    assert schema.problem(shape, value) is not None


@pytest.mark.parametrize(
    ("shape", "value"),
    [
        ({schema.INT_OR_STRING: True}, "a"),
        ({schema.PRESERVE: True}, {"deep": [None, 1e300]}),
        ({"type": "object", "properties": {"a": {"type": "number"}}}, {"a": 1}),
        (KEYED, [{"k": "a"}, {"k": "b"}]),
    ],
)
def test_what_the_apiserver_would_take_is_none(shape: JsonDict, value: Any) -> None:
    assert schema.problem(shape, value) is None


def test_a_core_that_fails_is_told_with_its_worlds_number_and_a_small_world(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise ZeroDivisionError("the core failed")

    monkeypatch.setattr("faults.in_memory_world.decide", fails)
    with pytest.raises(AssertionError) as told:
        try_worlds(7, 0, 1)
    number, small = str(told.value).split("\nmade small: ")
    assert number == f"world {7 << 32}: ZeroDivisionError: the core failed"
    assert json.loads(small) == {"agent": {}, "variable": {}}


# --- what a status says -------------------------------------------------------------------------------------------------


def status(ready: str = "False", stalled: str = "False", going: str = "True", **words: str) -> JsonDict:
    said = {"reason": "Starting", "message": "0 of 1 run"} | words
    values = {"Accepted": "True", "Ready": ready, "Stalled": stalled, "Reconciling": going}
    return {"observedGeneration": 2, "conditions": [{"type": t, "status": s, **said} for t, s in values.items()]}


@pytest.mark.parametrize(
    "good", [status(), status("True", going="False", message=""), status(stalled="True", going="False")]
)
def test_a_status_that_says_how_it_stands_and_why_is_enough(good: JsonDict) -> None:
    assert unsaid("Agent", good) is None


@pytest.mark.parametrize(
    "bad",
    [
        {},
        {"conditions": status()["conditions"][:3]},
        status(message=""),
        status(reason=""),
        status(going="False"),
        status("True", "True"),
    ],
    ids=["nothing", "a condition missing", "no message", "no reason", "neither nor", "Ready and Stalled"],
)
def test_a_status_that_does_not_is_seen(bad: JsonDict) -> None:
    assert unsaid("Agent", bad) is not None
    assert unsaid("Supervisor", bad) is not None


def test_an_object_has_no_end_before_its_present_spec_was_seen() -> None:
    def left(generation: int, told: JsonDict | None) -> list[str]:
        observer = Observer(Api("http://127.0.0.1:1", None, "ns"))  # type: ignore[arg-type]
        observer.objects["agents"]["a"] = {"metadata": {"name": "a", "generation": generation}, "status": told}
        return open_ends(observer, [("agents", "a")])

    assert left(2, status()) == []
    assert len(left(3, status())) == len(left(2, None)) == len(left(2, status(message=""))) == 1
    assert open_ends(Observer(Api("", None, "ns")), [("agents", "gone")]) == ["agents/gone: not seen yet"]  # type: ignore[arg-type]


def test_a_percentile_is_the_nearest_rank() -> None:
    assert (p(50, [3, 1, 2]), p(99, list(range(1, 101))), p(99, [1, 9])) == (2, 99, 9)


# --- reports ------------------------------------------------------------------------------------------------------------

GOOD: dict[str, Any] = {
    "outcomes": {"ok": 12, "bad": 5},
    "connections": {"hostile": 5, "healthy": 12},
    "grown_mb": 1.0,
    "lag_seconds": 0.1,
    "healthy": Report(numbers={"t": 0.5}),
    "hostile": None,
}


@pytest.mark.parametrize(
    "worse",
    [
        {"outcomes": {"bad": 5}},
        {"connections": {"hostile": 5}},
        {"connections": {"hostile": 1, "healthy": 12}},
        {"grown_mb": 100.0},
        {"lag_seconds": 2.0},
        {"healthy": None},
        {"healthy": Report(numbers={"t": 0.9})},
        {"hostile": Report(numbers={"t": 0.9})},
        {"hostile": Report(problems=("p",) * (MAX_PROBLEMS + 1))},
        {"hostile": Report(problems=("p" * (MAX_PROBLEM_LENGTH + 1),))},
    ],
    ids=lambda worse: next(iter(worse)),
)
def test_a_reader_that_suffers_or_believes_is_seen(worse: dict[str, Any]) -> None:
    assert judged(Seen(**GOOD), "blanks") == []
    assert len(judged(Seen(**(copy.deepcopy(GOOD) | worse)), "blanks")) == 1


def test_every_case_that_is_believed_is_one() -> None:
    assert hostile_reports.CASES.keys() > hostile_reports.BELIEVED


# --- a namespace that goes ----------------------------------------------------------------------------------------------


def test_creates_after_a_refusal_are_late_and_those_that_were_under_way_are_not() -> None:
    going = b"pods is forbidden: unable to create new content in namespace v because it is being terminated"
    answers = [Answer(201, b"{}"), Answer(403, b"quota exceeded"), Answer(403, going), Answer(403, going)]

    async def main() -> None:
        creates = Creates("v", most=1)
        waiting = [asyncio.create_task(creates.note(request(), answered(answer))) for answer in answers[:3]]
        await asyncio.sleep(0.01)
        assert [task.done() for task in waiting] == [True, False, False]  # one is let through before it goes
        creates.going.set()
        await asyncio.gather(*waiting)
        assert (len(creates.asked), creates.refused, creates.late()) == (3, 1, [])
        await creates.note(request(), answered(answers[3]))
        assert creates.late() == []
        await asyncio.sleep(UNDER_WAY_SECONDS)
        await creates.note(request(), answered(answers[3]))
        assert [kind for _, kind in creates.late()] == ["pods"]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("verb", "namespace", "expected"), [("POST", "v", True), ("PATCH", "v", False), ("POST", "w", False)]
)
def test_only_creates_in_the_namespace_count(verb: str, namespace: str, expected: bool) -> None:
    assert Creates("v", most=1).are_meant(request(verb, namespace)) is expected


def request(verb: str = "POST", namespace: str = "v") -> Request:
    return Request(1, verb, "pods", "", "", 0.0, f"/api/v1/namespaces/{namespace}/pods", {})


def answered(answer: Answer) -> Any:
    async def forward() -> Answer:
        return answer

    return forward
