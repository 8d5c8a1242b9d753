"""What a docstring, a comment or a page cites exists: documents, headings, files, links. No text cites an unnamed document."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = (".github", "benchmarks", "charts", "docs", "examples", "hack", "manifests", "operator", "tests")
SUFFIXES = {".md", ".py", ".toml", ".txt", ".yaml", ".tpl", ""}
# Output of runs, kept as it was printed.
RECORDS = ("benchmarks/results", "tests/faults/results", "docs/images")
TEXTS = {
    path: path.read_text()
    for folder in (ROOT, *(ROOT / name for name in FOLDERS))
    for path in (folder.iterdir() if folder == ROOT else folder.rglob("*"))
    if path.is_file()
    and path.suffix in SUFFIXES
    and not any(str(path.relative_to(ROOT)).startswith(record) for record in RECORDS)
    and not {".git", "__pycache__"} & set(path.parts)
    and path.name not in (Path(__file__).name, ".git")
}
# A document in a text, and the heading cited with it: `docs/a.md, "Heading"`, `docs/a.md "Heading"` or `docs/a.md#anchor`.
CITED = re.compile(r"(?<![\w/.-])docs/[\w./-]*\w\.md(?:#(?P<anchor>[\w-]+)|,?\s+(?:#\s+)?\"(?P<heading>[^\"\n]+)\")?")
NUMBER = re.compile(r"\bdesign(?: note)? (?P<number>\d{4})\b|docs/design/(?P<short>\d{4})\b")
LINK = re.compile(r"\]\((?!https?://|mailto:)(?P<target>[^)#\s]*)(?:#(?P<anchor>[\w-]+))?\)")
# References that lead nowhere: a document that is not named cannot be opened.
DANGLING = (
    re.compile(r"\bdesign,? sections?\b"),
    re.compile(r"(?<!RFC \d{4}, )(?<!RFC \d{3}, )\bsection \d"),
    re.compile(r"\bMABEAM_\d"),
    re.compile(r"\bthe issue's\b"),
    re.compile(r"\bthe design(?:'s)?\b(?! note)"),
)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, made as GitHub makes them."""
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings(page)}


def headings(page: Path) -> list[str]:
    """The headings of a page, without marks of code; and the first words of paragraphs in bold, which are cited like headings."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL).replace("`", "")
    return [
        found.strip().rstrip(".") for found in re.findall(r"^(?:#+ |- \*\*|\*\*)([^\n*]+)", text, flags=re.MULTILINE)
    ]


def cited() -> Iterator[tuple[str, Path, str | None, str | None]]:
    """Every citation: where, the document, the anchor and the heading."""
    for path, text in TEXTS.items():
        for match in CITED.finditer(text):
            document = ROOT / match[0].partition(".md")[0]
            yield str(path.relative_to(ROOT)), document.with_suffix(".md"), match["anchor"], match["heading"]


def test_every_document_that_is_cited_exists_with_its_heading() -> None:
    missing = []
    for where, document, anchor, heading in cited():
        if document.name in {"more.md", "NNNN-title.md"}:  # made by a test of the image's context; a pattern
            continue
        if not document.exists():
            missing.append(f"{where}: {document.relative_to(ROOT)}")
        elif anchor is not None and anchor not in anchors(document):
            missing.append(f"{where}: {document.name}#{anchor}")
        elif heading is not None and heading not in headings(document):
            missing.append(f'{where}: {document.name}, "{heading}"')
    assert missing == []


def test_every_design_note_that_is_cited_by_number_exists() -> None:
    notes = {path.name[:4] for path in (ROOT / "docs/design").glob("*.md")}
    numbers = {match["number"] or match["short"] for text in TEXTS.values() for match in NUMBER.finditer(text)}
    assert numbers <= notes


def test_no_text_cites_a_document_without_a_name() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path, text in TEXTS.items()
        for pattern in DANGLING
        for match in pattern.finditer(text)
    ]
    assert found == []


@pytest.mark.parametrize(
    "page", [path for path in TEXTS if path.suffix == ".md"], ids=lambda path: str(path.relative_to(ROOT))
)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    broken = []
    for match in LINK.finditer(re.sub(r"```.*?```", "", TEXTS[page], flags=re.DOTALL)):
        target = page if not match["target"] else (page.parent / match["target"])
        if not target.exists() or (
            match["anchor"] and target.suffix == ".md" and match["anchor"] not in anchors(target)
        ):
            broken.append(match[0])
    assert broken == []


# `core/x.py` in a page or a comment is below operator/mabeam or below the folder it names.
FILE = re.compile(r"(?<![\w/.{-])((?:operator/mabeam/|tests/|hack/|benchmarks/|examples/)?[a-z_]+(?:/[a-z_]+)+\.py)\b")
# Notes are records: their file names are those of the time (docs/design/0013-house.md maps them).
MAPPED = [
    path
    for path in TEXTS
    if path.parent.name != "design" and (path.suffix in {".md", ".toml"} or path.is_relative_to(ROOT / "operator"))
]


def test_every_python_file_that_is_named_exists() -> None:
    folders = ("", "operator/mabeam", "operator", "tests", "hack/cluster", "examples/annealers")
    missing = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in MAPPED
        for name in FILE.findall(TEXTS[path])
        if not any((root / name).exists() for root in (*(ROOT / f for f in folders), path.parent, path.parent.parent))
    }
    assert missing == set()
