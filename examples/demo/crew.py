"""A small tree: three agents that start in order, and of which one's failure takes along those after it."""

from collections.abc import Sequence

from examples.demo import facts
from examples.demo.demo import Demo
from examples.demo.errors import Unmet
from examples.demo.faults import kill_process

CREW = ("planner", "coder", "reviewer")
CREW_FILE = "examples/demo/crew.yaml"
VICTIM = "coder"


def tree(demo: Demo) -> None:
    """Step 7."""
    page, tools = demo.page, demo.tools
    tools.show(page, "apply", "-n", demo.namespace, "-f", CREW_FILE)
    first = facts.pods_of(CREW, dict.fromkeys(CREW, 1))
    page.until(
        "the crew starts in order, each one's pod made when the one before was ready",
        lambda: _stands(demo, first),
        60,
        demo.look("describe msup crew"),
    )
    before = demo.tracks()
    place = CREW.index(VICTIM)
    left, taken = CREW[:place], CREW[place:]
    kill_process(demo, VICTIM, first[place])
    second = facts.pods_of(CREW, {name: 2 if name in taken else 1 for name in CREW})
    page.until(
        f"{' and '.join(taken)} run anew, in order: all of them down before the first of them starts",
        lambda: _stands(demo, second, first[place:]),
        60,
        demo.look("describe msup crew"),
    )
    now = demo.tracks()
    touched = sorted(name for name, was in before.items() if name not in taken and now.get(name) != was)
    page.require(
        not touched,
        f"{' and '.join(left)} was left alone, and so was the team: the same pods, the same numbers",
        f"{', '.join(touched)} changed",
        demo.look("get mba,pods"),
    )
    restarts = facts.group_restarts(demo.supervisor("crew"))
    page.require(
        restarts == [(VICTIM, taken)],
        "one restart of the group, counted once: 1 of 3 in 60 s",
        f"restarts: {restarts}",
        demo.look("get msup crew -o yaml"),
    )
    tools.show(page, "get", "msup", "-n", demo.namespace)
    tools.show(page, "get", "pods", "-l", f"mabeam.dev/agent in ({','.join(CREW)})", "-n", demo.namespace)
    tools.show(page, "delete", "-n", demo.namespace, "-f", CREW_FILE)


def _stands(demo: Demo, pods: list[str], old: Sequence[str] = ()) -> tuple[bool, str]:
    """Whether these pods run and the Supervisor is Ready; raises Unmet if on the way one came before its turn."""
    crew, found = demo.supervisor("crew"), demo.pods()
    wrong = facts.early(pods, found) + facts.overlapping(old, pods[len(pods) - len(old) :], found)
    if wrong:
        raise Unmet("each starts in its turn", "; ".join(wrong), demo.look("get pods"))
    seen = f"crew: {facts.condition(crew, 'Ready').get('message')}"
    return facts.is_ready(crew) and not facts.not_ready(pods, found), seen
