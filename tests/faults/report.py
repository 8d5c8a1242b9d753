"""What a campaign came to: kept as JSON, told as lines, and all of them as a table."""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Any, Final

from support import compact_json

ROOT: Final = Path(__file__).resolve().parents[2]
PROBLEM_LINES: Final = 3
TABLE: Final = "README.md"


@dataclass(frozen=True)
class Outcome:
    """What became of a plan."""

    plan: str
    problem: str | None
    seconds: float
    fired: int = 0
    exits: tuple[int, ...] = ()
    liveness_kills: int = 0
    notes: dict[str, float] = field(default_factory=dict)


def document(module: ModuleType, outcomes: Sequence[Outcome], seed: int, seconds: float) -> dict[str, Any]:
    """The campaign's result, as it is kept."""
    figures: dict[str, list[float]] = {}
    for outcome in outcomes:
        for what, value in outcome.notes.items():
            figures.setdefault(what, []).append(value)
    failed = [outcome for outcome in outcomes if outcome.problem is not None]
    return {
        "id": module.ID,
        "title": module.TITLE,
        "commit": commit(),
        "ended_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "seed": seed,
        "run": len(outcomes),
        "passed": len(outcomes) - len(failed),
        "seconds": round(seconds),
        "faultsFired": sum(outcome.fired for outcome in outcomes),
        "plansWithoutFault": [outcome.plan for outcome in outcomes if not outcome.fired],
        "operatorEndedByItself": sum(len(outcome.exits) for outcome in outcomes),
        "livenessRestarts": sum(outcome.liveness_kills for outcome in outcomes),
        "figures": {
            what: {"median": round(median(values), 2), "worst": round(max(values), 2), "of": len(values)}
            for what, values in sorted(figures.items())
        },
        "failed": [{"plan": o.plan, "problem": (o.problem or "").splitlines()[:PROBLEM_LINES]} for o in failed],
    }


def commit() -> str:
    """The tree's commit, with a `+` when the operator or the campaigns are changed beyond it."""
    head = _git("rev-parse", "--short=12", "HEAD")
    return head + ("+" if _git("status", "--porcelain", "--", "operator", "crds", "tests/faults/*.py") else "")


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else "unknown"


def keep(result: dict[str, Any], folder: Path) -> None:
    """Write a campaign's result into the folder, and the table of all that is there anew."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{result['id']}.json").write_text(compact_json.dumps(result))
    (folder / TABLE).write_text(table(kept(folder)))


def kept(folder: Path) -> list[dict[str, Any]]:
    """The results in the folder, in the campaigns' order."""
    found = [json.loads(file.read_text()) for file in folder.glob("R*.json")]
    return sorted(found, key=lambda result: int(result["id"][1:]))


def table(results: Sequence[dict[str, Any]]) -> str:
    """The results as Markdown: a row each, and the figures below."""
    run, passed = (sum(result[what] for result in results) for what in ("run", "passed"))
    lines = [
        "# The fault campaign's results",
        "",
        f"{passed} of {run} plans passed. Written by `make faults`; docs/reliability.md says what is promised and how.",
        "",
        "| campaign | what goes wrong | plans passed | faults | the operator ended by itself | minutes | seed | commit |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r['id']} | {r['title']} | {r['passed']} of {r['run']} | {r['faultsFired']:,} | {r['operatorEndedByItself']} "
        f"| {r['seconds'] / 60:.0f} | {r['seed']} | {r['commit']} |"
        for r in results
    ]
    lines += ["", "| campaign | figure | median | worst | of |", "|---|---|---|---|---|"]
    lines += [
        f"| {r['id']} | {what} | {figure['median']:g} | {figure['worst']:g} | {figure['of']} |"
        for r in results
        for what, figure in r["figures"].items()
    ]
    lines += [
        f"\n**{r['id']} {failure['plan']} failed**: {' '.join(failure['problem'])}"
        for r in results
        for failure in r["failed"]
    ]
    return "\n".join(lines) + "\n"


def tell(module: ModuleType, outcomes: Sequence[Outcome], seed: int, replay: str) -> None:
    """Print the campaign's line, and how to replay what failed; `replay` is a command that lacks the plan's name."""
    failed = [outcome for outcome in outcomes if outcome.problem is not None]
    print(f"{module.ID}: {len(outcomes)} plans run, {len(outcomes) - len(failed)} passed, seed {seed}", flush=True)
    for outcome in failed:
        head = "\n    ".join((outcome.problem or "").splitlines()[:12])
        print(f"  {outcome.plan}: {head}")
        print(f"  replay: {replay} --plan '{outcome.plan}'")
