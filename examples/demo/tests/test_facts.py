"""The demo's judgement: what it concludes from objects, logs and reports, and that it would notice what goes wrong."""

import logging
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from annealers.executor import Executor
from examples.demo import council, crew, facts, team
from examples.demo.facts import Ballot, Elected, Obeyed, Track
from examples.demo.tools import shown
from mabeam.agent import Agent, Coordinator, Directives, Identity, Peer
from mabeam.api.agent import Agent as AgentObject
from mabeam.api.agent_status import Failure
from mabeam.api.supervisor import Supervisor as SupervisorObject
from mabeam.api.variable_blocks import CoordinationPattern
from mabeam.core.algorithms.peer_graph import build_peer_graph
from mabeam.core.snapshot import AgentSnapshot
from mabeam.core.supervision.summary import parked_message
from support.builders import START, agent_body

ROOT = Path(__file__).parents[3]
CALM = {"a": Track(1, 0, 0, ("uid-a",)), "b": Track(2, 1, 1, ("uid-b",))}
RESTARTED = {"a": Track(2, 1, 1, ("uid-a2",)), "b": CALM["b"]}


def test_one_restart_of_the_killed_agent_is_all_that_may_have_happened() -> None:
    assert facts.differences(CALM, RESTARTED, "a") == []


@pytest.mark.parametrize(
    ("after", "complaint"),
    [
        ({**RESTARTED, "a": Track(3, 1, 1, ("uid-a3",))}, "a: incarnation 1 → 3, expected 2"),
        ({**RESTARTED, "a": Track(2, 2, 1, ("uid-a2",))}, "a: ledger entries 0 → 2, expected 1"),
        ({**RESTARTED, "a": Track(2, 1, 2, ("uid-a2",))}, "a: restarts 0 → 2, expected 1"),
        ({**RESTARTED, "a": Track(2, 0, 1, ("uid-a2",))}, "a: ledger entries 0 → 0, expected 1"),
        ({**RESTARTED, "a": Track(2, 1, 1, ("uid-a2", "uid-a3"))}, "a: 2 live pods, expected one new one"),
        ({**RESTARTED, "a": Track(2, 1, 1, ())}, "a: 0 live pods, expected one new one"),
        ({**RESTARTED, "a": Track(2, 1, 1, ("uid-a",))}, "a: 1 live pods, expected one new one"),
        ({**RESTARTED, "b": Track(2, 1, 1, ("uid-b2",))}, "b: its pod was replaced"),
        ({**RESTARTED, "b": Track(3, 1, 1, ("uid-b",))}, "b: incarnation 2 → 3, expected 2"),
        ({"a": RESTARTED["a"]}, "b is gone"),
    ],
)
def test_what_was_lost_or_doubled_is_named(after: dict[str, Track], complaint: str) -> None:
    assert facts.differences(CALM, after, "a") == [complaint]


def pod(uid: str, agent: str, phase: str, container: str = "running") -> dict[str, Any]:
    return {
        "metadata": {"uid": uid, "labels": {"mabeam.dev/agent": agent}},
        "status": {"phase": phase, "containerStatuses": [{"state": {container: {}}}]},
    }


def test_a_track_holds_live_pods_of_that_agent_alone() -> None:
    agent = {
        "metadata": {"name": "a"},
        "status": {"pods": [{"incarnation": 3}], "failures": [{}, {}], "restarts": 2},
    }
    pods = [
        pod("old", "a", "Failed", "terminated"),
        pod("just-ended", "a", "Running", "terminated"),
        pod("new", "a", "Pending", "waiting"),
        pod("other", "b", "Running"),
    ]

    assert facts.track(agent, pods) == Track(3, 2, 2, ("new",))


def test_a_pod_that_was_not_started_yet_is_live() -> None:
    assert facts.is_live({"status": {"phase": "Pending"}})
    assert not facts.is_live({"status": {"phase": "Succeeded"}})


def test_the_demo_understands_what_an_executor_logs(caplog: pytest.LogCaptureFixture) -> None:
    executor = Executor(Agent(Identity()))
    with caplog.at_level(logging.INFO, "annealers.executor"):
        for generation, temperature in ((1, 100), (2, 24.5)):
            executor.on_directives(Directives(generation=generation, parameters={"temperature": temperature}))

    assert facts.obeyed(caplog.text) == Obeyed(24.5, 2)
    assert facts.first_obeyed(caplog.text) == Obeyed(100, 1)


