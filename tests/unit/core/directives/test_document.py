"""The ConfigMap in which an agent's process finds its directives."""

from mabeam.core.conventions.metadata import child_labels
from mabeam.core.directives.document import directives_config_map_body
from support.builders import an_agent


def test_the_directives_config_map_is_owned_and_labelled() -> None:
    found = directives_config_map_body(an_agent(), {"b": 1, "a": 2})
    assert found["metadata"]["name"] == "a-mabeam"
    assert found["metadata"]["labels"] == child_labels("directives", "a")
    assert found["data"] == {"directives.json": '{"a": 2, "b": 1}'}
