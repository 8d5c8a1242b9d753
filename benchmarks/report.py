"""The table and the plots, from the results alone."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.lines import Line, number
from benchmarks.rows import ROWS
from benchmarks.store import Store

_VERDICT = {True: "met", False: "**missed**", None: ""}


def lines_of(store: Store) -> list[Line]:
    """Every figure that the results hold, in the order of the rows."""
    found = []
    for row in ROWS.values():
        samples = store.samples(row.source or row.id)
        if samples:
            found += row.lines(samples)
    return found


def table(lines: Sequence[Line]) -> str:
    """The figures as a table in Markdown."""
    rows = ["| row | measure | bar | stretch | figure: median (min–max) | | note |", "|---|---|---|---|---|---|---|"]
    for line in lines:
        bar = line.bar.words if line.bar else ""
        stretch = f"≤ {number(line.bar.stretch)}" if line.bar and line.bar.stretch is not None else ""
        rows.append(
            f"| {line.row} | {line.measure} | {bar} | {stretch} | {line.words} | {_VERDICT[line.met]} | {line.note} |"
        )
    return "\n".join(rows)


def machine_words(machine: Mapping[str, Any]) -> str:
    """Where it was measured, in a sentence."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return f"{machine['cpus']} × {machine['processor']}, {machine['memory_gb']:.0f} GB, Linux {machine['kernel']}; {versions}"


def document(store: Store, title: str, quick: bool) -> str:
    """The whole report in Markdown; there must be results."""
    results = sorted(store.results(), key=lambda result: str(result["measured_at"]))
    first, last = results[0], results[-1]
    loads = [load for result in results for load in result["load_average"]]
    commits = ", ".join(dict.fromkeys(result["commit"] for result in results))
    text = [
        f"# {title}",
        "",
        f"Measured {first['measured_at']} to {last['measured_at']}, commit {commits}.",
        f"{machine_words(last['machine'])}. Load average (1 min) {min(loads):.1f}–{max(loads):.1f}.",
        "",
        table(lines_of(store)),
        "",
    ]
    if quick:
        text += ["The quick run leaves out:", ""]
        text += [f"- {row.id}: {row.left_out}" for row in ROWS.values() if row.left_out]
        text += [""]
    return "\n".join(text)