def test_a_silent_process_obeys_nothing() -> None:
    assert facts.obeyed("INFO annealers.executor: annealing berlin52") is None
    assert facts.first_obeyed("") is None


@pytest.mark.parametrize(
    ("report", "generation"),
    [("mabeam_applied_generation 7.0\n# EOF\n", 7), ("# TYPE mabeam_applied_generation gauge\n", 0), ("", 0)],
)
def test_an_acknowledgement_is_read_from_the_report(report: str, generation: int) -> None:
    assert facts.applied_generation(report) == generation


def test_the_release_command_is_the_one_the_operator_gives() -> None:
    agent = AgentObject.model_validate(agent_body("crasher"))
    message = parked_message(
        AgentSnapshot(agent), (Failure(time=START, ordinal=0, cause="Crash", exit_code=1, counted=True),)
    )

    command = facts.release_command(message)

    assert command is not None
    assert shlex.split(command)[:4] == ["kubectl", "annotate", "mba", "crasher"]
    assert shlex.split(command)[-1].startswith("mabeam.dev/release=")
    assert facts.release_command("no idea") is None


def test_ready_of_an_older_spec_is_not_ready() -> None:
    ready = {"type": "Ready", "status": "True", "observedGeneration": 1}
    assert facts.is_ready({"metadata": {"generation": 1}, "status": {"conditions": [ready]}})
    assert not facts.is_ready({"metadata": {"generation": 2}, "status": {"conditions": [ready]}})
    assert not facts.is_ready({})


def test_nothing_is_seen_of_what_is_not_there() -> None:
    assert (facts.state_of({}), facts.incarnation({}), facts.current_pod({})) == ("not seen yet", 0, "")
    assert (facts.failures_of({}), facts.condition({}, "Ready"), facts.container_restarts({})) == ([], {}, 0)


def test_a_ledger_entry_is_one_line() -> None:
    entry = {"time": "2026-01-01T00:00:00Z", "cause": "Crash", "exitCode": 137, "counted": True, "ordinal": 0}
    assert facts.ledger_line(entry) == "time: 2026-01-01T00:00:00Z, cause: Crash, exitCode: 137, counted: true"


def test_a_shown_command_can_be_copied_into_a_shell() -> None:
    command = ("/somewhere/kubectl", "patch", "mba", "a", "-p", '{"spec": {"x": "$y"}}')
    assert shlex.split(shown(command)) == ["kubectl", *command[1:]]


def test_the_hothead_is_valid_and_counts_for_nothing_until_it_is_given_weight() -> None:
    hothead = AgentObject.model_validate(yaml.safe_load((ROOT / "examples/demo/hothead.yaml").read_text()))
    assert [preference.weight for preference in hothead.spec.preferences] == [0]

    raw = yaml.safe_load((ROOT / "examples/demo/hothead.yaml").read_text())
    raw["spec"]["preferences"] = [team.HOT_PREFERENCE]
    patched = AgentObject.model_validate(raw).spec.preferences[0]
    three_cool_ones = 3 * 30
    assert (three_cool_ones + patched.value * patched.weight) / (3 + patched.weight) > team.HOT


# --- the crew ---------------------------------------------------------------------------------------------------------


def member(name: str, *, ready: bool = True, phase: str = "Running") -> dict[str, Any]:
    condition = {"type": "Ready", "status": str(ready)}
    return {"metadata": {"name": name}, "status": {"phase": phase, "conditions": [condition]}}


ORDER = ("a-0-1", "b-0-2", "c-0-2")


@pytest.mark.parametrize(
    ("pods", "wrong"),
    [
        ([], []),
        ([member("a-0-1", ready=False)], []),
        ([member("a-0-1"), member("b-0-2", ready=False)], []),
        ([member("a-0-1"), member("b-0-2"), member("c-0-2", ready=False)], []),
        ([member("a-0-1", ready=False), member("b-0-2")], ["b-0-2 is there, and a-0-1 is not ready"]),
        ([member("a-0-1"), member("c-0-2")], ["c-0-2 is there, and b-0-2 is not ready"]),
    ],
)
def test_a_pod_that_came_before_its_turn_is_named(pods: list[dict[str, Any]], wrong: list[str]) -> None:
    assert facts.early(ORDER, pods) == wrong


