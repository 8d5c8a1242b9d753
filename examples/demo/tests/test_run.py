"""The demo's manners: its exit codes, its messages, and what it refuses to touch."""

import json
from pathlib import Path
from typing import Any

import pytest

import examples.demo.__main__ as demo_main
from examples.demo import page as pages
from examples.demo import setup
from examples.demo.errors import Unmet, Unusable
from examples.demo.page import Page
from examples.demo.tools import Tools, in_use


@pytest.mark.parametrize(
    ("ending", "code", "words"),
    [
        (Unmet("two pods", "one pod", "kubectl get pods"), 1, ["expected: two pods", "seen:     one pod", "get pods"]),
        (Unusable("there is no node"), 2, ["there is no node"]),
        (KeyboardInterrupt(), 130, ["interrupted", "make demo-down"]),
    ],
)
def test_the_exit_code_and_the_message_say_how_it_ended(
    ending: BaseException,
    code: int,
    words: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def run(page: Page, options: Any, rows: list[tuple[str, float, bool]]) -> None:
        with demo_main._timed("the step", rows):
            raise ending

    monkeypatch.setattr(demo_main, "_run", run)

    assert demo_main.main(["--cluster", "none"]) == code

    printed = capsys.readouterr().out
    assert all(word in printed for word in [*words, "the step", "total"])


def test_each_step_says_what_it_shows_on_one_line_or_two() -> None:
    assert len(demo_main.STEPS) == 14
    for step in demo_main.STEPS:
        assert step.shows.endswith(".")
        assert len(step.shows) <= 2 * pages.WIDTH
        assert len(f"Kubernetes alone: {step.why}") <= pages.WIDTH, step.title
    assert set(demo_main.PICTURED) <= set(range(1, len(demo_main.STEPS) + 1))


def test_an_expectation_that_never_holds_ends_with_what_was_seen_last(capsys: pytest.CaptureFixture[str]) -> None:
    seen = iter(["nothing", *["one pod"] * 1000])

    with pytest.raises(Unmet) as problem:
        Page().until("two pods", lambda: (False, next(seen)), 0.3, "kubectl get pods")

    assert problem.value == Unmet("two pods, within 0 s", "one pod", "kubectl get pods")
    assert "✓" not in capsys.readouterr().out


def test_an_expectation_that_holds_is_told_with_its_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    Page().until("two pods", lambda: (True, "two"), 10)
    assert "✓ two pods (0.0 s)" in capsys.readouterr().out


def test_a_long_wait_without_a_terminal_says_that_it_is_alive(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pages, "HEARTBEAT_SECONDS", 0.05)
    answers = iter([False, False, False, True])

    Page().until("two pods", lambda: (next(answers), "one pod"), 10)

    assert "one pod" in capsys.readouterr().out


def test_the_picture_stands_alone_and_holds_the_chosen_lines_only(tmp_path: Path) -> None:
    page = Page()
    page.ok("left-out")
    page.pictured = True
    page.ok("shown")

    page.save(tmp_path / "demo.svg")

    svg = (tmp_path / "demo.svg").read_text()
    assert "shown" in svg
    assert "left-out" not in svg
    assert "url(http" not in svg
    assert "@font-face" not in svg


class FakeTools(Tools):
    """Tools that answer from a script and remember what was run."""

    def __init__(
        self, *, current: bool, namespaces: dict[str, dict[str, str]], releases: list[Any] | None = None
    ) -> None:
        super().__init__("none", current, "kubectl", "helm", {})
        object.__setattr__(self, "namespaces", namespaces)
        object.__setattr__(self, "releases", releases or [])
        object.__setattr__(self, "ran", [])

    def json(self, *arguments: str) -> dict[str, Any]:
        labels = self.namespaces.get(arguments[-1])  # type: ignore[attr-defined]
        return {} if labels is None else {"metadata": {"labels": labels}}

    def run(self, *command: str, stdin: str | None = None, seconds: float = 120) -> str:
        self.ran.append(command)  # type: ignore[attr-defined]
        return json.dumps(self.releases) if "list" in command else ""  # type: ignore[attr-defined]


@pytest.mark.parametrize("theirs", ["mabeam-system", "annealers"])
def test_on_ones_own_cluster_a_namespace_that_the_demo_did_not_make_is_left_alone(theirs: str) -> None:
    with pytest.raises(Unusable, match=f"'{theirs}' exists"):
        setup.guard_foreign(FakeTools(current=True, namespaces={theirs: {}}), "annealers")


def test_on_ones_own_cluster_what_the_demo_made_may_be_made_anew() -> None:
    setup.guard_foreign(FakeTools(current=True, namespaces={"annealers": {setup.MARK: "true"}}), "annealers")
    setup.guard_foreign(FakeTools(current=True, namespaces={}), "annealers")


def test_on_the_demos_own_cluster_everything_may_be_made_anew() -> None:
    setup.guard_foreign(FakeTools(current=False, namespaces={"annealers": {}}), "annealers")


@pytest.mark.parametrize(
    ("state", "removed"), [("pending-install", True), ("pending-upgrade", True), ("failed", True), ("deployed", False)]
)
def test_what_an_interrupted_helm_left_is_removed_first(state: str, removed: bool) -> None:
    tools = FakeTools(current=False, namespaces={}, releases=[{"name": "mabeam", "status": state}])

    setup.unstick(Page(), tools)

    assert any("uninstall" in command for command in tools.ran) is removed  # type: ignore[attr-defined]


@pytest.mark.parametrize(("value", "own"), [("current", True), ("", False), ("embedded", False)])
def test_cluster_current_means_ones_own_cluster(value: str, own: bool) -> None:
    assert in_use({"CLUSTER": value}) is own
    assert not in_use({})
