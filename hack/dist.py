#!/usr/bin/env python3
"""Builds the wheels of both distributions, `mabeam-agent` (the SDK) and `mabeam` (the operator), and prints their paths.

They are built in a copy of what they are made of, so that nothing of an earlier build gets into them and nothing is left
behind. Needs setuptools, which `make venv` installs, and no package index.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
INPUTS = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "operator/mabeam", "packages/mabeam-agent")
NEVER = ("__pycache__", "build", "*.egg-info")
# The earliest time that a zip file can hold: the same tree gives the same wheels.
EPOCH = "315532800"


def build(target: Path) -> list[Path]:
    """The wheels of both distributions, made in `target`; raises CalledProcessError."""
    with tempfile.TemporaryDirectory(prefix="mabeam-dist-") as scratch:
        tree, wheels = Path(scratch) / "tree", Path(scratch) / "wheels"
        for name in INPUTS:
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns(*NEVER))
            else:
                shutil.copy2(ROOT / name, tree / name)
        command = [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--quiet",
            "--no-deps",
            "--no-build-isolation",
            "--no-cache-dir",
        ]
        places = [str(tree / "packages/mabeam-agent"), str(tree)]
        environ = {**os.environ, "SOURCE_DATE_EPOCH": EPOCH}
        subprocess.run([*command, "--wheel-dir", str(wheels), *places], env=environ, check=True)
        target.mkdir(parents=True, exist_ok=True)
        return [Path(shutil.copy2(wheel, target)) for wheel in sorted(wheels.iterdir())]


def main(arguments: Sequence[str]) -> int:
    """The exit code; the one optional argument is the folder of the wheels (default: dist)."""
    try:
        for wheel in build(Path(arguments[0]) if arguments else ROOT / "dist"):
            print(wheel)
    except subprocess.CalledProcessError as error:
        return int(error.returncode)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
