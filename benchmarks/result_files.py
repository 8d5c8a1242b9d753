"""The results, one JSON file for each measured part of a case; everything that is printed or drawn comes from them."""

import hashlib
import json
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from support import compact_json

ROOT: Final = Path(__file__).resolve().parents[1]
RESULTS: Final = ROOT / "benchmarks/results"
# What the figures are about. A commit that changes none of it leaves the results as good as they were.
_SUBJECT: Final = ("operator/mabeam/**/*.py", "crds/*.yaml", "requirements/run.txt", "hack/cluster/embedded/*.py")


def subject_digest(root: Path = ROOT, also: Iterable[str] = ()) -> str:
    """Twelve hex digits that change with the operator, what it runs on, and the named files of the benchmark."""
    digest = hashlib.sha256()
    for pattern in (*_SUBJECT, *also):
        for file in sorted(root.glob(pattern)):
            digest.update(f"{file.relative_to(root)}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def commit() -> str:
    """The commit of the tree, with a `+` when the operator's sources are changed beyond it."""
    head = _git("rev-parse", "--short=12", "HEAD")
    return head + ("+" if _git("status", "--porcelain", "--", "operator", "crds") else "")


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else "unknown"


@dataclass(frozen=True)
class ResultFiles:
    """The directory of one kind of run: the full one, the quick one, or a trial with other sizes."""

    folder: Path

    def file(self, case: str, part: str) -> Path:
        """Where a part's result is kept."""
        return self.folder / f"{case}-{part}.json"

    def read(self, case: str, part: str) -> dict[str, Any] | None:
        """A part's result; None when there is none."""
        try:
            found: dict[str, Any] = json.loads(self.file(case, part).read_text())
        except FileNotFoundError:
            return None
        return found

    def write(self, case: str, part: str, result: dict[str, Any]) -> None:
        """Keep a part's result."""
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.file(case, part).with_suffix(".tmp")
        temporary.write_text(compact_json.dumps(result))
        temporary.replace(self.file(case, part))

    def remove(self, case: str, part: str) -> None:
        """Remove the result of a part, if there is one."""
        self.file(case, part).unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove every result."""
        for file in self._files("P*"):
            file.unlink()

    def samples(self, case: str) -> dict[str, dict[str, Any]]:
        """The samples of every part of a case that was measured."""
        return {file.stem.partition("-")[2]: json.loads(file.read_text())["samples"] for file in self._files(case)}

    def results(self) -> list[dict[str, Any]]:
        """Every result there is."""
        return [json.loads(file.read_text()) for file in self._files("P*")]

    def _files(self, case: str) -> list[Path]:
        return sorted(self.folder.glob(f"{case}-*.json"))
