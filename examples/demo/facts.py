"""What API objects, logs and reports say: pure functions, so that the demo's judgement can be tested without a cluster."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

JsonDict = dict[str, Any]

_TEMPERATURE = re.compile(r"temperature (?P<value>[0-9.]+) \(directives of generation (?P<generation>\d+)\)")
_APPLIED = re.compile(r"^mabeam_applied_generation (?P<generation>[0-9.e+]+)", re.MULTILINE)
_RELEASE = re.compile(r"kubectl annotate .*$", re.DOTALL)


def status_of(obj: Mapping[str, Any]) -> JsonDict:
    """An object's status, empty when it has none."""
    return dict(obj.get("status") or {})


def condition(obj: Mapping[str, Any], kind: str) -> JsonDict:
    """A condition, empty when it is not there."""
    conditions = status_of(obj).get("conditions") or []
    return next((dict(one) for one in conditions if one["type"] == kind), {})


def state_of(obj: Mapping[str, Any]) -> str:
    """An agent's state word."""
    return str(status_of(obj).get("state") or "not seen yet")


def is_ready(obj: Mapping[str, Any]) -> bool:
    """Whether the operator has seen the newest spec, and calls the object Ready."""
    ready = condition(obj, "Ready")
    newest = (obj.get("metadata") or {}).get("generation")
    return ready.get("status") == "True" and ready.get("observedGeneration") == newest


def failures_of(agent: Mapping[str, Any]) -> list[JsonDict]:
    """An agent's ledger, oldest entry first."""
    return list(status_of(agent).get("failures") or [])


def current_pod(agent: Mapping[str, Any]) -> str:
    """The name of the pod that stands for the agent's first replica now; empty when there is none yet."""
    pods = status_of(agent).get("pods") or []
    return str(pods[0].get("name") or "") if pods else ""


def incarnation(agent: Mapping[str, Any]) -> int:
    """How often the first replica was given a pod."""
    pods = status_of(agent).get("pods") or []
    return int(pods[0]["incarnation"]) if pods else 0


def container_restarts(pod: Mapping[str, Any]) -> int:
    """How often the kubelet started the pod's first container anew."""
    containers = status_of(pod).get("containerStatuses") or []
    return int(containers[0].get("restartCount") or 0) if containers else 0


@dataclass(frozen=True)
class Obeyed:
    """What a process itself says: the temperature it works at, and the generation that told it."""

    temperature: float
    generation: int


def obeyed(log: str) -> Obeyed | None:
    """The newest temperature in a process's log, None when there is none."""
    found = list(_TEMPERATURE.finditer(log))
    return Obeyed(float(found[-1]["value"]), int(found[-1]["generation"])) if found else None


def first_obeyed(log: str) -> Obeyed | None:
    """The first temperature a process was told."""
    found = _TEMPERATURE.search(log)
    return Obeyed(float(found["value"]), int(found["generation"])) if found else None


def applied_generation(report: str) -> int:
    """The generation that a process's report acknowledges; 0 for none."""
    found = _APPLIED.search(report)
    return int(float(found["generation"])) if found else 0


def release_command(message: str) -> str | None:
    """The command a parked agent's message gives to release it."""
    found = _RELEASE.search(message)
    return found[0].strip() if found else None


def is_live(pod: Mapping[str, Any]) -> bool:
    """Whether a process of the pod may run. The kubelet tells of an ended container before it tells of the phase."""
    status = status_of(pod)
    ended = ["terminated" in (one.get("state") or {}) for one in status.get("containerStatuses") or []]
    return status.get("phase") in ("Pending", "Running") and not (ended and all(ended))


@dataclass(frozen=True)
class Track:
    """What must not be lost or doubled of an agent: incarnation, ledger, counted restarts, and its live pods by uid."""

    incarnation: int
    failures: int
    restarts: int
    pods: tuple[str, ...]


