"""One plan's own environment: a namespace, a proxy, operators that are started again when they end, and a observer.

The arena does what Kubernetes does for a Deployment: a process that ended is started again, one whose liveness probe fails
three times in a row is replaced. Both are counted.
"""

import asyncio
import json
import signal
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from faults.apiserver import Api
from faults.observer import Observer
from faults.proxy import Proxy, Script
from support.async_api import Refused
from support.operator_process import COMMAND, environment_of, free_port

if TYPE_CHECKING:
    from faults.environment import Environment

LOG_LINES: Final = 60
LIVENESS_PERIOD_SECONDS: Final = 10.0
LIVENESS_FAILURES: Final = 3


@dataclass
class Replica:
    """One replica of the operator: a process, and the next one when that ends."""

    identity: str
    environment: dict[str, str]
    port: int
    log: Path
    process: asyncio.subprocess.Process | None = None
    exits: list[int] = field(default_factory=list)
    kills: int = 0
    liveness_kills: int = 0
    wanted: asyncio.Event = field(default_factory=asyncio.Event)
    _expected: bool = False
    _guards: list["asyncio.Task[None]"] = field(default_factory=list)

    @property
    def pid(self) -> int:
        """The process id of the present incarnation."""
        assert self.process is not None, "it was never started"
        return self.process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs (or is stopped), rather than having ended."""
        return self.process is not None and self.process.returncode is None

    async def start(self) -> None:
        """Start it, and from now on again whenever it ends by itself."""
        self.wanted.set()
        await self._launch()
        if not self._guards:
            self._guards = [asyncio.create_task(self._keep_alive()), asyncio.create_task(self._probe())]

    async def _launch(self) -> None:
        with self.log.open("ab") as file:
            self.process = await asyncio.create_subprocess_exec(
                *COMMAND, env=self.environment, stdout=file, stderr=file, stdin=asyncio.subprocess.DEVNULL
            )

    async def _keep_alive(self) -> None:
        while True:
            process = self.process
            assert process is not None
            code = await process.wait()
            if process is not self.process:
                continue
            if not self._expected:
                self.exits.append(code)
            await self.wanted.wait()
            self._expected = False
            if process is self.process:
                await self._launch()

    async def _probe(self) -> None:
        failures = 0
        while True:
            await asyncio.sleep(LIVENESS_PERIOD_SECONDS)
            code, _ = await self.ask("/healthz")
            failures = failures + 1 if code not in (0, 200) else 0
            if failures >= LIVENESS_FAILURES and self.wanted.is_set():
                failures = 0
                self.liveness_kills += 1
                await self.kill()

    async def kill(self) -> None:
        """SIGKILL; it is dead when this returns, and started again at once unless it is not `wanted`."""
        if self.alive:
            assert self.process is not None
            self.kills += 1
            self._expected = True
            process = self.process
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def stay_down(self) -> None:
        """SIGKILL, and no new start until `come_back`."""
        self.wanted.clear()
        await self.kill()

    def come_back(self) -> None:
        """Start it again after `stay_down`."""
        self.wanted.set()

    def send(self, number: signal.Signals) -> None:
        """Send a signal, SIGSTOP and SIGCONT for example."""
        assert self.process is not None
        self.process.send_signal(number)

    async def stop(self) -> None:
        """End it for good."""
        for guard in self._guards:
            guard.cancel()
        await asyncio.gather(*self._guards, return_exceptions=True)
        if self.alive:
            assert self.process is not None
            with suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()

    async def ask(self, path: str) -> tuple[int, str]:
        """What it answers over HTTP; status 0 while it does not."""
        return await asyncio.to_thread(_ask, f"http://127.0.0.1:{self.port}{path}")

    async def metric(self, name: str) -> float:
        """A metric without labels, or the sum over its labels; 0 while there is none."""
        _, text = await self.ask("/metrics")
        lines = (line for line in text.splitlines() if line.startswith((f"{name} ", f"{name}{{")))
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)

    def words(self, lines: int = LOG_LINES) -> str:
        """The end of its log, over all its incarnations."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def _ask(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read().decode()
    except OSError:
        return 0, ""


@dataclass
class Arena:
    """What a plan is given: `api` goes straight to the apiserver, operators go through `proxy`, `observer` sees everything."""

    environment: "Environment"
    namespace: str
    seed: int
    api: Api
    proxy: Proxy
    observer: Observer
    folder: Path
    replicas: list[Replica] = field(default_factory=list)
    notes: dict[str, float] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    @property
    def cluster(self) -> str:
        """The embedded cluster's name, for `hack/cluster/cluster … --name`; empty on a cluster of somebody else's."""
        return self.environment.cluster

    @property
    def operator(self) -> Replica:
        """The first replica."""
        return self.replicas[0]

    async def start(
        self,
        identity: str = "one",
        *,
        through: Proxy | None = None,
        environment: Mapping[str, str] | None = None,
        **settings: str,
    ) -> Replica:
        """A replica of the operator, started, not yet ready; settings by their names without `MABEAM_`, in lower case.

        It keeps its identity over restarts, as a restarted container does, and so takes its own Lease again at once.
        `environment` is for what is no setting of the operator's.
        """
        kubeconfig = self.folder / f"{identity}.kubeconfig"
        kubeconfig.write_text(json.dumps(_kubeconfig((through or self.proxy).server)))
        port = free_port()
        whole = environment_of(self.namespace, identity, port, str(kubeconfig), **settings) | dict(environment or {})
        replica = Replica(identity, whole, port, self.folder / f"{identity}.log")
        self.replicas.append(replica)
        await replica.start()
        return replica

    async def kill(self) -> None:
        """SIGKILL for the first replica, which is started again."""
        await self.operator.kill()

    def play(self, script: Script) -> None:
        """From now on the proxy does what the script says; `Script()` ends all faults."""
        self.proxy.script = script

    def words(self) -> str:
        """The end of every operator's log."""
        return "\n".join(f"--- {replica.identity}\n{replica.words()}" for replica in self.replicas)

    def note(self, what: str, value: float) -> None:
        """Keep a measured figure; the campaign reports each one's median and worst."""
        self.notes[what] = value


def _kubeconfig(server: str) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "proxy", "cluster": {"server": server}}],
        "users": [{"name": "operator", "user": {}}],
        "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "operator"}}],
        "current-context": "proxy",
    }


@asynccontextmanager
async def arena(environment: "Environment", name: str, seed: int, folder: Path) -> AsyncIterator[Arena]:
    """An arena in a new namespace; the namespace goes, without being waited for, when the plan is over."""
    api = Api(environment.credentials.server, environment.session, name)
    await api.call("POST", "/api/v1/namespaces", {"metadata": {"name": name, "labels": {"faults.mabeam.dev": "plan"}}})
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    observer = Observer(api)
    proxy = Proxy(environment.credentials.server, environment.session)
    built = Arena(environment, name, seed, api, proxy, observer, folder)
    try:
        deadline = time.monotonic() + 60
        while await api.find("serviceaccounts", "default") is None:
            assert time.monotonic() < deadline, f"{name} got no service account within 60 s"
            await asyncio.sleep(0.1)
        async with observer, proxy:
            try:
                yield built
            finally:
                for replica in built.replicas:
                    await replica.stop()
    finally:
        with suppress(Refused, OSError):
            await api.call("DELETE", f"/api/v1/namespaces/{name}", {"propagationPolicy": "Background"})
