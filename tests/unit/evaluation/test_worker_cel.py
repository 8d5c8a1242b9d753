"""CEL in a worker: what an expression may say, and what becomes of one that would take the machine with it."""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mabeam.core.functions import FunctionCall, FunctionResult, Language
from mabeam.evaluation.evaluator import LIMITS, Evaluation, Evaluator, Limits, evaluate, evaluate_all

DEADLINE_SECONDS = 20
TEAM = [{"name": "a", "performance": 0.5, "cpu": 2}, {"name": "b", "performance": 0.75, "cpu": 1}]
# A thousand searches through a megabyte: within CEL's own bound on iterations, and far beyond a second.
TOO_SLOW = "[1,1,1,1,1,1,1,1,1,1].all(x, " * 3 + "!text.matches('(a|x)*b')" + ")" * 3


@pytest.fixture(scope="module")
def evaluator() -> Iterator[Evaluator]:
    evaluator = Evaluator()
    yield evaluator
    evaluator.close()


@pytest.fixture
def value(evaluator: Evaluator) -> Any:
    def evaluate(text: str, **inputs: Any) -> Any:
        answer = evaluator.answer(FunctionCall(Language.CEL, text, inputs)).answer
        assert answer.error is None, answer.error
        return answer.value

    return evaluate


@pytest.fixture
def error(evaluator: Evaluator) -> Any:
    def evaluate(text: str, **inputs: Any) -> str:
        outcome = evaluator.answer(FunctionCall(Language.CEL, text, inputs))
        assert outcome.answer.error is not None, f"it answered {outcome.answer.value}"
        assert not outcome.costly
        return outcome.answer.error

    return evaluate


# --- what may be said -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [1, 1.0])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("value * 2", 2),
        ("2 * value", 2),
        ("value * 2.0", 2),
        ("value / 2", 0.5),
        ("value + 1", 2),
        ("value - 0.5", 0.5),
        ("value % 2", 1),
        ("-value", -1),
        ("value <= 1.5", True),
        ("value == 1", True),
        ("1 < 2.5", True),
        ("value + [1, 2].size()", 3),
        ("value in [1, 2]", True),
        ("string(value)", "1"),
        ("7 / 2", 3),
        ("math.ceil(value + 0.5)", 2),
        ("int(value) % 2 == 1", True),
    ],
)
def test_a_number_means_the_same_however_it_was_written(value: Any, text: str, expected: Any, given: float) -> None:
    assert value(text, value=given) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("agents.size() < 4", True),
        ("agents.all(a, a.performance > 0.6)", False),
        ("agents.exists(a, a.performance > 0.6)", True),
        ("agents.filter(a, a.performance > 0.6).map(a, a.name)", ["b"]),
        ("agents.map(a, a.performance).sum() / agents.size()", 0.625),
        ("agents.map(a, a.performance).max()", 0.75),
        ("math.least(agents.map(a, a.performance))", 0.5),
        ("has(agents[0].queue) ? 1 : 0", 0),
        ("agents[0].name.upperAscii()", "A"),
        ("cel.bind(best, agents.map(a, a.performance).max(), agents.filter(a, a.performance == best)[0].name)", "b"),
        ("{'rate': agents.size() * 0.25, 'names': agents.map(a, a.name)}", {"rate": 0.5, "names": ["a", "b"]}),
        ("[] + [1] + [2.5]", [1, 2.5]),
        ("null", None),
    ],
)
def test_an_expression_reads_the_agents_and_answers_with_json(value: Any, text: str, expected: Any) -> None:
    assert value(text, agents=TEAM) == expected


@pytest.mark.parametrize(
    "text", ["'a' < 'b'", "duration('1s') <= duration('2s')", "'a' + 'b' == 'ab' && [1] + [2] == [1, 2]"]
)
def test_what_is_declared_anew_for_numbers_still_works_for_the_rest(value: Any, text: str) -> None:
    assert value(text) is True


