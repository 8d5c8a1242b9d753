"""`mabeam lint`: findings about objects in files, before they are applied; no cluster."""

from mabeam.offline.finding import Finding
from mabeam.offline.lint_agents import of_agents
from mabeam.offline.lint_trees import of_trees
from mabeam.offline.lint_variables import of_variables
from mabeam.offline.world import World


def lint(world: World) -> tuple[Finding, ...]:
    """Everything found: about trees, then about Agents, then about variables, each in order of the objects' names."""
    return (*of_trees(world), *of_agents(world), *of_variables(world))
