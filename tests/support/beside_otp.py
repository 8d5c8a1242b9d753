"""One history lived twice, by the operator's own passes and by supervisor.erl, and compared after each step.

What is compared is all that either side knows: who runs, in how many lives so far, each budget's window, each count, who gave up.
"""

import copy
import itertools
import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from mabeam.api.agent import Agent
from mabeam.api.agent_status import AgentStatus
from mabeam.api.supervision import Intent
from mabeam.api.supervisor import Supervisor, SupervisorStatus
from mabeam.core.snapshot import Key
from mabeam.simulation.cluster import MemoryCluster
from mabeam.simulation.passes import SimulatedOperator
from mabeam.simulation.scenario import Fault, Scenario
from mabeam.state.cache import AGENT, SUPERVISOR
from mabeam.state.parse_objects import ParsedAgent, ParsedSupervisor
from support.builders import START
from support.histories import CODES, History, Step, erlang, objects, walk
from support.supervisor_erl import Reason, Replicas, TreeSupervisor, Worker


def _on_the_wire(status: AgentStatus | SupervisorStatus) -> Any:
    return json.loads(json.dumps(status.to_wire()))


@dataclass
class Known:
    """All there is to compare; `lives` of a replica is how often it was started."""

    lives: dict[str, int] = field(default_factory=dict)
    running: set[str] = field(default_factory=set)
    over: set[str] = field(default_factory=set)
    totals: dict[str, int] = field(default_factory=dict)
    windows: dict[str, list[int]] = field(default_factory=dict)


@dataclass
class Operated:
    """The tree under the operator's passes, on a cluster that starts and stops pods at once."""

    cluster: MemoryCluster
    passes: SimulatedOperator
    chance: random.Random

    @classmethod
    def of(cls, history: History) -> "Operated":
        """The tree, started."""
        found = list(objects(history.tree))
        agents = [one for one in found if isinstance(one, Agent)]
        supervisors = [one for one in found if isinstance(one, Supervisor)]
        cluster = MemoryCluster.of(Scenario(start_seconds=0, stop_seconds=0), START, agents, supervisors)
        operated = cls(cluster, SimulatedOperator(cluster, lambda *_: None), random.Random(history.order))
        operated.settle(operated.passes.all_keys())
        return operated

    @property
    def seconds(self) -> int:
        """The time since the start."""
        return int((self.cluster.now - START).total_seconds())

    def settle(self, keys: list[Key]) -> None:
        """Passes and the kubelet's doings until nothing moves; the keys are rung in any order."""
        self.chance.shuffle(keys)
        self.passes.settle(keys)
        while self.cluster.due:
            self.cluster.tick()
            self.passes.settle()
        self._store()

    def _store(self) -> None:
        """Put every status through the wire, as an apiserver does: what does not survive that is lost to the next pass."""
        cache = self.cluster.cache
        for place, agent in self.cluster.agents.items():
            status = AgentStatus.model_validate(_on_the_wire(agent.status))
            assert status == agent.status, f"{place} does not survive its own serialisation"
            cache.put(AGENT, place, ParsedAgent(agent.model_copy(update={"status": status})))
        for place, one in self.cluster.supervisors.items():
            told = SupervisorStatus.model_validate(_on_the_wire(one.status))
            assert told == one.status, f"{place} does not survive its own serialisation"
            cache.put(SUPERVISOR, place, ParsedSupervisor(one.model_copy(update={"status": told})))

    def rest(self) -> None:
        """See that an operator which starts anew, and looks at everything, finds nothing to do."""
        before = self.cluster.agents, self.cluster.supervisors
        self.passes.settle(self.passes.all_keys())
        assert (self.cluster.agents, self.cluster.supervisors) == before, "a second look changes something"

    def wait(self, seconds: int) -> None:
        """Let time pass unseen."""
        self.cluster.now += timedelta(seconds=seconds)

    def end(self, replica: str, reason: Reason) -> None:
        """The process of a replica ends."""
        agent, _, ordinal = replica.rpartition("-")
        hit = self.cluster.inject(
            Fault(at=0, agent=agent, ordinal=int(ordinal), exit_code=CODES[reason]), ("team", agent)
        )
        assert hit, f"{replica} does not run"

    def knows(self) -> Known:
        """What its objects tell."""
        known = Known()
        for (_, name), agent in self.cluster.agents.items():
            status, window = agent.status, agent.spec.fault_tolerance.failure_window_seconds
            for pod in self.cluster.pods_of(("team", name)):
                if pod.main.state == "running":
                    known.running.add(f"{name}-{pod.ordinal}")
            for record in status.pods:
                known.lives[f"{name}-{record.ordinal}"] = record.incarnation
            known.totals[name] = status.restarts
            times = [failure.time for failure in status.failures if failure.counted and not failure.released]
            known.windows[name] = self._recent(times, window)
        for (_, name), supervisor in self.cluster.supervisors.items():
            told = supervisor.status.supervision
            stopped = told is not None and told.intent is Intent.STOP
            if supervisor.status.parked_at or supervisor.status.shut_down_at or stopped:
                known.over.add(name)
            known.totals[name] = supervisor.status.total_restarts
            times = [one.time for one in supervisor.status.restarts]
            known.windows[name] = self._recent(times, supervisor.spec.period_seconds)
        return known

    def _recent(self, times: Sequence[Any], window: int) -> list[int]:
        found = sorted(int((time - START).total_seconds()) for time in times)
        return [time for time in found if time >= self.seconds - window]


