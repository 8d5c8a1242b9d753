"""What an agent is told: the JSON at the door, the mounted file, and how an Agent hears of a change."""

import contextlib
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mabeam.agent import Agent, Coordinator, Directives, Identity, Malformed, Peer, Refused
from mabeam.agent.directives import DirectivesFile, parse

DEADLINE = 20.0


class Mount:
    """A directory that is filled as the kubelet fills a ConfigMap volume: by renaming the symlink `..data`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._count = 0

    def publish(self, text: str) -> None:
        self._count += 1
        version = self.directory / f"..version_{self._count}"
        version.mkdir()
        (version / "directives.json").write_text(text)
        (self.directory / "..data_tmp").symlink_to(version.name)
        os.replace(self.directory / "..data_tmp", self.directory / "..data")
        if not (link := self.directory / "directives.json").is_symlink():
            link.symlink_to("..data/directives.json")

    def tell(self, generation: int, **fields: Any) -> None:
        self.publish(json.dumps({"generation": generation, **fields}))


def eventually(condition: Callable[[], object]) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)


def samples(agent: Agent) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    return {
        name: {tuple(sorted(labels.items())): value for labels, value in found}
        for name, _, found in agent._samples.families()
    }


def applied(agent: Agent) -> float:
    return samples(agent)["mabeam_applied_generation"][()]


@pytest.fixture
def mount(tmp_path: Path) -> Mount:
    return Mount(tmp_path)


@pytest.fixture
def agent(mount: Mount) -> Iterator[Agent]:
    with Agent(Identity(agent="coder", role="Executor"), mount.directory, port=0) as running:
        yield running


# -- parsing ----------------------------------------------------------------------------------------------------------


def test_a_full_set_of_directives_is_understood() -> None:
    text = json.dumps(
        {
            "agent": "coder",
            "generation": 7,
            "role": "Evaluator",
            "active": False,
            "parameters": {"temperature": 0.6, "tools": ["python", {"name": "shell"}]},
            "peers": [
                {"name": "reviewer", "role": "Evaluator", "addresses": ["10.0.0.7"]},
                "planner",
                {"name": "tester", "direction": "Out", "since": 3},
            ],
            "resources": {"memory": "256Mi", "tokens-per-minute": 25000},
            "proposals": [{"id": "t-3", "variable": "t", "proposed": 0.6, "deadline": "2026-01-01T00:00:30Z"}],
            "coordinator": {"name": "planner", "term": 4, "elected": "2026-01-01T00:00:00Z"},
            "something-of-a-newer-operator": {"x": 1},
        }
    )
    directives = parse(text, Directives())
    assert (directives.agent, directives.generation, directives.role, directives.active) == (
        "coder", 7, "Evaluator", False,
    )  # fmt: skip
    assert directives.parameters["tools"] == ("python", {"name": "shell"})
    assert directives.peers == (
        Peer("reviewer", "Evaluator", ("10.0.0.7",)),
        Peer("planner"),
        Peer("tester", direction="Out"),
    )
    assert (directives.coordinator, directives.term) == (Coordinator("planner", 4), 4)
    assert directives.resources == {"memory": "256Mi", "tokens-per-minute": "25000"}
    (proposal,) = directives.proposals
    assert (proposal.id, proposal.deadline) == ("t-3", datetime(2026, 1, 1, 0, 0, 30, tzinfo=UTC))


def test_fields_that_are_left_out_or_null_are_those_of_an_agent_that_was_told_nothing() -> None:
    blank = Directives(agent="coder", role="Executor")
    assert parse('{"generation": 1, "peers": null}', blank) == Directives("coder", 1, "Executor")


def test_directives_cannot_be_changed_by_the_agent_that_reads_them() -> None:
    directives = parse('{"generation": 1, "parameters": {"a": {"b": 1}}}', Directives())
    with pytest.raises(TypeError):
        directives.parameters["a"]["b"] = 2
    with pytest.raises(AttributeError):
        directives.generation = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "null", "{}", '{"generation": "1"}', '{"generation": true}', '{"generation": -1}',
        '{"generation": 1.5}', '{"generation": 1, "active": "yes"}', '{"generation": 1, "parameters": []}',
        '{"generation": 1, "parameters": {"t": NaN}}', '{"generation": 1, "peers": [{}]}',
        '{"generation": 1, "peers": [{"name": "a", "addresses": [1]}]}', '{"generation": 1, "resources": {"m": true}}',
        '{"generation": 1, "proposals": [{}]}', '{"generation": 1, "proposals": [{"id": "a", "deadline": "soon"}]}',
        '{"generation": 1, "peers": [{"name": "a", "direction": 1}]}', '{"generation": 1, "coordinator": "a"}',
        '{"generation": 1, "coordinator": {"term": 1}}', '{"generation": 1, "coordinator": {"name": "a", "term": "1"}}',
        '{"generation": 1, "coordinator": {"name": "a", "term": -1}}', '{"generation": 1, "term": true}',
        '{"generation": 1, "term": -1}', "[" * 100_000, '{"generation": 1' + "0" * 400 + "}",
        '{"generation": 1, "parameters": {"a": ' + "[" * 900 + "]" * 900 + "}}",
        "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"),
    ],
)  # fmt: skip
def test_anything_else_is_malformed_and_never_another_error(text: str) -> None:
    with pytest.raises(Malformed):
        parse(text, Directives())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=8,
)
fields = st.sampled_from(
    ["agent", "generation", "role", "active", "parameters", "peers", "resources", "proposals", "coordinator", "term"]
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(fields, json_values))
def test_whatever_the_file_says_it_is_directives_or_malformed(document: dict[str, Any]) -> None:
    with contextlib.suppress(Malformed):
        assert parse(json.dumps(document), Directives()).generation >= 0


def test_a_number_is_a_float_or_the_default_or_refused() -> None:
    directives = parse('{"generation": 1, "parameters": {"a": 2, "b": "hot", "c": true}}', Directives())
    assert directives.number("a", 1.0) == 2.0
    assert directives.number("absent", 1.0) == 1.0
    for name in ("b", "c"):
        with pytest.raises(Refused, match=f"parameter {name}"):
            directives.number(name, 1.0)


# -- the file ---------------------------------------------------------------------------------------------------------


def test_a_file_is_read_once_for_each_time_it_was_replaced(mount: Mount) -> None:
    file = DirectivesFile(mount.directory, Directives())
    assert file.poll() is None
    mount.tell(1)
    assert file.poll() == Directives(generation=1)
    assert file.poll() is None
    mount.tell(2)
    assert file.poll() == Directives(generation=2)


def test_a_malformed_file_is_told_once(mount: Mount) -> None:
    file = DirectivesFile(mount.directory, Directives())
    mount.publish("{")
    with pytest.raises(Malformed, match="not JSON"):
        file.poll()
    assert file.poll() is None


def test_a_file_that_cannot_be_read_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "directives.json").mkdir()
    file = DirectivesFile(tmp_path, Directives())
    with pytest.raises(Malformed, match="cannot be read"):
        file.poll()
    assert file.poll() is None


def test_a_directory_that_does_not_exist_says_nothing(tmp_path: Path) -> None:
    assert DirectivesFile(tmp_path / "absent", Directives()).poll() is None


# -- the agent --------------------------------------------------------------------------------------------------------


def test_an_agent_that_was_told_nothing_is_at_generation_0(agent: Agent) -> None:
    assert agent.directives == Directives(agent="coder", role="Executor")
    assert applied(agent) == 0


def test_a_directive_is_noticed_after_the_symlink_swap(agent: Agent, mount: Mount) -> None:
    seen = agent.directives
    mount.tell(1, parameters={"temperature": 0.5})
    seen = agent.wait_for_change(seen, DEADLINE)
    assert (seen.generation, seen.parameters) == (1, {"temperature": 0.5})
    mount.tell(2)
    assert agent.wait_for_change(seen, DEADLINE).generation == 2


def test_a_change_between_two_waits_is_not_missed(agent: Agent, mount: Mount) -> None:
    seen = agent.directives
    mount.tell(1)
    eventually(lambda: agent.directives.generation == 1)
    assert agent.wait_for_change(seen, timeout=0).generation == 1


def test_a_wait_without_a_change_ends_at_its_timeout(agent: Agent) -> None:
    seen = agent.directives
    assert agent.wait_for_change(seen, timeout=0.01) is seen


def test_stopping_interrupts_a_wait(agent: Agent) -> None:
    seen = agent.directives
    threading.Timer(0.02, agent.stop).start()
    began = time.monotonic()
    assert agent.wait_for_change(seen, DEADLINE) is seen
    assert time.monotonic() - began < DEADLINE


def test_a_handler_that_returns_acknowledges_the_generation(agent: Agent, mount: Mount) -> None:
    heard: list[int] = []
    agent.on_directives(lambda directives: heard.append(directives.generation))
    assert heard == []
    mount.tell(3)
    eventually(lambda: applied(agent) == 3)
    assert heard == [3]


def test_a_handler_is_given_at_once_what_was_told_before_it_came(mount: Mount) -> None:
    mount.tell(4)
    with Agent(directory=mount.directory, port=0) as agent:
        assert agent.directives.generation == 4
        assert applied(agent) == 0
        agent.on_directives(lambda directives: None)
        assert applied(agent) == 4


def test_a_second_handler_is_an_error(agent: Agent) -> None:
    agent.on_directives(lambda directives: None)
    with pytest.raises(ValueError, match="handler already"):
        agent.on_directives(lambda directives: None)


def test_without_a_handler_the_agent_acknowledges_what_it_read(agent: Agent, mount: Mount) -> None:
    mount.tell(5)
    eventually(lambda: agent.directives.generation == 5)
    assert applied(agent) == 0
    agent.applied(agent.directives)
    assert applied(agent) == 5


def test_a_refused_generation_is_not_applied_and_its_reason_is_told(agent: Agent, mount: Mount) -> None:
    def handler(directives: Directives) -> None:
        if directives.generation == 2:
            raise Refused("too hot")

    agent.on_directives(handler)
    mount.tell(1)
    eventually(lambda: applied(agent) == 1)
    mount.tell(2)
    eventually(lambda: "mabeam_refused" in samples(agent))
    refusal = (("generation", "2"), ("reason", "too hot"), ("variable", ""))
    assert samples(agent)["mabeam_refused"] == {refusal: 1}
    assert applied(agent) == 1
    mount.tell(3)
    eventually(lambda: applied(agent) == 3)
    assert "mabeam_refused" not in samples(agent)


def test_one_variable_can_be_refused_while_the_rest_is_applied(agent: Agent, mount: Mount) -> None:
    agent.on_directives(lambda directives: agent.refuse(directives, "too hot", variable="temperature"))
    mount.tell(1)
    eventually(lambda: applied(agent) == 1)
    refusal = (("generation", "1"), ("reason", "too hot"), ("variable", "temperature"))
    assert samples(agent)["mabeam_refused"] == {refusal: 1}


def refuses_and_goes_on(agent: Agent, mount: Mount, error: BaseException, reason: str) -> None:
    """A handler that raises the error refuses generation 1 for that reason, and applies generation 2."""

    def handler(directives: Directives) -> None:
        if directives.generation == 1:
            raise error

    agent.on_directives(handler)
    mount.tell(1)
    eventually(lambda: "mabeam_refused" in samples(agent))
    (labels,) = samples(agent)["mabeam_refused"]
    assert dict(labels)["reason"] == reason
    mount.tell(2)
    eventually(lambda: applied(agent) == 2)


@pytest.mark.parametrize("error", [KeyError("model"), SystemExit(3), GeneratorExit()])
def test_a_handler_that_fails_refuses_and_hears_the_next_directives(
    agent: Agent, mount: Mount, error: BaseException
) -> None:
    refuses_and_goes_on(agent, mount, error, f"handler raised {type(error).__name__}: {error}".removesuffix(": "))


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


REASONS = {
    "a file name that is not UTF-8": (ValueError("caf\udce9"), "handler raised ValueError: caf\\udce9"),
    "no text": (Unprintable(), f"handler raised {__name__}.Unprintable: <exception str() failed>"),
    "a long text": (ValueError("x" * 10_000), "handler raised ValueError: " + "x" * 229),
    "a refusal without a reason": (Refused(), "no reason given"),
    "a refusal by another error": (Refused(KeyError("a")), "'a'"),
    "a group": (
        ExceptionGroup("all", [ValueError("a"), KeyError("b")]),
        "handler raised ExceptionGroup: all (2 sub-exceptions): ValueError: a; KeyError: 'b'",
    ),
}


@pytest.mark.parametrize(("error", "reason"), REASONS.values(), ids=REASONS)
def test_whatever_a_handler_raises_the_reason_is_reported(
    agent: Agent, mount: Mount, error: Exception, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    # The log of a test travels between the processes of a parallel run, which takes no lone surrogate.
    caplog.set_level(logging.CRITICAL, logger="mabeam.agent")

    refuses_and_goes_on(agent, mount, error, reason)


def test_an_async_handler_that_nothing_awaits_is_no_acknowledgement(agent: Agent, mount: Mount) -> None:
    async def apply(directives: Directives) -> None:
        pass

    agent.on_directives(apply)  # type: ignore[arg-type]
    mount.tell(1)
    eventually(lambda: "mabeam_refused" in samples(agent))
    (labels,) = samples(agent)["mabeam_refused"]
    assert dict(labels)["reason"] == "apply is async, and nothing awaits it: an async handler takes an async run"
    assert applied(agent) == 0


def test_malformed_directives_are_counted_and_the_last_good_ones_kept(agent: Agent, mount: Mount) -> None:
    mount.tell(1, parameters={"temperature": 0.5})
    eventually(lambda: agent.directives.generation == 1)
    mount.publish('{"generation": 2, "parameters": ')
    eventually(lambda: samples(agent)["mabeam_directives_malformed"][()] == 1)
    assert agent.directives.parameters == {"temperature": 0.5}
    mount.tell(3)
    eventually(lambda: agent.directives.generation == 3)


def test_directives_that_vanish_stay_in_force(agent: Agent, mount: Mount) -> None:
    mount.tell(1)
    eventually(lambda: agent.directives.generation == 1)
    (mount.directory / "..data").unlink()
    assert agent.wait_for_change(agent.directives, timeout=0.2).generation == 1


def test_a_vote_is_dropped_when_its_proposal_is_over(agent: Agent, mount: Mount) -> None:
    mount.tell(1, proposals=[{"id": "a"}, {"id": "b"}])
    eventually(lambda: agent.directives.generation == 1)
    for proposal in ("a", "b", "of-elsewhere"):
        agent.vote(proposal, "Yes")
    mount.tell(2, proposals=[{"id": "b"}])
    eventually(lambda: len(samples(agent)["mabeam_vote"]) == 2)
    assert {dict(labels)["proposal"] for labels in samples(agent)["mabeam_vote"]} == {"b", "of-elsewhere"}


def test_what_was_told_can_be_asked_of_the_agent(agent: Agent, mount: Mount) -> None:
    assert (agent.role, agent.active, agent.peers, agent.proposals) == ("Executor", True, (), ())
    assert (dict(agent.resources), agent.coordinator, agent.term) == ({}, None, 0)
    mount.tell(
        1,
        role="Coordinator",
        active=False,
        peers=[{"name": "reviewer"}],
        resources={"memory": "96Mi"},
        proposals=[{"id": "t-1"}],
        coordinator={"name": "coder", "term": 3},
        term=3,
    )
    eventually(lambda: agent.directives.generation == 1)
    assert (agent.role, agent.active, agent.peers) == ("Coordinator", False, (Peer("reviewer"),))
    assert [proposal.id for proposal in agent.proposals] == ["t-1"]
    assert (agent.resources, agent.coordinator, agent.term) == ({"memory": "96Mi"}, Coordinator("coder", 3), 3)


# -- terms ------------------------------------------------------------------------------------------------------------


def elected(name: str, term: int) -> dict[str, Any]:
    return {"coordinator": {"name": name, "term": term}}


def test_a_coordinator_whose_successor_is_known_is_refused_and_the_successor_stays(agent: Agent, mount: Mount) -> None:
    agent.on_directives(lambda directives: None)
    mount.tell(1, **elected("a", 2))
    eventually(lambda: applied(agent) == 1)
    mount.tell(2, **elected("old", 1), parameters={"temperature": 9})
    eventually(lambda: "mabeam_refused" in samples(agent))
    refusal = (("generation", "2"), ("reason", "term 1 is over: term 2 has begun"), ("variable", ""))
    assert samples(agent)["mabeam_refused"] == {refusal: 1}
    assert (applied(agent), agent.coordinator, agent.directives.parameters) == (1, Coordinator("a", 2), {})
    mount.tell(3, **elected("a", 2))
    eventually(lambda: applied(agent) == 3)
    assert "mabeam_refused" not in samples(agent)
    mount.tell(4, **elected("b", 3))
    eventually(lambda: agent.coordinator == Coordinator("b", 3))


def test_the_term_of_a_role_is_fenced_as_the_coordinators_is(agent: Agent, mount: Mount) -> None:
    mount.tell(1, role="Coordinator", term=5)
    eventually(lambda: agent.term == 5)
    mount.tell(2, role="Coordinator", term=4)
    eventually(lambda: "mabeam_refused" in samples(agent))
    assert agent.directives.generation == 1


def test_a_set_without_a_coordinator_ends_what_was_known_of_terms(agent: Agent, mount: Mount) -> None:
    # Who deletes the variable and makes it anew starts at term 1 again.
    mount.tell(1, **elected("a", 7))
    mount.tell(2)
    eventually(lambda: agent.directives.generation == 2)
    mount.tell(3, **elected("b", 1))
    eventually(lambda: agent.coordinator == Coordinator("b", 1))


def test_an_agent_is_described_by_its_environment() -> None:
    agent = Agent.from_environment(
        {"MABEAM_AGENT": "coder", "MABEAM_ORDINAL": "2", "MABEAM_INCARNATION": "5", "MABEAM_REPORT_PORT": "9999"}
    )
    assert (agent.identity.agent, agent.identity.ordinal, agent.identity.incarnation) == ("coder", 2, 5)
    assert agent.port == 9999


@pytest.mark.parametrize("name", ["MABEAM_ORDINAL", "MABEAM_INCARNATION", "MABEAM_REPORT_PORT"])
def test_a_bad_number_in_the_environment_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be a whole number, got 'tcp://10.0.0.1:80'"):
        Agent.from_environment({name: "tcp://10.0.0.1:80"})
