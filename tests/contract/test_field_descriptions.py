"""`kubectl explain` explains every field: each field of each CRD has a description."""

from collections.abc import Iterator
from typing import Any

import pytest

from mabeam.api.crd import all_definitions

# The API server describes these itself.
STANDARD = {".apiVersion", ".kind", ".metadata"}


def undescribed(schema: dict[str, Any], path: str = "") -> Iterator[str]:
    """The paths of all fields below `schema` that have no description."""
    for name, child in schema.get("properties", {}).items():
        field = f"{path}.{name}"
        if field in STANDARD:
            continue
        if not child.get("description"):
            yield field
        yield from undescribed(child, field)
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from undescribed(schema[key], path)


@pytest.mark.parametrize("definition", all_definitions(), ids=lambda definition: definition["spec"]["names"]["kind"])
def test_every_field_of_a_crd_has_a_description(definition: dict[str, Any]) -> None:
    (version,) = definition["spec"]["versions"]
    assert list(undescribed(version["schema"]["openAPIV3Schema"])) == []
