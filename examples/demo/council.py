"""The team holds council: the annealers vote, elect a coordinator, share memory, and close their ring around a parked one."""

import json
import time
from collections.abc import Sequence

from examples.demo import facts
from examples.demo.demo import EXECUTORS, HOTHEAD_FILE, Demo, told
from examples.demo.setup import start_team
from examples.demo.team import HOT

VOTE_FILE, RING_FILE, MEMORY_FILE = (f"examples/annealers/{name}.yaml" for name in ("vote", "ring", "memory"))
# What the hothead says: first its word alone counts, then nothing; and what it votes, which is asked of everybody alike.
HOT_WORD = {"variable": "temperature", "value": 80, "weight": 12, "vote": "Yes"}
NO_WORD = {**HOT_WORD, "weight": 0, "vote": "No"}
# There are four voters while the hothead is there; more than half have to say Yes.
MAJORITY = 3
LARGER_BUDGET = "384Mi"
BROKEN = {"spec": {"module": "annealers.crasher:Crasher", "faultTolerance": {"maxFailures": 1}}}
MENDED = {"spec": {"module": "annealers.executor:Executor", "faultTolerance": None}}


# --- the vote -----------------------------------------------------------------------------------------------------------


def vote(demo: Demo) -> None:
    """Step 9: the hothead's word first counts as in step 3, so that there is something to vote on; then it needs votes."""
    page, tools = demo.page, demo.tools
    if "consensus" in demo.variable().get("spec", {}):
        start_team(demo, show=False)  # a former run asked for votes already
    tools.kube("apply", "-n", demo.namespace, "-f", HOTHEAD_FILE)
    _hothead_says(demo, HOT_WORD, show=False)
    page.until(
        "the hothead is back, and has made it hot",
        lambda: _all_hot(demo),
        60,
        demo.look("get mov temperature -o yaml"),
    )
    tools.show(page, "apply", "-n", demo.namespace, "-f", VOTE_FILE)
    _hothead_says(demo, NO_WORD)
    accepted: list[facts.Ballot] = []
    page.until(
        "to cool down is proposed, voted on, accepted, and in force in every process",
        lambda: _cooled_by_vote(demo, accepted),
        60,
        demo.look("get mov temperature -o yaml"),
    )
    page.line(f"the operator says: {accepted[0]}")
    for name, ballot in demo.ballots().items():
        page.line(f"{name} says: {ballot}")
    _hothead_says(demo, HOT_WORD)
    page.until(
        "to heat up again is proposed, and rejected",
        lambda: _rejected(demo),
        60,
        demo.look("get mov temperature -o yaml"),
    )
    page.line(f"{facts.condition(demo.variable(), 'ConsensusReached').get('message')}")
    held, seen = _all_cool(demo)
    page.require(held, f"it stays as cool as it was ({seen})", seen, demo.look("get mov temperature -o yaml"))
    tools.show(page, "get", "mov", "temperature", "-n", demo.namespace)
    tools.show(page, "delete", "mba", "hothead", "-n", demo.namespace)


def _hothead_says(demo: Demo, word: facts.JsonDict, *, show: bool = True) -> None:
    patch = ("patch", "mba", "hothead", "-n", demo.namespace, "--type", "merge",
             "-p", json.dumps({"spec": {"preferences": [word]}}))  # fmt: skip
    if show:
        demo.tools.show(demo.page, *patch)
    else:
        demo.tools.kube(*patch)


def _all_hot(demo: Demo) -> tuple[bool, str]:
    temperatures = demo.temperatures()
    return all(one is not None and one.temperature > HOT for one in temperatures.values()), told(temperatures)


def _all_cool(demo: Demo) -> tuple[bool, str]:
    temperatures = demo.temperatures()
    return all(one is not None and one.temperature < HOT for one in temperatures.values()), told(temperatures)


def _cooled_by_vote(demo: Demo, accepted: list[facts.Ballot]) -> tuple[bool, str]:
    """Whether it is cool since a vote; those seen are remembered, for the next proposal may follow before all obey."""
    ballot = facts.ballot_of(demo.variable())
    if ballot.outcome == "Accepted" and ballot.yes >= MAJORITY and ballot.below(HOT):
        accepted.append(ballot)
    cool, temperatures = _all_cool(demo)
    return cool and bool(accepted), f"{ballot}; {temperatures}"