def test_many_expressions_over_many_names_fit_into_one_worker(evaluator: Evaluator) -> None:
    """What is compiled is kept, but not without bound: an environment alone takes 300 KB."""
    assert evaluator.answer(FunctionCall(Language.CEL, "1")).answer == FunctionResult(1)
    before = evaluator.pids
    for number in range(400):
        question = FunctionCall(Language.CEL, f"n{number} + {number}", {f"n{number}": number})
        assert evaluator.answer(question).answer == FunctionResult(2 * number)
    assert evaluator.pids == before


def test_a_whole_number_comes_back_as_an_integer(value: Any) -> None:
    assert json.dumps(value("[value, 2.0, 3u, 1.5]", value=1)) == "[1, 2, 3, 1.5]"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("valu * 2", "at 1:1: undeclared reference to 'valu'"),
        ("value +", "at 1:8: Syntax error"),
        ("agents[0].speed", 'Key not found in map : "speed"'),
        ("agents[9]", "Index error"),
        ("value / 0", "not a finite number: inf"),
        ("0.0 / 0.0", "not a finite number: nan"),
        ("1 / 0", "divide by zero"),
        ("value % 0", "modulus by zero"),
        ("value + 'a'", "No matching overloads found : _+_(double, string)"),
        ("duration('1s')", "must be JSON: a number, string, bool, list or map, not a duration"),
        ("b'abc'", "not bytes"),
        ("type(value)", "not a type"),
        ("{1: 2}", "the keys of a map must be strings"),
        ("agents.map(a, a.name).sum()", "sum() is for lists of numbers"),
        ("[].max()", "max() of an empty list"),
        ("optional.none()", "undeclared reference to 'optional'"),
        ("timestamp('2026-01-01T00:00:00Z').getHours('Europe/Berlin')", "Invalid timezone"),
    ],
)
def test_an_error_says_in_one_line_what_cel_said(error: Any, text: str, says: str) -> None:
    told = error(text, value=1, agents=TEAM)
    assert says in told
    assert "\n" not in told
    assert len(told) <= 256


def test_inputs_that_are_no_json_or_too_large_are_not_handed_over(error: Any) -> None:
    assert "not JSON" in error("value", value=float("nan"))
    assert "at most 1048576 are handed over" in error("value", value="x" * 1024 * 1024)


def test_an_answer_that_is_too_large_says_so(error: Any) -> None:
    assert "at most 262144 are taken" in error("long + long", long="x" * 200_000)


def test_an_answer_that_is_nested_too_deeply_is_refused(error: Any) -> None:
    deep: Any = 1
    for _ in range(40):
        deep = [deep]
    assert "nested" in error("value", value=deep)


# --- edges ------------------------------------------------------------------------------------------------------------------


def edges(evaluator: Evaluator, text: str, agents: list[dict[str, Any]], **more: Any) -> Evaluation:
    return evaluator.answer(FunctionCall(Language.CEL_EDGES, text, {"agents": agents, **more}))


def test_edges_are_the_ordered_pairs_for_which_the_expression_is_true(evaluator: Evaluator) -> None:
    assert edges(evaluator, "from.cpu > to.cpu", TEAM).answer.value == [["a", "b"]]
    assert edges(evaluator, "true", TEAM).answer.value == [["a", "b"], ["b", "a"]]
    assert edges(evaluator, "from.cpu * 2 > limit", TEAM, limit=3).answer.value == [["a", "b"]]
    assert edges(evaluator, "true", []).answer.value == []


@pytest.mark.parametrize(
    "text",
    ["from.n < to.n", "1 / (from.n - to.n) >= 0 && from.n > to.n", "range.all(x, from.n < to.n) // and a comment"],
    ids=["at once", "an error about an agent and itself", "iterates for each pair"],
)
def test_edges_do_not_depend_on_how_many_are_looked_at_at_once(evaluator: Evaluator, text: str) -> None:
    agents = [{"name": f"a{n}", "n": n} for n in range(120)]
    flipped = "from.n > to.n" in text
    expected = [[f"a{n}", f"a{m}"] for n in range(120) for m in range(120) if (n > m if flipped else n < m)]
    patient = Evaluator({**LIMITS, Language.CEL_EDGES: replace(LIMITS[Language.CEL_EDGES], seconds=120)}, evaluator.cel)
    assert edges(patient, text.replace("1 /", "1 / int"), agents, range=list(range(20))).answer == FunctionResult(
        expected
    )


