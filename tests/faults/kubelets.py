"""What real kubelets do and fake ones do not: a running pod is called Ready again once its node is no longer called lost.

In a long outage no node can renew its Lease. When the apiserver is back, the node controller may look before the nodes have
renewed theirs, and then calls their pods not Ready. A kubelet corrects that at its next look at the pod.
"""

import asyncio
from contextlib import suppress
from typing import Final

import aiohttp

from faults.arena import Arena
from support.async_api import JsonDict, Refused

PAUSE_SECONDS: Final = 0.5


async def correct_pods(arena: Arena) -> None:
    """Until it is cancelled: put right what the node controller says of running pods."""
    while True:
        for name, pod in list(arena.observer.objects["pods"].items()):
            if called_lost(pod):
                # Someone may be faster, the apiserver may be away again: then the next look is soon enough.
                with suppress(Refused, aiohttp.ClientError, TimeoutError, OSError):
                    await arena.api.patch("pods", name, _ready_again(pod), "status")
        await asyncio.sleep(PAUSE_SECONDS)


def called_lost(pod: JsonDict) -> bool:
    """Whether a pod's containers are ready, and only the pod itself is said not to be."""
    said = {condition["type"]: condition["status"] for condition in pod["status"].get("conditions") or ()}
    alive = pod["status"].get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]
    return alive and said.get("ContainersReady") == "True" and said.get("Ready") == "False"


def _ready_again(pod: JsonDict) -> JsonDict:
    conditions = [
        condition | {"status": "True"} if condition["type"] == "Ready" else condition
        for condition in pod["status"]["conditions"]
    ]
    return {
        "metadata": {"resourceVersion": pod["metadata"]["resourceVersion"]},
        "status": {"conditions": conditions},
    }
