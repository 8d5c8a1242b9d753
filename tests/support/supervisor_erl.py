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