def _rejected(demo: Demo) -> tuple[bool, str]:
    ballot = facts.ballot_of(demo.variable())
    return ballot.outcome == "Rejected" and not ballot.below(HOT), f"{ballot}"


# --- the ring -----------------------------------------------------------------------------------------------------------


def ring(demo: Demo) -> None:
    """Step 10."""
    page, tools = demo.page, demo.tools
    tools.show(page, "apply", "-n", demo.namespace, "-f", RING_FILE)
    _until_ring(demo, "a coordinator is elected, and every process knows it and its neighbours", EXECUTORS)
    for name, said in demo.told_to(EXECUTORS).items():
        page.line(f"{name} says: {facts.place_in_ring(said)}")
    leader = facts.elected(demo.variable("ring"))
    page.require(
        demo.agent(leader.name).get("status", {}).get("role") == "Coordinator",
        f"{leader.name} has the role Coordinator in its status",
        f"its role is {demo.agent(leader.name).get('status', {}).get('role')}",
        demo.look(f"get mba {leader.name} -o yaml"),
    )
    pod = facts.current_pod(demo.agent(leader.name))
    words = f"this agent coordinates, term {leader.term}"
    logged = facts.logged(demo.log(pod), words)
    page.require(logged is not None, f"its log: {logged}", f"nothing of '{words}' in its log", demo.look(f"logs {pod}"))
    page.until(
        "each annealer has heard tours from its neighbours",
        lambda: _all_heard(demo),
        30,
        demo.look("logs -l mabeam.dev/agent=executor-b"),
    )
    _show_ring(demo)


def _show_ring(demo: Demo) -> None:
    demo.tools.show(demo.page, "get", "mov", "ring", "-n", demo.namespace, "-o", "jsonpath={.status.value}")


def _until_ring(demo: Demo, expected: str, members: Sequence[str], after: facts.Elected | None = None) -> float:
    """The seconds until the ring is of these members, says the status and say the processes; with `after`, in a later term."""
    return demo.page.until(expected, lambda: _ring_stands(demo, members, after), 60, demo.look("get mov ring -o yaml"))


def _ring_stands(demo: Demo, members: Sequence[str], after: facts.Elected | None) -> tuple[bool, str]:
    variable = demo.variable("ring")
    leader, found = facts.elected(variable), demo.told_to(members)
    wrong = facts.misled(members, leader, found)
    in_status = tuple((facts.status_of(variable).get("value") or {}).get("members") or ())
    anew = after is None or (leader.term > after.term and leader.name != after.name)
    held = anew and not wrong and in_status == tuple(members) and facts.is_ready(variable)
    ready = facts.condition(variable, "Ready").get("message")
    return held, f"{', '.join(in_status)} led by {leader}; {ready}; {'; '.join(wrong) or 'all know'}"


def _all_heard(demo: Demo) -> tuple[bool, str]:
    heard = {name: int(said.get("toursHeard") or 0) for name, said in demo.told_to(EXECUTORS).items()}
    return all(heard.values()), ", ".join(f"{name}: {count}" for name, count in heard.items())


# --- memory -------------------------------------------------------------------------------------------------------------


def memory(demo: Demo) -> None:
    """Step 11."""
    page, tools = demo.page, demo.tools
    before = demo.containers(EXECUTORS)
    tools.show(page, "apply", "-n", demo.namespace, "-f", MEMORY_FILE)
    _until_shared(demo, "the budget is divided, and the kernel's limit of each is its share", EXECUTORS)
    _show_shares(demo)
    began = time.monotonic()
    patch = json.dumps({"spec": {"budget": [{"resource": "memory", "amount": LARGER_BUDGET}]}})
    tools.show(page, "patch", "mov", "memory", "-n", demo.namespace, "--type", "merge", "-p", patch)
    _until_shared(demo, "", EXECUTORS, total=LARGER_BUDGET)
    page.ok(
        f"a larger budget is what the kernel allows each process {time.monotonic() - began:.1f} s after the command"
    )
    _show_shares(demo)
    after = demo.containers(EXECUTORS)
    page.require(
        after == before,
        "nothing was restarted for it: the same pods, the same containers, 0 restarts",
        f"{before} became {after}",
        demo.look("get pods"),
    )
    of_container = ".status.containerStatuses[0]"
    columns = f"POD:.metadata.name,MEMORY:{of_container}.resources.limits.memory,RESTARTS:{of_container}.restartCount"
    tools.show(
        page, "get", "pods", "-n", demo.namespace, "-l", f"mabeam.dev/agent in ({','.join(EXECUTORS)})",
        "--field-selector=status.phase=Running", "-o", f"custom-columns={columns}",
    )  # fmt: skip


