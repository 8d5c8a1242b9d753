"""The matrix of restart strategies, supervision strategies and causes: what must follow each of them, and the table of what did.

Nothing here knows the operator. What an exit leads to is asked of supervisor.erl's transcription; what OTP does not define
(disruptions, what is counted, how an agent rests) comes from docs/supervision.md, "One agent", and is written out below.
"""

import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final, Literal

from support.supervisor_erl import Reason, RestartType, Strategy, TreeSupervisor, Worker

ROOT: Final = Path(__file__).resolve().parents[2]
PAGE: Final = ROOT / "docs/supervision.md"
BEGIN: Final = "<!-- matrix: made by make matrix -->"
END: Final = "<!-- end of matrix -->"

RESTARTS: Final[Mapping[str, RestartType]] = {
    "Permanent": "permanent",
    "Transient": "transient",
    "Temporary": "temporary",
}
SUPERVISIONS: Final[Mapping[str, Strategy]] = {
    "OneForOne": "one_for_one",
    "RestForOne": "rest_for_one",
    "OneForAll": "one_for_all",
}
# Of three replicas the middle one falls: only then do the three supervision strategies differ.
REPLICAS: Final = 3
FALLEN: Final = 1

Kind = Literal["normal", "abnormal", "disruption"]


@dataclass(frozen=True)
class Cause:
    """One way for a replica to end, and how the ledger names it."""

    key: str
    words: str
    kind: Kind
    ledger: str
    # None where the process is ended from outside: no code is promised.
    exit_code: int | None = None


CAUSES: Final = (
    Cause("crash", "its main process is killed (SIGKILL)", "abnormal", "Crash", 137),
    Cause("exit0", "exit code 0", "normal", "NormalExit", 0),
    Cause("exit42", "exit code 42, one of `normalExitCodes`", "normal", "NormalExit", 42),
    Cause("exit3", "exit code 3", "abnormal", "Crash", 3),
    Cause("oom", "more memory than its limit (a real cgroup)", "abnormal", "OOM", 137),
    Cause("hang", "its progress counter stands still", "abnormal", "Hang"),
    Cause("image", "its image is not on its node", "abnormal", "ImageError"),
    Cause("reported", "`mabeam.dev/failed` on its pod", "abnormal", "Reported"),
    Cause("deleted", "`kubectl delete pod`", "abnormal", "DeletedByOther"),
    Cause("evicted", "the eviction API", "disruption", "Evicted"),
    Cause("node", "its node is killed, then taken out of the API", "disruption", "NodeLost"),
)


def chosen() -> Sequence[Cause]:
    """What this run tries: every cause when MABEAM_MATRIX is `full`, else one of each kind, drawn by that seed."""
    wish = os.environ.get("MABEAM_MATRIX", "4")
    if wish == "full":
        return CAUSES
    draw = random.Random(int(wish))
    return [
        draw.choice([cause for cause in CAUSES if cause.kind == kind]) for kind in ("normal", "abnormal", "disruption")
    ]


