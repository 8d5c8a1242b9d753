"""Findings about trees of Supervisors: missing children, cycles, ends that never come, budgets that multiply."""

import math
from collections.abc import Iterator
from typing import Final

from mabeam.api.agent import Agent, AgentEscalationPolicy, RestartStrategy
from mabeam.api.supervisor import AutoShutdown, ChildKind, Supervisor
from mabeam.core.tree import lineage as family
from mabeam.offline.finding import Finding, Level
from mabeam.offline.world import World

# OTP's design principles call ten restarts a level over two levels "probably excessive".
MANY_RESTARTS: Final = 100


def of_trees(world: World) -> tuple[Finding, ...]:
    """What is found about trees, in order of the objects' names; a note for each path tells how many restarts it allows."""
    found: list[Finding] = []
    for (space, name), supervisor in sorted(world.supervisors.items()):
        kin = {other: one for (ns, other), one in world.supervisors.items() if ns == space}
        agents = {other: one for (ns, other), one in world.agents.items() if ns == space}
        found += (Finding(level, f"Supervisor/{space}/{name}", text) for level, text in _of(supervisor, agents, kin))
    for (space, name), agent in sorted(world.agents.items()):
        kin = {other: one for (ns, other), one in world.supervisors.items() if ns == space}
        found += (Finding(level, f"Agent/{space}/{name}", text) for level, text in _of_agent(agent, kin))
    return tuple(found)


def _of(supervisor: Supervisor, agents: dict[str, Agent], kin: dict[str, Supervisor]) -> Iterator[tuple[Level, str]]:
    cycle = family.cycle_of(supervisor, kin)
    if cycle:
        yield "error", f"a cycle: {' → '.join(cycle)}"
    _, problems = family.children_of(supervisor, agents, kin)
    for problem in problems:
        yield "error", problem
    for child in supervisor.spec.children:
        agent = agents.get(child.name) if child.kind is ChildKind.AGENT else None
        if child.significant and agent is not None and agent.spec.restart_strategy is RestartStrategy.PERMANENT:
            yield "error", f"{child.name} is significant, but a Permanent agent never ends by itself"
    if supervisor.spec.auto_shutdown is not AutoShutdown.NEVER and family.parent_of(supervisor, kin) is not None:
        yield (
            "warning",
            "it ends by `autoShutdown`, and its parent restarts it as a permanent child: a loop that spends the parent's budget",
        )


def _of_agent(agent: Agent, kin: dict[str, Supervisor]) -> Iterator[tuple[Level, str]]:
    tolerance, named = agent.spec.fault_tolerance, agent.spec.supervisor
    escalates = tolerance.escalation_policy is AgentEscalationPolicy.ESCALATE
    if named is None:
        if escalates:
            yield (
                "warning",
                "`escalationPolicy: Escalate` has nobody to tell: set `spec.supervisor`, or it parks as with Stop",
            )
        return
    parent = kin.get(named)
    listed = parent is not None and any(
        c.kind is ChildKind.AGENT and c.name == agent.metadata.name for c in parent.spec.children
    )
    if parent is None or not listed:
        missing = "does not exist" if parent is None else "does not list it"
        yield "error", f"its Supervisor {named} {missing}: it would wait for ever"
        return
    if agent.spec.restart_strategy is RestartStrategy.TEMPORARY:
        return  # no budget: it is never restarted
    if not escalates:
        yield "note", f"its exhausted budget parks it; {named} handles it only with `escalationPolicy: Escalate`"
        return
    path = [*reversed(family.ancestors(parent, kin)), parent]
    # The product is OTP's rule of thumb, and `status.worstCaseRestarts`. Exactly: a storey with budget b sees b + 1 lives of
    # the one below before it gives up, the first of which is no restart.
    product = family.worst_case(parent, kin) * max(1, tolerance.max_failures)
    worst = math.prod(one.spec.max_restarts + 1 for one in path) * (tolerance.max_failures + 1) - 1
    steps = " × ".join(
        [f"{one.metadata.name} {one.spec.max_restarts}" for one in path]
        + [f"{agent.metadata.name} {tolerance.max_failures}"]
    )
    level: Level = "warning" if product >= MANY_RESTARTS else "note"
    excessive = "; probably more than you want" if product >= MANY_RESTARTS else ""
    yield level, f"budgets of {steps} = {product}: at most {worst} restarts before the root gives up{excessive}"
