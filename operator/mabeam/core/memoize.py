"""Results derived from frozen models, computed once per object: every pass needs them again."""

import weakref
from collections.abc import Callable
from functools import wraps
from typing import TypeVar

Model = TypeVar("Model")
Result = TypeVar("Result")


def memoize_by_identity(function: Callable[[Model], Result]) -> Callable[[Model], Result]:
    """The same function, computed once for each argument object and forgotten with it.

    The argument must be immutable, for its identity is the key; the result is shared. A weak reference removes the entry with
    the object, before its id can belong to another.
    """
    results: dict[int, tuple[weakref.ref[Model], Result]] = {}

    @wraps(function)
    def memoized(model: Model) -> Result:
        key = id(model)
        entry = results.get(key)
        if entry is not None and entry[0]() is model:
            return entry[1]
        result = function(model)
        results[key] = weakref.ref(model, lambda _: results.pop(key, None)), result
        return result

    return memoized
