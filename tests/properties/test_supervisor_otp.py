"""The tree against supervisor.erl: the same children alive, in the same lives, after any history of exits."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from support.supervisor_erl import TreeSupervisor, Worker
from support.tree import Tree, child_body, supervisor_body

STRATEGIES = {"OneForOne": "one_for_one", "OneForAll": "one_for_all", "RestForOne": "rest_for_one"}
AUTO = {"Never": "never", "AnySignificant": "any_significant", "AllSignificant": "all_significant"}
TYPES = {"Permanent": "permanent", "Transient": "transient", "Temporary": "temporary"}


@st.composite
def trees(draw: st.DrawFn, name: str = "root", depth: int = 0) -> dict[str, Any]:
    """A Supervisor with up to three children, some of them Supervisors themselves."""
    children: list[dict[str, Any]] = []
    auto = draw(st.sampled_from(sorted(AUTO)))
    for place in range(draw(st.integers(1, 3))):
        own = f"{name}-{place}"
        if depth == 0 and draw(st.integers(0, 3)) == 0:
            children.append(draw(trees(own, depth + 1)))
        else:
            restart = draw(st.sampled_from(sorted(TYPES)))
            significant = auto != "Never" and restart != "Permanent" and draw(st.booleans())
            children.append({"name": own, "restart": restart, "significant": significant})
    return {
        "name": name,
        "strategy": draw(st.sampled_from(sorted(STRATEGIES))),
        "intensity": draw(st.integers(0, 2)),
        "period": draw(st.integers(1, 5)),
        "auto": auto,
        "children": children,
    }


def erlang(tree: dict[str, Any]) -> TreeSupervisor:
    """The tree as supervisor.erl's."""
    children: list[Worker | TreeSupervisor] = [
        erlang(child) if "children" in child else Worker(child["name"], TYPES[child["restart"]], child["significant"])  # type: ignore[arg-type]
        for child in tree["children"]
    ]
    return TreeSupervisor(
        tree["name"],
        children,
        STRATEGIES[tree["strategy"]],  # type: ignore[arg-type]
        tree["intensity"],
        tree["period"],
        AUTO[tree["auto"]],  # type: ignore[arg-type]
    )


def bodies(tree: dict[str, Any]) -> list[dict[str, Any]]:
    """The tree as objects."""
    references = [
        {"kind": "Supervisor", "name": child["name"]}
        if "children" in child
        else {"name": child["name"], "significant": child["significant"]}
        for child in tree["children"]
    ]
    found = [
        supervisor_body(
            tree["name"],
            *references,
            strategy=tree["strategy"],
            maxRestarts=tree["intensity"],
            periodSeconds=tree["period"],
            autoShutdown=tree["auto"],
        )
    ]
    for child in tree["children"]:
        if "children" in child:
            found += bodies(child)
        else:
            found.append(child_body(child["name"], tree["name"], restart=child["restart"]))
    return found


def workers(node: TreeSupervisor) -> list[Worker]:
    """All workers below."""
    found: list[Worker] = []
    for child in node.children:
        found += workers(child) if isinstance(child, TreeSupervisor) else [child]
    return found


EXITS = st.lists(st.tuples(st.integers(0, 8), st.sampled_from(["normal", "crash"]), st.integers(0, 4)), max_size=8)


@settings(deadline=None, max_examples=60)
@given(trees(), EXITS)
def test_after_any_history_the_same_children_live_in_the_same_lives(
    shape: dict[str, Any], history: list[tuple[int, str, int]]
) -> None:
    model, tree = erlang(shape), Tree.of(*bodies(shape))
    model.start(0)
    tree.settle()
    for pick, reason, pause in history:
        tree.wait(pause)
        alive = [worker for worker in workers(model) if worker.pid]
        if not alive:
            break
        victim = alive[pick % len(alive)].name
        model.exit(victim, reason, int(tree.seconds))  # type: ignore[arg-type]
        tree.end(victim, 0 if reason == "normal" else 1)
        tree.settle()
        assert tree.running() == sorted(worker.name for worker in workers(model) if worker.pid)
        started = {worker.name: worker.starts for worker in workers(model)}
        made = {name: sum(1 for pod in world.made()) for name, world in tree.worlds.items()}
        assert made == started
    assert (
        tree.supervisor("root").status.parked_at or tree.supervisor("root").status.shut_down_at
    ) is None or not model.pid
