"""docs/reliability.md, "Cases of trials": every test that the table names exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TABLE = (ROOT / "docs/reliability.md").read_text().partition("\n## Cases of trials\n")[2]
ROWS = [row for row in TABLE.splitlines() if row.startswith("| ") and not row.startswith("| case |")]
# A file, then names of tests in it (of golden worlds, for the file that runs those), or a golden world by its folder.
NAMED = re.compile(r"tests/golden/[\w-]+(?![\w.-]*\.py)|(?<![\w/])[\w./-]+\.py|::[\w-]+")


def missing(row: str) -> list[str]:
    """What the row's last cell names and nobody finds."""
    wrong, file = [], ROOT / "nothing"
    for name in NAMED.findall(row.split(" | ")[-1]):
        if name.startswith("::"):
            is_there = f"def {name[2:]}(" in file.read_text() or (ROOT / "tests/golden" / name[2:]).is_dir()
        else:
            file = ROOT / name
            is_there = file.exists()
        wrong += [] if is_there else [name]
    return wrong


def test_the_table_has_rows_for_all_kinds() -> None:
    assert len(ROWS) > 80


@pytest.mark.parametrize("row", ROWS, ids=[row.split(" | ")[0].strip("| ") for row in ROWS])
def test_a_case_names_a_test_that_exists(row: str) -> None:
    assert len(re.split(r"(?<!\\)\|", row)) == 5
    assert NAMED.search(row.split(" | ")[-1])
    assert missing(row) == []
