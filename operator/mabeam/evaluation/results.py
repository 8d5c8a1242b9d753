"""The door for answers: what a worker or a webhook sent, believed only as far as it is well formed."""

import json
import math
from typing import Any, Final

from mabeam.api.base import MAX_VALUE_DEPTH, without_nulls
from mabeam.core.functions import FunctionResult

MAX_ERROR_CHARACTERS: Final = 256


class InvalidResult(Exception):
    """What was sent is no answer; the text says why."""


def one_line(text: str) -> str:
    """The text as one bounded line that can be printed anywhere."""
    line = " ".join(text.split())
    line = "".join(character if character.isprintable() else "?" for character in line)
    return line if len(line) <= MAX_ERROR_CHARACTERS else line[: MAX_ERROR_CHARACTERS - 1] + "…"


def failed_result(text: str, *, timed_out: bool = False) -> FunctionResult:
    """The answer that says what went wrong."""
    return FunctionResult(error=one_line(text) or "failed without a word", timed_out=timed_out)


def parse_result(raw: bytes) -> FunctionResult:
    """The answer in `{"value": any JSON}` or `{"error": "text"}`; raises InvalidResult naming what else it was."""
    try:
        body = json.loads(raw, parse_constant=_refuse, parse_float=_finite)
    except RecursionError:
        raise InvalidResult(f"it is nested deeper than {MAX_VALUE_DEPTH}") from None
    except UnicodeDecodeError:
        raise InvalidResult("it is not JSON: not UTF-8") from None
    except ValueError as problem:
        raise InvalidResult(f"it is not JSON: {problem}") from None
    if not isinstance(body, dict):
        raise InvalidResult(f"it is a JSON {_json_type(body)}, not an object with `value` or `error`")
    if set(body) not in ({"value"}, {"error"}):
        keys = ", ".join(sorted(body)) or "nothing"
        raise InvalidResult(f"an answer has `value` or `error` and nothing else, this one has {keys}")
    if "error" in body:
        if not isinstance(body["error"], str):
            raise InvalidResult(f"`error` is a JSON {_json_type(body['error'])}, not a string")
        return failed_result(body["error"])
    return FunctionResult(value=_storable(body["value"]))


def _storable(value: Any) -> Any:
    """The value without what is null inside it, as every value that enters; raises InvalidResult where no status can hold it."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise InvalidResult("`value` has text that is not Unicode (half of a surrogate pair)") from None
    except RecursionError:
        raise InvalidResult(f"`value` is nested deeper than {MAX_VALUE_DEPTH}") from None
    try:
        return without_nulls(value)
    except ValueError:
        raise InvalidResult(f"`value` is nested deeper than {MAX_VALUE_DEPTH}") from None


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:32]} is too large a number")
    return number


def _json_type(value: object) -> str:
    names = {dict: "object", list: "list", str: "string", bool: "boolean", int: "number", float: "number"}
    return names.get(type(value), "null")
