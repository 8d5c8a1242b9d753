"""Rules in CEL that a value has to obey before it is taken; a value that breaks one is not, and the last one stays."""

from dataclasses import dataclass
from typing import Any

from mabeam.core.questions import Ask, Language
from mabeam.core.strategies.round import Round, answer_to, inputs


@dataclass(frozen=True)
class Checked:
    """What is still to be asked, or which rule the value breaks; neither when it may be taken."""

    asks: tuple[Ask, ...] = ()
    broken: str | None = None


def check(round_: Round, value: Any) -> Checked:
    """Whether the variable's rules allow the value; a rule that cannot be evaluated does not."""
    constraints = round_.variable.spec.constraints
    asks, broken = [], None
    given = inputs(round_, value) if constraints is not None and constraints.rules_ else {}
    for rule in (constraints.rules_ or ()) if constraints is not None else ():
        ask, answer = answer_to(round_, Ask(Language.CEL, rule.cel, given))
        if answer is None:
            asks.append(ask)
        elif broken is None and answer.value is not True:
            why = answer.error or ("" if answer.value is False else f"gave {answer.value!r:.40}, not true or false")
            broken = f"{rule.message or rule.cel}{f' ({why})' if why else ''}"
    return Checked(tuple(asks), broken)
