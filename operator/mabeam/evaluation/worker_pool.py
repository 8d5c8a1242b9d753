"""The operator's side of the pipe: child processes that answer one question at a time, and are killed when they do not.

Everything here blocks, and is called from threads. A worker inherits no environment, no open file and no terminal.
"""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, Final

from mabeam.evaluation.results import parse_result
from mabeam.evaluation.worker_main import LENGTH_BYTES

# A cold start reads some 30 MB of library from a disk that may be busy.
START_SECONDS: Final = 30.0
CHUNK_BYTES: Final = 65_536
# Isolated: neither PYTHON… variables nor the working directory decide what is imported; the operator's own path does.
_BOOT: Final = """
import importlib, sys
arguments = sys.argv[2:]
end = arguments.index("--")
sys.path[:] = arguments[:end]
try:
    main = importlib.import_module(sys.argv[1]).main
except ImportError as problem:
    importlib.import_module("mabeam.evaluation.worker_main").never_ready(problem)
else:
    main(arguments[end + 1:])
"""


class EvaluationTimeout(Exception):
    """No answer came in time; the worker was killed."""


class WorkerEnded(Exception):
    """The worker ended in the middle of a question, or was not there; the text says how."""


class WorkerProcess:
    """One child process; it is ready to be asked once `wait_until_ready` came back."""

    def __init__(self, module: str, arguments: Sequence[str], environment: Mapping[str, str], quiet: bool) -> None:
        self.questions = 0
        self._process = subprocess.Popen(  # noqa: S603 - this same Python, with arguments of our own
            [sys.executable, "-I", "-c", _BOOT, module, *sys.path, "--", *arguments],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if quiet else None,
            env=dict(environment),
            cwd="/",
            start_new_session=True,  # Ctrl-C at a terminal is for the operator, and the whole family is killed at once
        )
        self._questions, self._answers = _pipe(self._process.stdin), _pipe(self._process.stdout)
        for pipe in (self._questions, self._answers):
            os.set_blocking(pipe.fileno(), False)

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether the process is gone."""
        return self._process.poll() is not None

    def wait_until_ready(self, seconds: float = START_SECONDS) -> None:
        """Come back when the worker may be asked; raises WorkerEnded with its reason when it never may."""
        try:
            result = parse_result(self._exchange(b"", seconds, CHUNK_BYTES))
        except EvaluationTimeout:
            raise WorkerEnded(f"its worker was not ready within {seconds:g} s") from None
        if result.error is not None:
            raise WorkerEnded(result.error)

    def ask(self, question: bytes, seconds: float, most_bytes: int) -> bytes:
        """The answer as it was sent; raises EvaluationTimeout or WorkerEnded, and then the worker is of no more use."""
        self.questions += 1
        # An answer that is too large is itself answered by a short error, so some room is left for that.
        return self._exchange(len(question).to_bytes(LENGTH_BYTES) + question, seconds, max(most_bytes, CHUNK_BYTES))

    def _exchange(self, outgoing: bytes, seconds: float, most_bytes: int) -> bytes:
        deadline = time.monotonic() + seconds
        rest, got = memoryview(outgoing), bytearray()
        with selectors.DefaultSelector() as selector:
            selector.register(self._answers, selectors.EVENT_READ)
            if rest:
                selector.register(self._questions, selectors.EVENT_WRITE)
            while len(got) < LENGTH_BYTES or len(got) < LENGTH_BYTES + int.from_bytes(got[:LENGTH_BYTES]):
                left = deadline - time.monotonic()
                if left <= 0:
                    raise EvaluationTimeout
                for key, _ in selector.select(left):
                    if key.fileobj is self._questions:
                        rest = rest[self._write(rest) :]
                        if not rest:
                            selector.unregister(self._questions)
                    else:
                        got += self._read()
                if len(got) >= LENGTH_BYTES and int.from_bytes(got[:LENGTH_BYTES]) > most_bytes:
                    raise WorkerEnded("it sent more than was allowed, and was killed")
        return bytes(got[LENGTH_BYTES:])

    def _write(self, data: memoryview) -> int:
        try:
            return os.write(self._questions.fileno(), data[:CHUNK_BYTES])
        except BlockingIOError:
            return 0
        except OSError:
            raise WorkerEnded(self._how_it_ended()) from None

    def _read(self) -> bytes:
        try:
            data = os.read(self._answers.fileno(), CHUNK_BYTES)
        except BlockingIOError:
            return b""
        if not data:
            raise WorkerEnded(self._how_it_ended())
        return data

    def _how_it_ended(self) -> str:
        try:
            code = self._process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            return "its worker closed the pipe"
        if code == -signal.SIGABRT:
            return "its worker gave up (SIGABRT), most likely for want of memory"
        if code < 0:
            return f"its worker ended by {signal.Signals(-code).name}"
        return f"its worker ended with exit code {code}"

    def kill(self) -> None:
        """End the process and its children now; the pipes stay open for a thread that may still be reading them."""
        if not self.ended:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def end(self) -> None:
        """End the process, and leave nothing of it behind."""
        self.kill()
        self._process.wait()
        for pipe in (self._questions, self._answers):
            with contextlib.suppress(OSError):
                pipe.close()


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise RuntimeError("a worker has both its pipes")
    return pipe


@dataclass
class WorkerPool:
    """WorkerPool of one kind, started when they are needed; `keep` of them stay while nobody asks.

    How many there are at once follows from how many threads ask at once. A worker is renewed after `most_questions`: what an
    evaluator's allocator keeps must not add up to the limit of memory.
    """

    start: Callable[[], WorkerProcess]
    keep: int = 1
    most_questions: int = 10_000
    _idle: list[WorkerProcess] = field(default_factory=list)
    _busy: set[WorkerProcess] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _closed: bool = False

    def answer(self, question: Mapping[str, Any], seconds: float, most_bytes: int) -> bytes:
        """What a worker sends; raises EvaluationTimeout or WorkerEnded, and that worker is replaced."""
        whole = json.dumps({**question, "seconds": seconds, "most_bytes": most_bytes}).encode()
        worker = self._take()
        sound = False
        try:
            if worker.questions == 0:
                worker.wait_until_ready()
            answer = worker.ask(whole, seconds, most_bytes)
            sound = worker.questions < self.most_questions
            return answer
        finally:
            self._give(worker, sound)

    def _take(self) -> WorkerProcess:
        with self._lock:
            while self._idle and not self._closed:
                worker = self._idle.pop()
                if not worker.ended:
                    self._busy.add(worker)
                    return worker
                worker.end()
        started = self.start()
        with self._lock:
            if not self._closed:
                self._busy.add(started)
                return started
        started.end()
        raise WorkerEnded("the operator is ending")

    def _give(self, worker: WorkerProcess, sound: bool) -> None:
        with self._lock:
            self._busy.discard(worker)
            if sound and not self._closed and len(self._idle) < self.keep:
                self._idle.append(worker)
                return
        worker.end()

    @property
    def pids(self) -> list[int]:
        """The numbers of all processes there are."""
        with self._lock:
            return [worker.pid for worker in (*self._idle, *self._busy)]

    def close(self) -> None:
        """End all of them; a thread that waits for one learns that it ended."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            for worker in self._busy:
                worker.kill()
        for worker in idle:
            worker.end()
