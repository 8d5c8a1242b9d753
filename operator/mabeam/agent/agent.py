"""The Agent: one object through which a worker hears the operator and answers it."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mabeam.agent import signals
from mabeam.agent.directives import Coordinator, Directives, DirectivesFile, Malformed, Peer, Proposal, Refused
from mabeam.agent.identity import Identity, whole_number
from mabeam.agent.report_server import ReportServer
from mabeam.agent.samples import SampleStore

DEFAULT_DIRECTORY = Path("/etc/mabeam")
DEFAULT_PORT = 9464

# A swap is noticed within this time. The standard library has no inotify. One look costs 3 µs, waking up for it up to a
# hundred times that: less than half a percent of one core (measured: docs/design/0003-agent-sdk.md).
POLL_SECONDS = 0.05

DirectivesHandler = Callable[[Directives], None]

log = logging.getLogger("mabeam.agent")


class Agent:
    """What the operator tells this worker, and what the worker says back. Every method may be called from any thread.

    Used as a context manager it listens, reports and turns SIGTERM into `stopping`; `mabeam-agent run` does that for
    the class it starts. A program of one's own writes `with Agent.from_environment(os.environ) as agent:`.
    """

    def __init__(
        self,
        identity: Identity = Identity(),  # noqa: B008  (frozen: one instance may be everybody's default)
        directory: Path = DEFAULT_DIRECTORY,
        port: int = DEFAULT_PORT,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.identity = identity
        self.stopping = threading.Event()
        self._samples = SampleStore(clock)
        self._directives = Directives(agent=identity.agent, role=identity.role)
        self._file = DirectivesFile(directory, blank=self._directives)
        self._changed = threading.Condition()
        self._handler: DirectivesHandler | None = None
        self._last_handled = self._directives
        self._handler_lock = threading.Lock()
        self._highest_term = 0
        self._stop_callbacks: list[Callable[[], None]] = []
        self._closed = threading.Event()
        self._server = ReportServer(port, self._samples.families)
        self._opened = contextlib.ExitStack()

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Agent:
        """The agent that the operator's environment variables describe; raises ValueError naming a bad one."""
        return cls(
            Identity.from_environment(environ),
            Path(environ.get("MABEAM_DIRECTIVES_DIR") or DEFAULT_DIRECTORY),
            whole_number(environ, "MABEAM_REPORT_PORT", DEFAULT_PORT),
        )

    # -- life -------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        """This agent, listening and reporting; raises OSError when the report port is taken."""
        with contextlib.ExitStack() as starting:
            # Before anything slow: until a handler is installed, a container's first process ignores SIGTERM.
            starting.enter_context(signals.on_termination(self.stop))
            starting.enter_context(self._server)
            self._poll()
            threading.Thread(target=self._watch, name="mabeam-directives", daemon=True).start()
            starting.callback(self._closed.set)
            self._opened = starting.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._opened.close()

    @property
    def port(self) -> int:
        """The port the report is served on; the one that was chosen, when it was asked for as 0."""
        return self._server.port

    def stop(self) -> None:
        """Ask the worker to finish, as SIGTERM does. Waits are interrupted; nothing is killed."""
        self.stopping.set()
        with self._changed:
            self._changed.notify_all()
            callbacks, self._stop_callbacks = self._stop_callbacks, []
        for callback in callbacks:
            callback()

    def on_stop(self, callback: Callable[[], None]) -> None:
        """Call back once, from another thread, when the agent is asked to stop; at once if it already was."""
        with self._changed:
            if not self.stopping.is_set():
                self._stop_callbacks.append(callback)
                return
        callback()

    def stop_listening(self) -> None:
        """Hand over no more directives: the worker is finishing. The report is served on."""
        self._closed.set()

    def last_report(self) -> dict[str, Any]:
        """What is worth keeping of the report when the process is gone: one generation, one count, the performance."""
        return self._samples.last_report()

    # -- hearing ----------------------------------------------------------------------------------------------------

    @property
    def directives(self) -> Directives:
        """The newest directives. Generation 0: none came yet."""
        return self._directives

    @property
    def role(self) -> str:
        """The role that was told, else the one in the spec."""
        return self._directives.role

    @property
    def active(self) -> bool:
        """Whether to work; False: stay up and wait."""
        return self._directives.active

    @property
    def peers(self) -> tuple[Peer, ...]:
        """Whom to talk to, in the pattern's order: in a ring the next one, then the one before."""
        return self._directives.peers

    @property
    def resources(self) -> Mapping[str, str]:
        """What was allotted, as quantities; nothing while nobody divides anything."""
        return self._directives.resources

    @property
    def proposals(self) -> tuple[Proposal, ...]:
        """What waits for this agent's vote."""
        return self._directives.proposals

    @property
    def coordinator(self) -> Coordinator | None:
        """Who coordinates; None while nobody was elected."""
        return self._directives.coordinator

    @property
    def term(self) -> int:
        """The number of the election that the coordinator came from; 0 while nobody was elected."""
        return self._directives.term

    def wait_for_change(self, seen: Directives, timeout: float | None = None) -> Directives:
        """The newest directives as soon as they differ from `seen`; `seen` itself at the timeout or on stopping."""
        # The caller says what it has seen, so a change between two calls is never missed.
        with self._changed:
            self._changed.wait_for(lambda: self._directives != seen or self.stopping.is_set(), timeout)
            return self._directives

    def on_directives(self, handler: DirectivesHandler) -> DirectivesHandler:
        """Let `handler` apply directives from now on, the present ones at once; also usable as a decorator.

        Returning acknowledges the generation. Raising Refused, or anything else, refuses it with that reason. Calls
        come one at a time, later ones from a thread of the SDK; when several changes come during one call, only the
        newest is handed over.
        """
        if self._handler is not None:
            raise ValueError("directives have a handler already")
        self._handler = handler
        self._call_handler()
        return handler

    # -- answering --------------------------------------------------------------------------------------------------

    def applied(self, directives: Directives) -> None:
        """Acknowledge directives read without a handler: they are in force."""
        self._samples.applied(directives.generation)

    def refuse(self, directives: Directives, reason: str, *, variable: str = "") -> None:
        """Say that one variable's directive will not be applied, or (without `variable`) the whole generation.

        A handler that refuses one variable this way and returns has applied the rest.
        """
        self._samples.refuse(directives.generation, variable, reason)

    def prefer(self, variable: str, value: float | str | Mapping[str, float], *, weight: float | None = None) -> None:
        """Say what a variable should be: a number, a choice, or several choices with the strength of each."""
        self._samples.prefer(variable, value, weight)

    def bid(self, variable: str, amount: float) -> None:
        """Say what deciding the variable is worth to this agent."""
        self._samples.bid(variable, amount)

    def withdraw(self, variable: str) -> None:
        """Take back the preference and the bid for a variable."""
        self._samples.withdraw(variable)

    def vote(self, proposal: str, choice: str) -> None:
        """Vote on a proposal, by its id. The last vote counts; it is dropped when the proposal is over."""
        self._samples.vote(proposal, choice)

    def perform(self, value: float, *, metric: str = "") -> None:
        """Say how well it goes. Without `metric` it is the primary performance, where higher is better."""
        self._samples.perform(value, metric)

    def progress(self, steps: float = 1) -> None:
        """Count work done. An agent that neither progresses nor waits for too long is taken for hung."""
        self._samples.progress(steps)

    def waiting(self, seconds: float) -> contextlib.AbstractContextManager[None]:
        """Say that no progress is due for so long, from now. In a `with` statement the wait ends with the block."""
        return _Wait(self._samples, self._samples.wait(seconds))

    # -- within -----------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        while not self._closed.wait(POLL_SECONDS):
            try:
                if self._poll():
                    self._call_handler()
            except Exception:
                # This thread is the agent's only ear. A defect in it must not leave the agent deaf.
                log.exception("watching directives")

    def _poll(self) -> bool:
        """Whether new directives came."""
        try:
            directives = self._file.poll()
        except Malformed as error:
            self._samples.malformed()
            log.warning("directives ignored, keeping generation %d: %s", self._directives.generation, error)
            return False
        if directives is None or directives == self._directives:
            return False
        if self._is_of_an_old_term(directives):
            return False
        over = {proposal.id for proposal in self._directives.proposals}
        over.difference_update(proposal.id for proposal in directives.proposals)
        with self._changed:
            self._directives = directives
            self._changed.notify_all()
        self._samples.close_votes(over)
        log.info("directives of generation %d", directives.generation)
        return True

    def _is_of_an_old_term(self, directives: Directives) -> bool:
        """Whether these are of a coordinator whose successor is known here already; such a set is refused whole.

        A set that tells of no coordinator at all ends what was known: the next election may be the first of a new variable.
        """
        if 0 < directives.term < self._highest_term:
            reason = f"term {directives.term} is over: term {self._highest_term} is known here"
            self.refuse(directives, reason)
            log.warning("generation %d refused: %s", directives.generation, reason)
            return True
        self._highest_term = directives.term
        return False

    def _call_handler(self) -> None:
        """Let the handler apply the newest directives, and answer for it."""
        with self._handler_lock:
            directives = self._directives
            if self._handler is None or directives == self._last_handled or self._closed.is_set():
                return
            self._last_handled = directives
            try:
                self._handler(directives)
            except Refused as refusal:
                self.refuse(directives, refusal.reason)
                log.info("generation %d refused: %s", directives.generation, refusal.reason)
            except (Exception, SystemExit) as error:
                # Refused rather than fatal: the agent still has its last good settings, and the operator learns the
                # reason at once instead of waiting for a timeout.
                self.refuse(directives, f"{type(error).__name__}: {error}")
                log.exception("generation %d refused: its handler failed", directives.generation)
            else:
                self.applied(directives)


class _Wait(contextlib.AbstractContextManager[None]):
    def __init__(self, answers: SampleStore, token: object) -> None:
        self._samples = answers
        self._token = token

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._samples.end_wait(self._token)
