"""Whatever order the words of a cluster arrive in, the operator ends in the same state, and a resync finds nothing left to do.

The same object is told by the watch, by the answer to the operator's own write, by a GET after a conflict and by a LIST. Only the
first of them is news; so each of them must wake the same keys.
"""

import asyncio
import copy
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mabeam.api.base import JsonDict
from support.builders import agent_body
from support.coordination import variable_body
from support.shell_in_memory import ShellInMemory

AGENTS = ("a", "b")

# What a user does to the objects. One agent is always selected: a variable without any keeps its last value, whatever that was.
EDITS: dict[str, Any] = {
    "select a": lambda api: api.edit("OrchestrationVariable", "temperature", agents={"names": ["a"]}),
    "select both": lambda api: api.edit("OrchestrationVariable", "temperature", agents={"names": ["a", "b"]}),
    "select red": lambda api: api.edit(
        "OrchestrationVariable", "temperature", agents={"selector": {"matchLabels": {"team": "red"}}}
    ),
    "value 0.7": lambda api: api.edit("OrchestrationVariable", "temperature", value=0.7),
    "value 0.2": lambda api: api.edit("OrchestrationVariable", "temperature", value=0.2),
    "b is red": lambda api: _label(api, "b", {"team": "red"}),
    "b is blue": lambda api: _label(api, "b", {"team": "blue"}),
    "two replicas": lambda api: api.edit("Agent", "b", replicas=2),
    "stop b": lambda api: api.edit("Agent", "b", desiredState="Stopped"),
    "run b": lambda api: api.edit("Agent", "b", desiredState="Running"),
}


def _label(api: Any, name: str, labels: JsonDict) -> None:
    body = copy.deepcopy(api.body("Agent", name))
    body["metadata"]["labels"] = labels
    api.put(body)


@pytest.fixture(scope="module", autouse=True)
def _quiet() -> Iterator[None]:
    logger = logging.getLogger("mabeam")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(before)


def a_team() -> ShellInMemory:
    shell = ShellInMemory()
    for name in AGENTS:
        shell.api.put(agent_body(name))
    _label(shell.api, "a", {"team": "red"})
    shell.api.put(variable_body("temperature", ["a"], value=0.4))
    return shell


def state_of(shell: ShellInMemory) -> JsonDict:
    """What a user cares about: who runs, who was told what, and what the variable says; no counts of how it came about."""
    found: JsonDict = {}
    for name in AGENTS:
        status = shell.api.body("Agent", name)["status"]
        items = (status.get("directives") or {}).get("items") or []
        found[name] = {
            "state": status.get("state"),
            "ready": status.get("readyReplicas"),
            "told": [(item["variable"], item["action"], item.get("parameters")) for item in items],
        }
    variable = shell.api.body("OrchestrationVariable", "temperature")["status"]
    found["temperature"] = {key: variable.get(key) for key in ("value", "agents", "observedGeneration")}
    found["directives"] = {key: variable["directives"].get(key) for key in ("issued", "total")}
    found["pods"] = [name.rsplit("-", 1)[0] for name in shell.api.names("Pod")]
    return found


async def _step(shell: ShellInMemory, step: tuple[str, Any]) -> None:
    match step:
        case ("watch", count):
            shell.api.deliver(count)
        case ("pass", _):
            await shell.run_next()
        case ("conflict", edit):
            await _conflict(shell, edit)
        case ("edit", edit):
            EDITS[edit](shell.api)
        case ("kubelet", _):
            shell.api.run_kubelet()
        case ("list", _):
            await shell.process.relister.relist_all()


async def _conflict(shell: ShellInMemory, edit: str, *, late: bool = True) -> None:
    """Let the user write right before a pass over the variable writes its status: it is answered 409 and followed by a GET.

    The watch tells of the user's write after the GET, or, not `late`, before. The status that the pass would have written differs
    from the stored one in nothing that an agent reads, so it would wake none of them either.
    """
    waiting = [edit]

    def interfere(verb: str, kind: str, name: str) -> None:
        if (verb, kind) == ("status", "OrchestrationVariable") and waiting:
            EDITS[waiting.pop()](shell.api)
            shell.api.deliver(0 if late else None)

    shell.api.edit("OrchestrationVariable", "temperature")
    shell.api.deliver()
    shell.api.before_write = interfere
    while waiting and await shell.run_next():
        pass
    shell.api.before_write = lambda *_: None


STEPS = st.one_of(
    st.tuples(st.just("watch"), st.integers(1, 4)),
    st.tuples(st.just("pass"), st.none()),
    st.tuples(st.just("conflict"), st.sampled_from(sorted(EDITS))),
    st.tuples(st.just("edit"), st.sampled_from(sorted(EDITS))),
    st.tuples(st.just("kubelet"), st.none()),
    st.tuples(st.just("list"), st.none()),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(STEPS, max_size=14))
def test_any_interleaving_ends_in_the_state_that_a_prompt_watch_leads_to(steps: Sequence[tuple[str, Any]]) -> None:
    async def scenario() -> None:
        shell = a_team()
        await shell.settle()
        for step in steps:
            await _step(shell, step)
        await shell.settle()
        at_rest, writes = state_of(shell), len(shell.api.writes)
        shell.process.router.enqueue_all()
        await shell.settle()
        assert shell.api.writes[writes:] == [], "a resync found work: a wake-up was lost"

        prompt = ShellInMemory()
        for kind, name in (*(("Agent", name) for name in AGENTS), ("OrchestrationVariable", "temperature")):
            body = copy.deepcopy(shell.api.body(kind, name))
            prompt.api.put({**body, "status": {"observedGeneration": -1}})
        await prompt.settle()
        assert state_of(prompt) == at_rest

    asyncio.run(scenario())


@pytest.mark.parametrize("late", [False, True], ids=["watch first", "watch late"])
@pytest.mark.parametrize("edit", ["select both", "select red"])
def test_an_agent_that_a_conflicting_edit_selects_is_told(edit: str, late: bool) -> None:
    async def scenario() -> None:
        shell = a_team()
        _label(shell.api, "b", {"team": "red"})
        await shell.settle()
        await _conflict(shell, edit, late=late)
        await shell.settle()
        assert shell.api.body("ConfigMap", "b-mabeam")["data"]["directives.json"]

    asyncio.run(scenario())
