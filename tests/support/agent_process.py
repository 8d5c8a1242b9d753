"""`mabeam-agent run` in a process of its own, and what a test asks of it."""

import contextlib
import json
import os
import re
import subprocess
import sys
import textwrap
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEADLINE = 30.0


class Process:
    """An agent running in a process of its own."""

    def __init__(self, directory: Path, target: str, *options: str, **environment: str) -> None:
        self.directory = directory
        self._out = directory / "out.log"
        self._err = directory / "err.log"
        # As the kubelet does: it is there, and empty.
        self._words = directory / "termination-log"
        self._words.touch()
        path = os.pathsep.join([str(ROOT / "operator"), str(directory)])
        with self._out.open("w") as out, self._err.open("w") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mabeam.agent.main", "run", target, *options],
                cwd=directory,
                env={
                    "PATH": os.environ["PATH"],
                    "PYTHONPATH": path,
                    "MABEAM_TERMINATION_MESSAGE_PATH": str(self._words),
                    **environment,
                },
                stdout=out,
                stderr=err,
            )

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def err(self) -> str:
        return self._err.read_text()

    @property
    def termination_message(self) -> list[str]:
        """The lines of the termination message."""
        return self._words.read_text().splitlines()

    def exit_code(self) -> int:
        return self.process.wait(DEADLINE)

    def says(self, text: str) -> None:
        end = time.monotonic() + DEADLINE
        while text not in self.out:
            assert self.process.poll() is None, f"it ended: {self.out} {self.err}"
            assert time.monotonic() < end, f"it never said {text!r}: {self.out} {self.err}"
            time.sleep(0.01)

    @property
    def port(self) -> int:
        """Where it reports; its module must have printed it."""
        self.says("port ")
        (port,) = re.findall(r"port (\d+)", self.out)
        return int(port)

    def report(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=DEADLINE) as response:
            return str(response.read().decode())

    def readiness(self) -> int:
        """The HTTP status of /readyz."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=DEADLINE) as response:
                return int(response.status)
        except urllib.error.HTTPError as refused:
            return refused.code

    def reports(self, line: str) -> None:
        end = time.monotonic() + DEADLINE
        while line not in (text := self.report()):
            assert time.monotonic() < end, f"{line!r} was never in {text}"
            time.sleep(0.02)

    def tell(self, generation: int, **parameters: object) -> None:
        self.publish(json.dumps({"generation": generation, "parameters": parameters}))

    def publish(self, text: str) -> None:
        (self.directory / "new.json").write_text(text)
        (self.directory / "new.json").replace(self.directory / "directives.json")


Start = Callable[..., Process]


@pytest.fixture(name="start")
def start_agent(tmp_path: Path) -> Iterator[Start]:
    """Start an agent whose module `worker` has this source."""
    started: list[Process] = []

    def run(source: str, target: str = "worker:Worker", **environment: str) -> Process:
        (tmp_path / "worker.py").write_text(textwrap.dedent(source))
        options = ("--port", "0", "--directives", str(tmp_path))
        started.append(Process(tmp_path, target, *options, **environment))
        return started[-1]

    yield run
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            process.process.kill()
        process.process.wait()
