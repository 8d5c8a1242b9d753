"""What goes wrong, on purpose: a killed agent, one that keeps crashing, and an operator killed in the middle of its work."""

import time
from collections.abc import Callable

from examples.demo import facts
from examples.demo.demo import CRASHER_FILE, OPERATOR_NAMESPACE, Demo
from examples.demo.errors import Unmet
from examples.demo.tools import CLUSTER_TOOL, shown

VICTIM = "executor-b"
# Long enough for a second restart to show, if there were one.
SETTLE_SECONDS = 3.0


def kill_an_agent(demo: Demo) -> None:
    """Step 4."""
    page = demo.page
    before = demo.tracks()
    pod, was = facts.current_pod(demo.agent(VICTIM)), before[VICTIM].incarnation
    kill_process(demo, VICTIM, pod)
    page.until(
        f"{VICTIM} runs again as incarnation {was + 1}",
        lambda: _runs_as(demo, VICTIM, was + 1),
        60,
        demo.look(f"describe mba {VICTIM}"),
    )
    entry = facts.failures_of(demo.agent(VICTIM))[-1]
    page.line(f"{facts.ledger_line(entry)}")
    page.require(
        entry.get("counted") is True and entry.get("pod") == pod,
        f"the ledger has the death of {pod}, counted against the budget of 3 in 60 s",
        facts.ledger_line(entry),
        demo.look(f"get mba {VICTIM} -o yaml"),
    )
    _no_harm(demo, before, VICTIM, "nobody else was touched")
    born = facts.current_pod(demo.agent(VICTIM))
    page.until(
        "the new process was told the team's temperature before its first step, not the 100 it would begin with",
        lambda: _told_at_birth(demo, born),
        30,
        demo.look(f"logs {born}"),
    )
    demo.tools.show(page, "get", "pods", "-l", f"mabeam.dev/agent={VICTIM}", "-n", demo.namespace)


def budget_runs_out(demo: Demo) -> None:
    """Step 6."""
    page, tools = demo.page, demo.tools
    if demo.agent("crasher"):
        tools.kube("delete", "mba", "crasher", "-n", demo.namespace, "--wait")
    tools.show(page, "apply", "-n", demo.namespace, "-f", CRASHER_FILE)
    page.until(
        "the crasher is parked: Failed, Stalled=True",
        lambda: _parked(demo),
        120,
        demo.look("describe mba crasher"),
    )
    crasher = demo.agent("crasher")
    allowed = int(crasher["spec"]["faultTolerance"]["maxFailures"])
    failures = [entry for entry in facts.failures_of(crasher) if entry.get("counted")]
    page.require(
        len(failures) == allowed + 1 and facts.incarnation(crasher) == allowed + 1,
        f"after exactly {allowed + 1} failures: maxFailures is {allowed}, and nobody counts twice",
        f"{len(failures)} counted failures, incarnation {facts.incarnation(crasher)}",
        demo.look("get mba crasher -o yaml"),
    )
    tools.show(page, "get", "mba", "crasher", "-n", demo.namespace)
    stalled = facts.condition(crasher, "Stalled")
    page.line(f"Stalled=True, {stalled.get('reason')}: {stalled.get('message')}")
    pods = {pod["metadata"]["name"] for pod in demo.pods("crasher")}
    time.sleep(SETTLE_SECONDS)
    now = {pod["metadata"]["name"] for pod in demo.pods("crasher")}
    page.require(now == pods, f"{SETTLE_SECONDS:.0f} s later nobody has tried again", f"pods {sorted(now)}")
    release = facts.release_command(str(stalled.get("message")))
    if release is None:
        raise Unmet(
            "the message says how to release the agent",
            str(stalled.get("message")),
            demo.look("get mba crasher -o yaml"),
        )
    page.note("\nThe message says how to release it. Exactly that command:")
    page.command(release, tools.run("sh", "-c", release))
    page.until(
        f"the crasher is tried again, as incarnation {allowed + 2}",
        lambda: _tried_again(demo, allowed + 2),
        60,
        demo.look("describe mba crasher"),
    )
    tools.show(page, "delete", "mba", "crasher", "-n", demo.namespace)


def kill_the_operator(demo: Demo) -> None:
    """Step 8: with another agent each time, so that no budget runs out."""
    _kill_both(demo, "executor-c", "deleted", _delete_operator)
    _kill_both(demo, "executor-a", "deleted by force", _delete_operator_by_force)
    if not demo.tools.current:
        _kill_both(demo, "executor-b", "killed by SIGKILL", _sigkill_operator)


