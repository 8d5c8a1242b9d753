"""`MABEAM_WATCH_NAMESPACES` with a namespace that was deleted: the others are supervised, also by an operator that starts now."""

import asyncio
import copy
from collections.abc import Awaitable, Callable

import orjson

from mabeam.shell.kube.errors import ApiError
from support.builders import agent_body
from support.shell_in_memory import ShellInMemory

DENIED = ApiError(403, "Forbidden", 'pods is forbidden: cannot list resource in the namespace "gone"')


def watching_two(scenario: Callable[[ShellInMemory], Awaitable[None]]) -> None:
    async def main() -> None:
        shell = ShellInMemory(watch_namespaces=("gone", "team"))
        shell.process.relister.synced.clear()
        shell.api.list_refusals["", "gone"] = DENIED
        shell.api.put(agent_body("a"))
        await scenario(shell)

    asyncio.run(main())


async def start(shell: ShellInMemory) -> None:
    """As much of `Relister.run` as precedes its first sleep."""
    await shell.process.relister.list_until_success()
    shell.process.relister.synced.set()
    shell.process._relisted()
    shell.process.router.enqueue_all()


def test_an_operator_that_starts_without_a_namespace_supervises_the_others_and_is_ready() -> None:
    async def scenario(shell: ShellInMemory) -> None:
        await start(shell)
        await shell.settle()
        assert shell.api.names("Pod") == ["a-0-1"]
        assert shell.process._ready() == []
        assert shell.process._alive() == []

    watching_two(scenario)


def test_the_lost_namespace_is_shown_in_metrics_and_in_the_status_of_v1() -> None:
    async def scenario(shell: ShellInMemory) -> None:
        await start(shell)
        assert b"mabeam_lost_namespaces 1.0" in shell.process._metrics()
        operator = orjson.loads(await shell.process.rest_api._compute_status(None))["operator"]
        (lost,) = operator["lostNamespaces"]
        assert lost["name"] == "gone"
        assert "cannot list resource" in lost["message"]

    watching_two(scenario)


def test_a_namespace_that_is_made_again_is_supervised_by_itself() -> None:
    async def scenario(shell: ShellInMemory) -> None:
        await start(shell)
        await shell.settle()
        again = copy.deepcopy(agent_body("b"))
        again["metadata"]["namespace"] = "gone"
        shell.api.put(again)
        shell.api.events.clear()  # nothing watches there yet
        del shell.api.list_refusals["", "gone"]
        await start(shell)
        await shell.settle()
        assert shell.api.names("Pod") == ["a-0-1", "b-0-1"]
        assert b"mabeam_lost_namespaces 0.0" in shell.process._metrics()

    watching_two(scenario)