def model_knows(root: TreeSupervisor, now: int) -> Known:
    """What supervisor.erl's tree tells; nothing of the window of one that does not run, for it will begin with an empty one."""
    known = Known()
    for node in walk(root):
        if isinstance(node, Worker):
            known.lives[node.name] = node.starts
            known.running |= {node.name} if node.pid else set()
            continue
        known.totals[node.name] = node.total
        if node.pid:
            known.windows[node.name] = sorted(time for time in node.restarts if time >= now - node.period)
        elif not isinstance(node, Replicas):
            known.over.add(node.name)
    return known


# --- the comparison -----------------------------------------------------------------------------------------------------------


class Divergence(AssertionError):
    """The operator came to something that supervisor.erl does not."""


@dataclass(frozen=True)
class Death:
    """One end of one life of a replica."""

    replica: str
    life: int
    reason: Reason
    time: int
    parent: str
    place: int
    siblings: bool  # whether the parent is an Agent, of whose replicas it is one
    final: bool  # no restart can follow it


def live(history: History) -> Counter[str]:
    """Live it on both sides, and compare after each step; what there was to see, by how often. Raises Divergence."""
    model = erlang(history.tree)
    model.start(0)
    operated = Operated.of(history)
    seen: Counter[str] = Counter()
    _compare(model, operated, history, -1)
    for number, step in enumerate(history.steps):
        deaths = _inject(model, operated, step)
        if not deaths:
            break
        operated.wait(step.seen)
        ended = dict.fromkeys(death.replica.rpartition("-")[0] for death in deaths)
        operated.settle([Key(AGENT, "team", name) for name in ended])
        seen.update(_sights(model, deaths))
        if len(deaths) == 1:
            _die(model, deaths, operated.seconds)
            _compare(model, operated, history, number)
        else:
            model = _agreeing(model, deaths, operated, history, number)
    operated.rest()
    root = operated.cluster.supervisors["team", history.tree["name"]].status
    seen.update(
        histories=1,
        steps=len(history.steps),
        restarts=sum(node.total for node in walk(model) if isinstance(node, TreeSupervisor)),
        exhausted_roots=root.parked_at is not None,
        shut_down_roots=root.shut_down_at is not None,
    )
    return seen


