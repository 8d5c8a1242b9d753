"""One write that the apiserver does not take keeps no other from being made, in any pass."""

import asyncio
import copy
from collections.abc import Awaitable, Callable

import pytest

from mabeam.api.base import JsonDict
from mabeam.shell.kube.errors import ApiError
from support.builders import agent_body
from support.coordination import variable_body
from support.shell_in_memory import ShellInMemory

WEBHOOK_DOWN = ApiError(500, "InternalError", 'failed calling webhook "x": connection refused')


def in_a_shell(scenario: Callable[[ShellInMemory], Awaitable[None]]) -> None:
    async def main() -> None:
        await scenario(ShellInMemory())

    asyncio.run(main())


def fail(shell: ShellInMemory, pod: str) -> None:
    """The pod's container ends with exit code 1."""
    body = copy.deepcopy(shell.api.body("Pod", pod))
    ended = {"terminated": {"exitCode": 1, "finishedAt": "2026-01-01T00:00:05Z"}}
    body["status"] |= {"phase": "Failed"}
    body["status"]["containerStatuses"][0]["state"] = ended
    body["status"]["conditions"][0]["status"] = "False"
    shell.api.put(body)


def test_pods_that_are_scaled_away_stop_while_another_cannot_be_created() -> None:
    async def scenario(shell: ShellInMemory) -> None:
        shell.api.put(agent_body("a", replicas=4, max_failures=50))
        await shell.settle()
        fail(shell, "a-0-1")
        shell.api.refusals["create", "Pod"] = WEBHOOK_DOWN
        await shell.settle()
        shell.api.edit("Agent", "a", replicas=1)
        await shell.settle()
        assert shell.api.names("Pod") == ["a-0-1"]
        del shell.api.refusals["create", "Pod"]
        await shell.settle(seconds=60)
        assert "a-0-2" in shell.api.names("Pod")

    in_a_shell(scenario)


@pytest.mark.parametrize("broken", ["a-0-2", "a-1-2", "a-2-2"])
def test_an_ordinal_whose_pod_cannot_be_created_keeps_no_other_from_its_restart(broken: str) -> None:
    async def scenario(shell: ShellInMemory) -> None:
        shell.api.put(agent_body("a", replicas=3, max_failures=50))
        await shell.settle()
        shell.api.refusals["create", "Pod", broken] = WEBHOOK_DOWN
        for pod in ("a-0-1", "a-1-1", "a-2-1"):
            fail(shell, pod)
        await shell.settle()
        running = {name for name in shell.api.names("Pod") if name.endswith("-2")}
        assert running == {"a-0-2", "a-1-2", "a-2-2"} - {broken}

    in_a_shell(scenario)


def test_directives_are_delivered_while_a_pod_cannot_be_created_and_pods_run_while_directives_cannot_be() -> None:
    async def scenario(shell: ShellInMemory) -> None:
        shell.api.put(agent_body("a", replicas=2, max_failures=50))
        await shell.settle()
        shell.api.refusals["create", "Pod"] = WEBHOOK_DOWN
        fail(shell, "a-0-1")
        shell.api.put(variable_body("temperature", ["a"], value=0.4))
        await shell.settle()
        assert "a-mabeam" in shell.api.names("ConfigMap")
        del shell.api.refusals["create", "Pod"]
        shell.api.refusals["patch", "ConfigMap", "a-mabeam"] = WEBHOOK_DOWN
        shell.api.edit("OrchestrationVariable", "temperature", value=0.7)
        await shell.settle(seconds=60)
        assert "a-0-2" in shell.api.names("Pod")
        generations = [pod["metadata"]["annotations"]["mabeam.dev/directives-generation"] for pod in pods(shell)]
        assert set(generations) == {"1"}  # no pod is told of a generation that is not written

    in_a_shell(scenario)


def pods(shell: ShellInMemory) -> list[JsonDict]:
    return [body for (kind, _, name), body in shell.api.objects.items() if kind == "Pod" and name != "a-0-1"]