def test_a_pod_that_came_while_one_of_the_life_before_still_ran_is_named() -> None:
    crashed, running = member("b-0-1", ready=False, phase="Failed"), member("c-0-1")
    old, new = ("b-0-1", "c-0-1"), ("b-0-2", "c-0-2")
    assert facts.overlapping(old, new, [crashed, running]) == []
    assert facts.overlapping(old, new, [crashed, running, member("b-0-2")]) == ["b-0-2 is there, and c-0-1 still runs"]
    assert facts.overlapping(old, new, [crashed, member("b-0-2")]) == []


def test_the_pods_of_a_crew_are_ready_when_each_of_them_is() -> None:
    names = facts.pods_of(("a", "b"), {"a": 1, "b": 2})
    assert names == ["a-0-1", "b-0-2"]
    assert facts.not_ready(names, [member("a-0-1"), member("b-0-1")]) == ["b-0-2"]
    assert facts.not_ready(names, [member("a-0-1"), member("b-0-2")]) == []


def test_a_group_restart_says_who_failed_and_who_went_along() -> None:
    restart = {"time": "2026-01-01T00:00:00Z", "child": "b", "group": ["b", "c"]}
    assert facts.group_restarts({"status": {"restarts": [restart]}}) == [("b", ("b", "c"))]
    assert facts.group_restarts({}) == []


def test_the_crew_is_a_tree_in_the_order_that_the_demo_tells() -> None:
    supervisor, *agents = yaml.safe_load_all((ROOT / crew.CREW_FILE).read_text())
    spec = SupervisorObject.model_validate(supervisor).spec
    assert tuple(child.name for child in spec.children) == crew.CREW
    assert (spec.strategy, spec.max_restarts, spec.period_seconds) == ("RestForOne", 3, 60)
    for name, body in zip(crew.CREW, agents, strict=True):
        agent = AgentObject.model_validate(body)
        assert (agent.metadata.name, agent.spec.supervisor) == (name, supervisor["metadata"]["name"])
        tolerance = agent.spec.fault_tolerance
        assert (tolerance.max_failures, tolerance.escalation_policy) == (0, "Escalate")


# --- the council --------------------------------------------------------------------------------------------------------

VOTE = {
    "proposal": "temperature-7",
    "proposed": 34,
    "outcome": "Accepted",
    "votes": [{"agent": "a", "choice": "Yes"}, {"agent": "b", "choice": "Yes"}, {"agent": "c", "choice": "No"}],
}


def test_a_vote_is_read_from_the_status() -> None:
    ballot = facts.ballot_of({"status": {"consensus": VOTE}})
    assert (ballot.outcome, ballot.yes, ballot.below(45), ballot.below(34)) == ("Accepted", 2, True, False)
    assert str(ballot) == "temperature-7 (34) Accepted: a Yes, b Yes, c No"
    assert facts.ballot_of({}) == Ballot()
    assert (Ballot().yes, Ballot().below(45)) == (0, False)


def test_the_hotheads_word_makes_it_hot_only_while_it_has_weight() -> None:
    for word, weight, choice in ((council.HOT_WORD, 12, "Yes"), (council.NO_WORD, 0, "No")):
        raw = yaml.safe_load((ROOT / "examples/demo/hothead.yaml").read_text())
        raw["spec"]["preferences"] = [word]
        (preference,) = AgentObject.model_validate(raw).spec.preferences
        assert (preference.value, preference.weight, preference.vote) == (80, weight, choice)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_the_demo_expects_the_ring_that_the_operator_makes(count: int) -> None:
    members = [f"executor-{number}" for number in range(count)]
    made = build_peer_graph(CoordinationPattern.RING, members).peers
    assert {name: facts.neighbours(name, members) for name in members} == {
        name: [peer.name for peer in peers] for name, peers in made.items()
    }


def said(name: str, **other: Any) -> dict[str, Any]:
    peers = facts.neighbours(name, ("a", "b", "c"))
    role = "Coordinator" if name == "a" else "Executor"
    return {"coordinator": "a", "term": 2, "role": role, "peers": peers} | other


