"""supervisor.erl, literally: a one_for_one supervisor whose children are all of one restart type.

Transcribed clause by clause from `erlang/otp lib/stdlib/src/supervisor.erl` (`do_restart/3`, `restart/2`,
`add_restart/1,3`), in its own names, so that the two can be laid side by side. It shares nothing with the operator's core,
which is held against it (`tests/properties`). Times are what `erlang:monotonic_time(1)` gives: whole seconds.
"""

from dataclasses import dataclass, field
from typing import Literal

RestartType = Literal["permanent", "transient", "temporary"]
# `shutdown` stands for `{shutdown, Term}` as well: do_restart/3 treats them alike.
Reason = Literal["normal", "shutdown", "crash"]
Outcome = Literal["restarted", "not_restarted", "deleted", "shutdown"]


@dataclass
class Supervisor:
    """#state{intensity, period, restarts} and the children's restart type; `restarts` is newest first."""

    restart_type: RestartType
    intensity: int
    period: int
    restarts: list[int] = field(default_factory=list)

    def do_restart(self, reason: Reason, now: int) -> Outcome:
        """What becomes of a child that terminated with `reason`, and of the supervisor (`shutdown`: it gives up)."""
        # do_restart(Reason, Child, State) when ?is_permanent(Child) -> restart(Child, State)
        if self.restart_type == "permanent":
            return self._restart(now)
        # do_restart(normal, Child, State) -> del_child; do_restart(shutdown, …); do_restart({shutdown, _Term}, …)
        if reason in ("normal", "shutdown"):
            return "deleted" if self.restart_type == "temporary" else "not_restarted"
        # do_restart(Reason, Child, State) when ?is_transient(Child) -> restart(Child, State)
        if self.restart_type == "transient":
            return self._restart(now)
        # do_restart(Reason, Child, State) when ?is_temporary(Child) -> del_child(Child, State)
        return "deleted"

    def _restart(self, now: int) -> Outcome:
        # case add_restart(State) of {ok, NState} -> restart(…); {terminate, NState} -> {shutdown, …}
        return "restarted" if self._add_restart(now) else "shutdown"

    def _add_restart(self, now: int) -> bool:
        # R1 = add_restart([Now|R], Now, P), State1 = State#state{restarts = R1},
        # case length(R1) of CurI when CurI =< I -> {ok, State1}; _ -> {terminate, State1} end
        threshold = now - self.period
        kept = []
        for restart in [now, *self.restarts]:  # lists:takewhile(fun(R) -> R >= Threshold end, …)
            if restart < threshold:
                break
            kept.append(restart)
        self.restarts = kept
        return len(self.restarts) <= self.intensity


# --- a tree of them ------------------------------------------------------------------------------------------------------

Strategy = Literal["one_for_one", "one_for_all", "rest_for_one"]
AutoShutdown = Literal["never", "any_significant", "all_significant"]


@dataclass
class Worker:
    """#child{} whose pid is a worker's; `starts` counts its lives."""

    name: str
    restart_type: RestartType = "permanent"
    significant: bool = False
    pid: bool = False
    starts: int = 0

    def start(self, _now: int) -> None:
        self.pid = True
        self.starts += 1

    def terminate(self) -> None:
        self.pid = False


@dataclass
class TreeSupervisor:
    """A supervisor and its children in start order; itself a permanent child of its parent.

    handle_info({'EXIT', …}), restart_child/3, do_restart/3, restart/2, restart_multiple_children/3, do_auto_shutdown/2.
    """

    name: str
    children: list["Worker | TreeSupervisor"]
    strategy: Strategy = "one_for_one"
    intensity: int = 1
    period: int = 5
    auto_shutdown: AutoShutdown = "never"
    restart_type: RestartType = "permanent"
    significant: bool = False
    pid: bool = False
    deleted: set[str] = field(default_factory=set)
    restarts: list[int] = field(default_factory=list)
    total: int = 0  # restarts it ever made; kept for the comparison, as `starts` is

    def start(self, now: int) -> None:
        """init/1: all children, from the first to the last."""
        self.pid, self.restarts, self.deleted = True, [], set()
        for child in self.children:
            child.start(now)

    def terminate(self) -> None:
        """terminate/2: all children, from the last to the first."""
        self.pid = False
        for child in reversed(self.children):
            child.terminate()

    def exit(self, name: str, reason: Reason, now: int) -> Reason | None:
        """Deliver an exit of a worker somewhere below; the reason with which this supervisor terminated because of it."""
        for child in self.children:
            if not child.pid:
                continue
            if isinstance(child, TreeSupervisor):
                ended = child.exit(name, reason, now)
                if ended is not None:
                    gave_up = max([now, *child.restarts])  # its parent hears of it no sooner
                    return self._do_restart(ended, child, gave_up)
            elif child.name == name:
                child.pid = False
                return self._do_restart(reason, child, now)
        return None

    def _do_restart(self, reason: Reason, child: "Worker | TreeSupervisor", now: int) -> Reason | None:
        if child.restart_type == "permanent":
            return self._restart(child, now)
        if reason in ("normal", "shutdown"):
            self._del_child(child)
            return self._do_auto_shutdown(child)
        if child.restart_type == "transient":
            return self._restart(child, now)
        self._del_child(child)
        return self._do_auto_shutdown(child)

    def _del_child(self, child: "Worker | TreeSupervisor") -> None:
        child.pid = False
        if child.restart_type == "temporary":
            self.deleted.add(child.name)

    def _do_auto_shutdown(self, child: "Worker | TreeSupervisor") -> Reason | None:
        over = child.significant and (
            self.auto_shutdown == "any_significant"
            or (self.auto_shutdown == "all_significant" and not any(c.significant and c.pid for c in self.children))
        )
        if over:
            self.terminate()
        return "shutdown" if over else None

    def _restart(self, child: "Worker | TreeSupervisor", now: int) -> Reason | None:
        now = max([now, *self.restarts])  # erlang:monotonic_time/1 never goes back, whoever is heard of first
        window = Supervisor("permanent", self.intensity, self.period, self.restarts)
        allowed = window._add_restart(now)  # the very same clause
        self.restarts = window.restarts
        if not allowed:
            self.terminate()
            return "shutdown"
        self.total += 1
        place = self.children.index(child)
        first = {"one_for_one": place, "rest_for_one": place, "one_for_all": 0}[self.strategy]
        last = place if self.strategy == "one_for_one" else len(self.children) - 1
        group = self.children[first : last + 1]
        for other in reversed(group):  # terminate_children/2: a temporary child's spec goes with it
            if other.pid and other is not child:
                other.terminate()
                if other.restart_type == "temporary":
                    self.deleted.add(other.name)
        for other in group:
            if other.name not in self.deleted:
                other.start(now)
        return None


@dataclass
class Replicas(TreeSupervisor):
    """An Agent with a budget of its own: a supervisor of its replicas, and to its own supervisor a child of their type.

    To that one an exhausted budget is a crash, and the end of the last replica a normal end.
    """

    def exit(self, name: str, reason: Reason, now: int) -> Reason | None:
        """Deliver an exit of a replica; how the Agent as a whole ended because of it."""
        if super().exit(name, reason, now) is not None:
            return "crash"
        return None if any(replica.pid for replica in self.children) else "normal"
