"""Small trees of agents and Supervisors, for tests of one rule each."""

from support.tree import Tree, child_body, supervisor_body


def a_team(*names: str, children: dict[str, dict] | None = None, **spec: object) -> Tree:  # type: ignore[type-arg]
    """Agents under the Supervisor `root`, all started."""
    tree = Tree.of(
        supervisor_body("root", *names, **spec),
        *(child_body(name, "root", **(children or {}).get(name, {})) for name in names),
    )
    tree.settle()
    return tree


def a_nested_tree(**inner: object) -> Tree:
    tree = Tree.of(
        supervisor_body("root", "first", "/inner", "last", strategy="RestForOne", maxRestarts=1),
        supervisor_body("inner", "x", "y", strategy="OneForAll", **{"maxRestarts": 1, **inner}),
        child_body("first", "root"),
        child_body("last", "root"),
        child_body("x", "inner"),
        child_body("y", "inner"),
    )
    tree.settle()
    return tree


def ready_and_stalled(tree: Tree, agent: str) -> list[tuple[str, str]]:
    """Status and reason of an agent's conditions Ready and Stalled."""
    conditions = tree.agent(agent).status.conditions
    return [(str(c.status), c.reason) for c in conditions if c.type in ("Ready", "Stalled")]
