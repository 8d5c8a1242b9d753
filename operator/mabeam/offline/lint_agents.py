"""Findings about Agents: budgets that no failure can exhaust, and requests above their limits."""

from collections.abc import Iterator, Mapping

from mabeam.api.agent import Agent, Backoff, RestartStrategy
from mabeam.core.algorithms.backoff import capped_exponential
from mabeam.offline.finding import Finding, Level
from mabeam.offline.world import World
from mabeam.state.requested import parse_amount


def of_agents(world: World) -> tuple[Finding, ...]:
    """What is found about Agents, in order of their names."""
    return tuple(
        Finding(level, f"Agent/{space}/{name}", text)
        for (space, name), agent in sorted(world.agents.items())
        for level, text in (*_unreachable_budget(agent), *_requests_above_limits(agent))
    )


def failures_in_window(backoff: Backoff, window_seconds: float, enough: int) -> int:
    """The most failures that one replica can have within a window, at most `enough`: it fails at once after each restart.

    The first restart is immediate and each later one waits its shortest jittered delay. Delays only grow, so the fullest window
    is the first (core/algorithms/backoff.py restart_delay).
    """
    seconds = 0.0
    for failures in range(1, enough):
        if failures > 1:  # the delay of restart number `failures`, which the next failure comes after
            delay = capped_exponential(
                failures - 2, backoff.initial_seconds, backoff.max_seconds, factor=backoff.factor
            )
            seconds += delay * (1 - backoff.jitter)
        if seconds > window_seconds:
            return failures
    return enough


def _unreachable_budget(agent: Agent) -> Iterator[tuple[Level, str]]:
    tolerance, replicas = agent.spec.fault_tolerance, agent.spec.replicas
    if agent.spec.restart_strategy is RestartStrategy.TEMPORARY or replicas == 0:
        return
    budget, window = tolerance.max_failures, tolerance.failure_window_seconds
    most = failures_in_window(tolerance.backoff, window, budget + 1) * replicas
    if most <= budget:
        yield (
            "warning",
            f"its budget can never be exhausted: the delays of `faultTolerance.backoff` let at most {most} failures into"
            f" `failureWindowSeconds` {window}, and `maxFailures` is {budget}; it would be restarted for ever. Shorten the"
            " delays, widen the window or lower `maxFailures`",
        )
        return
    starts = (1 + window // agent.spec.start_timeout_seconds) * replicas
    if starts <= budget:
        yield (
            "note",
            f"a pod that cannot start (its image cannot be pulled, for example) is retried for ever: it fails after"
            f" `startTimeoutSeconds` {agent.spec.start_timeout_seconds}, at most {starts} times in `failureWindowSeconds`"
            f" {window}, and `maxFailures` is {budget}",
        )


def _requests_above_limits(agent: Agent) -> Iterator[tuple[Level, str]]:
    own = agent.spec.resources
    if own is not None:
        yield from _above("spec.resources", own.requests or {}, own.limits or {})
    for at, container in enumerate(agent.spec.template.spec["containers"] if agent.spec.template else ()):
        resources = container.get("resources") or {}
        where = f"spec.template.spec.containers.{at}.resources"
        yield from _above(where, resources.get("requests") or {}, resources.get("limits") or {})


def _above(where: str, requests: Mapping[str, object], limits: Mapping[str, object]) -> Iterator[tuple[Level, str]]:
    for name, requested in sorted(requests.items()):
        limit = limits.get(name)
        amount, most = parse_amount(str(requested)), parse_amount(str(limit))
        if amount is not None and most is not None and amount > most:
            yield (
                "error",
                f"`{where}.requests.{name}` {requested} is above its limit {limit}: the API server refuses such a pod",
            )