def test_an_edge_is_there_or_not(evaluator: Evaluator) -> None:
    assert "must be true or false, not 1" in str(edges(evaluator, "1", TEAM).answer.error)
    assert "Key not found" in str(edges(evaluator, "from.zone == to.zone", TEAM).answer.error)


def test_three_hundred_agents_are_wired_in_one_question(evaluator: Evaluator) -> None:
    name = "agent-with-a-name-that-is-about-as-long-as-names-of-pods-get-"
    agents = [{"name": f"{name}{n:03}", "cpu": n, "metrics": {f"m{m}": m for m in range(10)}} for n in range(300)]
    patient = Evaluator({**LIMITS, Language.CEL_EDGES: replace(LIMITS[Language.CEL_EDGES], seconds=120)}, evaluator.cel)
    outcome = edges(patient, "from.cpu >= 0 && to.cpu >= 0", agents)
    assert outcome.answer.error is None
    assert len(outcome.answer.value) == 300 * 299


# --- what takes too much ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "[1,1,1,1,1,1,1,1,1,1].all(x, " * 9 + "true" + ")" * 9,
        "[1,1,1,1,1,1,1,1,1,1].map(x, " * 9 + "1" + ")" * 9,
        "(" * 2000 + "1" + ")" * 2000,
        "1" + "+1" * 1900,
        "[[" * 900 + "]]" * 900,
        "cel.bind(s, s + s, " * 40 + "s" + ")" * 40,
    ],
    ids=["nested all", "nested map", "parentheses", "additions", "lists", "binds"],
)
def test_an_expression_that_explodes_is_refused_by_cel_itself(error: Any, text: str) -> None:
    assert error(text, s="aaaaaaaaaaaaaaaa")


def test_an_expression_that_takes_too_long_is_ended_and_the_next_one_has_a_new_worker(evaluator: Evaluator) -> None:
    assert evaluator.answer(FunctionCall(Language.CEL, "1")).answer == FunctionResult(1)
    before = set(evaluator.pids)
    outcome = evaluator.answer(FunctionCall(Language.CEL, TOO_SLOW, {"text": "a" * 1_000_000}))
    assert outcome.answer == FunctionResult(error="it took longer than 1 s, and was ended", timed_out=True)
    assert outcome.costly
    assert evaluator.answer(FunctionCall(Language.CEL, "1 + 1")).answer == FunctionResult(2)
    assert not before & set(evaluator.pids)
    assert all(is_gone(pid) for pid in before)


@pytest.mark.parametrize(
    "text", ["cel.bind(s, s + s, " * 9 + "s.size()" + ")" * 9, "s.split('')", "'%s%s%s%s'.format([s,s,s,s])"]
)
def test_a_memory_bomb_costs_a_worker_and_not_the_operator(evaluator: Evaluator, text: str) -> None:
    outcome = evaluator.answer(FunctionCall(Language.CEL, text, {"s": "a" * 1_000_000}))
    assert outcome.answer.error is not None
    assert evaluator.answer(FunctionCall(Language.CEL, "1 + 1")).answer == FunctionResult(2)


def test_a_worker_that_dies_in_the_middle_of_a_question_is_replaced() -> None:
    patient = {**LIMITS, Language.CEL: Limits(60, 1000)}
    evaluator = Evaluator(patient)
    try:
        assert evaluator.answer(FunctionCall(Language.CEL, "1")).answer == FunctionResult(1)
        (pid,) = evaluator.pids
        before = cpu_seconds(pid)
        found: list[Evaluation] = []
        question = FunctionCall(Language.CEL, TOO_SLOW, {"text": "a" * 1_000_000})
        thread = threading.Thread(target=lambda: found.append(evaluator.answer(question)))
        thread.start()
        eventually(lambda: cpu_seconds(pid) > before + 0.1)
        os.kill(pid, signal.SIGKILL)
        thread.join(DEADLINE_SECONDS)
        assert found == [Evaluation(FunctionResult(error="its worker ended by SIGKILL"), costly=True)]
        assert evaluator.answer(FunctionCall(Language.CEL, "2")).answer == FunctionResult(2)
    finally:
        evaluator.close()


