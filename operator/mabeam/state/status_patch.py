"""The next stored status when the stored one holds more than its model.

Three statuses meet: what is stored, what a pass read of it, and what the pass decided. What the pass did not change stays as it
is stored, word for word; what it changed is written; what it could not read and decided nothing about is left alone.
"""

from typing import Any, Final

from mabeam.api.agent_status import Failure
from mabeam.api.base import JsonDict, StatusModel
from mabeam.api.directive import AgentDirective, VariableDirective
from mabeam.api.variable_status import Candidate, Offer, Vote
from mabeam.state.parse_status import FieldShape, Path, StoredStatus, field_shapes

_ABSENT: Final = object()

# The fields by which an item of a list that is no map is found again after it changed; items of other models are compared whole.
IDENTITIES: Final[dict[type[StatusModel], tuple[str, ...]]] = {
    AgentDirective: ("variable", "action"),
    VariableDirective: ("agent", "action"),
    Failure: ("time", "ordinal", "pod"),
    Offer: ("agent",),
    Vote: ("agent",),
    Candidate: ("name",),
}


def status_patch(stored: StoredStatus | None, before: StatusModel, after: StatusModel) -> JsonDict:
    """The JSON merge patch by which a pass that read `before` stores `after`; empty when nothing changed.

    `stored`: the status in the cluster if it holds more than `before`, else None.
    """
    if before == after:
        return {}
    if stored is None:
        return merge_patch(before.to_wire(stored=True), after.to_wire())
    return merge_patch(stored.json, next_stored(stored, before, after))


def without_unknown(stored: StoredStatus, after: StatusModel) -> JsonDict:
    """The JSON merge patch after which nothing is stored but `after`."""
    return merge_patch(stored.json, after.to_wire())


def next_stored(stored: StoredStatus, before: StatusModel, after: StatusModel) -> JsonDict:
    """The status to store when a pass that read `before` decided `after`."""
    return _merged(type(after), stored.json, before.to_wire(), after.to_wire(), (), stored.unread)


def _merged(
    model: type[StatusModel], json: JsonDict, before: JsonDict, after: JsonDict, path: Path, unread: frozenset[Path]
) -> JsonDict:
    """One object: its stored fields in their order, then those that are new."""
    shapes, result = field_shapes(model), dict[str, Any]()
    for name in (*json, *(new for new in after if new not in json)):
        stored, old, new = json.get(name, _ABSENT), before.get(name, _ABSENT), after.get(name, _ABSENT)
        if stored is not _ABSENT and old == new:
            result[name] = stored
        elif new is not _ABSENT:
            result[name] = _merged_value(shapes[name], stored, old, new, (*path, name), unread)
    return result


def _merged_value(shape: FieldShape, stored: Any, before: Any, after: Any, path: Path, unread: frozenset[Path]) -> Any:
    if shape.item is None or type(stored) is not type(after):
        return after
    if isinstance(after, dict):
        return _merged(shape.item, stored, before if isinstance(before, dict) else {}, after, path, unread)
    return _merged_list(shape.item, shape, stored, before if isinstance(before, list) else [], after, path, unread)


def _merged_list(
    model: type[StatusModel],
    shape: FieldShape,
    stored: list[Any],
    before: list[JsonDict],
    after: list[JsonDict],
    path: Path,
    unread: frozenset[Path],
) -> list[Any]:
    """One list: each decided item merged with the stored one that it was, and the unread items behind those they followed."""
    read = [index for index in range(len(stored)) if (*path, index) not in unread]
    if len(read) != len(before):
        return after
    names = shape.keys or IDENTITIES.get(model, ())
    free = dict(zip(read, before, strict=True))
    placed: list[tuple[int | None, Any]] = []
    for item in after:
        index = _index_of(item, free, names)
        if index is None:
            placed.append((None, item))
        else:
            placed.append((index, _merged(model, stored[index], free.pop(index), item, (*path, index), unread)))
    taken = {_identity(item, shape.keys) for item in after} if shape.keys else set()
    lost = [
        i for i in range(len(stored)) if i not in read and not (taken and _identity(stored[i], shape.keys) in taken)
    ]
    room = len(lost) if shape.most is None else max(0, shape.most - len(after))
    return _woven(stored, placed, lost[len(lost) - min(room, len(lost)) :])


def _index_of(item: JsonDict, free: dict[int, JsonDict], names: tuple[str, ...]) -> int | None:
    """The index of the stored item that the decided one was; None for a new one."""
    same = next((index for index, old in free.items() if old == item), None)
    if same is not None or not names:
        return same
    return next((index for index, old in free.items() if _identity(old, names) == _identity(item, names)), None)


def _identity(item: Any, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(str(item.get(name)) for name in names) if isinstance(item, dict) else ()


def _woven(stored: list[Any], placed: list[tuple[int | None, Any]], lost: list[int]) -> list[Any]:
    """The decided items in their order, each unread one behind the stored item that it followed, or in front of all."""
    kept = {index for index, _ in placed if index is not None}
    followers: dict[int | None, list[Any]] = {}
    for index in lost:
        leader = next((i for i in range(index - 1, -1, -1) if i in kept), None)
        followers.setdefault(leader, []).append(stored[index])
    result = list(followers.pop(None, []))
    for place, item in placed:
        result.append(item)
        if place is not None:
            result.extend(followers.get(place, ()))
    return result


# --- merge patches ------------------------------------------------------------------------------------------------------------


def merge_patch(before: JsonDict, after: JsonDict) -> JsonDict:
    """The JSON merge patch (RFC 7386) that turns `before` into `after`; empty when they are the same."""
    patch: JsonDict = dict.fromkeys((key for key in before if key not in after), None)
    for key, value in after.items():
        if key not in before:
            patch[key] = value
        elif isinstance(value, dict) and isinstance(before[key], dict):
            inner = merge_patch(before[key], value)
            if inner:
                patch[key] = inner
        elif before[key] != value:
            patch[key] = value
    return patch
