"""YAML as people and kubectl write it → JSON documents as an apiserver would hold them, or one line that says what is wrong.

Duplicate keys, numbers that JSON does not have and nesting without end are refused here, as an apiserver refuses them.
"""

import itertools
import math
from collections.abc import Iterable, Iterator
from typing import Any, Final

import yaml

from mabeam.api.base import JsonDict

# Deeper than any object, and far from what Python's own stack can bear.
MAX_DEPTH: Final = 100
# What an API server reads of a request (3 MiB); a few lines of YAML with aliases of aliases stand for any number of bytes.
MAX_BYTES: Final = 3 * 1024 * 1024
MAX_KEYS: Final = 100_000


class InvalidWorld(ValueError):
    """The input cannot be used; the message names the document, the field and what is allowed."""


class _Loader(yaml.SafeLoader):
    """YAML whose times stay text (the objects' own fields know what they are) and whose keys are given once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                if key.value in seen:
                    line = node.start_mark.line + 1
                    raise ValueError(f"the key {key.value!r} is given twice in the object at line {line}")
                seen.add(key.value)
        return super().construct_mapping(node, deep)

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        super().flatten_mapping(node)
        if len(node.value) > MAX_KEYS:
            raise ValueError(f"the object at line {node.start_mark.line + 1} has more than {MAX_KEYS:,} keys")


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def documents(sources: Iterable[tuple[str, str]], allowed: str) -> Iterator[tuple[str, JsonDict]]:
    """Where each object stands, and the object; a List gives its items. Raises InvalidWorld; `allowed` names the kinds in it."""
    for source, text in sources:
        found = _load(source, text)
        if not found:
            raise InvalidWorld(f"{source}: holds no object; a world needs at least one, of {allowed}")
        for where, document in found:
            if not isinstance(document, dict):
                raise InvalidWorld(f"{where}: must be an object with apiVersion, kind and metadata")
            if document.get("kind") != "List":
                yield where, document
                continue
            yield from _items(where, document.get("items") or [])


def _items(where: str, items: Any) -> Iterator[tuple[str, JsonDict]]:
    if not isinstance(items, list):
        raise InvalidWorld(f"{where}: items: must be a list of objects")
    for index, item in enumerate(items, start=1):
        if not isinstance(item, dict):
            raise InvalidWorld(f"{where}, item {index}: must be an object with apiVersion, kind and metadata")
        yield f"{where}, item {index}", item


def _load(source: str, text: str) -> list[tuple[str, Any]]:
    numbers = itertools.count(1)
    try:
        loaded = [(f"{source}: document {next(numbers)}", document) for document in yaml.load_all(text, Loader=_Loader)]
    except RecursionError:
        raise InvalidWorld(f"{source}: nested too deeply") from None
    except (yaml.YAMLError, ValueError, OverflowError) as problem:
        problem_text = " ".join(str(problem).replace('in "<unicode string>", ', "at ").split())
        raise InvalidWorld(f"{source}: not YAML: {problem_text[:500]}") from None
    return [(where, document) for where, document in loaded if document is not None]


def as_json(where: str, value: Any, path: tuple[str, ...]) -> Any:
    """The value as an apiserver would hold it: JSON only, and what is null is not there."""
    if _size(value, {}) > MAX_BYTES:
        raise InvalidWorld(
            f"{where}: {'.'.join(path)}: must be at most {MAX_BYTES:,} bytes, with every YAML alias written out"
        )
    return _as_json(where, value, path)


def _size(value: Any, known: dict[int, float]) -> float:
    """About how many bytes the value has as JSON; each shared part is measured once, and one within itself is infinite."""
    if isinstance(value, str):
        return len(value)
    if not isinstance(value, dict | list):
        return 1
    if id(value) not in known:
        known[id(value)] = math.inf
        parts = itertools.chain(value, value.values()) if isinstance(value, dict) else iter(value)
        known[id(value)] = 2 + sum(_size(part, known) + 1 for part in parts)
    return known[id(value)]


def _as_json(where: str, value: Any, path: tuple[str, ...]) -> Any:
    if len(path) > MAX_DEPTH:
        raise InvalidWorld(f"{where}: {'.'.join(path[:6])}…: nested too deeply")
    here = f"{where}: {'.'.join(path)}"
    if isinstance(value, dict):
        odd = next((key for key in value if not isinstance(key, str)), None)
        if odd is not None:
            raise InvalidWorld(f"{here}: every key must be text; put {odd!r} in quotes")
        return {key: _as_json(where, item, (*path, key)) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_as_json(where, item, (*path, str(index))) for index, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidWorld(f"{here}: must be a finite number, not {value}")
    if isinstance(value, int) and not isinstance(value, bool) and not -(2**63) <= value < 2**63:
        raise InvalidWorld(f"{here}: must be a number of at most 64 bits")
    if value is not None and not isinstance(value, str | int | float):
        raise InvalidWorld(
            f"{here}: must be text, a number, true, false, a list or an object, not {type(value).__name__}"
        )
    return value