def test_a_worker_that_died_while_nobody_asked_is_replaced_unseen() -> None:
    evaluator = Evaluator()
    try:
        assert evaluator.answer(FunctionCall(Language.CEL, "1")).answer == FunctionResult(1)
        (pid,) = evaluator.pids
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: is_gone(pid))
        assert evaluator.answer(FunctionCall(Language.CEL, "1")).answer == FunctionResult(1)
    finally:
        evaluator.close()


def test_closing_ends_a_question_in_progress_and_leaves_no_process_behind() -> None:
    evaluator = Evaluator({**LIMITS, Language.CEL: Limits(60, 1000)})
    assert evaluator.answer(FunctionCall(Language.CEL, "1")).answer == FunctionResult(1)
    (pid,) = evaluator.pids
    before = cpu_seconds(pid)
    found: list[Evaluation] = []
    question = FunctionCall(Language.CEL, TOO_SLOW, {"text": "a" * 1_000_000})
    thread = threading.Thread(target=lambda: found.append(evaluator.answer(question)))
    thread.start()
    eventually(lambda: cpu_seconds(pid) > before + 0.1)
    evaluator.close()
    thread.join(DEADLINE_SECONDS)
    assert "SIGKILL" in str(found[0].answer.error)
    assert is_gone(pid)
    assert evaluator.pids == []
    assert evaluator.answer(FunctionCall(Language.CEL, "1")).answer.error == "the operator is ending"


def test_a_worker_has_none_of_what_the_operator_has(evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_TOKEN", "secret")
    with Path(os.devnull).open("rb") as inheritable:
        os.set_inheritable(inheritable.fileno(), True)
        fresh = Evaluator()
        assert fresh.answer(FunctionCall(Language.CEL, "1")).answer == FunctionResult(1)
        (pid,) = fresh.pids
    try:
        assert Path(f"/proc/{pid}/environ").read_bytes() == b""
        opened = {os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()}
        assert {name.split(":")[0] for name in opened} == {"pipe", "/dev/null"}
        limits = Path(f"/proc/{pid}/limits").read_text()
        for what in ("Max open files", "Max processes", "Max file size", "Max core file size"):
            line = next(line for line in limits.splitlines() if line.startswith(what))
            assert line[len(what) :].split()[:2] == ["0", "0"], line
        memory = next(line for line in limits.splitlines() if line.startswith("Max address space"))
        assert int(memory.split()[3]) < 256 * 1024 * 1024
        assert Path(f"/proc/{pid}/oom_score_adj").read_text().strip() == "1000"
    finally:
        fresh.close()


# --- at once -----------------------------------------------------------------------------------------------------------------


def test_a_plan_evaluates_cel_at_once_and_calls_no_webhook() -> None:
    assert evaluate(FunctionCall(Language.CEL, "value * 2", {"value": 0.5})) == FunctionResult(1)
    assert evaluate(FunctionCall(Language.WEBHOOK, "https://example.test")).error == "a plan calls no webhook"


def test_what_is_known_is_not_asked_again() -> None:
    known, new = FunctionCall(Language.CEL, "1"), FunctionCall(Language.CEL, "2")
    assert evaluate_all([known, new], {known.id: FunctionResult("kept")}) == {
        known.id: FunctionResult("kept"),
        new.id: FunctionResult(2),
    }


def eventually(holds: Any) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.01)


def is_gone(pid: int) -> bool:
    """Whether the process ended; a zombie that nobody asked for yet did."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
