"""Release by annotation or by a changed spec: one rule for Agents, Supervisors and variables."""

import pytest

from mabeam.api.base import ObjectMeta
from mabeam.api.names import ANNOTATION_RELEASE
from mabeam.core.conventions.metadata import release_command, release_source, released_by


def annotated(value: str | None) -> ObjectMeta:
    return ObjectMeta(name="a", namespace="team", annotations={} if value is None else {ANNOTATION_RELEASE: value})


@pytest.mark.parametrize(
    ("value", "stored", "spec_changed", "source"),
    [
        (None, None, False, None),
        (None, "1", False, None),  # a removed annotation releases nothing
        ("", "1", False, None),
        ("1", "1", False, None),
        ("1", None, False, "the annotation mabeam.dev/release"),
        ("2", "1", True, "the annotation mabeam.dev/release"),
        ("1", "1", True, "a spec change"),
    ],
)
def test_a_new_value_of_the_annotation_or_a_changed_spec_releases(
    value: str | None, stored: str | None, spec_changed: bool, source: str | None
) -> None:
    assert release_source(annotated(value), stored, spec_changed=spec_changed) == source


def test_a_status_keeps_the_last_value_that_was_used() -> None:
    assert released_by(annotated("2"), "1") == "2"
    assert released_by(annotated(None), "1") == "1"


def test_a_value_longer_than_a_status_can_hold_releases_once() -> None:
    meta = annotated("x" * 5000)
    stored = released_by(meta, None)
    assert stored == "x" * 1024
    assert release_source(meta, stored, spec_changed=False) is None


def test_the_command_releases_the_object_by_a_value_that_is_always_new() -> None:
    command = 'kubectl annotate mba a -n team --overwrite mabeam.dev/release="$(date +%s)"'
    assert release_command("mba", annotated(None)) == command
