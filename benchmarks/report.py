"""The table and the plots, from the results alone."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import plots
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


def document(store: Store, title: str, *, quick: bool, stale: Sequence[str], drawn: Sequence[str]) -> str:
    """The whole report in Markdown; there must be results. `stale` names what was not measured for these sources."""
    results = sorted(store.results(), key=lambda result: str(result["measured_at"]))
    loads = [load for result in results for load in result["load_average"]]
    paces = [pace for result in results for pace in result["yardstick_ms"]]
    commits = ", ".join(dict.fromkeys(result["commit"] for result in results))
    lines = lines_of(store)
    judged = [line.met for line in lines if line.met is not None]
    text = [
        f"# {title}",
        "",
        f"{sum(judged)} of {len(judged)} bars met. Measured {results[0]['measured_at']} to {results[-1]['measured_at']}, "
        f"commit {commits}, {sum(result['seconds'] for result in results) / 60:.0f} minutes in all.",
        f"On {machine_words(results[-1]['machine'])}. Load average {min(loads):.1f}–{max(loads):.1f}, yardstick "
        f"{min(paces):.0f}–{max(paces):.0f} ms (the CPU time of a fixed piece of Python: how fast the cores were).",
        "",
        *([f"Not measured, or for other sources than the tree's: {', '.join(stale)}.", ""] if stale else []),
        table(lines),
        "",
        *(f"![{name}]({name})" for name in drawn),
        "",
    ]
    if quick:
        text += ["The quick run leaves out:", ""]
        text += [f"- {row.id}: {row.left_out}" for row in ROWS.values() if row.left_out]
        text += ["- P2 and P8: as P1", ""]
    return "\n".join(text)


def write(store: Store, title: str, *, quick: bool, stale: Sequence[str]) -> str:
    """The report, written beside the results' folder with its plots."""
    drawn = plots.draw(store)
    text = document(store, title, quick=quick, stale=stale, drawn=[path.name for path in drawn])
    store.folder.with_suffix(".md").write_text(text)
    return text
