"""Who talks to whom and who coordinates, on real pods: addresses that answer, wires that close again, terms that rise."""

from typing import Any

import pytest

from e2e.agents import decided, execute, is_free, is_ready, listener, obeyed, orders, reached, reads, running, variable
from support.kube import JsonDict, Kube, until

NAMES = ("anna", "bert", "carl")


def names_of(told: JsonDict) -> list[str]:
    return [peer["name"] for peer in told["peers"]]


def answer_of(kube: Kube, pod: str, address: str) -> str:
    """What a process in the pod hears at the address's report port."""
    ask = f"import urllib.request; print(urllib.request.urlopen('http://{address}:9464/metrics', timeout=5).read().decode())"
    return execute(kube, pod, ask)


def pod_of(kube: Kube, name: str) -> JsonDict:
    (record,) = kube.get("mba", name)["status"]["pods"]
    return kube.get("pod", record["name"])


def policies(kube: Kube) -> dict[str, Any]:
    return {policy["metadata"]["name"]: policy["spec"] for policy in kube.list("networkpolicy")}


@pytest.fixture(scope="module")
def circle(kube: Kube) -> Kube:
    kube.apply(*(listener(name) for name in NAMES))
    for name in NAMES:
        running(kube, name)
    return kube


def settled(kube: Kube, name: str, members: tuple[str, ...]) -> JsonDict:
    """The variable's status, once its members are these and all of them know."""
    decided(kube, name, f"of {', '.join(members)}", lambda s: (s.get("value") or {}).get("members") == list(members))
    return obeyed(kube, name)


def test_a_ring_tells_addresses_that_answer_and_closes_around_one_that_stops(circle: Kube) -> None:
    ring = {"pattern": "Ring", "enforcement": "NetworkPolicy"}
    circle.apply(variable("ring", list(NAMES), type="CommunicationTopology", topology=ring))
    settled(circle, "ring", NAMES)
    told = reads(circle, pod_of(circle, "anna")["metadata"]["name"])
    assert sorted(names_of(told)) == ["bert", "carl"]
    for peer in told["peers"]:
        assert peer["addresses"] == [pod_of(circle, peer["name"])["status"]["podIP"]]
        heard = answer_of(circle, "anna-0-1", peer["addresses"][0])
        assert f'echo_agent{{name="{peer["name"]}"}} 1' in heard
    callers = {
        name: [each["podSelector"]["matchLabels"]["mabeam.dev/agent"] for each in spec["ingress"][0]["from"]]
        for name, spec in policies(circle).items()
    }
    assert {name: len(found) for name, found in callers.items()} == {f"{name}-mabeam": 2 for name in NAMES}
    circle.apply(orders("pause", {"agent": "bert", "action": "Stop", "parameters": {}}))
    settled(circle, "ring", ("anna", "carl"))
    assert names_of(reads(circle, "anna-0-1")) == ["carl"]
    circle.run("delete", "mov", "pause")
    settled(circle, "ring", NAMES)
    # It came back as another pod, at another address, and those who talk to it hear of that.
    running(circle, "bert", incarnation=2)
    address = pod_of(circle, "bert")["status"]["podIP"]

    def knows() -> bool:
        peers = {peer["name"]: peer["addresses"] for peer in reads(circle, "anna-0-1")["peers"]}
        return peers.get("bert") == [address]

    until("anna knows where bert is now", knows)
    circle.run("delete", "mov", "ring")
    for name in NAMES:
        reached(circle, name, "nobody tells it anything", is_free)
    until("no policy is left", lambda: not policies(circle))
    until("the file tells nothing any more", lambda: reads(circle, "anna-0-1")["peers"] == [])


def test_a_coordinator_that_stops_is_followed_by_another_with_the_next_term(circle: Kube) -> None:
    for name in NAMES:
        running(circle, name)
    circle.apply(variable("guild", list(NAMES), type="CoordinationPattern", topology={"pattern": "Star"}))
    seen = settled(circle, "guild", NAMES)
    assert (seen["value"]["coordinator"], seen["value"]["term"]) == ("anna", 1)
    assert circle.get("mba", "anna")["status"]["role"] == "Coordinator"
    told = reads(circle, "anna-0-1")
    assert (told["role"], told["term"], sorted(names_of(told))) == ("Coordinator", 1, ["bert", "carl"])
    circle.apply(orders("retire", {"agent": "anna", "action": "Stop", "parameters": {}}))
    seen = settled(circle, "guild", ("bert", "carl"))
    assert (seen["value"]["coordinator"], seen["value"]["term"]) == ("bert", 2)
    told = reads(circle, pod_of(circle, "carl")["metadata"]["name"])
    assert (names_of(told), told["coordinator"]) == (["bert"], {"name": "bert", "term": 2})

    def knows() -> bool:
        (peer,) = reads(circle, pod_of(circle, "carl")["metadata"]["name"])["peers"]
        return peer["role"] == "Coordinator"

    until("carl knows bert's new role", knows)
    # The old one comes back, and the new one stays: leading is not a matter of names.
    circle.run("delete", "mov", "retire")
    seen = settled(circle, "guild", NAMES)
    assert (seen["value"]["coordinator"], seen["value"]["term"]) == ("bert", 2)
    anna = reached(circle, "anna", "it runs again", lambda s: is_ready(s) and s["role"] == "Executor")
    assert anna["restarts"] == 0
    circle.run("delete", "mov", "guild")
    for name in NAMES:
        seen = reached(circle, name, "nobody tells it anything", is_free)
        assert seen["role"] == "Executor"


def test_a_custom_variable_names_peers_and_their_addresses_are_told(circle: Kube) -> None:
    running(circle, "anna")
    pod = pod_of(circle, "anna")["metadata"]["name"]
    peers = [{"name": "carl", "direction": "Out"}]
    circle.apply(orders("line", {"agent": "anna", "action": "UpdateCommunication", "parameters": {"peers": peers}}))
    obeyed(circle, "line")
    (peer,) = reads(circle, pod)["peers"]
    assert (peer["name"], peer["addresses"]) == ("carl", [pod_of(circle, "carl")["status"]["podIP"]])
    circle.run("delete", "mov", "line")
    reached(circle, "anna", "nobody tells it anything", is_free)
    until("the file names no peers any more", lambda: reads(circle, pod)["peers"] == [])
