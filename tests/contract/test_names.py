"""Names come from Kubernetes, OTP, the literature or plain Python (docs/GLOSSARY.md), and a public class name occurs once."""

import ast
import io
import re
import tokenize
from collections import defaultdict
from pathlib import Path
from typing import Final

ROOT = Path(__file__).resolve().parents[2]
MABEAM = ROOT / "operator/mabeam"
MODULES = {str(path.relative_to(MABEAM)): ast.parse(path.read_text()) for path in sorted(MABEAM.rglob("*.py"))}

# Class names that occur twice, and why.
TWICE: Final = {
    "Agent": "the kind of the API, and the object that the SDK gives to a worker: both are names that users know",
}

# Words that say nothing of what is behind them, and words that once had a private meaning here. None may be an identifier, a
# part of one, or the name of a file. (English prose may use them.)
BANNED: Final = frozenset({
    "util", "utils", "helper", "helpers", "manager", "managers", "engine", "engines", "common", "misc", "told",
    "tells", "said", "says", "spoken", "word", "words", "heard", "hears", "hearing", "reckon", "reckoned",
    "lives", "obey", "obeys", "obeyed", "obedience", "acts", "setbacks", "setback", "doorbell",
    "doorbells", "ring", "rings", "rung", "guest", "hands", "judgement", "rehearse", "rehearsed", "rehearsal",
    "rehearsals", "corpse", "corpses", "obituary", "obituaries", "befall", "befalls", "gist", "lapse", "stranger",
    "strangers", "doomed", "implied"
})  # fmt: skip
# Where a banned word is one of the field, or of somebody else's API: identifier → why.
ALLOWED: Final[dict[str, str]] = {
    "RING": "the ring is a pattern of the API",
    "_ring": "the peers of that pattern",
    "FIELD_MANAGER": "server-side apply's field manager",
    "manager": "the field of metadata.managedFields",
}


def identifiers(tree: ast.Module) -> set[str]:
    """Every name that the module defines: classes, functions, parameters, variables, fields."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.attr)
        elif isinstance(node, ast.alias) and node.asname:
            found.add(node.asname)
    return found


def parts(name: str) -> set[str]:
    """The words of an identifier, in lower case: `first_words` and `FirstWords` have the same two."""
    return {part.lower() for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}


def test_no_identifier_has_a_word_of_the_old_private_language() -> None:
    found = {
        f"{module} {name}"
        for module, tree in MODULES.items()
        for name in identifiers(tree) - ALLOWED.keys()
        if parts(name) & BANNED
    }
    assert found == set()


def test_no_file_or_folder_has_one_either() -> None:
    names = {part for module in MODULES for part in Path(module).with_suffix("").parts}
    assert {name for name in names if parts(name) & BANNED} == set()


# The same words in docstrings, comments and messages; English has better ones for all that they meant here.
PROSE: Final = re.compile(
    r"\b(told|hears?|heard|reckon\w*|obey\w*|obedience|doorbells?|rungs?|strangers?|rehears\w*|guests?|lapse|corpses?|obituar\w*"
    r"|befall\w*|gist|spoken|setbacks?|first words|last words|judgement)\b",
    re.IGNORECASE,
)
# A sentence that statuses of an older version hold, and that is still read.
PROSE_ALLOWED: Final = ("the agent obeys ",)


def test_no_docstring_comment_or_message_has_one_either() -> None:
    found = []
    for module in MODULES:
        text = (MABEAM / module).read_text()
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type in {tokenize.COMMENT, tokenize.STRING} and not token.string.strip('"').startswith(
                PROSE_ALLOWED
            ):
                found += [f"{module}:{token.start[0]}: {match[0]}" for match in PROSE.finditer(token.string)]
    assert found == []


def test_every_exception_is_used() -> None:
    assert set(ALLOWED) <= {name for tree in MODULES.values() for name in identifiers(tree)}


def test_a_public_class_name_occurs_once() -> None:
    places = defaultdict(list)
    for module, tree in MODULES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(module)
    assert {name for name, where in places.items() if len(where) > 1} == TWICE.keys()


def test_no_private_name_is_imported_from_another_module() -> None:
    found = {
        f"{module}: {alias.name}"
        for module, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mabeam")
        for alias in node.names
        if alias.name.startswith("_") and not alias.name.startswith("__")
    }
    assert found == set()


def test_every_word_of_the_glossary_has_a_meaning_and_a_source() -> None:
    rows = [
        row for row in (ROOT / "docs/GLOSSARY.md").read_text().splitlines() if row.startswith("| ") and "---" not in row
    ]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert all(len(row) == 3 and all(row) for row in cells)
    words = [row[0] for row in cells if row[0] != "word"]
    assert len(set(words)) == len(words) > 80


def test_every_path_of_the_owners_file_exists() -> None:
    lines = [line.split() for line in (ROOT / ".github/CODEOWNERS").read_text().splitlines() if line and line[0] != "#"]
    assert [path for path, *_ in lines if path != "*" and not (ROOT / path.strip("/")).exists()] == []
