"""The `Agent` object: a worker reads its directives from it and reports through it."""

from __future__ import annotations

import contextlib
import inspect
import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mabeam.agent import fork
from mabeam.agent.directives import Coordinator, Directives, DirectivesFile, Malformed, Peer, Proposal, Refused
from mabeam.agent.error_text import error_text
from mabeam.agent.identity import Identity, whole_number
from mabeam.agent.report_server import ReportServer
from mabeam.agent.samples import SampleStore
from mabeam.agent.signals import TerminationSignals

DEFAULT_DIRECTORY = Path("/etc/mabeam")
DEFAULT_PORT = 9464

# A replaced directives file is noticed within this time, in seconds. The standard library has no inotify. One `stat` costs
# 3 µs, the wake-up for it up to a hundred times that: less than half a percent of one core (measured:
# docs/design/0003-agent-sdk.md, "Decisions").
POLL_SECONDS = 0.05
# How long the end waits for the thread that watches the file: it may be inside the worker's handler.
JOIN_SECONDS = 0.2

DirectivesHandler = Callable[[Directives], None]

log = logging.getLogger("mabeam.agent")


class Agent:
    """The directives of this worker and its report. Every method may be called from any thread.

    As a context manager it watches the directives file, serves the report and turns SIGTERM into `stopping`;
    `mabeam-agent run` enters it for the class it starts. A program with its own entry point writes
    `with Agent.from_environment(os.environ) as agent:`.
    """

    def __init__(
        self,
        identity: Identity = Identity(),  # noqa: B008  (frozen: one instance may be everybody's default)
        directory: Path = DEFAULT_DIRECTORY,
        port: int = DEFAULT_PORT,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.identity = identity  # which agent, pod, ordinal and incarnation this process is
        self.stopping = threading.Event()  # set by SIGTERM, SIGINT and `stop`
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
        self._is_ready = threading.Event()
        self._server = ReportServer(port, self._samples.families, self._is_ready.is_set)
        self._signals = TerminationSignals(self.stop)
        self._opened = contextlib.ExitStack()

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Agent:
        """The agent that the `MABEAM_*` environment variables describe; raises ValueError naming a malformed variable."""
        return cls(
            Identity.from_environment(environ),
            Path(environ.get("MABEAM_DIRECTIVES_DIR") or DEFAULT_DIRECTORY),
            whole_number(environ, "MABEAM_REPORT_PORT", DEFAULT_PORT),
        )

    # -- lifecycle -------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        """This agent, watching its directives and serving its report; raises OSError when the report port is taken."""
        with contextlib.ExitStack() as starting:
            # Before anything slow: until a handler is installed, a container's first process ignores SIGTERM.
            starting.enter_context(self._signals)
            starting.enter_context(self._server)
            starting.callback(fork.call_in_child(self._leave_in_child))
            self._poll()
            watching = threading.Thread(target=self._watch, name="mabeam-directives", daemon=True)
            watching.start()
            # Joined, because a daemon thread that logs while the interpreter ends may abort it.
            starting.callback(watching.join, timeout=JOIN_SECONDS)
            starting.callback(self._closed.set)
            self._opened = starting.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._opened.close()

    @property
    def port(self) -> int:
        """The port on which the report is served; with port 0, the one that the system chose."""
        return self._server.port

    def stop(self) -> None:
        """Set `stopping` and wake every wait, as SIGTERM does. Nothing is killed."""
        self.stopping.set()
        with self._changed:
            self._changed.notify_all()
            callbacks, self._stop_callbacks = self._stop_callbacks, []
        for callback in callbacks:
            try:
                callback()
            except Exception:
                # One callback that fails keeps none of the others from learning of the stop.
                log.exception("a callback of on_stop failed")

    def on_stop(self, callback: Callable[[], None]) -> None:
        """Call `callback` once, from another thread, when the agent is asked to stop; at once if it was asked already."""
        with self._changed:
            if not self.stopping.is_set():
                self._stop_callbacks.append(callback)
                return
        callback()

    def ready(self) -> None:
        """Say that the agent can work: from now on `/readyz` on the report's port answers 200.

        `mabeam-agent run` says it once `__init__` has returned, unless the class has `ready_by_call = True`.
        """
        self._is_ready.set()

    def stop_listening(self) -> None:
        """Call the handler no more: the worker is finishing. The report stays available."""
        self._closed.set()

    def last_report(self) -> dict[str, Any]:
        """The report as kept in the termination message: the applied generation, the progress, the performance by metric."""
        return self._samples.last_report()

    # -- directives ----------------------------------------------------------------------------------------------------

    @property
    def directives(self) -> Directives:
        """The newest directives; generation 0 before the first ones arrive."""
        return self._directives

    @property
    def role(self) -> str:
        """The role from the directives, else the one in the spec."""
        return self._directives.role

    @property
    def active(self) -> bool:
        """Whether to work. False: keep running, but idle."""
        return self._directives.active

    @property
    def peers(self) -> tuple[Peer, ...]:
        """The agents to communicate with, in the pattern's order: in a ring the next one, then the previous one."""
        return self._directives.peers

    @property
    def resources(self) -> Mapping[str, str]:
        """Allocated amounts: resource name → Kubernetes quantity. Empty while no variable allocates anything."""
        return self._directives.resources

    @property
    def proposals(self) -> tuple[Proposal, ...]:
        """The open proposals on which this agent may vote."""
        return self._directives.proposals

    @property
    def coordinator(self) -> Coordinator | None:
        """The elected coordinator; None while there is none."""
        return self._directives.coordinator

    @property
    def term(self) -> int:
        """The term of the coordinator (each election has a higher one); 0 while there is none."""
        return self._directives.term

    def wait_for_change(self, seen: Directives, timeout: float | None = None) -> Directives:
        """The newest directives as soon as they differ from `seen`; `seen` after `timeout` seconds or when stopping."""
        # The caller passes what it has seen, so that a change between two calls is never missed.
        with self._changed:
            self._changed.wait_for(lambda: self._directives != seen or self.stopping.is_set(), timeout)
            return self._directives

    def on_directives(self, handler: DirectivesHandler) -> DirectivesHandler:
        """Register `handler`, which applies directives: the current ones at once, then each new set; also a decorator.

        Returning acknowledges the generation. Raising Refused, or any other exception, refuses it with that reason.
        Calls never overlap; all but the first are made on a thread of the SDK. When several sets arrive during one
        call, only the newest is passed on.
        """
        if self._handler is not None:
            raise ValueError("directives have a handler already")
        self._handler = handler
        self._call_handler()
        return handler

    # -- the report --------------------------------------------------------------------------------------------------

    def applied(self, directives: Directives) -> None:
        """Acknowledge directives that were applied without a handler."""
        self._samples.applied(directives.generation)

    def refuse(self, directives: Directives, reason: str, *, variable: str = "") -> None:
        """Refuse the directive of one variable or, without `variable`, the whole generation.

        A handler that refuses one variable this way and returns has applied the rest.
        """
        self._samples.refuse(directives.generation, variable, reason)

    def prefer(self, variable: str, value: float | str | Mapping[str, float], *, weight: float | None = None) -> None:
        """Offer a value for a variable: a number, a choice, or several choices with a strength each."""
        self._samples.prefer(variable, value, weight)

    def bid(self, variable: str, amount: float) -> None:
        """Bid in the variable's auction: what deciding its value is worth to this agent."""
        self._samples.bid(variable, amount)

    def withdraw(self, variable: str) -> None:
        """Withdraw the preference and the bid for a variable."""
        self._samples.withdraw(variable)

    def vote(self, proposal: str, choice: str) -> None:
        """Vote on a proposal, by its id: Yes, No or Abstain. The last vote counts; it is dropped when the proposal closes."""
        self._samples.vote(proposal, choice)

    def perform(self, value: float, *, metric: str = "") -> None:
        """Report performance by metric. Without `metric` it is the primary performance, where higher is better."""
        self._samples.perform(value, metric)

    def progress(self, steps: float = 1) -> None:
        """Add to the progress counter. An agent without progress for `progressTimeoutSeconds` counts as hung, unless it waits."""
        self._samples.progress(steps)

    def waiting(self, seconds: float) -> contextlib.AbstractContextManager[None]:
        """Announce that no progress is due for `seconds` from now. As a context manager the wait ends with the block."""
        return _Wait(self._samples, self._samples.wait(seconds))

    # -- internals -----------------------------------------------------------------------------------------------------

    def _leave_in_child(self) -> None:
        """In a child made by fork, the agent is the parent's: here nothing is served, watched or handled, and no lock is held.

        Its threads are not in the child, so a lock that one of them held would never be released.
        """
        self._opened.pop_all()
        stopping, self.stopping = self.stopping.is_set(), threading.Event()
        if stopping:
            self.stopping.set()
        self._closed = threading.Event()
        self._closed.set()
        self._changed = threading.Condition()
        self._handler_lock = threading.Lock()
        self._stop_callbacks = []
        self._samples.leave_in_child()
        self._server.leave_in_child()
        self._signals.leave_in_child()

    def _watch(self) -> None:
        while not self._closed.wait(POLL_SECONDS):
            try:
                if self._poll():
                    self._call_handler()
            except Exception:
                # Only this thread reads directives: a defect must not end it.
                log.exception("watching directives")

    def _poll(self) -> bool:
        """Whether a new set of directives was read."""
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
        closed = {proposal.id for proposal in self._directives.proposals}
        closed.difference_update(proposal.id for proposal in directives.proposals)
        with self._changed:
            self._directives = directives
            self._changed.notify_all()
        self._samples.close_votes(closed)
        log.info("directives of generation %d", directives.generation)
        return True

    def _is_of_an_old_term(self, directives: Directives) -> bool:
        """Whether the set is of a lower term than the highest one seen; such a set is refused as a whole.

        A set without a coordinator resets the highest term: the next election may be the first of a new variable, and a
        new variable counts its terms from 1 (docs/design/0003-agent-sdk.md, "Decisions").
        """
        if 0 < directives.term < self._highest_term:
            reason = f"term {directives.term} is over: term {self._highest_term} has begun"
            self.refuse(directives, reason)
            log.warning("generation %d refused: %s", directives.generation, reason)
            return True
        self._highest_term = directives.term
        return False

    def _call_handler(self) -> None:
        """Let the handler apply the newest directives, and acknowledge or refuse them accordingly."""
        with self._handler_lock:
            directives = self._directives
            if self._handler is None or directives == self._last_handled or self._closed.is_set():
                return
            self._last_handled = directives
            try:
                _apply(self._handler, directives)
            except Refused as refusal:
                self.refuse(directives, refusal.reason)
                log.info("generation %d refused: %s", directives.generation, refusal.reason)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                # Refused rather than fatal: the agent keeps its last good settings, and the operator learns the reason
                # at once instead of waiting for a timeout. SystemExit and the cancellations of other libraries included:
                # the thread that reads directives must survive each of them.
                self.refuse(directives, f"{_name_of(self._handler)} raised {error_text(error)}")
                log.exception("generation %d refused: its handler failed", directives.generation)
            else:
                self.applied(directives)


def _apply(handler: DirectivesHandler, directives: Directives) -> None:
    """Call the handler; raises Refused for an async one, which the call alone does not run."""
    called: Callable[[Directives], object] = handler
    result = called(directives)
    if inspect.iscoroutine(result):
        result.close()
        raise Refused(f"{_name_of(handler)} is async, and nothing awaits it: an async handler takes an async run")


def _name_of(handler: DirectivesHandler) -> str:
    return str(getattr(handler, "__name__", "the handler of directives"))


class _Wait(contextlib.AbstractContextManager[None]):
    def __init__(self, samples: SampleStore, token: object) -> None:
        self._samples = samples
        self._token = token

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._samples.end_wait(self._token)
