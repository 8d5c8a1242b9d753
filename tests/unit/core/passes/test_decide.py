"""One door to the passes: each kind of snapshot is decided by its own."""

from mabeam.core.passes import agent, supervisor, variable
from mabeam.core.passes.decide import decide
from mabeam.core.snapshot import AgentSnapshot, SupervisorSnapshot, VariableSnapshot
from support.builders import START, an_agent
from support.coordination import a_variable
from support.tree import Tree, supervisor_body


def test_each_kind_of_snapshot_is_decided_by_its_own_pass() -> None:
    of_agent = AgentSnapshot(an_agent("a"))
    assert decide(of_agent, START) == agent.decide(of_agent, START)
    of_variable = VariableSnapshot(a_variable())
    assert decide(of_variable, START) == variable.decide(of_variable, START)
    of_supervisor = SupervisorSnapshot(Tree.of(supervisor_body("s", "a")).supervisor("s"))
    assert decide(of_supervisor, START) == supervisor.decide(of_supervisor, START)


def test_an_unreadable_variable_is_decided_to_be_invalid() -> None:
    snapshot = VariableSnapshot(a_variable(), invalid="spec.type: must be a type")
    decision = decide(snapshot, START)
    assert decision == variable.invalid(snapshot, "spec.type: must be a type", START)
