"""The members of a JSON document as raw text, however deep it nests: for documents that no parser takes.

The apiserver stores objects that nest up to 10,000 levels deep; orjson stops at 1024 and Python's `json` at about 990. Only what
such an object is called is needed, to pass over it and to say which one it was. The scan keeps no stack, so no depth ends it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import orjson

# Up to the next brackets, past whole strings: brackets inside a string do not nest. Possessive, so that it never backtracks.
_TO_BRACKETS: Final = re.compile(rb'(?:[^"\[\]{}]++|"[^"\\]*+(?:\\.[^"\\]*+)*+")*+([\[\]{}]++)', re.DOTALL)
_STRING: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_SCALAR: Final = re.compile(rb"[^\s,\]}]+")
_SPACE: Final = re.compile(rb"[\s,:]*")
_OPENING: Final = b"[{"


@dataclass(frozen=True, slots=True)
class ObjectIdentity:
    """What a Kubernetes object is called; every field is empty when the object does not tell it."""

    namespace: str = ""
    name: str = ""
    uid: str = ""
    resource_version: str = ""


def members(raw: bytes) -> Iterator[tuple[str, bytes]]:
    """Each direct member of a JSON object or array: its key (empty in an array) and its raw value. Raises ValueError."""
    at = _past_space(raw, 0)
    if raw[at : at + 1] not in (b"{", b"["):
        raise ValueError("neither a JSON object nor an array")
    is_object = raw[at : at + 1] == b"{"
    at = _past_space(raw, at + 1)
    while raw[at : at + 1] not in (b"}", b"]", b""):
        key = ""
        if is_object:
            end = _end_of_value(raw, at)
            key, at = str(orjson.loads(raw[at:end])), _past_space(raw, end)
        end = _end_of_value(raw, at)
        yield key, raw[at:end]
        at = _past_space(raw, end)


def member(raw: bytes, name: str) -> bytes | None:
    """The raw value of the member `name`, None when there is none. Raises ValueError."""
    return next((value for key, value in members(raw) if key == name), None)


def identity_of(raw: bytes) -> ObjectIdentity:
    """What the object whose JSON this is is called, read from its `metadata` alone. Raises ValueError."""
    metadata = member(raw, "metadata")
    if metadata is None:
        raise ValueError("an object without metadata")
    found = {key: value for key, value in members(metadata) if value.startswith(b'"')}
    names = (orjson.loads(found.get(key, b'""')) for key in ("namespace", "name", "uid", "resourceVersion"))
    return ObjectIdentity(*names)


def _past_space(raw: bytes, at: int) -> int:
    found = _SPACE.match(raw, at)
    return found.end() if found is not None else at


def _end_of_value(raw: bytes, start: int) -> int:
    first = raw[start : start + 1]
    if first in (b"{", b"["):
        return _end_of_nesting(raw, start)
    found = (_STRING if first == b'"' else _SCALAR).match(raw, start)
    if found is None:
        raise ValueError("a JSON value is missing or does not end")
    return found.end()


def _end_of_nesting(raw: bytes, start: int) -> int:
    depth, found = 0, _TO_BRACKETS.match(raw, start)
    while found is not None:
        for at, bracket in enumerate(found[1], found.start(1) + 1):
            depth += 1 if bracket in _OPENING else -1
            if depth == 0:
                return at
        found = _TO_BRACKETS.match(raw, found.end())
    raise ValueError("a JSON object or array does not end")
