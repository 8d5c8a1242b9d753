"""The door for answers: what a worker or a webhook sent, believed only as far as it is well formed."""

import json
import math
from typing import Any, Final

from mabeam.core.functions import FunctionResult

MAX_ERROR_CHARACTERS: Final = 256
# What is nested deeper than this is no value of a variable, and would overflow somebody's stack later.
MAX_DEPTH: Final = 32


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
        raise InvalidResult(f"it is nested deeper than {MAX_DEPTH}") from None
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
    if not _is_shallow(body["value"]):
        raise InvalidResult(f"`value` is nested deeper than {MAX_DEPTH}")
    return FunctionResult(value=body["value"])


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:32]} is too large a number")
    return number


def _is_shallow(value: Any, levels: int = MAX_DEPTH) -> bool:
    if not isinstance(value, dict | list):
        return True
    inner = value.values() if isinstance(value, dict) else value
    return levels > 0 and all(_is_shallow(item, levels - 1) for item in inner)


def _json_type(value: object) -> str:
    names = {dict: "object", list: "list", str: "string", bool: "boolean", int: "number", float: "number"}
    return names.get(type(value), "null")