# --- what must follow -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    """What is seen of one agent after one of its replicas ended.

    A life is `kept` (the same pod as before still runs), `anew` (the second incarnation runs), or `down`.
    """

    lives: tuple[str, ...]
    fallen: str
    agent: str
    restarts: int
    disruptions: int
    ledger: tuple[str, ...]
    # Each of those that began anew was made when the one before it was ready.
    in_order: bool = True


def line(cause: str, exit_code: int | None, counted: bool) -> str:
    """A line of the ledger in words."""
    code = "" if exit_code is None else f", exit code {exit_code}"
    return f"{FALLEN}: {cause}{code}, {'counted' if counted else 'not counted'}"


# How a replica rests that nobody starts again; only the last of them is a failure (docs/supervision.md, "One agent").
RESTS: Final[Mapping[Kind, str]] = {
    "normal": "Stopped (Completed)",
    "disruption": "Stopped (Disrupted)",
    "abnormal": "Failed (Failed)",
}


def expected(cause: Cause, restart: str, supervision: str) -> Cell:
    """What the cell must be."""
    children: list[Worker | TreeSupervisor] = [Worker(str(n), RESTARTS[restart]) for n in range(REPLICAS)]
    otp = TreeSupervisor("agent", children, SUPERVISIONS[supervision], intensity=3, period=60)
    otp.start(0)
    # A disruption is none of OTP's reasons. It is followed by what follows a crash, and costs nothing.
    reason: Reason = "normal" if cause.kind == "normal" else "crash"
    assert not otp.exit(str(FALLEN), reason, 1), "one failure exhausts no budget of three"
    starts = [child.starts for child in children if isinstance(child, Worker)]
    lives = tuple(
        "down" if not child.pid else ("kept", "anew")[n - 1] for child, n in zip(children, starts, strict=True)
    )
    restarted = lives[FALLEN] == "anew"
    disrupted = cause.kind == "disruption"
    counted = restarted and not disrupted
    failed = not restarted and cause.kind == "abnormal"
    done = not restarted and cause.kind == "normal"
    return Cell(
        lives=lives,
        fallen="Running" if restarted else RESTS[cause.kind],
        agent="Failed, Stalled" if failed else "Running, Ready",
        restarts=int(counted),
        disruptions=int(disrupted),
        ledger=() if done else (line(cause.ledger, cause.exit_code, counted),),
    )


# --- the table --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """One agent's cell as it was seen; the seconds from the injury until the status told of it, and from the failure to whole."""

    restart: str
    supervision: str
    cell: Cell
    noticed: float | None = None
    whole: float | None = None


HEADER: Final = (
    "| how the middle one of three ended | in the ledger | Permanent | Transient | Temporary "
    "| as expected | noticed after (p50 / max) | whole again after (p50 / max) |\n|---|---|---|---|---|---|---|---|"
)


def words(cells: Sequence[Cell]) -> str:
    """What three agents came to, one for each supervision strategy in the order of `SUPERVISIONS`."""
    renewed = [" ".join(str(n) for n, life in enumerate(cell.lives) if life == "anew") for cell in cells]
    if any(renewed):
        counted = {"counted" if cell.restarts else "not counted" for cell in cells}
        return f"{' · '.join(which or 'none' for which in renewed)}, {' or '.join(sorted(counted))}"
    return " or ".join(sorted({cell.fallen.removesuffix(" (Failed)") for cell in cells}))


def verdict(cause: Cause, restart: str) -> str:
    """The words that must stand in the table."""
    return words([expected(cause, restart, supervision) for supervision in SUPERVISIONS])


def row(cause: Cause, seen: Sequence[Seen]) -> str:
    """The table's line about one cause."""
    right = [one for one in seen if one.cell == expected(cause, one.restart, one.supervision)]
    verdicts = []
    for restart in RESTARTS:
        found = {one.supervision: one.cell for one in seen if one.restart == restart}
        saw, due = words([found[supervision] for supervision in SUPERVISIONS]), verdict(cause, restart)
        verdicts.append(saw if saw == due else f"{saw} (expected: {due})")
    noticed = [one.noticed for one in seen if one.noticed is not None]
    whole = [one.whole for one in seen if one.whole is not None]
    times = [f"{median(values):.1f} / {max(values):.1f} s" if values else "–" for values in (noticed, whole)]
    return f"| {' | '.join([cause.words, ledger(cause), *verdicts, f'{len(right)} of {len(seen)}', *times])} |"


def ledger(cause: Cause) -> str:
    """What the ledger calls it."""
    return cause.ledger if cause.exit_code is None else f"{cause.ledger}, {cause.exit_code}"


def keep(rows: Mapping[str, str], about: str) -> None:
    """Write the table into the page, a line for each cause; refuses a table that is not whole."""
    assert set(rows) == {cause.key for cause in CAUSES}, "only a run of all causes is kept: MABEAM_MATRIX=full"
    lines = [rows[cause.key] for cause in CAUSES]
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, found, after = rest.partition(END)
    assert found, f"{PAGE} has no place for the table"
    PAGE.write_text("\n".join([f"{before}{BEGIN}", HEADER, *lines, "", about, f"{END}{after}"]))


def kept() -> str:
    """The table in the page."""
    return PAGE.read_text().partition(BEGIN)[2].partition(END)[0]
