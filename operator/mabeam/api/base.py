"""Base types of all kinds: frozen models in camelCase, times, quantities, conditions and validation rules.

A `Rule` states one validation twice: as CEL for the API server, and as Python for `mabeam plan` and for objects that were
stored before the rule existed. `tests/api` runs the same corpus through both.
"""

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from enum import StrEnum
from functools import cache
from typing import Annotated, Any, ClassVar, Final, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
    model_validator,
)
from pydantic.alias_generators import to_camel, to_snake
from pydantic_core import PydanticCustomError

JsonDict = dict[str, Any]

# Marks a default that is in the CRD too. There are few: such a default is written to the stored object, a difference for
# GitOps tools (docs/design/0001-house-and-api.md).
CRD_DEFAULT = "x-crd-default"


@dataclass(frozen=True)
class Rule:
    """One validation of a model, in CEL and in Python."""

    cel: (
        str | None
    )  # for the API server; None where CEL cannot look (a field of any type): the operator alone checks it
    message: str  # names the field and says what is allowed
    holds: Callable[[Any], bool]  # the same in Python; False becomes Accepted=False


def spelt_like(field: str, built_in: Iterable[str]) -> Rule:
    """The rule that refuses another spelling of a built-in name, in a field that may also name a plug-in."""
    names = {name.lower(): str(name) for name in built_in}
    return Rule(
        None,  # only the operator checks it
        f"`{to_camel(field)}` must be {', '.join(names.values())}, spelt like this, or the name of a plug-in",
        lambda model: getattr(model, field) in names.values() or not _resembles(getattr(model, field), names),
    )


def _resembles(text: str, names: Iterable[str]) -> bool:
    """Whether the text is one of the names in lower case but for its spelling, or for a letter or so of it."""
    letters = "".join(letter for letter in text.lower() if letter.isalnum())
    return bool(get_close_matches(letters, names, n=1, cutoff=_SAME_NAME))


# The share of letters in which a typo still agrees with what was meant (difflib's ratio): one letter of about ten.
_SAME_NAME = 0.9


def not_supported_yet(field: str, wire: str | None = None) -> Rule:
    """The rule that refuses a field which has no effect yet; ignoring it would mislead."""
    name = wire or to_camel(field)
    return Rule(f"!has(self.{name})", f"`{name}` is not supported yet", lambda model: getattr(model, field) is None)


class KubeModel(BaseModel):
    """A frozen part of an API object: camelCase in JSON, unknown fields refused, `rules` checked after the fields."""

    model_config = ConfigDict(
        frozen=True, alias_generator=to_camel, populate_by_name=True, extra="forbid", use_enum_values=False
    )
    rules: ClassVar[tuple[Rule, ...]] = ()

    @model_validator(mode="after")
    def _check_rules(self) -> Self:
        for name, keys in _unique_lists(type(self)):
            duplicate = _first_duplicate(getattr(self, name) or (), keys)
            if duplicate is not None:
                message = f"`{to_camel(name)}` must not hold {duplicate} twice"
                raise PydanticCustomError("rule", "{message}", {"message": message})
        for rule in self.rules:
            if not rule.holds(self):
                raise PydanticCustomError("rule", "{message}", {"message": rule.message})
        return self

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with other values, unvalidated, like pydantic's own; faster, because each pass makes several."""
        if deep:
            return super().model_copy(update=update, deep=True)
        changes = update or {}
        copied = type(self).__new__(type(self))
        object.__setattr__(copied, "__dict__", {**self.__dict__, **changes})
        object.__setattr__(copied, "__pydantic_fields_set__", self.__pydantic_fields_set__ | changes.keys())
        object.__setattr__(copied, "__pydantic_extra__", None)
        object.__setattr__(copied, "__pydantic_private__", None)
        return copied

    def to_wire(self, *, stored: bool = False) -> JsonDict:
        """The JSON object as the API server stores it: camelCase, without fields that are None, numbers in their shortest form.

        With `stored` only fields that were set: for a parsed model, those of its source, without today's defaults.
        """
        wire: JsonDict = _shortest(self.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_unset=stored))
        return wire


