"""What is reckoned of a frozen model once, because every pass asks for it again."""

import weakref
from collections.abc import Callable
from functools import wraps
from typing import TypeVar

Model = TypeVar("Model")
Result = TypeVar("Result")


def memoize_by_identity(reckon: Callable[[Model], Result]) -> Callable[[Model], Result]:
    """The same function of a frozen model, reckoned once for each object and forgotten with it.

    A frozen model never changes, so what was reckoned of an object holds as long as that object lives; it may not be mutable,
    and the result is shared. The weak reference ends the entry with the object, before its id can belong to another.
    """
    known: dict[int, tuple[weakref.ref[Model], Result]] = {}

    @wraps(reckon)
    def of(model: Model) -> Result:
        key = id(model)
        entry = known.get(key)
        if entry is not None and entry[0]() is model:
            return entry[1]
        result = reckon(model)
        known[key] = weakref.ref(model, lambda _: known.pop(key, None)), result
        return result

    return of
