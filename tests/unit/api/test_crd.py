"""What a CRD cannot say is refused when it is made, not when it is applied."""

from typing import ClassVar

import pytest
from pydantic import ValidationError

from mabeam.api.agent import AgentSpec
from mabeam.api.base import JsonValue, KubeModel, Rule
from mabeam.api.crd import NotStructural, all_definitions, structural_schema
from mabeam.api.variable_blocks import Consensus


class Blind(KubeModel):
    """A rule about a field of any type."""

    value: JsonValue = None
    rules: ClassVar[tuple[Rule, ...]] = (
        Rule("!has(self.value)", "`value` must not be set", lambda m: m.value is None),
    )


def test_a_rule_about_a_field_that_cel_cannot_see_is_refused() -> None:
    with pytest.raises(NotStructural, match="CEL cannot see `value`"):
        structural_schema(Blind)


def test_every_kind_has_a_definition_that_can_be_made() -> None:
    assert [crd["spec"]["names"]["plural"] for crd in all_definitions()] == [
        "agents",
        "orchestrationvariables",
        "supervisors",
    ]


@pytest.mark.parametrize(
    "spelling",
    ["Simplemajority", "simple-majority", "SIMPLEMAJORITY", "weighted_voting", "SimpleMajorty", "WeightedVotin"],
)
def test_another_spelling_of_a_built_in_name_is_refused_with_the_right_one(spelling: str) -> None:
    with pytest.raises(
        ValidationError, match="`protocol` must be SimpleMajority, WeightedVoting, Unanimous, spelt like"
    ):
        Consensus(protocol=spelling)
    assert Consensus(protocol="elders").protocol == "elders"
    with pytest.raises(ValidationError, match="`conflictResolution` must be PriorityBased, Compromise, LeaderElection"):
        AgentSpec(module="a:B", conflict_resolution="compromise")
