"""The text of an exception on one line, for a refusal's reason and the termination message. Making it never fails."""

from __future__ import annotations

import traceback
from collections.abc import Iterator

# The operator keeps 1024 characters of a termination message's last line; the leaves of a group share them.
MAX_LENGTH = 1000
MAX_LEAVES = 5
MAX_LEAF_LENGTH = 200


def error_text(error: BaseException) -> str:
    """The exception's type and text on one line, bounded; of a group, also those of the exceptions in it.

    "ExceptionGroup: unhandled errors in a TaskGroup (1 sub-exception)" alone would hide what happened.
    """
    text = _own_text(error)
    if isinstance(error, BaseExceptionGroup):
        # In the order in which they were raised, each text once.
        texts = list(dict.fromkeys(_own_text(leaf)[:MAX_LEAF_LENGTH] for leaf in _leaves(error)))
        more = [f"and {len(texts) - MAX_LEAVES} more"] if len(texts) > MAX_LEAVES else []
        text = f"{text[:MAX_LEAF_LENGTH]}: {'; '.join([*texts[:MAX_LEAVES], *more])}"
    return text[:MAX_LENGTH]


def one_line(text: str) -> str:
    """The text on one line."""
    return " ".join(text.split())


def encodable(text: str) -> str:
    r"""The text with each lone surrogate, which UTF-8 cannot encode, as its escape: `\udce9`.

    They come from file names, arguments and environment variables that are not UTF-8 (`os.fsdecode`), and from JSON.
    """
    return text.encode(errors="backslashreplace").decode()


def _own_text(error: BaseException) -> str:
    """The exception's own type and text, as the last line of a traceback has them."""
    try:
        return encodable(one_line("".join(traceback.format_exception_only(error))))
    except Exception:
        # A `__str__` that raises is traceback's affair; this is for one that returns something odd, or recurses too deeply.
        return f"{type(error).__name__}: <its text cannot be made>"


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    """The exceptions in a group, and in the groups in it, that are no groups themselves."""
    waiting: list[BaseException] = [group]
    while waiting:
        error = waiting.pop(0)
        if isinstance(error, BaseExceptionGroup):
            waiting[:0] = error.exceptions
        else:
            yield error
