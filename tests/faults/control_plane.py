"""The embedded cluster's own daemons, as victims: killed, frozen, started again; and etcd's door for what it alone can do."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp

from faults.arena import Arena
from support.async_api import JsonDict

CLUSTER: Final = str(Path(__file__).resolve().parents[2] / "hack/cluster/cluster")
APISERVER: Final = "kube-apiserver"
ETCD: Final = "etcd"
# etcd listens on loopback of the cluster's own network, in plain HTTP (hack/cluster/embedded/components.py).
ETCD_URL: Final = "http://127.0.0.1:2379"
RETURN_SECONDS: Final = 120.0
# Runs inside the cluster's network: posts what it reads to the address it is given.
POST: Final = """
import sys, urllib.request
request = urllib.request.Request(sys.argv[1], sys.stdin.buffer.read(), {"Content-Type": "application/json"})
sys.stdout.buffer.write(urllib.request.urlopen(request, timeout=30).read())
"""


@dataclass(frozen=True)
class ControlPlane:
    """The daemons of one embedded cluster, which nobody else uses meanwhile."""

    cluster: str
    server: str
    session: aiohttp.ClientSession

    @classmethod
    def of(cls, arena: Arena) -> "ControlPlane":
        """The control plane of the arena's cluster; fails where that is not an embedded one."""
        assert arena.cluster, "only an embedded cluster's daemons may be killed: say --cluster NAME"
        return cls(arena.cluster, arena.api.server, arena.api.session)

    async def pid(self, component: str) -> int:
        """The process id of a component that runs."""
        return int(await self._run("pid", "--name", self.cluster, component))

    async def send(self, component: str, number: signal.Signals) -> None:
        """Send a signal to a component."""
        os.kill(await self.pid(component), number)

    async def revive(self) -> None:
        """Start again what has died, as it was."""
        await self._run("up", "--name", self.cluster)

    @asynccontextmanager
    async def frozen(self, component: str) -> AsyncIterator[None]:
        """Within it the component is stopped; it goes on afterwards, whatever happens."""
        pid = await self.pid(component)
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    async def answering(self, seconds: float = RETURN_SECONDS) -> float:
        """The moment (monotonic) from which the apiserver says that it is ready."""
        deadline = time.monotonic() + seconds
        timeout = aiohttp.ClientTimeout(total=2)
        while True:
            try:
                async with self.session.get(f"{self.server}/readyz", timeout=timeout) as answer:
                    if answer.status == 200:
                        return time.monotonic()
            except (aiohttp.ClientError, TimeoutError, OSError):
                pass
            assert time.monotonic() < deadline, f"the apiserver is not ready after {seconds:.0f} s"
            await asyncio.sleep(0.1)

    async def etcd(self, path: str, body: JsonDict) -> JsonDict:
        """What etcd's JSON gateway answers; etcdctl speaks to the same calls."""
        command = ("exec", "--name", self.cluster, "--", sys.executable, "-c", POST, f"{ETCD_URL}{path}")
        answer: JsonDict = json.loads(await self._run(*command, given=json.dumps(body).encode()))
        return answer

    async def _run(self, *arguments: str, given: bytes = b"") -> str:
        process = await asyncio.create_subprocess_exec(
            CLUSTER,
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, problem = await process.communicate(given)
        assert process.returncode == 0, f"cluster {' '.join(arguments[:3])}: {problem.decode(errors='replace')[-500:]}"
        return out.decode()
