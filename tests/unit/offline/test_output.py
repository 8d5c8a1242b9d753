"""What `mabeam` prints: on any terminal, into any file, and never a traceback."""

import json
import os
import subprocess
import sys

import pytest
import yaml

WORLD = """\
apiVersion: mabeam.dev/v1alpha1
kind: Agent
metadata: {name: a}
spec: {module: "a:B", preferences: [{variable: v, value: "🙂"}]}
---
apiVersion: mabeam.dev/v1alpha1
kind: OrchestrationVariable
metadata: {name: v}
spec: {agents: {names: [a]}, domain: {type: Choice, choices: ["🙂"]}, negotiation: {strategy: WeightedConsensus}}
"""


def mabeam(
    *arguments: str, encoding: str = "utf-8", stdout: int = subprocess.PIPE
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "mabeam", *arguments],
        input=WORLD.encode(),
        env={**os.environ, "PYTHONIOENCODING": encoding},
        stdout=stdout,
        stderr=subprocess.PIPE,
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "ascii"])
@pytest.mark.parametrize("output", ["yaml", "json"])
def test_a_plan_is_the_same_document_in_every_encoding(encoding: str, output: str) -> None:
    done = mabeam("plan", "-f", "-", "--now", "2026-01-01T00:00:00Z", "-o", output, encoding=encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    read = json.loads if output == "json" else yaml.safe_load
    found = read(done.stdout.decode(encoding))
    assert "🙂" in str(found)


def test_an_error_in_another_encoding_is_escaped() -> None:
    done = mabeam("plan", "-f", "🙂.yaml", encoding="latin-1")
    assert done.returncode == 2
    assert b"No such file or directory" in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [("plan", "-f", "-"), ("lint", "-f", "-"), ("crds",)])
def test_output_that_cannot_be_written_is_one_line(arguments: tuple[str, ...]) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        done = mabeam(*arguments, stdout=full)
    finally:
        os.close(full)
    assert (done.returncode, done.stderr) == (1, b"mabeam: standard output: No space left on device\n")


def test_a_reader_that_has_seen_enough_ends_it_without_a_word() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = mabeam("crds", stdout=writer)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")
