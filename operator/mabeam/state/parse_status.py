"""A stored status as a model, without only those parts that this version cannot read.

A newer operator that was rolled back, or somebody else, may have stored words, fields and list items that the models do not know.
Such a part costs itself alone: an unreadable field is left out, an unreadable list item too, and all else is kept. Where the
absence of a field would mean something, INFERRED says what is believed instead. `status_patch` keeps what was left out when the
status is written (docs/design/0016-bounded-statuses.md).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Final, TypeVar, get_args, get_origin

from pydantic import TypeAdapter, ValidationError

from mabeam.api.agent_status import AgentState, PodRecord
from mabeam.api.base import JsonDict, StatusModel
from mabeam.api.names import Reason
from mabeam.api.supervision import Intent
from mabeam.api.supervisor import ChildRecord

Status = TypeVar("Status", bound=StatusModel)

# The place of a list item in a stored status: the names and indexes that lead to it.
Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class StoredStatus:
    """A stored status that holds more than its model: its JSON, and which list items could not be read."""

    json: JsonDict
    unread: frozenset[Path] = frozenset()


def parse_status(model: type[Status], json: Any) -> tuple[Status, StoredStatus | None]:
    """The readable part of a stored status; and the whole of it, if that part is not all."""
    if not isinstance(json, dict):
        return model(), None
    try:
        status = model.model_validate(json)
    except ValidationError:
        unread: set[Path] = set()
        status = model.model_validate(_readable(model, json, (), unread))
        return status, StoredStatus(json, frozenset(unread))
    return status, None if _is_all_known(model, json) else StoredStatus(json)


# --- the fields of a model ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FieldShape:
    """What one field of a status may hold."""

    accepts: Callable[[Any], bool]
    item: type[StatusModel] | None  # the model of its object, or of the items of its list
    is_list: bool
    keys: tuple[
        str, ...
    ]  # that distinguish the items of a list (x-kubernetes-list-map-keys); empty: the list is no map
    most: int | None  # the most items of a list
    entry: Callable[[Any], bool]  # accepts one item of a list, or one value of a free object


@cache
def field_shapes(model: type[StatusModel]) -> Mapping[str, FieldShape]:
    """The fields of a model by their names in JSON."""
    return {str(field.alias): _field_shape(field) for field in model.model_fields.values()}


def _field_shape(field: Any) -> FieldShape:
    kind = _without_none(field.annotation)
    is_list, is_free = get_origin(kind) is tuple, get_origin(kind) is dict
    arguments = [inner for inner in get_args(kind) if inner is not Ellipsis]
    item = arguments[0] if is_list else kind
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    return FieldShape(
        accepts=_acceptor(Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation),
        item=item if isinstance(item, type) and issubclass(item, StatusModel) else None,
        is_list=is_list,
        keys=tuple(extra.get("x-kubernetes-list-map-keys") or ()),
        most=next((most for bound in field.metadata if (most := getattr(bound, "max_length", None)) is not None), None),
        entry=_acceptor(arguments[-1]) if is_list or is_free else lambda _: False,
    )


def _without_none(annotation: Any) -> Any:
    """The other part of `X | None`, also of an annotated one."""
    if get_origin(annotation) is Annotated:
        return _without_none(get_args(annotation)[0])
    others = [part for part in get_args(annotation) if part is not type(None)]
    is_optional = len(others) == 1 and type(None) in get_args(annotation)
    return _without_none(others[0]) if is_optional else annotation


def _acceptor(annotation: Any) -> Callable[[Any], bool]:
    adapter: TypeAdapter[Any] = TypeAdapter(annotation)

    def accepts(value: Any) -> bool:
        try:
            adapter.validate_python(value)
        except ValidationError:
            return False
        return True

    return accepts


def _is_all_known(model: type[StatusModel], json: JsonDict) -> bool:
    """Whether the model has a field for everything in a status that it could read."""
    shapes = field_shapes(model)
    for name, value in json.items():
        shape = shapes.get(name)
        if shape is None:
            return False
        if shape.item is None or value is None:
            continue
        if not all(_is_all_known(shape.item, inner) for inner in (value if shape.is_list else (value,))):
            return False
    return True


# --- what can be read ---------------------------------------------------------------------------------------------------------


def _readable(model: type[StatusModel], json: JsonDict, path: Path, unread: set[Path]) -> JsonDict:
    """The fields of `json` that the model accepts, each without its unreadable parts; the list items left out go to `unread`."""
    found: JsonDict = {}
    json = model.modernized(json)
    for name, shape in field_shapes(model).items():
        if name not in json:
            continue
        value = json[name]
        is_whole = shape.accepts(value) and not _has_duplicates(shape, value)
        kept = value if is_whole else _readable_part(shape, value, (*path, name), unread)
        if kept is not None:
            found[name] = kept
        elif (model, name) in INFERRED:
            found[name] = INFERRED[model, name](json)
    return found


def _readable_part(shape: FieldShape, value: Any, path: Path, unread: set[Path]) -> Any:
    """What can be read of a value that the field does not accept; None when nothing can."""
    if shape.is_list and isinstance(value, list):
        return list(_readable_items(shape, value, path, unread))
    if shape.item is not None and isinstance(value, dict):
        inner = _readable(shape.item, value, path, unread)
        return inner if shape.accepts(inner) else None
    if isinstance(value, dict):
        inner = dict([(key, one) for key, one in value.items() if shape.entry(one)][: shape.most])
        return inner if shape.accepts(inner) else None
    return None


def _readable_items(shape: FieldShape, items: list[Any], path: Path, unread: set[Path]) -> Iterator[Any]:
    """The items that can be read: of several with the same keys the first, and never more than the field may hold."""
    kept: dict[int, Any] = {}
    marks: set[Any] = set()
    for index, item in enumerate(items):
        inner = item
        if not shape.entry(item):
            inner = (
                _readable(shape.item, item, (*path, index), unread) if shape.item and isinstance(item, dict) else None
            )
        if inner is None or not shape.entry(inner):
            continue
        mark = _mark(shape, inner) or index
        if mark not in marks:
            marks.add(mark)
            kept[index] = inner
    # A list that is no map has its newest item last.
    chosen = list(kept)[: shape.most] if shape.keys else list(kept)[-(shape.most or len(kept)) :]
    unread.update((*path, index) for index in range(len(items)) if index not in chosen)
    yield from (kept[index] for index in chosen)


def _has_duplicates(shape: FieldShape, items: Any) -> bool:
    """Whether two items of an accepted list have the same keys, which the API server does not allow."""
    marks = [_mark(shape, item) for item in items] if shape.keys else []
    return len(set(marks)) < len(marks)


def _mark(shape: FieldShape, item: Any) -> tuple[str, ...]:
    """The keys of an accepted item; empty in a list that is no map."""
    if shape.item is None or not shape.keys:
        return ()
    read = shape.item.model_validate(item)
    return tuple(str(getattr(read, key)) for key in shape.keys)


# --- what an unreadable word is taken for --------------------------------------------------------------------------------------

_AT_REST: Final[Mapping[str, AgentState]] = {
    Reason.COMPLETED: AgentState.STOPPED,
    Reason.DISRUPTED: AgentState.STOPPED,
    Reason.STOPPED: AgentState.STOPPED,
    Reason.FAILED: AgentState.FAILED,
}


def _state_of(record: JsonDict) -> AgentState:
    """At rest when the reason is that of an end: what has finished must not run again. Else its pods tell."""
    return _AT_REST.get(str(record.get("reason")), AgentState.STARTING)


def _intent_of(child: JsonDict) -> Intent:
    """Start, unless the child has ended or waits for its next start: a child that works must not be stopped."""
    return Intent.STOP if child.get("end") is not None or child.get("due") is not None else Intent.START


INFERRED: Final[Mapping[tuple[type[StatusModel], str], Callable[[JsonDict], str]]] = {
    (PodRecord, "state"): _state_of,
    (ChildRecord, "intent"): _intent_of,
}
