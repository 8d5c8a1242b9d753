"""Answers at once, for commands that run no event loop: `mabeam plan` and `mabeam replay`."""

import atexit
from collections.abc import Mapping, Sequence
from functools import cache

from mabeam.core.questions import Answer, Ask, Language
from mabeam.shell.evaluate import Evaluator


def answer_now(ask: Ask) -> Answer:
    """What the function says, within its limits; a webhook is not called, for a plan must not do anything."""
    if ask.language is Language.WEBHOOK:
        return Answer(error="a plan calls no webhook")
    return _evaluator().answer(ask).answer


def answers_now(asks: Sequence[Ask], known: Mapping[str, Answer]) -> dict[str, Answer]:
    """The answers known, and those to what is not answered yet."""
    found = dict(known)
    for ask in asks:
        if ask.id not in found:
            found[ask.id] = answer_now(ask)
    return found


@cache
def _evaluator() -> Evaluator:
    evaluator = Evaluator()
    atexit.register(evaluator.close)
    return evaluator