def _inject(model: TreeSupervisor, operated: Operated, step: Step) -> tuple[Death, ...]:
    """Let the processes end, on the operator's side; the model is told later."""
    deaths: list[Death] = []
    for one in step.exits:
        workers = [node for node in walk(model) if isinstance(node, Worker) and node.pid]
        alive = [worker for worker in workers if worker.name not in {death.replica for death in deaths}]
        if not alive:
            break
        victim = alive[one.pick % len(alive)]
        parent = next(n for n in walk(model) if isinstance(n, TreeSupervisor) and victim in n.children)
        final = victim.restart_type == "temporary" or (victim.restart_type == "transient" and one.reason != "crash")
        operated.wait(one.after)
        operated.end(victim.name, one.reason)
        place = parent.children.index(victim)
        life, siblings = victim.starts, isinstance(parent, Replicas)
        deaths.append(Death(victim.name, life, one.reason, operated.seconds, parent.name, place, siblings, final))
    return tuple(deaths)


def _die(model: TreeSupervisor, deaths: Sequence[Death], now: int) -> None:
    """Tell the model. An end that no restart follows has no time but that of being seen: it can only end its supervisor."""
    for death in deaths:
        worker = next(node for node in walk(model) if node.name == death.replica)
        # Of one that was taken along meanwhile, terminate_children/2 has the exit message out of the mailbox.
        if isinstance(worker, Worker) and worker.pid and worker.starts == death.life:
            model.exit(death.replica, death.reason, now if death.final else death.time)


def _compare(model: TreeSupervisor, operated: Operated, history: History, step: int) -> None:
    wanted, found = model_knows(model, operated.seconds), operated.knows()
    if not _agree(wanted, found) or wanted.lives != found.lives:
        raise Divergence(f"after step {step}: supervisor.erl {wanted}; operator {found}; {history}")


def _agree(wanted: Known, found: Known) -> bool:
    return (
        (wanted.running, wanted.over) == (found.running, found.over)
        and all(found.totals[name] == total for name, total in wanted.totals.items())
        and all(found.windows[name] == window for name, window in wanted.windows.items())
    )


def _agreeing(
    model: TreeSupervisor, deaths: tuple[Death, ...], operated: Operated, history: History, step: int
) -> TreeSupervisor:
    """The model after the order of exit messages at which it agrees: what ends together, or unseen, may come in any order.

    Any but one: those of one Agent's replicas come in the order of their times, for one pass sees all of them. In how many
    lives each one is then is the operator's to say: it starts those once that supervisor.erl starts for each of these deaths.
    """
    found, tried = operated.knows(), []
    for order in itertools.permutations(deaths):
        if not _is_in_time(order):
            continue
        candidate = copy.deepcopy(model)
        _die(candidate, order, operated.seconds)
        wanted = model_knows(candidate, operated.seconds)
        if _agree(wanted, found):
            for node in walk(candidate):
                if isinstance(node, Worker):
                    node.starts = found.lives[node.name]
            return candidate
        tried.append(wanted)
    raise Divergence(f"after step {step}: supervisor.erl {tried}; operator {found}; {deaths}; {history}")


def _is_in_time(order: Sequence[Death]) -> bool:
    pairs = itertools.combinations(order, 2)
    return all(
        (one.time, one.place) < (other.time, other.place)
        for one, other in pairs
        if one.siblings and one.parent == other.parent
    )


def _sights(model: TreeSupervisor, deaths: Sequence[Death]) -> Counter[str]:
    """What is worth counting about a step."""
    windows = (node for node in walk(model) if isinstance(node, TreeSupervisor) and node.pid)
    edge = any(node.restarts and node.restarts[-1] == deaths[-1].time - node.period for node in windows)
    together = len(deaths) > 1 and deaths[0].time == deaths[-1].time
    return Counter(at_the_edge=edge, together=together, late=len(deaths) > 1 and not together, **{deaths[0].reason: 1})