def test_a_ring_stands_when_each_process_says_so_itself() -> None:
    told = {name: said(name) for name in ("a", "b", "c")}
    assert facts.misled(("a", "b", "c"), Elected("a", 2), told) == []


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        ({}, "b does not answer"),
        (said("b", term=1), "b knows of a (term 1)"),
        (said("b", coordinator="c"), "b knows of c (term 2)"),
        (said("b", role="Coordinator"), "b has the role Coordinator"),
        (said("b", peers=["a"]), "b is next to ['a']"),
    ],
)
def test_a_process_that_believes_something_else_is_named(answer: dict[str, Any], complaint: str) -> None:
    told = {name: said(name) for name in ("a", "b", "c")} | {"b": answer}
    assert facts.misled(("a", "b", "c"), Elected("a", 2), told) == [complaint]


def test_whom_a_pattern_elected_is_in_its_value() -> None:
    value = {"pattern": "Ring", "members": ["a", "b"], "coordinator": "b", "term": 3}
    assert facts.elected({"status": {"value": value}}) == Elected("b", 3)
    assert facts.elected({}) == Elected()
    assert (str(Elected("b", 3)), str(Elected())) == ("b (term 3)", "nobody (term 0)")


def test_memory_is_there_when_it_was_told_and_the_kernel_allows_it() -> None:
    shares = facts.shares_of({"status": {"value": {"a": {"memory": "144Mi"}, "b": {"cpu": "1"}}}})
    assert shares == {"a": "144Mi"}
    told = {"memory": "144Mi", "memoryLimitBytes": 150994944}
    assert facts.missing_memory(("a",), shares, {"a": told}) == []
    for wrong in (
        {},
        told | {"memory": "64Mi"},
        told | {"memoryLimitBytes": 67108864},
        told | {"memoryLimitBytes": None},
    ):
        assert len(facts.missing_memory(("a",), shares, {"a": wrong})) == 1
    assert len(facts.missing_memory(("a", "b"), shares, {"a": told})) == 1


@pytest.mark.parametrize(("quantity", "number"), [("64Mi", 67108864), ("1Gi", 1 << 30), ("3Ki", 3072), ("7", 7)])
def test_a_quantity_is_bytes(quantity: str, number: int) -> None:
    assert facts.bytes_of(quantity) == number


def test_a_container_started_anew_is_another_one() -> None:
    status = {"containerStatuses": [{"containerID": "containerd://1", "restartCount": 0}]}
    assert facts.container({"metadata": {"uid": "u"}, "status": status}) == ("u", "containerd://1", 0)
    assert facts.container({}) == ("", "", 0)


def test_the_demo_finds_the_newest_words_of_an_executor(caplog: pytest.LogCaptureFixture) -> None:
    executor = Executor(Agent(Identity(agent="a")))
    with caplog.at_level(logging.INFO, "annealers.executor"):
        for term in (1, 2):
            told = Directives(
                generation=term, role="Coordinator", peers=(Peer("b"),), coordinator=Coordinator("a", term)
            )
            executor.on_directives(told)
    log = "\n".join(f"2026-01-01Z INFO annealers.executor: {message}" for message in caplog.messages)
    assert facts.logged(log, "this agent coordinates") == "this agent coordinates, term 2"
    assert facts.logged(log, "in the ring next to") == "in the ring next to: b"
    assert facts.logged(log, "nothing of the kind") is None


def test_what_an_executor_shows_is_what_the_demo_reads() -> None:
    executor = Executor(Agent(Identity(agent="a")))
    executor.on_directives(
        Directives(
            generation=1, role="Coordinator", peers=(Peer("b"), Peer("c")), coordinator=Coordinator("a", 2), term=2
        )
    )
    found = executor.told()
    assert facts.misled(("a", "b", "c"), Elected("a", 2), {"a": found, "b": said("b"), "c": said("c")}) == []
    assert facts.place_in_ring(found) == "Coordinator, next to b and c; coordinator is a, term 2"
    assert {"memory", "memoryLimitBytes", "toursHeard"} <= set(found)


def test_the_broken_release_is_one_of_the_team_and_is_mended_to_what_it_was() -> None:
    team_objects = yaml.safe_load_all((ROOT / "examples/annealers/team.yaml").read_text())
    executor = next(one for one in team_objects if one["metadata"]["name"] == "executor-a")
    broken = executor["spec"] | council.BROKEN["spec"]
    assert AgentObject.model_validate(executor | {"spec": broken}).spec.fault_tolerance.max_failures == 1
    mended = {key: value for key, value in (broken | council.MENDED["spec"]).items() if value is not None}
    assert mended == executor["spec"]
