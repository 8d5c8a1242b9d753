"""Directives: what the operator tells this agent, parsed once at the door.

The file is a key of a mounted ConfigMap. The kubelet publishes it by renaming the symlink `..data`, so a reader sees
the old text or the new one and never half of each. The volume is optional: before the first directive there is no file.
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


class Malformed(ValueError):
    """The file is there but is not a set of directives; the message says what is wrong with it."""


class Refused(Exception):
    """Raised by an agent that will not apply a set of directives: none of it is applied, and the reason is reported."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Peer:
    """An agent this one is wired to. `addresses` are its pods' IPs, as far as they are known.

    `direction` says who begins to talk: `Out` this agent, `In` the peer, `Both` either.
    """

    name: str
    role: str = ""
    addresses: tuple[str, ...] = ()
    direction: str = "Both"


@dataclass(frozen=True, slots=True)
class Coordinator:
    """Who coordinates this agent and its peers, and since which election: every new one has a higher term."""

    name: str
    term: int


@dataclass(frozen=True, slots=True)
class Proposal:
    """A change that waits for this agent's vote until `deadline` (None: no deadline was told)."""

    id: str
    variable: str = ""
    proposed: Any = None
    deadline: datetime | None = None


@dataclass(frozen=True, slots=True)
class Directives:
    """Everything this agent has been told, whole: a set replaces the one before, it is never merged with it.

    Generation 0 means that nothing was told yet; term 0, that nobody was elected. The term is the coordinator's; of the agent
    that is the coordinator itself, the one its role came with.
    """

    agent: str = ""
    generation: int = 0
    role: str = ""
    active: bool = True
    parameters: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    peers: tuple[Peer, ...] = ()
    resources: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    proposals: tuple[Proposal, ...] = ()
    coordinator: Coordinator | None = None
    term: int = 0

    def number(self, parameter: str, default: float) -> float:
        """The parameter as a float, the default when nobody set it; raises Refused when it is not a finite number."""
        value = self.parameters.get(parameter, default)
        if not _is_number(value) or not math.isfinite(value):
            raise Refused(f"parameter {parameter} is not a finite number")
        return float(value)


def parse(text: str | bytes, blank: Directives) -> Directives:
    """The directives in a JSON text; fields it leaves out are taken from `blank`, unknown ones are ignored.

    Raises Malformed. Strict about the types of known fields, so that an agent never acts on half an instruction;
    silent about unknown ones, so that an old agent survives a newer operator.
    """
    try:
        document = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"not JSON: {error}") from error
    if not isinstance(document, dict):
        raise Malformed("not a JSON object")
    fields = _Fields(document)
    generation = fields.get("generation", int, None)
    if generation is None or generation < 0:
        raise Malformed("generation must be a whole number >= 0")
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
    """The mounted file, read again only when it was replaced."""

    def __init__(self, directory: Path, blank: Directives) -> None:
        self._path = directory / FILE_NAME
        self._blank = blank
        self._seen: tuple[int, ...] | None = None

    def poll(self) -> Directives | None:
        """New directives, or None when there is no file or it is the one already read; raises Malformed once per text.

        A file that vanishes changes nothing: an agent goes on with what it was last told.
        """
        try:
            # Stat before read: a text replaced in between carries another mark and is read again at the next poll.
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
    """What differs between two files at one path. The inode alone may be used again by the next file."""
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
