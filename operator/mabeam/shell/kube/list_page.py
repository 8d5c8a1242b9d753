"""One page of a LIST: the objects that can be read, and the names of those that cannot."""

from dataclasses import dataclass
from typing import Any

import orjson

from mabeam.api.base import JsonDict
from mabeam.shell.kube.json_members import ObjectIdentity, identity_of, members


@dataclass(frozen=True, slots=True)
class ListPage:
    """The readable objects of a page, the resourceVersion of the LIST, and the token of the next page (empty: the last)."""

    items: list[JsonDict]
    version: str = ""
    next_token: str = ""
    unreadable: tuple[ObjectIdentity, ...] = ()  # stored in the cluster, and left out of `items`


def parse_page(raw: bytes) -> ListPage:
    """The page that an answer holds when all of it can be parsed at once; raises ValueError."""
    document: Any = orjson.loads(raw)
    if not isinstance(document, dict):
        raise ValueError("no list")  # noqa: TRY004 - the document is at fault, not an argument
    return _page(document.get("items") or [], document.get("metadata") or {}, ())


def parse_page_by_item(raw: bytes) -> ListPage:
    """The page, each object parsed by itself; takes tenths of a second for a megabyte, so it belongs into a thread.

    Raises ValueError when the answer is no list, or an object has no name.
    """
    parts = dict(members(raw))
    items: list[JsonDict] = []
    unreadable: list[ObjectIdentity] = []
    for _, item in members(parts.get("items", b"[]")):
        try:
            items.append(orjson.loads(item))
        except ValueError:
            unreadable.append(identity_of(item))
    return _page(items, orjson.loads(parts.get("metadata", b"{}")), tuple(unreadable))


def _page(items: list[JsonDict], metadata: JsonDict, unreadable: tuple[ObjectIdentity, ...]) -> ListPage:
    version, token = (str(metadata.get(key) or "") for key in ("resourceVersion", "continue"))
    return ListPage(items, version, token, unreadable)
