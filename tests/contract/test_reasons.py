"""docs/architecture.md: the conditions and reasons that it lists are those of the code, all of them and no others."""

from mabeam.api.names import ConditionType, Reason
from support.rendered import ROOT

LISTED = (ROOT / "docs/architecture.md").read_text().partition("\n## Conditions and reasons\n")[2]


def words(header: str) -> list[str]:
    rows = LISTED.partition(f"{header}\n")[2].split("\n\n")[0].splitlines()[1:]
    return [word.strip() for row in rows for word in row.split("|")[1].split(",")]


def test_every_condition_is_listed_once() -> None:
    assert sorted(words("| condition | of | |")) == sorted(map(str, ConditionType))


def test_every_reason_is_listed_once() -> None:
    assert sorted(words("| reason | of | what it means |")) == sorted(map(str, Reason))
