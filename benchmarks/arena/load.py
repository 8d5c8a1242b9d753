"""A load in a process of its own: so many events a second on other agents' pods, each a patch of an annotation.

    python -m benchmarks.arena.load KUBECONFIG PODS-PATH RATE SECONDS

It says `ready` once it knows the pods, begins at a line on its standard input, and prints how many requests it made
and when: `{"sent": 10000, "seconds": 10.02}`.
"""

import asyncio
import itertools
import json
import sys
import time
from pathlib import Path
from typing import Final

from benchmarks.arena.api import Api, Call, patch

PARALLEL: Final = 64


async def _send(api: Api, path: str, names: list[str], rate: float, seconds: float) -> dict[str, float]:
    wanted = round(rate * seconds)
    turns = zip(range(wanted), itertools.cycle(names), strict=False)
    begun = time.monotonic()

    def call(number: int, name: str) -> Call:
        return patch(f"{path}/{name}", {"metadata": {"annotations": {"example.org/beat": str(number)}}})

    async def work() -> None:
        for number, name in turns:
            early = begun + number / rate - time.monotonic()
            if early > 0:
                await asyncio.sleep(early)
            await api.send(call(number, name))

    async with asyncio.TaskGroup() as group:
        for _ in range(PARALLEL):
            group.create_task(work())
    return {"sent": wanted, "seconds": time.monotonic() - begun}


async def main(kubeconfig: str, path: str, rate: str, seconds: str) -> None:
    """Send them all."""
    async with Api(Path(kubeconfig)) as api:
        names = [pod["metadata"]["name"] async for pod in api.pages(path, fieldSelector="status.phase=Running")]
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        print(json.dumps(await _send(api, path, names, float(rate), float(seconds))), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