def track(agent: Mapping[str, Any], pods: Iterable[Mapping[str, Any]]) -> Track:
    """The track of an agent at this moment; ended pods, kept for their logs, are not live."""
    live = tuple(
        sorted(
            str(pod["metadata"]["uid"])
            for pod in pods
            if (pod["metadata"].get("labels") or {}).get("mabeam.dev/agent") == agent["metadata"]["name"]
            and is_live(pod)
        )
    )
    return Track(incarnation(agent), len(failures_of(agent)), int(status_of(agent).get("restarts") or 0), live)


def differences(before: Mapping[str, Track], after: Mapping[str, Track], restarted: str) -> list[str]:
    """What was lost or doubled while `restarted`, and it alone, was restarted once; empty when all is as it should be."""
    wrong = []
    for name, was in before.items():
        now = after.get(name)
        if now is None:
            wrong.append(f"{name} is gone")
            continue
        once = int(name == restarted)
        for what, old, new in (
            ("incarnation", was.incarnation, now.incarnation),
            ("ledger entries", was.failures, now.failures),
            ("restarts", was.restarts, now.restarts),
        ):
            if new != old + once:
                wrong.append(f"{name}: {what} {old} → {new}, expected {old + once}")
        if once and (len(now.pods) != 1 or now.pods == was.pods):
            wrong.append(f"{name}: {len(now.pods)} live pods, expected one new one")
        if not once and now.pods != was.pods:
            wrong.append(f"{name}: its pod was replaced")
    return wrong


def pods_of(agents: Iterable[str], incarnations: Mapping[str, int]) -> list[str]:
    """The names of the agents' pods in these incarnations, in their order."""
    return [f"{name}-0-{incarnations[name]}" for name in agents]


def not_ready(names: Iterable[str], pods: Iterable[Mapping[str, Any]]) -> list[str]:
    """Which of these pods are not there and ready."""
    ready = {pod["metadata"]["name"] for pod in pods if condition(pod, "Ready").get("status") == "True"}
    return [name for name in names if name not in ready]


def early(order: Sequence[str], pods: Sequence[Mapping[str, Any]]) -> list[str]:
    """Which pods of a tree, as it is at one moment, came before their turn: one before them is not ready."""
    there, waited_for = {pod["metadata"]["name"] for pod in pods}, not_ready(order, pods)
    return [
        f"{name} is there, and {before} is not ready"
        for place, name in enumerate(order)
        for before in order[:place]
        if name in there and before in waited_for
    ]


def overlapping(old: Iterable[str], new: Sequence[str], pods: Sequence[Mapping[str, Any]]) -> list[str]:
    """Which of the new pods of a group are there, at one moment, while an old one may still run."""
    there = {pod["metadata"]["name"] for pod in pods}
    alive = {pod["metadata"]["name"] for pod in pods if is_live(pod)}
    return [
        f"{name} is there, and {before} still runs"
        for before in old
        if before in alive
        for name in new
        if name in there
    ]


def group_restarts(supervisor: Mapping[str, Any]) -> list[tuple[str, tuple[str, ...]]]:
    """A Supervisor's restarts: who failed, and who was started anew."""
    return [(one["child"], tuple(one.get("group") or ())) for one in status_of(supervisor).get("restarts") or []]


# --- the council --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ballot:
    """A vote, as the status tells it."""

    proposal: str = ""
    proposed: Any = None
    outcome: str = "no vote"
    votes: tuple[tuple[str, str], ...] = ()

    @property
    def yes(self) -> int:
        """How many said Yes."""
        return sum(choice == "Yes" for _, choice in self.votes)

    def below(self, limit: float) -> bool:
        """Whether the proposed number is below the limit."""
        return isinstance(self.proposed, int | float) and self.proposed < limit

    def __str__(self) -> str:
        said = ", ".join(f"{name} {choice}" for name, choice in self.votes)
        return f"{self.proposal or 'nothing'} ({self.proposed}) {self.outcome}: {said or 'no votes'}"


