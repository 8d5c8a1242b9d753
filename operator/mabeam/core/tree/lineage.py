"""Parents, ancestors and children of Supervisors.

A child belongs to a parent when the parent lists it and the child agrees: an Agent names its Supervisor; a nested Supervisor
names it or names none. Of several Supervisors that list the same nested Supervisor the oldest is its parent, then the first by
name: a total order, so that all passes agree.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from mabeam.api.agent import Agent
from mabeam.api.supervisor import ChildKind, Supervisor, SupervisorSpec
from mabeam.core.memoize import memoize_by_identity
from mabeam.core.tree.child_state import Child, child_of_agent, child_of_supervisor

_LATEST: Final = datetime.max.replace(tzinfo=UTC)


def children_of(
    supervisor: Supervisor, agents: Mapping[str, Agent], supervisors: Mapping[str, Supervisor]
) -> tuple[dict[tuple[ChildKind, str], Child], tuple[str, ...]]:
    """The existing children by (kind, name) in start order, and for each other listed child why it is none."""
    children: dict[tuple[ChildKind, str], Child] = {}
    problems = []
    above = {supervisor.metadata.name, *(one.metadata.name for one in ancestors(supervisor, supervisors))}
    for reference in supervisor.spec.children:
        other = (agents if reference.kind is ChildKind.AGENT else supervisors).get(reference.name)
        problem = _problem(supervisor, other, supervisors, above)
        if problem is not None:
            problems.append(f"{reference.kind} {reference.name} {problem}")
        elif isinstance(other, Agent):
            children[reference.kind, reference.name] = child_of_agent(other)
        elif isinstance(other, Supervisor):
            children[reference.kind, reference.name] = child_of_supervisor(other, supervisor.metadata.name)
    return children, tuple(problems)


def _problem(
    supervisor: Supervisor, child: Agent | Supervisor | None, supervisors: Mapping[str, Supervisor], above: set[str]
) -> str | None:
    if child is None:
        return "does not exist"
    named, own = child.spec.supervisor, supervisor.metadata.name
    if isinstance(child, Agent):
        if named is None:
            return f"does not name this Supervisor: set its spec.supervisor to {own}"
        return None if named == own else f"names another Supervisor, {named}"
    parent = parent_of(child, supervisors)
    if parent is None or parent.metadata.name != own:
        return (
            f"is under another Supervisor, {parent.metadata.name}" if parent else f"names another Supervisor, {named}"
        )
    if child.metadata.name not in above:
        return None
    return f"closes a cycle: {' → '.join(cycle_of(child, supervisors))}"


def parent_of(supervisor: Supervisor, supervisors: Mapping[str, Supervisor]) -> Supervisor | None:
    """The parent of the Supervisor; None for a root."""
    own, named = supervisor.metadata.name, supervisor.spec.supervisor
    if named is not None:
        other = supervisors.get(named)
        return other if other is not None and own in _supervisors_in(other.spec) else None
    listing = (other for other in supervisors.values() if own in _supervisors_in(other.spec))
    return min(listing, key=lambda o: (o.metadata.creation_timestamp or _LATEST, o.metadata.name), default=None)


@memoize_by_identity
def _supervisors_in(spec: SupervisorSpec) -> frozenset[str]:
    return frozenset(child.name for child in spec.children if child.kind is ChildKind.SUPERVISOR)


def ancestors(supervisor: Supervisor, supervisors: Mapping[str, Supervisor]) -> tuple[Supervisor, ...]:
    """The parent, its parent, up to the root; on a cycle each Supervisor of the cycle once."""
    found: list[Supervisor] = []
    above = parent_of(supervisor, supervisors)
    while above is not None and above.metadata.name not in {o.metadata.name for o in found}:
        found.append(above)
        above = parent_of(above, supervisors)
    return tuple(found)


def cycle_of(supervisor: Supervisor, supervisors: Mapping[str, Supervisor]) -> tuple[str, ...]:
    """The names along the cycle that contains the Supervisor, from it back to it; empty when none does."""
    above = [other.metadata.name for other in ancestors(supervisor, supervisors)]
    own = supervisor.metadata.name
    return (*reversed(above[: above.index(own) + 1]), own) if own in above else ()


def worst_case(supervisor: Supervisor, supervisors: Mapping[str, Supervisor]) -> int:
    """The product of the budgets from the root down to the Supervisor, each at least 1.

    Source: OTP Design Principles, Supervisor Behaviour, "Tuning the Intensity and Period".
    """
    product = 1
    for one in (supervisor, *ancestors(supervisor, supervisors)):
        product *= max(1, one.spec.max_restarts)
    return min(product, 2**53)
