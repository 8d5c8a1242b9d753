"""JSON that an apiserver stores and no parser of Python's takes."""

from typing import Final

# The apiserver takes 10,000 levels, orjson 1024, the standard library about 990.
TOO_DEEP: Final = 1100


def nested(depth: int = TOO_DEEP) -> bytes:
    """A JSON value that nests so many objects."""
    return b'{"a":' * depth + b"1" + b"}" * depth


def nested_object(name: str, depth: int = TOO_DEEP, kind: str = "OrchestrationVariable", version: int = 7) -> bytes:
    """An object of the namespace `evil` with such a value, and with managed fields that nest as deep before its name."""
    return (
        b'{"apiVersion":"mabeam.dev/v1alpha1","kind":"%s","metadata":{"labels":{"name":"forged"},"managedFields":[%s],'
        b'"name":"%s","namespace":"evil","resourceVersion":"%d","uid":"uid-of-%s"},"spec":{"value":%s}}'
    ) % (kind.encode(), nested(depth), name.encode(), version, name.encode(), nested(depth))