@cache
def _unique_lists(model: type[BaseModel]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The list fields that the API server treats as sets or maps, with the keys of the maps (none for a set)."""
    found = []
    for name, field in model.model_fields.items():
        extra = field.json_schema_extra
        kind = extra.get("x-kubernetes-list-type") if isinstance(extra, dict) else None
        if kind in ("set", "map") and isinstance(extra, dict):
            keys = extra.get("x-kubernetes-list-map-keys")
            found.append((name, tuple(to_snake(str(key)) for key in keys) if isinstance(keys, list) else ()))
    return tuple(found)


def _first_duplicate(items: Iterable[Any], keys: tuple[str, ...]) -> str | None:
    seen = set()
    for item in items:
        mark = tuple(getattr(item, key) for key in keys) if keys else (item,)
        if mark in seen:
            return ", ".join(str(part) for part in mark)
        seen.add(mark)
    return None


_INT64: Final = 2**63


def _shortest(value: Any) -> Any:
    """The value as the API server returns it: 30 for 30.0, integers beyond 64 bits as floats, nothing that is null."""
    if isinstance(value, dict):
        return {key: _shortest(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [_shortest(inner) for inner in value if inner is not None]
    if isinstance(value, float) and value.is_integer() and abs(value) < _INT64:
        return int(value)
    if isinstance(value, int) and _INT64 <= abs(value) <= sys.float_info.max:
        return float(value)
    return value


class StatusModel(KubeModel):
    """A part of a status. Unknown fields are ignored: an older or newer operator may have written them."""

    model_config = ConfigDict(extra="ignore")

    @classmethod
    def modernized(cls, json: JsonDict) -> JsonDict:
        """The JSON as this release would have stored it; that of the last release may differ."""
        return json


def _to_utc(value: datetime) -> datetime:
    try:
        return (value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)).replace(microsecond=0)
    except OverflowError:
        raise ValueError("must lie in the years 1 to 9999, in UTC too") from None


def format_time(value: datetime) -> str:
    """RFC 3339 in UTC with whole seconds, as metav1.Time is written (`strftime` would write the year 1 as `1`)."""
    return value.astimezone(UTC).replace(tzinfo=None, microsecond=0).isoformat() + "Z"


# metav1.Time: whole seconds, which is also the resolution of supervisor.erl's restart window.
Time = Annotated[datetime, AfterValidator(_to_utc), PlainSerializer(format_time, return_type=str)]

QUANTITY_PATTERN = r"^\+?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?[0-9]+))?$"
Quantity = Annotated[
    str,
    BeforeValidator(lambda value: str(value) if isinstance(value, int) and not isinstance(value, bool) else value),
    Field(pattern=QUANTITY_PATTERN, max_length=32),
    WithJsonSchema(
        {
            "x-kubernetes-int-or-string": True,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "pattern": QUANTITY_PATTERN,
            "maxLength": 32,
        }
    ),
]

# What is nested deeper than this is no value of a variable; JSON writers stop at 254 levels, and a status adds some of its own.
MAX_VALUE_DEPTH: Final = 32


def without_nulls(value: Any, levels: int = MAX_VALUE_DEPTH) -> Any:
    """The JSON value without what is null inside it; raises ValueError when it is nested deeper than `levels`.

    No JSON merge patch (RFC 7386) can store a null: one would be decided and written for ever. `kubectl apply` drops them too.
    """
    if isinstance(value, dict | list) and levels <= 0:
        raise ValueError("must not be nested so deep")
    if isinstance(value, dict):
        return {key: without_nulls(inner, levels - 1) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [without_nulls(inner, levels - 1) for inner in value if inner is not None]
    return value


# The type of a value depends on its domain: a number, a choice or an object. CEL cannot look inside; the operator validates.
JsonValue = Annotated[
    Any, BeforeValidator(without_nulls), WithJsonSchema({"x-kubernetes-preserve-unknown-fields": True})
]
# For an object whose members are values; in an annotation it stands behind the bounds, so that they stay in the schema.
MEMBERS_WITHOUT_NULLS: Final = BeforeValidator(lambda value: without_nulls(value, MAX_VALUE_DEPTH + 1))

# Bounds within which every number is exact in JSON and every sum is finite.
MAGNITUDE = 1e12
Number = Annotated[float, Field(ge=-MAGNITUDE, le=MAGNITUDE, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, le=MAGNITUDE, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=2**31 - 1)]
Seconds = Annotated[int, Field(ge=0, le=86_400)]

DNS_LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
DNS_SUBDOMAIN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
ObjectName = Annotated[str, Field(pattern=DNS_SUBDOMAIN, min_length=1, max_length=253)]
ParameterName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]*$", max_length=63)]
ShortText = Annotated[str, Field(max_length=256)]
LongText = Annotated[str, Field(max_length=1024)]
LabelMap = Annotated[
    dict[Annotated[str, Field(max_length=317)], Annotated[str, Field(max_length=63)]], Field(max_length=64)
]
AnnotationMap = Annotated[
    dict[Annotated[str, Field(max_length=317)], Annotated[str, Field(max_length=4096)]], Field(max_length=64)
]


def list_map(*keys: str) -> JsonDict:
    """Schema extras of a list that server-side apply merges by `keys`."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


LIST_SET: JsonDict = {"x-kubernetes-list-type": "set"}


class ConditionStatus(StrEnum):
    """metav1.ConditionStatus."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(StatusModel):
    """metav1.Condition."""

    type: Annotated[str, Field(max_length=316), Field(description="Type of the condition, for example Ready.")]
    status: ConditionStatus
    observed_generation: Annotated[
        int | None,
        Field(ge=0, le=2**53),
        Field(description="The `metadata.generation` that the condition was computed from."),
    ] = None
    last_transition_time: Annotated[Time | None, Field(description="When `status` last changed.")] = None
    reason: Annotated[
        str,
        Field(max_length=256),
        Field(description="The reason in one CamelCase word; docs/architecture.md lists them."),
    ] = ""
    message: Annotated[str, Field(max_length=2048), Field(description="The reason as a sentence.")] = ""


MAX_CONDITIONS: Final = 16
Conditions = Annotated[tuple[Condition, ...], Field(max_length=MAX_CONDITIONS, json_schema_extra=list_map("type"))]


class OwnerReference(StatusModel):
    """metav1.OwnerReference, as far as it decides on ownership."""

    kind: str
    name: str
    uid: str = ""
    controller: bool = False


class ObjectMeta(StatusModel):
    """The part of metav1.ObjectMeta that the operator reads."""

    name: str
    namespace: str = "default"
    uid: str = ""
    generation: int = 1
    resource_version: str = ""
    creation_timestamp: Time | None = None
    deletion_timestamp: Time | None = None
    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}
    autoscaler: Annotated[str, Field(max_length=253, exclude=True)] = ""
