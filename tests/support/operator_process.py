"""The operator as a process of its own on the tests' cluster: started, looked at, stopped, killed, frozen."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.kube import JsonDict, Kube, required, until

ROOT = Path(__file__).resolve().parents[2]
LEASE = "mabeam"
COMMAND = (sys.executable, "-m", "mabeam", "run")


@dataclass
class OperatorProcess:
    """One running operator that watches one namespace and keeps its Lease there."""

    identity: str
    kube: Kube
    process: "subprocess.Popen[str]"
    port: int
    log: Path

    def ask(self, path: str) -> tuple[int, str]:
        """What the operator answers over HTTP; status 0 while it does not."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, refused.read().decode()
        except OSError:
            return 0, ""

    def is_ready(self) -> bool:
        """Whether it has seen the cluster; fails, with its log, when it has ended."""
        if self.process.poll() is not None:
            raise AssertionError(f"{self.identity} ended with {self.process.returncode}: {self.words()}")
        return self.ask("/readyz")[0] == 200

    def leads(self) -> bool:
        """Whether the Lease names it."""
        return holder(self.kube) == self.identity

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def ended(self, seconds: float = 60) -> int:
        """Its exit code, once it has ended."""
        return self.process.wait(seconds)

    def words(self) -> str:
        """The end of its log."""
        return self.log.read_text()[-4000:]


def lease(kube: Kube) -> JsonDict:
    """The Lease; empty while there is none."""
    return kube.find("lease", LEASE) or {}


def holder(kube: Kube) -> str | None:
    """Who holds the Lease."""
    name: str | None = lease(kube).get("spec", {}).get("holderIdentity")
    return name


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def environment_of(namespace: str, identity: str, port: int, kubeconfig: str, **settings: str) -> dict[str, str]:
    """The environment of an operator that watches one namespace and keeps its Lease there, and of nothing else's making."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MABEAM_", "KUBERNETES_"))}
    environment |= {"KUBECONFIG": kubeconfig, "PYTHONPATH": str(ROOT / "operator")}
    usual = {
        "watch_namespaces": namespace,
        "lease_namespace": namespace,
        "lease_name": LEASE,
        "identity": identity,
        "http_port": str(port),
        "resync_seconds": "5",
    }
    return environment | {f"MABEAM_{key.upper()}": value for key, value in (usual | settings).items()}


@contextmanager
def operator(kube: Kube, identity: str = "one", **settings: str) -> Iterator[OperatorProcess]:
    """An operator for the namespace, ready; settings by their names without `MABEAM_`, in lower case."""
    port = free_port()
    environment = environment_of(kube.namespace, identity, port, required("KUBECONFIG"), **settings)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("w") as file:
            process = subprocess.Popen(COMMAND, env=environment, stderr=file, stdout=file, text=True)
        running = OperatorProcess(identity, kube, process, port, log)
        try:
            until(f"{identity} is ready", running.is_ready, 90)
            yield running
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait(20)
