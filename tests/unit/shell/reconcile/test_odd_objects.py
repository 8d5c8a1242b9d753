"""Odd statuses, odd values and refused records: each costs itself only, and a world with them comes to rest."""

import asyncio
import copy
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from mabeam.api.base import JsonDict
from mabeam.shell.kube.errors import ApiError
from support.builders import NO_BACKOFF, agent_body
from support.coordination import variable_body
from support.shell_in_memory import ShellInMemory

QUOTA = ApiError(403, "Forbidden", 'configmaps "x" is forbidden: exceeded quota: q')


def in_a_shell(scenario: Callable[[ShellInMemory], Awaitable[None]]) -> None:
    async def main() -> None:
        await scenario(ShellInMemory())

    asyncio.run(main())


def status(shell: ShellInMemory, kind: str, name: str) -> JsonDict:
    found: JsonDict = shell.api.body(kind, name)["status"]
    return found


def condition(shell: ShellInMemory, kind: str, name: str, type_: str) -> JsonDict | None:
    return next((c for c in status(shell, kind, name)["conditions"] if c["type"] == type_), None)


def put_status(shell: ShellInMemory, kind: str, name: str, **fields: Any) -> None:
    body = copy.deepcopy(shell.api.body(kind, name))
    body["status"] |= fields
    shell.api.put(body)


def test_a_crashed_agent_with_an_unknown_instruction_in_its_status_is_restarted() -> None:
    async def scenario(shell: ShellInMemory) -> None:
        shell.api.put(agent_body("a", max_failures=3, window=600, backoff=NO_BACKOFF))
        await shell.settle()
        newer = {"supervisor": "x", "intent": "Pause", "token": 1}
        put_status(shell, "Agent", "a", supervision=newer)
        await shell.settle()
        pod = copy.deepcopy(shell.api.body("Pod", "a-0-1"))
        pod["status"]["phase"] = "Failed"
        pod["status"]["containerStatuses"][0]["state"] = {"terminated": {"exitCode": 1}}
        shell.api.put(pod)
        await shell.settle(seconds=60)
        assert "a-0-2" in shell.api.names("Pod")
        assert (status(shell, "Agent", "a")["state"], status(shell, "Agent", "a")["supervision"]) == ("Running", newer)

    in_a_shell(scenario)


def test_a_value_with_a_null_inside_is_decided_once_and_delivered_without_it() -> None:
    async def scenario(shell: ShellInMemory) -> None:
        shell.api.put(agent_body("a"))
        holed = {"model": "x", "stop": None, "tools": [{"name": "t", "key": None}]}
        shell.api.put(variable_body("settings", ["a"], value=holed, domain={"type": "Object"}))
        await shell.settle(seconds=30)
        whole = {"model": "x", "tools": [{"name": "t"}]}
        found = status(shell, "OrchestrationVariable", "settings")
        assert (found["value"], found["round"]) == (whole, 1)
        document = json.loads(shell.api.body("ConfigMap", "a-mabeam")["data"]["directives.json"])
        assert document["parameters"] == {"settings": whole}

    in_a_shell(scenario)


def test_a_decision_whose_record_a_quota_refuses_is_made_and_the_variable_says_so() -> None:
    async def scenario(shell: ShellInMemory) -> None:
        shell.api.put(agent_body("a"))
        await shell.settle()
        shell.api.refusals["create", "ConfigMap", "temperature-mabeam-decision"] = QUOTA
        shell.api.put(variable_body("temperature", ["a"], value=0.5))
        await shell.settle()
        assert status(shell, "OrchestrationVariable", "temperature")["value"] == 0.5
        assert "a-mabeam" in shell.api.names("ConfigMap")
        recorded = condition(shell, "OrchestrationVariable", "temperature", "Recorded")
        assert recorded is not None
        assert (recorded["status"], recorded["reason"]) == ("False", "RecordsRefused")
        assert "exceeded quota" in recorded["message"]
        shell.api.refusals.clear()
        shell.api.edit("OrchestrationVariable", "temperature", value=0.7)
        await shell.settle(seconds=60)
        shell.api.edit("OrchestrationVariable", "temperature", value=0.8)
        await shell.settle(seconds=60)
        recorded = condition(shell, "OrchestrationVariable", "temperature", "Recorded")
        assert recorded is not None
        assert recorded["status"] == "True"

    in_a_shell(scenario)


def test_a_config_map_of_another_owner_under_the_name_of_a_record_is_no_matter_of_an_agent_of_that_name() -> None:
    async def scenario(shell: ShellInMemory) -> None:
        shell.api.put(agent_body("temperature"))
        shell.api.put(agent_body("a"))
        await shell.settle()
        shell.api.put({"kind": "ConfigMap", "metadata": {"name": "temperature-mabeam-decision", "namespace": "team"}})
        shell.api.put(variable_body("temperature", ["a"], value=0.5))
        await shell.settle()
        assert status(shell, "OrchestrationVariable", "temperature")["value"] == 0.5
        recorded = condition(shell, "OrchestrationVariable", "temperature", "Recorded")
        assert recorded is not None
        assert "has another owner" in recorded["message"]
        assert shell.process.refusals.names_taken == {}

    in_a_shell(scenario)