def _until_shared(demo: Demo, expected: str, members: Sequence[str], total: str = "") -> None:
    demo.page.until(
        expected or f"the shares of {total} are in the kernel",
        lambda: _shared(demo, members, total),
        60,
        demo.look("get mov memory -o yaml"),
        told=bool(expected),
    )


def _shared(demo: Demo, members: Sequence[str], total: str = "") -> tuple[bool, str]:
    """Whether the members have the whole budget among them, by the status, by what they were told, and by the kernel."""
    variable = demo.variable("memory")
    shares = facts.shares_of(variable)
    wrong = facts.missing_memory(members, shares, demo.told_to(members))
    budget = (total or variable["spec"]["budget"][0]["amount"]) if variable else "0"
    if sorted(shares) != sorted(members):
        wrong.append(f"shared by {', '.join(sorted(shares)) or 'nobody'}")
    elif sum(map(facts.bytes_of, shares.values())) != facts.bytes_of(budget):
        wrong.append(f"{budget} are divided into {', '.join(shares.values())}")
    ready = facts.condition(variable, "Ready")
    return not wrong and facts.is_ready(variable), "; ".join(wrong) or str(ready.get("message"))


def _show_shares(demo: Demo) -> None:
    for name, said in demo.told_to(EXECUTORS).items():
        demo.page.line(
            f"{name} says: told {said.get('memory')}, the kernel allows {said.get('memoryLimitBytes')} bytes"
        )


# --- one is parked ------------------------------------------------------------------------------------------------------


def park(demo: Demo) -> None:
    """Step 12: it is the coordinator that gets a broken release."""
    page, tools = demo.page, demo.tools
    before = facts.elected(demo.variable("ring"))
    left = tuple(name for name in EXECUTORS if name != before.name)
    page.line(f"{before.name} coordinates, term {before.term}; it gets a release that crashes")
    _patch(demo, before.name, BROKEN)
    page.until(
        f"{before.name} is parked: its budget is spent",
        lambda: _parked(demo, before.name),
        90,
        demo.look(f"describe mba {before.name}"),
    )
    _until_ring(demo, "the ring is closed without it, under a new coordinator of a later term", left, before)
    after = facts.elected(demo.variable("ring"))
    for name, said in demo.told_to(left).items():
        page.line(f"{name} says: {facts.place_in_ring(said)}")
    _until_shared(demo, "its memory is with the others", left)
    tools.show(page, "get", "mba", "-n", demo.namespace)
    _show_ring(demo)
    _patch(demo, before.name, MENDED)
    _until_ring(demo, f"mended, {before.name} is in the ring again", EXECUTORS)
    now = facts.elected(demo.variable("ring"))
    page.require(
        now == after,
        f"{after.name} still coordinates, term {after.term}: who comes back takes no office away",
        f"{now}",
        demo.look("get mov ring -o yaml"),
    )
    _until_shared(demo, "and has its share of the memory, in a container that is new", EXECUTORS)


def _patch(demo: Demo, name: str, patch: facts.JsonDict) -> None:
    demo.tools.show(demo.page, "patch", "mba", name, "-n", demo.namespace, "--type", "merge", "-p", json.dumps(patch))


def _parked(demo: Demo, name: str) -> tuple[bool, str]:
    agent = demo.agent(name)
    stalled = facts.condition(agent, "Stalled")
    seen = f"{name} is {facts.state_of(agent)}, {len(facts.failures_of(agent))} failures"
    return facts.state_of(agent) == "Failed" and stalled.get("reason") == "RestartBudgetExhausted", seen
