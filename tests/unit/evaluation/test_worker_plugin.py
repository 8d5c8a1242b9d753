"""Plug-ins: entry points in a process of their own, whatever they do there."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mabeam.core.functions import FunctionCall, FunctionResult, Language, PluginGroup
from mabeam.evaluation.evaluator import Evaluation, Evaluator

MODULE = """
import os, sys, time

imported = open(os.path.join(os.path.dirname(__file__), "imported"), "a")
imported.write("x")
imported.flush()

def mean(inputs):
    values = [agent["performance"] for agent in inputs["agents"]]
    return sum(values) / len(values)

def echo(inputs):
    return inputs

def raises(inputs):
    raise ValueError("no\\nagents")

def leaves(inputs):
    sys.exit("gone")

def crashes(inputs):
    os._exit(7)

def hangs(inputs):
    time.sleep(600)

def prints(inputs):
    print("garbage " * 1000)
    os.write(1, b"\\xff" * 10_000)
    sys.stdout.flush()
    return {"read": sys.stdin.read()}

def not_json(inputs):
    return {1, 2}

def nan(inputs):
    return float("nan")

def huge(inputs):
    return "x" * 2_000_000

def child(inputs):
    import subprocess
    return subprocess.Popen(["sleep", "600"]).pid

def environment(inputs):
    return dict(os.environ)

number = 3
"""
NAMES = [
    "child", "crashes", "echo", "environment", "hangs", "huge", "leaves", "mean", "nan", "not_json", "number", "prints", "raises",
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An installed distribution with plug-ins."""
    folder = tmp_path_factory.mktemp("plugins")
    (folder / "some_plugins.py").write_text(MODULE)
    (folder / "broken_plugin.py").write_text("import a_module_that_is_not_there\n")
    information = folder / "some_plugins-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: some-plugins\nVersion: 1.0\n")
    lines = [f"{name} = some_plugins:{name}" for name in NAMES]
    consensus = ["[mabeam.consensus]", "tally = some_plugins:echo", "broken = broken_plugin:it"]
    (information / "entry_points.txt").write_text("\n".join(["[mabeam.coordination]", *lines, *consensus]))
    return folder


@pytest.fixture
def evaluator(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Evaluator]:
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("KUBECONFIG", "/secret")
    evaluator = Evaluator()
    yield evaluator
    evaluator.close()


def asked(evaluator: Evaluator, name: str, seconds: float = 20, **inputs: Any) -> Evaluation:
    return evaluator.answer(FunctionCall(Language.PLUGIN, name, inputs, timeout_seconds=seconds))


def test_a_plugin_answers_what_its_function_returns(evaluator: Evaluator) -> None:
    agents = [{"performance": 1}, {"performance": 2}]
    assert asked(evaluator, "mean", agents=agents).answer == FunctionResult(1.5)
    assert asked(evaluator, "echo", a=[1, 2.5, None, {"b": "c"}]).answer == FunctionResult(
        {"a": [1, 2.5, {"b": "c"}]}  # what is null inside a value is dropped wherever a value enters
    )


def test_it_is_imported_once_and_asked_often(evaluator: Evaluator, folder: Path) -> None:
    (folder / "imported").write_text("")
    for number in range(5):
        assert asked(evaluator, "echo", number=number).answer == FunctionResult({"number": number})
    assert (folder / "imported").read_text() == "x"
    assert len(evaluator.pids) == 1


def test_a_name_that_is_not_there_is_told_with_those_that_are(evaluator: Evaluator) -> None:
    error = asked(evaluator, "meen").answer.error
    assert error == f"there is no plug-in 'meen' in the group mabeam.coordination; there are: {', '.join(NAMES)}"
    empty = evaluator.answer(FunctionCall(Language.PLUGIN, "x", group=PluginGroup.CONFLICT)).answer.error
    assert empty == "there is no plug-in 'x' in the group mabeam.conflict; there are: none"


def test_each_group_has_names_of_its_own(evaluator: Evaluator) -> None:
    assert evaluator.answer(
        FunctionCall(Language.PLUGIN, "tally", {"a": 1}, PluginGroup.CONSENSUS)
    ).answer == FunctionResult({"a": 1})
    assert "there is no plug-in 'tally'" in str(asked(evaluator, "tally").answer.error)


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("raises", "ValueError: no agents"),
        ("leaves", "SystemExit: gone"),
        ("not_json", "the answer is not JSON: Object of type set is not JSON serializable"),
        ("nan", "the answer is not JSON: Out of range float values are not JSON compliant"),
        ("huge", "the answer has 2000012 bytes, at most 1048576 are taken"),
    ],
)
def test_what_a_plugin_does_wrong_is_told_and_it_goes_on(evaluator: Evaluator, name: str, error: str) -> None:
    for _ in range(2):
        outcome = asked(evaluator, name)
        assert outcome.answer.error is not None
        assert outcome.answer.error.startswith(error)
        assert not outcome.costly
    assert len(evaluator.pids) == 1


@pytest.mark.parametrize(
    ("name", "group", "error"),
    [
        ("number", PluginGroup.COORDINATION, "the plug-in 'number' (some_plugins:number) is no function"),
        ("broken", PluginGroup.CONSENSUS, "ModuleNotFoundError: No module named 'a_module_that_is_not_there'"),
    ],
)
def test_what_cannot_be_imported_is_told(evaluator: Evaluator, name: str, group: PluginGroup, error: str) -> None:
    assert evaluator.answer(FunctionCall(Language.PLUGIN, name, group=group)) == Evaluation(
        FunctionResult(error=error), costly=True
    )
    assert evaluator.pids == []


def test_a_plugin_that_hangs_is_ended_at_its_questions_deadline(evaluator: Evaluator) -> None:
    began = time.monotonic()
    outcome = asked(evaluator, "hangs", seconds=0.5)
    assert outcome == Evaluation(
        FunctionResult(error="it took longer than 0.5 s, and was ended", timed_out=True), costly=True
    )
    assert time.monotonic() - began < 20
    assert evaluator.pids == []
    assert asked(evaluator, "echo").answer == FunctionResult({})


def test_a_plugin_that_crashes_costs_its_own_process(evaluator: Evaluator) -> None:
    assert asked(evaluator, "echo").answer == FunctionResult({})
    assert asked(evaluator, "crashes").answer.error == "its worker ended with exit code 7"
    assert asked(evaluator, "echo", a=1).answer == FunctionResult({"a": 1})


def test_what_a_plugin_prints_is_not_taken_for_an_answer(evaluator: Evaluator) -> None:
    for _ in range(2):
        assert asked(evaluator, "prints").answer == FunctionResult({"read": ""})
    assert len(evaluator.pids) == 1


def test_a_plugins_own_children_end_with_it(evaluator: Evaluator) -> None:
    pid = asked(evaluator, "child").answer.value
    assert Path(f"/proc/{pid}").exists()
    evaluator.close()
    deadline = time.monotonic() + 20
    while Path(f"/proc/{pid}").exists() and Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_plugin_sees_little_of_the_operators_environment(evaluator: Evaluator) -> None:
    seen = asked(evaluator, "environment").answer.value
    assert "KUBECONFIG" not in seen
    assert seen["PATH"] == os.environ["PATH"]
