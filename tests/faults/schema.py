"""The CRDs' own schemas, as the apiserver reads them: would it take this value, and would it prune any of it?

Written from the rules for structural schemas (apiextensions/v1), not from the models: what the operator writes is held
against what the apiserver would be told, and what is generated from the schema is what any user may send. CEL is left out.
"""

import math
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

JsonDict = dict[str, Any]
Schema = Mapping[str, Any]

PRESERVE: Final = "x-kubernetes-preserve-unknown-fields"
INT_OR_STRING: Final = "x-kubernetes-int-or-string"
LIST_TYPE: Final = "x-kubernetes-list-type"
LIST_KEYS: Final = "x-kubernetes-list-map-keys"
RULES: Final = "x-kubernetes-validations"
CRDS: Final = Path(__file__).resolve().parents[2] / "crds"
PLURALS: Final = {"Agent": "agents", "OrchestrationVariable": "orchestrationvariables", "Supervisor": "supervisors"}

_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
}
_NOT_YET: Final = re.compile(r"!has\(self\.(\w+)\)")
_ONLY_YET: Final = re.compile(r"!has\(self\.(\w+)\) \|\| self\.\1 in \[([^\]]*)\]")


@cache
def of(kind: str, part: str) -> JsonDict:
    """The schema of `spec` or `status` of a kind."""
    document = yaml.safe_load((CRDS / f"{PLURALS[kind]}.mabeam.dev.yaml").read_text())
    root: JsonDict = document["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    found: JsonDict = root["properties"][part]
    return found


def supported(schema: Schema) -> JsonDict:
    """The schema without what its own CEL rules refuse as not supported yet."""
    narrowed = {key: value for key, value in schema.items() if key not in ("properties", "items")}
    properties = {name: supported(child) for name, child in schema.get("properties", {}).items()}
    for rule in schema.get(RULES, ()):
        refused, only = _NOT_YET.fullmatch(rule["rule"]), _ONLY_YET.fullmatch(rule["rule"])
        if refused is not None:
            properties.pop(refused.group(1), None)
        elif only is not None and only.group(1) in properties:
            allowed = [value.strip().strip("'") for value in only.group(2).split(",")]
            properties[only.group(1)] = {"type": "string", "enum": allowed}
    if properties:
        narrowed["properties"] = properties
    if "items" in schema:
        narrowed["items"] = supported(schema["items"])
    return narrowed


def problem(schema: Schema, value: Any) -> str | None:
    """The first reason why the apiserver would refuse the value or drop a part of it, None when it would take it whole."""
    return next(_problems(schema, value, "$"), None)


def _problems(schema: Schema, value: Any, path: str) -> Iterator[str]:
    if schema.get(PRESERVE) and "type" not in schema:
        yield from _not_json(value, path)
        return
    if value is None:
        yield f"{path}: null"
        return
    if schema.get(INT_OR_STRING):
        if isinstance(value, bool) or not isinstance(value, int | str):
            yield f"{path}: neither a whole number nor text"
        yield from _text(schema, value, path) if isinstance(value, str) else ()
        return
    kind = schema.get("type")
    if kind is not None and (not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind != "boolean")):
        yield f"{path}: {type(value).__name__} instead of {kind}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{path}: {value!r} is none of {schema['enum']}"
    match kind:
        case "string":
            yield from _text(schema, value, path)
        case "array":
            yield from _list(schema, value, path)
        case "object":
            yield from _object(schema, value, path)
        case "integer" | "number":
            yield from _number(schema, value, path)


def _number(schema: Schema, value: Any, path: str) -> Iterator[str]:
    if not math.isfinite(value):
        yield f"{path}: {value} is no JSON number"
    elif not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        yield f"{path}: {value} is not from {schema.get('minimum')} to {schema.get('maximum')}"


def _text(schema: Schema, value: str, path: str) -> Iterator[str]:
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        yield f"{path}: half of a surrogate pair cannot be sent"
    if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)):
        yield f"{path}: {len(value)} characters, allowed up to {schema.get('maxLength')}"
    pattern = schema.get("pattern")
    # Go's `$` is the end of the text; Python's may stand before a last line feed.
    if pattern is not None and re.search(re.sub(r"\$$", r"\\Z", pattern), value) is None:
        yield f"{path}: {value!r} does not match {pattern}"
    if schema.get("format") == "date-time":
        try:
            datetime.fromisoformat(value)
        except ValueError:
            yield f"{path}: {value!r} is no time"


def _list(schema: Schema, value: list[Any], path: str) -> Iterator[str]:
    if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
        yield f"{path}: {len(value)} items, allowed up to {schema.get('maxItems')}"
    for index, item in enumerate(value):
        yield from _problems(schema["items"], item, f"{path}[{index}]")
    keys = schema.get(LIST_KEYS, ())
    if schema.get(LIST_TYPE) in ("set", "map"):
        marks = [repr([item.get(key) for key in keys] if keys else item) for item in value]
        if len(marks) != len(set(marks)):
            yield f"{path}: an item twice in a {schema[LIST_TYPE]}"


def _object(schema: Schema, value: JsonDict, path: str) -> Iterator[str]:
    if len(value) > schema.get("maxProperties", len(value)):
        yield f"{path}: {len(value)} properties, allowed up to {schema['maxProperties']}"
    for name in schema.get("required", ()):
        if name not in value:
            yield f"{path}.{name}: missing"
    known, others = schema.get("properties", {}), schema.get("additionalProperties")
    for name, inner in value.items():
        if name in known:
            yield from _problems(known[name], inner, f"{path}.{name}")
        elif others is not None:
            yield from _problems(others, inner, f"{path}.{name}")
        elif schema.get(PRESERVE):
            yield from _not_json(inner, f"{path}.{name}")
        else:
            yield f"{path}.{name}: would be pruned"


def _not_json(value: Any, path: str) -> Iterator[str]:
    match value:
        case dict():
            for name, inner in value.items():
                yield from _not_json(inner, f"{path}.{name}") if isinstance(name, str) else (f"{path}: key {name!r}",)
        case list():
            for index, inner in enumerate(value):
                yield from _not_json(inner, f"{path}[{index}]")
        case str():
            yield from _text({}, value, path)
        case bool() | None:
            return
        case int() if abs(value) > 1e308:  # up to there, the apiserver makes a float of what does not fit 64 bits
            yield f"{path}: a whole number of {len(str(value))} digits"
        case int():
            return
        case float():
            yield from _number({}, value, path)
        case _:
            yield f"{path}: {type(value).__name__} is not JSON"
