"""docs/simulate.md and docs/supervision.md show what `mabeam simulate` prints: every block is run and compared."""

import re
import shlex
from functools import cache
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mabeam.cli import app

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = ROOT / "examples/simulate"
BLOCK = re.compile(r"```console\n\$ (.*mabeam simulate .*)\n((?:.*\n)*?)```")
BLOCKS = [
    block for page in ("simulate.md", "supervision.md") for block in BLOCK.findall((ROOT / "docs" / page).read_text())
]


@cache
def printed(command: str) -> str:
    """What the command prints in examples/simulate; of a pipe, the text that `sed` makes is given to it."""
    first, _, last = command.rpartition(" | ")
    given = None
    if first:
        _, change, name = shlex.split(first)
        _, old, new, _ = change.split("/")
        given = (EXAMPLES / name).read_text().replace(old, new)
    words = shlex.split(last)[1:]
    words = [str(EXAMPLES / word) if word.endswith(".yaml") else word for word in words]
    result = CliRunner().invoke(app, words, input=given)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def test_the_pages_have_such_blocks() -> None:
    assert len(BLOCKS) >= 3


@pytest.mark.parametrize(("command", "output"), BLOCKS)
def test_every_block_shows_what_the_command_prints(command: str, output: str) -> None:
    assert printed(command) == output