def test_an_agent_whose_config_map_has_another_owner_says_so() -> None:
    async def scenario(shell: ShellInMemory) -> None:
        shell.api.put(agent_body("a"))
        await shell.settle()
        shell.api.put({"kind": "ConfigMap", "metadata": {"name": "a-mabeam", "namespace": "team"}})
        shell.api.put(variable_body("temperature", ["a"], value=0.5))
        await shell.settle()
        told = condition(shell, "Agent", "a", "DirectivesDeliverable")
        assert told is not None
        assert told["status"] == "False"
        assert "ConfigMap a-mabeam has another owner; delete or rename it" in told["message"]
        assert "NotDeliverable" in {event.reason for event in shell.process.recorder.recent}
        await shell.settle(seconds=120)
        (item,) = status(shell, "Agent", "a")["directives"]["items"]
        assert item["state"] in ("Issued", "Expired")
        shell.api.remove("ConfigMap", "a-mabeam")
        await shell.settle(seconds=200)
        told = condition(shell, "Agent", "a", "DirectivesDeliverable")
        assert told is not None
        assert told["status"] == "True"

    in_a_shell(scenario)


@pytest.mark.parametrize("junk", ["{", "[" * 100_000])
def test_directives_that_somebody_overwrote_with_junk_are_restored(junk: str) -> None:
    async def scenario(shell: ShellInMemory) -> None:
        shell.api.put(agent_body("a"))
        shell.api.put(variable_body("temperature", ["a"], value=0.5))
        await shell.settle()
        body = copy.deepcopy(shell.api.body("ConfigMap", "a-mabeam"))
        body["data"]["directives.json"] = junk
        shell.api.put(body)
        await shell.settle()
        restored = shell.api.body("ConfigMap", "a-mabeam")["data"]["directives.json"]
        assert json.loads(restored)["parameters"] == {"temperature": 0.5}

    in_a_shell(scenario)


@pytest.mark.parametrize(
    "edit",
    [
        {"ingress": [{}]},
        {"policyTypes": ["Egress"]},
        {"podSelector": {"matchLabels": {"mabeam.dev/agent": "a", "nobody": "has"}}},
        {"podSelector": {"matchExpressions": [{"key": "x", "operator": "Exists"}]}},
    ],
)
def test_a_network_policy_that_somebody_edited_is_restored(edit: JsonDict) -> None:
    async def scenario(shell: ShellInMemory) -> None:
        shell.api.put(agent_body("a"))
        shell.api.put(agent_body("b"))
        ring = {"pattern": "Ring", "enforcement": "NetworkPolicy"}
        shell.api.put(variable_body("ring", ["a", "b"], type="CommunicationTopology", topology=ring))
        await shell.settle()
        written = copy.deepcopy(shell.api.body("NetworkPolicy", "a-mabeam"))
        edited = copy.deepcopy(written)
        edited["spec"] |= edit
        shell.api.put(edited)
        await shell.settle()
        assert shell.api.body("NetworkPolicy", "a-mabeam")["spec"] == written["spec"]

    in_a_shell(scenario)


def test_values_that_are_too_large_together_are_refused_in_words_and_no_status_grows_past_its_budget() -> None:
    async def scenario(shell: ShellInMemory) -> None:
        shell.api.put(agent_body("a"))
        for number in range(8):
            big = {"k": "x" * 200_000, "number": number}
            shell.api.put(variable_body(f"v{number}", ["a"], value=big, domain={"type": "Object"}))
        await shell.settle(seconds=60)
        body = shell.api.body("Agent", "a")
        assert len(json.dumps(body["status"])) < 900_000
        assert len(shell.api.body("ConfigMap", "a-mabeam")["data"]["directives.json"]) < 512_000
        told = condition(shell, "Agent", "a", "DirectivesDeliverable")
        assert told is not None
        assert "would have more than 384 KiB: it does not follow v1" in told["message"]
        ready = condition(shell, "OrchestrationVariable", "v7", "Ready")
        assert ready is not None
        assert ready["reason"] == "Refused"
        assert "would have more than 384 KiB" in ready["message"]

    in_a_shell(scenario)


def test_the_status_of_a_variable_lists_as_many_directives_as_its_budget_allows_and_counts_all() -> None:
    async def scenario(shell: ShellInMemory) -> None:
        names = [f"agent-{number}" for number in range(30)]
        for name in names:
            shell.api.put(agent_body(name))
        shell.api.put(variable_body("settings", names, value={"k": "x" * 16_000}, domain={"type": "Object"}))
        await shell.settle(seconds=30)
        found = status(shell, "OrchestrationVariable", "settings")
        assert (found["directives"]["issued"], len(found["directives"]["items"])) == (30, 8)
        assert len(json.dumps(found)) < 300_000
        listed = json.loads(shell.api.body("ConfigMap", "settings-mabeam-directives")["data"]["directives.json"])
        assert len(listed["directives"]) == 30

    in_a_shell(scenario)


def test_a_value_that_no_status_can_carry_is_refused_in_words() -> None:
    async def scenario(shell: ShellInMemory) -> None:
        shell.api.put(agent_body("a"))
        huge = {"k": "x" * 300_000}
        shell.api.put(variable_body("v", ["a"], value=huge, domain={"type": "Object"}))
        await shell.settle()
        accepted = condition(shell, "OrchestrationVariable", "v", "Accepted")
        assert accepted is not None
        assert (accepted["status"], accepted["reason"]) == ("False", "InvalidSpec")
        assert "at most 262144 are allowed" in accepted["message"]

    in_a_shell(scenario)