def _kill_both(demo: Demo, victim: str, how: str, kill: Callable[[Demo, str], None]) -> None:
    """An agent's pod is deleted, and before its successor can be there the operator is killed."""
    page, before = demo.page, demo.tracks()
    agent, operator = demo.agent(victim), demo.operator_lives()
    again = before[victim].incarnation + 1
    began = time.monotonic()
    demo.tools.show(page, "delete", "pod", facts.current_pod(agent), "-n", demo.namespace, "--wait=false")
    kill(demo, demo.lease_holder())
    now = demo.agent(victim)
    page.line(
        f"at this moment {victim} is {facts.state_of(now)}, its incarnation in the cluster {facts.incarnation(now)}"
    )
    look = f"{demo.kubectl} get pods,leases -n {OPERATOR_NAMESPACE}"
    page.until("another operator leads", lambda: _another_leads(demo, operator), 120, look)
    page.until(
        f"{victim} runs as incarnation {again}",
        lambda: _runs_as(demo, victim, again),
        90,
        demo.look(f"describe mba {victim}"),
    )
    seconds = time.monotonic() - began
    time.sleep(SETTLE_SECONDS)
    text = f"operator {how}: one restart, one ledger entry, one live pod, all others untouched ({seconds:.1f} s)"
    _no_harm(demo, before, victim, text)


def _delete_operator(demo: Demo, pod: str) -> None:
    demo.tools.show(demo.page, "delete", "pod", pod, "-n", OPERATOR_NAMESPACE, "--wait=false")


def _delete_operator_by_force(demo: Demo, pod: str) -> None:
    command = ("delete", "pod", pod, "-n", OPERATOR_NAMESPACE, "--wait=false", "--grace-period=0", "--force")
    demo.tools.show(demo.page, *command)


def _sigkill_operator(demo: Demo, pod: str) -> None:
    _sigkill(demo, next(one for one in demo.operator_pods() if one["metadata"]["name"] == pod))


def _sigkill(demo: Demo, pod: facts.JsonDict) -> None:
    """SIGKILL to a pod's first process, by way of its node: from inside a container nobody can send it that."""
    container = pod["status"]["containerStatuses"][0]["containerID"].rpartition("/")[2]
    named = () if demo.tools.cluster == "mabeam" else ("--name", demo.tools.cluster)
    command = (CLUSTER_TOOL, "exec", *named, "--node", pod["spec"]["nodeName"], "--",
               "ctr", "-n", "k8s.io", "task", "kill", "-s", "SIGKILL", container)  # fmt: skip
    demo.tools.run(*command)
    demo.page.command(f"{shown((*command[:-1], container[:8]))}…  # {pod['metadata']['name']}")


def kill_process(demo: Demo, agent: str, name: str) -> None:
    """SIGKILL to the agent's process; on a cluster whose nodes are out of reach, its pod is deleted."""
    if demo.tools.current:
        demo.tools.show(demo.page, "delete", "pod", name, "-n", demo.namespace, "--wait=false")
    else:
        _sigkill(demo, next(pod for pod in demo.pods(agent) if pod["metadata"]["name"] == name))


def _runs_as(demo: Demo, name: str, incarnation: int) -> tuple[bool, str]:
    agent = demo.agent(name)
    seen = f"{name} is {facts.state_of(agent)}, incarnation {facts.incarnation(agent)}"
    if facts.incarnation(agent) > incarnation:
        raise Unmet(f"{name} is restarted once, as incarnation {incarnation}", seen, demo.look(f"describe mba {name}"))
    return facts.is_ready(agent) and facts.incarnation(agent) == incarnation, seen


def _no_harm(demo: Demo, before: dict[str, facts.Track], restarted: str, text: str) -> None:
    wrong = facts.differences(before, demo.tracks(), restarted)
    demo.page.require(not wrong, text, "; ".join(wrong), demo.look("get mba,pods -o wide"))


def _told_at_birth(demo: Demo, pod: str) -> tuple[bool, str]:
    log = demo.log(pod)
    first = facts.first_obeyed(log)
    if first is None:
        return False, "its log says nothing of a temperature yet"
    first_step = log.find("annealing")
    before = first_step < 0 or log.index("temperature ") < first_step
    return before and first.temperature < 100, f"its first temperature was {first.temperature:g}"


def _parked(demo: Demo) -> tuple[bool, str]:
    agent = demo.agent("crasher")
    stalled = facts.condition(agent, "Stalled")
    seen = f"crasher is {facts.state_of(agent)}, {len(facts.failures_of(agent))} failures"
    return facts.state_of(agent) == "Failed" and stalled.get("reason") == "RestartBudgetExhausted", seen


def _tried_again(demo: Demo, incarnation: int) -> tuple[bool, str]:
    agent = demo.agent("crasher")
    now = facts.incarnation(agent)
    pods = [pod["metadata"]["name"] for pod in demo.pods("crasher")]
    return (
        now >= incarnation and f"crasher-0-{incarnation}" in pods,
        f"{facts.state_of(agent)}, incarnation {now}, pods {pods}",
    )


def _another_leads(demo: Demo, before: dict[str, int]) -> tuple[bool, str]:
    """Whether the Lease's holder is Ready, and not a process that was there before."""
    holder, lives = demo.lease_holder(), demo.operator_lives()
    ready = {pod["metadata"]["name"]: facts.condition(pod, "Ready").get("status") for pod in demo.operator_pods()}
    new = holder in lives and lives[holder] != before.get(holder)
    return new and ready.get(holder) == "True", f"the lease is held by {holder or 'nobody'}; Ready: {ready}"
