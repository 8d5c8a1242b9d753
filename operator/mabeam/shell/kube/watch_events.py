"""The lines of a WATCH stream, each parsed by itself: an unparsable line is distinguished from a broken stream."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import aiohttp
import orjson

from mabeam.api.base import JsonDict
from mabeam.shell.kube.errors import ApiError
from mabeam.shell.kube.json_members import ObjectIdentity, identity_of, members

CHANGES: Final = frozenset({"ADDED", "MODIFIED", "DELETED"})
# The type of an event whose object cannot be parsed; its `object` then holds nothing but the metadata that identifies it.
UNREADABLE: Final = "UNREADABLE"


class StreamError(Exception):
    """An ERROR event of the apiserver without a status code, or a line that is no watch event."""


async def lines(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """The stream's lines, however long; other tasks run between two chunks even when the stream never pauses."""
    rest = b""
    async for chunk in stream.iter_any():
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            if line:
                yield line
        await asyncio.sleep(0)


def parse_event(line: bytes) -> JsonDict:
    """The event `{"type": …, "object": …}`; raises ApiError for an ERROR event, StreamError for anything else that is no event.

    An object that cannot be parsed is reduced to its identity: as an event of type DELETED, which needs no more, else UNREADABLE.
    """
    try:
        event: JsonDict = orjson.loads(line)
    except ValueError as problem:
        return _reduced(line, problem)
    body = event.get("object") if isinstance(event, dict) else None
    if not isinstance(body, dict):
        raise StreamError(f"not a watch event: {line[:120]!r}")
    if event.get("type") == "ERROR":
        raise _error(body)
    return event


def identity_in(event: JsonDict) -> ObjectIdentity:
    """What the event's object is called."""
    metadata = event["object"].get("metadata") or {}
    return ObjectIdentity(*(str(metadata.get(key) or "") for key in ("namespace", "name", "uid", "resourceVersion")))


def _reduced(line: bytes, problem: ValueError) -> JsonDict:
    try:
        parts = dict(members(line))
        type_, found = orjson.loads(parts["type"]), identity_of(parts["object"])
    except (ValueError, KeyError):
        raise StreamError(f"a line that cannot be parsed: {problem}") from None
    metadata = {
        "namespace": found.namespace,
        "name": found.name,
        "uid": found.uid,
        "resourceVersion": found.resource_version,
    }
    return {"type": type_ if type_ == "DELETED" else UNREADABLE, "object": {"metadata": metadata}}


def _error(status: JsonDict) -> Exception:
    code = status.get("code")
    if isinstance(code, int):
        return ApiError(code, str(status.get("reason", "")), str(status.get("message", "")))
    return StreamError(f"an ERROR event without a status code: {str(status)[:120]}")
