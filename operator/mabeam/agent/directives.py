"""Directives: the parsed content of `directives.json`, the file through which the operator instructs this agent.

The file is a key of a mounted ConfigMap. The kubelet publishes a new version by renaming the symlink `..data`, so a reader
sees either the old text or the new one. The volume is optional: before the first directive there is no file.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

FILE_NAME = "directives.json"
# Above it, a sample of the report, which is a float, could not hold the number exactly.
MAX_GENERATION = 2**53


class Malformed(ValueError):
    """The file exists but does not hold directives; the message says what is wrong with it."""


class Refused(Exception):
    """Raised by an agent to refuse a whole set of directives; the reason is reported to the operator."""

    def __init__(self, reason: object = "no reason given") -> None:
        super().__init__(reason)
        self.reason = str(reason)


@dataclass(frozen=True, slots=True)
class Peer:
    """An agent that this one communicates with."""

    name: str
    role: str = ""
    addresses: tuple[str, ...] = ()  # IPs of its pods, as far as they are known
    direction: str = "Both"  # who opens the connection: Out (this agent), In (the peer), Both (either)


@dataclass(frozen=True, slots=True)
class Coordinator:
    """The agent that was elected to coordinate this one and its peers."""

    name: str
    term: int  # number of the election; each one has a higher number than the one before


@dataclass(frozen=True, slots=True)
class Proposal:
    """A proposed value that this agent may vote on until `deadline` (None: no deadline was given)."""

    id: str
    variable: str = ""
    proposed: Any = None
    deadline: datetime | None = None


@dataclass(frozen=True, slots=True)
class Directives:
    """All directives in force for this agent. A new set replaces the old one whole; the two are never merged."""

    agent: str = ""
    generation: int = 0  # number of the set; 0: none was received yet
    role: str = ""
    active: bool = True  # False: keep running, but idle
    parameters: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))  # parameter name → JSON value
    peers: tuple[Peer, ...] = ()  # in the pattern's order
    resources: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))  # resource name → quantity
    proposals: tuple[Proposal, ...] = ()  # open for this agent's vote
    coordinator: Coordinator | None = None
    term: int = 0  # of the coordinator, or of this agent's own election if it is the coordinator; 0: nobody is elected

    def number(self, parameter: str, default: float) -> float:
        """The parameter as a float, `default` when it is not set; raises Refused when it is not a finite number."""
        value = self.parameters.get(parameter, default)
        if not _is_number(value) or not math.isfinite(value):
            raise Refused(f"parameter {parameter} is not a finite number")
        return float(value)


def parse(text: str | bytes, blank: Directives) -> Directives:
    """The directives in a JSON text; missing fields are taken from `blank`, unknown ones are ignored. Raises Malformed.

    Types of known fields are checked, so that an agent never acts on half of an instruction. Unknown fields are ignored,
    so that an old agent works with a newer operator.
    """
    try:
        document = json.loads(text, parse_constant=_refuse_constant)
        if not isinstance(document, dict):
            raise Malformed("not a JSON object")
        return _directives(document, blank)
    except Malformed:
        raise
    except ValueError as error:
        raise Malformed(f"not JSON: {error}") from error
    except RecursionError as error:
        raise Malformed("nested too deeply") from error


def _directives(document: Mapping[str, Any], blank: Directives) -> Directives:
    fields = _Fields(document)
    generation = fields.get("generation", int, None)
    if generation is None or not 0 <= generation <= MAX_GENERATION:
        raise Malformed(f"generation must be a whole number from 0 to {MAX_GENERATION}")
    named = fields.get("coordinator", dict, None)
    coordinator = None if named is None else _coordinator(named)
    return Directives(
        agent=fields.get("agent", str, blank.agent),
        generation=generation,
        role=fields.get("role", str, blank.role),
        active=fields.get("active", bool, blank.active),
        parameters=_frozen(fields.get("parameters", dict, {})),
        peers=tuple(_peer(item) for item in fields.get("peers", list, [])),
        resources=MappingProxyType({k: _quantity(k, v) for k, v in fields.get("resources", dict, {}).items()}),
        proposals=tuple(_proposal(item) for item in fields.get("proposals", list, [])),
        coordinator=coordinator,
        term=max(_term(fields, 0), coordinator.term if coordinator is not None else 0),
    )


class DirectivesFile:
    """The mounted file, read again only after it was replaced."""

    def __init__(self, directory: Path, blank: Directives) -> None:
        self._path = directory / FILE_NAME
        self._blank = blank
        self._seen: tuple[int, ...] | None = None

    def poll(self) -> Directives | None:
        """New directives; None when there is no file or it was read already. Raises Malformed once per text.

        A file that disappears changes nothing: the last directives stay in force.
        """
        try:
            # `stat` before `read`: a file replaced in between differs from this mark and is read again at the next poll.
            mark = _mark(os.stat(self._path))
            if mark == self._seen:
                return None
            text = self._path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            if self._seen == (unreadable := (-1, error.errno or 0)):
                return None
            self._seen = unreadable
            raise Malformed(f"cannot be read: {error.strerror}") from error
        self._seen = mark
        return parse(text, self._blank)


def _mark(stat: os.stat_result) -> tuple[int, ...]:
    """What tells two files at one path apart. The inode alone may be reused by the next file."""
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns


class _Fields:
    """Typed access to one JSON object."""

    def __init__(self, document: Mapping[str, Any], where: str = "") -> None:
        self._document = document
        self._where = where

    def get(self, name: str, kind: type, default: Any) -> Any:
        """The field, the default when it is absent or null; raises Malformed when it has another type."""
        value = self._document.get(name)
        if value is None:
            return default
        # bool is an int in Python, and true is no generation.
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise Malformed(f"{self._where}{name} must be {_JSON_TYPES[kind]}")
        return value


_JSON_TYPES: Mapping[type, str] = {
    str: "a string",
    int: "a whole number",
    bool: "true or false",
    dict: "an object",
    list: "a list",
}


def _peer(item: object) -> Peer:
    """A peer from its object, or from its bare name."""
    if isinstance(item, str) and item:
        return Peer(item)
    if not isinstance(item, dict):
        raise Malformed("each of peers must be an object with a name")
    fields = _Fields(item, "peers: ")
    name = fields.get("name", str, "")
    addresses = fields.get("addresses", list, [])
    if not name or not all(isinstance(address, str) for address in addresses):
        raise Malformed("each of peers must have a name, and strings as addresses")
    return Peer(name, fields.get("role", str, ""), tuple(addresses), fields.get("direction", str, "Both"))


def _coordinator(item: Mapping[str, Any]) -> Coordinator:
    fields = _Fields(item, "coordinator: ")
    name = fields.get("name", str, "")
    if not name:
        raise Malformed("coordinator must have a name")
    return Coordinator(name, _term(fields, 1))


def _term(fields: _Fields, default: int) -> int:
    term: int = fields.get("term", int, default)
    if term < 0:
        raise Malformed("term must be a whole number >= 0")
    return term


def _proposal(item: object) -> Proposal:
    if not isinstance(item, dict):
        raise Malformed("each of proposals must be an object with an id")
    fields = _Fields(item, "proposals: ")
    identifier = fields.get("id", str, "")
    if not identifier:
        raise Malformed("each of proposals must have an id")
    deadline = fields.get("deadline", str, None)
    try:
        moment = None if deadline is None else datetime.fromisoformat(deadline)
    except ValueError as error:
        raise Malformed(f"proposals: deadline {deadline!r} is not an RFC 3339 time") from error
    return Proposal(identifier, fields.get("variable", str, ""), _frozen(item.get("proposed")), moment)


def _quantity(name: str, value: object) -> str:
    """A Kubernetes quantity as text: `"256Mi"`, and a bare JSON number as it was written."""
    if isinstance(value, str) or _is_number(value):
        return str(value)
    raise Malformed(f"resources: {name} must be a quantity")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _frozen(value: Any) -> Any:
    """The same JSON value, made of read-only mappings and tuples all the way down."""
    if isinstance(value, dict):
        return MappingProxyType({key: _frozen(item) for key, item in value.items()})
    if isinstance(value, list):
        return tuple(_frozen(item) for item in value)
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
