"""The benchmark's results on disk, and the table and plots that come from them alone."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks import machine, report
from benchmarks.plots import Curve, scale_curves
from benchmarks.result_files import ResultFiles, subject_digest

MACHINE = {"cpus": 2, "processor": "EPYC", "memory_gb": 24.0, "kernel": "6.1", "versions": {"Python": "3.11"}}


def result(case: str, part: str, samples: dict[str, Any]) -> dict[str, Any]:
    return {
        "case": case,
        "part": part,
        "commit": "abc123",
        "subject": "0",
        "measured_at": "2026-01-01T00:00:00Z",
        "seconds": 60.0,
        "load_average": [0.1, 2.0],
        "reference_task_ms": [14.0, 15.0],
        "machine": MACHINE,
        "samples": samples,
    }


@pytest.fixture
def files(tmp_path: Path) -> ResultFiles:
    kept = ResultFiles(tmp_path / "bench")
    rounds = [{"seconds": s, "leads": 1.0, "cpu": 1.0, "writes": {}} for s in (2.0, 3.0, 2.5)]
    for size in (1000, 5000):
        kept.write("P9", f"{size}", result("P9", f"{size}", {"size": size, "rounds": rounds}))
    idle = {"agents": 1000, "seconds": 300, "writes": {"patch pods": 2}, "cpu": 3.0, "rss": 1}
    kept.write("P3", "1000", result("P3", "1000", idle))
    course = [[float(second), 100_000_000] for second in range(100)]
    memory = {"agents": 1000, "base": 70_000_000, "grown": 90_000_000, "course": course, "seconds": 100}
    kept.write("P7", "1000", result("P7", "1000", memory))
    return kept


def test_the_table_has_figure_bar_and_verdict_of_every_measurement(files: ResultFiles) -> None:
    text = report.table(report.measurements_of(files))
    assert (
        "| P9 | SIGKILL with 1,000 agents → caught up |  |  | 2.50 s (2–3) |  | it leads after 1.0 s; CPU 1.0 s |"
        in text
    )
    assert (
        "| P3 | 1,000 idle agents, 300 s: writes, Lease apart | ≤ 0 |  | 2 writes | **missed** | patch pods 2 |" in text
    )


def test_the_report_is_written_again_from_the_results_alone(files: ResultFiles) -> None:
    text = report.write(files, "The benchmark", quick=False, stale=["P1-100"])
    assert (files.folder.parent / "bench.md").read_text() == text
    assert "commit abc123, 4 minutes in all" in text
    assert "other sources than the tree's: P1-100." in text
    assert "quick run leaves out" not in text
    drawn = {path.name: path.read_bytes() for path in files.folder.parent.glob("*.svg")}
    assert set(drawn) == {"bench-p7.svg", "bench-p9.svg"}
    assert all(name in text for name in drawn)
    report.write(files, "The benchmark", quick=False, stale=[])
    assert {path.name: path.read_bytes() for path in files.folder.parent.glob("*.svg")} == drawn


def test_the_quick_report_says_what_it_leaves_out(files: ResultFiles) -> None:
    assert "- P7: 29 of the 30 minutes of churn" in report.write(files, "Quick", quick=True, stale=[])


def test_what_was_removed_is_in_no_report(files: ResultFiles) -> None:
    files.remove("P9", "1000")
    files.remove("P9", "5000")
    assert files.samples("P9") == {}
    assert {figure.case for figure in report.measurements_of(files)} == {"P3", "P7"}
    files.clear()
    assert files.results() == []


def test_samples_of_one_row_are_not_taken_for_anothers(tmp_path: Path) -> None:
    kept = ResultFiles(tmp_path)
    kept.write("P10", "1000", result("P10", "1000", {"size": 1}))
    assert kept.samples("P1") == {}
    assert kept.samples("P10") == {"1000": {"size": 1}}


def test_a_result_is_about_the_operators_sources_and_not_about_the_tests(tmp_path: Path) -> None:
    source = tmp_path / "operator/mabeam/core/x.py"
    source.parent.mkdir(parents=True)
    source.write_text("a = 1\n")
    before = subject_digest(tmp_path)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/test_x.py").write_text("b = 1\n")
    assert subject_digest(tmp_path) == before
    source.write_text("a = 2\n")
    assert subject_digest(tmp_path) != before


def test_a_curve_has_the_median_of_each_size_and_how_far_its_samples_reach() -> None:
    trials = {
        "1000": {"trials": [{"arm": "agents", "running": r} for r in (14.0, 10.0, 11.0)]},
        "100": {"trials": [{"arm": "agents", "running": 2.0}, {"arm": "jobs", "running": 3.0}]},
    }
    agents, jobs = scale_curves(trials)
    assert agents == Curve("agents", ((100, (2.0,)), (1000, (14.0, 10.0, 11.0))))
    assert agents.medians == [2.0, 11.0]
    assert agents.errors == [[0.0, 1.0], [0.0, 3.0]]
    assert jobs.sizes == [100]


def test_the_machine_is_described_with_versions_and_measured_with_a_yardstick() -> None:
    described = machine.describe("v1.35.4")
    assert described["versions"]["Kubernetes"] == "v1.35.4"
    assert described["versions"]["kopf"].startswith("1.")
    assert 0 < machine.reference_task_ms() < 10_000
