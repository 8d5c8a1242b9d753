"""The worker's side of the pipe: questions in, answers out, one after the other, until the operator closes it.

It runs in a process of its own that nobody trusts, and imports nothing of the operator: a worker is small and starts fast.
A message is its length in four bytes and then JSON. The first answer is to no question: that the worker is ready.
"""

import json
import math
import os
import resource
import sys
from collections.abc import Callable
from typing import Any, BinaryIO, Final

LENGTH_BYTES: Final = 4

Evaluate = Callable[[dict[str, Any]], Any]


class InvalidFunction(Exception):
    """The question is answered with this error, in whole sentences of its own."""


def serve(prepare: Callable[[], Evaluate], processors: int = 1, parse_int: Callable[[str], float] = int) -> None:
    """Prepare, say that the worker is ready or why it is not, and then answer until the pipe is closed."""
    _die_first()
    questions, answers = _private_pipes()
    try:
        evaluate = prepare()
    except BaseException as problem:  # a plug-in's import may even call `sys.exit`
        _send(answers, _encoded({"error": _error_text(problem)}))
        return
    _send(answers, _encoded({"value": "ready"}))
    while (head := questions.read(LENGTH_BYTES)) and len(head) == LENGTH_BYTES:
        most, answer = _answer(questions, int.from_bytes(head), evaluate, processors, parse_int)
        if len(answer) > most > 0:
            answer = _encoded({"error": f"the answer has {len(answer)} bytes, at most {most} are taken"})
        _send(answers, answer)


def never_ready(problem: ImportError) -> None:
    """Say why there can be no worker here, in the place of the first answer: a library, or what it counts on, is missing."""
    _, answers = _private_pipes()
    _send(answers, _encoded({"error": _error_text(problem)}))


def _answer(
    questions: BinaryIO,
    length: int,
    evaluate: Evaluate,
    processors: int,
    parse_int: Callable[[str], float],
) -> tuple[int, bytes]:
    """How large the answer may be, and the answer."""
    most = 0
    try:
        question = json.loads(questions.read(length), parse_int=parse_int)
        most = int(question["most_bytes"])
        _limit_cpu(question["seconds"] * processors)
        return most, _encoded({"value": evaluate(question)})
    except MemoryError:
        return most, _encoded({"error": "it ran out of memory"})
    except RecursionError:
        return most, _encoded({"error": "it is nested too deeply"})
    except BaseException as problem:  # whatever a plug-in raises, `SystemExit` too, is an answer
        return most, _encoded({"error": _error_text(problem)})


def _error_text(problem: BaseException) -> str:
    if isinstance(problem, InvalidFunction):
        return str(problem)[:1024]
    text = str(problem)[:1024]
    return f"{type(problem).__name__}: {text}" if text else type(problem).__name__


def _encoded(answer: dict[str, Any]) -> bytes:
    try:
        return json.dumps(answer, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError) as problem:
        return json.dumps({"error": f"the answer is not JSON: {str(problem)[:512]}"}).encode()


def _send(answers: BinaryIO, answer: bytes) -> None:
    answers.write(len(answer).to_bytes(LENGTH_BYTES))
    answers.write(answer)
    answers.flush()


def _private_pipes() -> tuple[BinaryIO, BinaryIO]:
    """The two pipes to the operator, at numbers of their own: what a plug-in prints must not end up between the answers."""
    questions, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return questions, answers


# --- limits ---------------------------------------------------------------------------------------------------------------


def confine(memory_bytes: int) -> None:
    """Take from this process all that an expression needs not: files, sockets, processes, and memory beyond this."""
    if sys.platform != "linux":
        return
    with open("/proc/self/statm") as statm:
        size = int(statm.read().split()[0]) * resource.getpagesize()
    most = size + memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    for what in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE, resource.RLIMIT_NPROC, resource.RLIMIT_NOFILE):
        resource.setrlimit(what, (0, 0))


def _limit_cpu(seconds: float) -> None:
    """End this process when it computes for longer: the operator ends it too, but may itself be gone by then."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(usage.ru_utime + usage.ru_stime + seconds) + 1, hard))


def _die_first() -> None:
    """When the container runs out of memory, the kernel takes this process rather than the operator."""
    try:
        with open("/proc/self/oom_score_adj", "w") as score:
            score.write("1000")
    except OSError:
        return
