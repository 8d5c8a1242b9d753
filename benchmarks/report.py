"""The table and the plots, from the results alone."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import plots
from benchmarks.cases import CASES
from benchmarks.measurements import Measurement, number
from benchmarks.result_files import ResultFiles

_VERDICT = {True: "met", False: "**missed**", None: ""}


def measurements_of(files: ResultFiles) -> list[Measurement]:
    """Every figure that the results hold, in the order of the cases."""
    found = []
    for case in CASES.values():
        samples = files.samples(case.source or case.id)
        if samples:
            found += case.measurements(samples)
    return found


def table(measurements: Sequence[Measurement]) -> str:
    """The figures as a table in Markdown."""
    rows = ["| case | measure | bar | stretch | figure: median (min–max) | | note |", "|---|---|---|---|---|---|---|"]
    for one in measurements:
        bar = one.bar.label if one.bar else ""
        stretch = f"≤ {number(one.bar.stretch)}" if one.bar and one.bar.stretch is not None else ""
        rows.append(
            f"| {one.case} | {one.measure} | {bar} | {stretch} | {one.text} | {_VERDICT[one.met]} | {one.note} |"
        )
    return "\n".join(rows)


def machine_text(machine: Mapping[str, Any]) -> str:
    """Where it was measured, in a sentence."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return f"{machine['cpus']} × {machine['processor']}, {machine['memory_gb']:.0f} GB, Linux {machine['kernel']}; {versions}"


def document(files: ResultFiles, title: str, *, quick: bool, stale: Sequence[str], drawn: Sequence[str]) -> str:
    """The whole report in Markdown; there must be results. `stale` names what was not measured for these sources."""
    results = sorted(files.results(), key=lambda result: str(result["measured_at"]))
    loads = [load for result in results for load in result["load_average"]]
    paces = [pace for result in results for pace in result["reference_task_ms"]]
    commits = ", ".join(dict.fromkeys(result["commit"] for result in results))
    measurements = measurements_of(files)
    judged = [one.met for one in measurements if one.met is not None]
    text = [
        f"# {title}",
        "",
        f"{sum(judged)} of {len(judged)} bars met. Measured {results[0]['measured_at']} to {results[-1]['measured_at']}, "
        f"commit {commits}, {sum(result['seconds'] for result in results) / 60:.0f} minutes in all.",
        f"On {machine_text(results[-1]['machine'])}. Load average {min(loads):.1f}–{max(loads):.1f}, reference task "
        f"{min(paces):.0f}–{max(paces):.0f} ms (the CPU time of a fixed piece of Python: how fast the cores were).",
        "",
        *([f"Not measured, or for other sources than the tree's: {', '.join(stale)}.", ""] if stale else []),
        table(measurements),
        "",
        *(f"![{name}]({name})" for name in drawn),
        "",
    ]
    if quick:
        text += ["The quick run leaves out:", ""]
        text += [f"- {case.id}: {case.left_out}" for case in CASES.values() if case.left_out]
        text += ["- P2 and P8: as P1", ""]
    return "\n".join(text)


def write(files: ResultFiles, title: str, *, quick: bool, stale: Sequence[str]) -> str:
    """The report, written beside the results' folder with its plots."""
    drawn = plots.draw(files)
    text = document(files, title, quick=quick, stale=stale, drawn=[path.name for path in drawn])
    files.folder.with_suffix(".md").write_text(text)
    return text
