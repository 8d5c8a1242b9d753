"""kubectl, helm and the cluster tool as a person would run them, and a quick way to ask the apiserver often."""

import contextlib
import http.client
import json
import os
import shlex
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from embedded.owned import owned
from examples.demo.errors import Unmet, Unusable
from examples.demo.page import Page

ROOT = Path(__file__).resolve().parents[2]
CLUSTER_TOOL = "hack/cluster/cluster"
IMAGE_TOOL = "hack/image/build"
JsonDict = dict[str, Any]


def in_use(environ: Mapping[str, str]) -> bool:
    """Whether the person's own cluster is to be used: CLUSTER=current."""
    return environ.get("CLUSTER", "") == "current"


@dataclass(frozen=True)
class Tools:
    """The programs, and the environment they run in: the right KUBECONFIG, and both of them on the PATH."""

    cluster: str
    current: bool
    kubectl: str = ""
    helm: str = ""
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))

    def located(self, page: Page) -> "Tools":
        """The same with the programs found; a cluster must be up by now."""
        kubectl, helm = (self._program(page, name) for name in ("kubectl", "helm"))
        environ = dict(self.environ)
        environ["PATH"] = os.pathsep.join([str(Path(kubectl).parent), str(Path(helm).parent), environ.get("PATH", "")])
        if not self.current:
            environ["KUBECONFIG"] = last_line(self.run(CLUSTER_TOOL, "kubeconfig", "--name", self.cluster))
        return Tools(self.cluster, self.current, kubectl, helm, environ)

    def _program(self, page: Page, name: str) -> str:
        own = shutil.which(name) if self.current else None
        # Streamed: a tool that is not there yet is built first, for as long as that takes.
        return own or last_line(self.stream(page, CLUSTER_TOOL, "bin", name))

    def run(self, *command: str, stdin: str | None = None, seconds: float = 120) -> str:
        """What the command printed; raises Unmet with its own words when it fails."""
        done = self.attempt(*command, stdin=stdin, seconds=seconds)
        if done.returncode != 0:
            words = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()
            raise Unmet(f"`{shown(command)}` succeeds", f"exit code {done.returncode}: {' / '.join(words[-4:])}")
        return done.stdout

    def attempt(
        self, *command: str, stdin: str | None = None, seconds: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """The ended command, whatever its exit code."""
        try:
            return subprocess.run(  # noqa: S603 - the demo's own commands
                command,
                cwd=ROOT,
                env=self.environ,
                input=stdin,
                stdin=subprocess.DEVNULL if stdin is None else None,
                capture_output=True,
                text=True,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Unmet(f"`{shown(command)}` ends", f"still running after {seconds:.0f} s") from None

    def kube(self, *arguments: str, stdin: str | None = None, seconds: float = 120) -> str:
        """What kubectl printed."""
        return self.run(self.kubectl, *arguments, stdin=stdin, seconds=seconds)

    def json(self, *arguments: str) -> JsonDict:
        """An object or a list from kubectl; empty when there is none."""
        text = self.kube("get", *arguments, "--ignore-not-found", "-o", "json")
        found: JsonDict = json.loads(text) if text.strip() else {}
        return found

    def show(self, page: Page, *arguments: str, stdin: str | None = None, seconds: float = 120) -> str:
        """Run kubectl, and show the command and what it printed."""
        output = self.kube(*arguments, stdin=stdin, seconds=seconds)
        page.command(shown(("kubectl", *arguments)), output)
        return output

    def stream(self, page: Page, *command: str) -> str:
        """What a long command printed on stdout, while its progress (stderr) is seen; raises Unusable when it fails."""
        with self.begin(page, *command) as begun:
            return begun.finish()

    @contextlib.contextmanager
    def begin(self, page: Page, *command: str, quiet: bool = False) -> Iterator["Begun"]:
        """A long command under way, which has no time limit and ends with the block; `quiet` ones tell when they finish."""
        direct = page.lively and not quiet
        with tempfile.TemporaryFile() as answer, tempfile.NamedTemporaryFile() as told:
            progress = None if direct else told
            with owned(command, cwd=ROOT, env=self.environ, stdout=answer, stderr=progress) as process:
                yield Begun(command, process, answer, Path(told.name), page)


@dataclass(frozen=True)
class Begun:
    """A long command under way."""

    command: Sequence[str]
    process: subprocess.Popen[bytes]
    answer: IO[bytes]
    told: Path
    page: Page

    def finish(self) -> str:
        """What it printed on stdout, once it has ended; raises Unusable when it failed."""
        with self.told.open(encoding="utf-8", errors="replace") as told:
            while True:
                ended = self.process.poll() is not None
                for line in told.read().splitlines():
                    if line.strip():
                        self.page.line(line)
                if ended:
                    break
                time.sleep(0.1)
        if self.process.returncode != 0:
            code = self.process.returncode
            raise Unusable(
                f"`{shown(self.command)}` failed with exit code {code}; its message is above."
                " What is built already is kept: the same command goes on from there"
            )
        self.answer.seek(0)
        return self.answer.read().decode()


def shown(command: Sequence[str]) -> str:
    """A command as one would type it: no absolute paths of programs, quotes where the shell wants them."""
    words = [Path(command[0]).name if command[0].startswith("/") else command[0], *command[1:]]
    return shlex.join(words)


def last_line(text: str) -> str:
    """The last line of an answer."""
    return text.strip().splitlines()[-1]


class _Unix(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


@dataclass(frozen=True)
class Api:
    """GET requests in milliseconds, by way of one `kubectl proxy`: starting kubectl anew for each would cost far more."""

    socket_path: str

    def text(self, path: str) -> str | None:
        """The answer's body, None when there is none (yet)."""
        connection = _Unix(self.socket_path)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read().decode(errors="replace")
            return body if answer.status == 200 else None
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def json(self, path: str) -> JsonDict:
        """The answer's document, empty when there is none (yet)."""
        try:
            found = json.loads(self.text(path) or "{}")
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}


@contextlib.contextmanager
def proxied(tools: Tools) -> Iterator[Api]:
    """The apiserver behind a socket that only this user can open, for as long as the block lasts."""
    with tempfile.TemporaryDirectory(prefix="mabeam-demo-") as folder:
        path = f"{folder}/api"
        process = subprocess.Popen(  # noqa: S603 - kubectl
            [tools.kubectl, "proxy", f"--unix-socket={path}"],
            env=tools.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the demo, which ends it then
        )
        try:
            api = Api(path)
            deadline = time.monotonic() + 20
            while api.text("/version") is None:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise Unusable("`kubectl proxy` does not reach the apiserver")
                time.sleep(0.05)
            yield api
        finally:
            process.terminate()
            process.wait()
