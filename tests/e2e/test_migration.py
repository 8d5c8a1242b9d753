"""Agents that move between two real nodes: told to, drained, and without a break; nobody is blamed."""

import pytest

from e2e.agents import agent, failures, fewest_serving, reached, renewed, running, watched
from support.kube import Kube, until

MIGRATE = "mabeam.dev/migrate"


def node_of(kube: Kube, pod: str) -> str:
    return str(kube.get("pod", pod)["spec"]["nodeName"])


@pytest.fixture(scope="module")
def team_up(kube: Kube) -> Kube:
    kube.apply(agent("mover"), agent("drained"), agent("twins", replicas=2, migrationStrategy="MakeBeforeBreak"))
    for name in ("mover", "drained", "twins"):
        running(kube, name)
    return kube


def test_an_agent_that_is_told_to_move_moves_to_the_other_node_and_shows_it(team_up: Kube) -> None:
    before = node_of(team_up, "mover-0-1")
    with watched(team_up, "mba") as agents:
        team_up.run("annotate", "mba", "mover", f"{MIGRATE}=1")
        seen = reached(team_up, "mover", "it runs elsewhere", renewed(2))
        states = {found["status"].get("state") for _, found in agents() if found["metadata"]["name"] == "mover"}
    assert node_of(team_up, "mover-0-2") != before
    assert "Migrating" in states
    assert (seen["state"], seen["restarts"], seen["disruptions"], failures(seen)) == ("Running", 0, 0, [])
    assert (seen["migratedBy"], seen["migrations"]) == ("1", 1)
    until("the old pod is gone", lambda: team_up.find("pod", "mover-0-1") is None)


def test_a_drain_moves_the_agents_of_the_node_and_counts_a_disruption_only(team_up: Kube) -> None:
    node = node_of(team_up, "drained-0-1")
    try:
        with watched(team_up, "mba") as agents:
            selected = ("--pod-selector", "mabeam.dev/agent=drained")
            team_up.run("drain", node, *selected, "--delete-emptydir-data", "--timeout=120s", timeout=150)
            seen = reached(team_up, "drained", "it runs elsewhere", renewed(2))
            states = {found["status"].get("state") for _, found in agents() if found["metadata"]["name"] == "drained"}
    finally:
        team_up.run("uncordon", node)
    assert node_of(team_up, "drained-0-2") != node
    assert "Migrating" in states
    assert (seen["restarts"], seen["disruptions"]) == (0, 1)
    assert [(cause, counted) for cause, _, counted in failures(seen)] == [("Evicted", False)]


def test_with_make_before_break_two_replicas_serve_at_every_moment_of_the_move(team_up: Kube) -> None:
    with watched(team_up, "pod", "mabeam.dev/agent=twins") as pods:
        team_up.run("annotate", "mba", "twins", f"{MIGRATE}=1")
        seen = reached(team_up, "twins", "both run elsewhere", renewed(2, replicas=2))
        told = pods()
    assert fewest_serving(told, of=2) == 2
    assert {"twins-0-1", "twins-1-1", "twins-0-2", "twins-1-2"} == {pod["metadata"]["name"] for _, pod in told}
    assert (seen["restarts"], failures(seen)) == (0, [])
