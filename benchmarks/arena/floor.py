"""The floor under P1: a client that makes the writes of an Agent and decides nothing, in a process of its own.

    python -m benchmarks.arena.floor KUBECONFIG

It watches Agents and their pods, and reads no more of an event than a name, a uid or a phase. For each Agent it creates the
pod, and patches the status once when the pod runs, with the bodies that the operator plans for such an Agent; pods come before
statuses, and at most as many requests are under way as in the operator. It writes no Events, judges no pod, and remembers
nothing across a crash: what an operator costs beyond it is what deciding costs. It prints `ready` once it watches.
"""

import asyncio
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from benchmarks.arena.api import Api, Call
from benchmarks.arena.arms import ARMS
from benchmarks.arena.pod_timeline import parse_pod_event

USER_AGENT: Final = "floor/1"
READY: Final = "ready"
PARALLEL: Final = 64  # the operator's MABEAM_MAX_IN_FLIGHT
_AGENT: Final = ARMS["agents"]
# What stands for the name and the uid of an Agent in the bodies; as long as the real ones.
_NAME, _UID = b"w-00000", b"00000000-0000-0000-0000-000000000000"
_NOW: Final = "2026-01-01T00:00:00Z"
_ADDED: Final = b'{"type":"ADDED"'
_METADATA: Final = re.compile(rb'"metadata":\{.*?"name":"([^"]+)".*?"uid":"([^"]+)"')


def planned_bodies() -> tuple[bytes, bytes]:
    """The pod and the status patch that the operator would write for an Agent of the benchmark, by `mabeam plan`."""
    agent = _AGENT.body(_NAME.decode())
    agent["metadata"] |= {
        "namespace": _AGENT.namespace,
        "uid": _UID.decode(),
        "generation": 1,
        "creationTimestamp": _NOW,
    }
    key = f"{_AGENT.namespace}/{_NAME.decode()}"
    with tempfile.NamedTemporaryFile("w", suffix=".json") as world:
        for _ in range(2):  # the status comes before the pod that it tells of
            world.seek(0)
            world.truncate()
            world.write(json.dumps(agent))
            world.flush()
            command = [sys.executable, "-m", "mabeam", "plan", "-f", world.name, "--now", _NOW, "-o", "json"]
            plan = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            agent["status"] = plan["agents"][key]
    pod = next(write["body"] for write in plan["writes"] if (write["verb"], write["kind"]) == ("create", "Pod"))
    return json.dumps(pod).encode(), json.dumps({"status": agent["status"]}).encode()


def added(line: bytes) -> tuple[bytes, bytes] | None:
    """The name and the uid of the Agent that a watch event is the creation of; None for any other event."""
    found = _METADATA.search(line) if line.startswith(_ADDED) else None
    return (found[1], found[2]) if found else None


async def main(kubeconfig: str) -> None:
    """Write for every Agent that is created from now on; never returns."""
    pod, status = planned_bodies()
    queue: asyncio.PriorityQueue[tuple[int, int, bytes, bytes]] = asyncio.PriorityQueue()

    async with Api(Path(kubeconfig), USER_AGENT) as api:

        async def work() -> None:
            while True:
                stage, _, name, uid = await queue.get()
                template, path, verb, content = (
                    (pod, _AGENT.pods, "POST", "application/json"),
                    (status, f"{_AGENT.named(name.decode())}/status", "PATCH", "application/merge-patch+json"),
                )[stage]
                body = template.replace(_NAME, name).replace(_UID, uid)
                await api.send(Call(verb, path, body, content))

        async def watch_pods(version: str) -> None:
            async for line in api.watch(_AGENT.pods, version):
                event = parse_pod_event(line)
                if event.phase == "Running" and (found := unpatched.pop(event.owner.encode(), None)):
                    queue.put_nowait((1, *found))

        unpatched: dict[bytes, tuple[int, bytes, bytes]] = {}  # name of the Agent → what its status patch needs
        async with asyncio.TaskGroup() as group:
            for _ in range(PARALLEL):
                group.create_task(work())
            group.create_task(watch_pods(await api.version(_AGENT.pods)))
            version = await api.version(_AGENT.path)
            print(READY, flush=True)
            number = 0
            async for line in api.watch(_AGENT.path, version):
                if found := added(line):
                    number += 1
                    unpatched[found[0]] = (number, *found)
                    queue.put_nowait((0, number, *found))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