def ballot_of(variable: Mapping[str, Any]) -> Ballot:
    """The last vote on a variable."""
    vote = status_of(variable).get("consensus") or {}
    votes = tuple((str(one["agent"]), str(one["choice"])) for one in vote.get("votes") or [])
    return Ballot(vote.get("proposal", ""), vote.get("proposed"), vote.get("outcome", "no vote"), votes)


@dataclass(frozen=True)
class Elected:
    """Who coordinates, and since which election."""

    name: str = ""
    term: int = 0

    def __str__(self) -> str:
        return f"{self.name or 'nobody'} (term {self.term})"


def elected(variable: Mapping[str, Any]) -> Elected:
    """Whom a pattern elected."""
    value = status_of(variable).get("value") or {}
    return Elected(str(value.get("coordinator") or ""), int(value.get("term") or 0))


def neighbours(name: str, members: Sequence[str]) -> list[str]:
    """Who is next to whom in a ring: the one after, then the one before; of two, each other's only one."""
    place = members.index(name)
    around = (members[(place + 1) % len(members)], members[place - 1])
    return [other for other in dict.fromkeys(around) if other != name]


def misled(members: Sequence[str], leader: Elected, told: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Which processes do not know the coordinator, its term, their role in it, or their neighbours; and what they think."""
    wrong = []
    for name in members:
        said = told.get(name) or {}
        if not said:
            wrong.append(f"{name} does not answer")
            continue
        if (said.get("coordinator"), said.get("term")) != (leader.name, leader.term):
            wrong.append(f"{name} knows of {said.get('coordinator')} (term {said.get('term')})")
        if (said.get("role") == "Coordinator") != (name == leader.name):
            wrong.append(f"{name} has the role {said.get('role')}")
        if said.get("peers") != neighbours(name, members):
            wrong.append(f"{name} is next to {said.get('peers')}")
    return wrong


def place_in_ring(said: Mapping[str, Any]) -> str:
    """What a process says of its place, in words."""
    next_to = " and ".join(said.get("peers") or []) or "nobody"
    return f"{said.get('role')}, next to {next_to}; coordinator is {said.get('coordinator')}, term {said.get('term')}"


def shares_of(variable: Mapping[str, Any]) -> dict[str, str]:
    """How much memory each agent was allotted."""
    value = status_of(variable).get("value") or {}
    return {name: str(share["memory"]) for name, share in value.items() if "memory" in share}


def bytes_of(quantity: str) -> int:
    """A quantity of memory in bytes."""
    for suffix, size in (("Ki", 1 << 10), ("Mi", 1 << 20), ("Gi", 1 << 30)):
        if quantity.endswith(suffix):
            return int(quantity.removesuffix(suffix)) * size
    return int(quantity)


def missing_memory(
    members: Iterable[str], shares: Mapping[str, str], told: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """Whose process was not told its share, or has another limit from the kernel."""
    wrong = []
    for name in members:
        share, said = shares.get(name), told.get(name) or {}
        if share is None or said.get("memory") != share or said.get("memoryLimitBytes") != bytes_of(share):
            wrong.append(f"{name}: allotted {share}, told {said.get('memory')}, limit {said.get('memoryLimitBytes')}")
    return wrong


def container(pod: Mapping[str, Any]) -> tuple[str, str, int]:
    """A pod's uid, its first container's id, and how often that was started anew."""
    containers = status_of(pod).get("containerStatuses") or [{}]
    uid = str((pod.get("metadata") or {}).get("uid") or "")
    return uid, str(containers[0].get("containerID") or ""), container_restarts(pod)


def logged(log: str, words: str) -> str | None:
    """The newest line of a log with these words, from its message on; None when there is none."""
    found = next((line for line in reversed(log.splitlines()) if words in line), None)
    return None if found is None else found.partition("annealers.executor: ")[2] or found


def ledger_line(entry: Mapping[str, Any]) -> str:
    """An entry of the ledger on one line."""
    words = [
        f"{key}: {str(entry[key]).lower() if isinstance(entry[key], bool) else entry[key]}"
        for key in ("time", "cause", "exitCode", "pod", "counted")
        if key in entry
    ]
    return ", ".join(words)
