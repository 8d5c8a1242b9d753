"""What a step of scaling orders: an absolute number within its bounds; what is wrong orders nothing, and is told."""

from typing import Any

import pytest

from mabeam.api.directive import DirectiveAction
from mabeam.core.directives.replicas import absolute_replicas
from mabeam.core.directives.validity import VALIDATORS
from support.builders import an_agent

UP, DOWN = DirectiveAction.SCALE_UP, DirectiveAction.SCALE_DOWN


@pytest.mark.parametrize(
    ("action", "parameters", "replicas"),
    [
        (UP, {}, 4), (UP, {"by": 2}, 5), (DOWN, {"by": 2}, 1), (DOWN, {"by": 9}, 0), (UP, {"by": 9, "max": 6}, 6),
        (DOWN, {"by": 9, "min": 2}, 2), (UP, {"by": 1000}, 100), (UP, {"replicas": 7, "by": 1}, 7),
    ],
)  # fmt: skip
def test_a_step_from_three_is_an_absolute_number_within_its_bounds(
    action: DirectiveAction, parameters: dict[str, Any], replicas: int
) -> None:
    assert absolute_replicas(action, parameters, 3)["replicas"] == replicas


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({"by": "many"}, "`by` must be a whole number from 0 on, not 'many'"),
        ({"by": -1}, "`by` must be a whole number from 0 on, not -1"),
        ({"max": 2.5}, "`max` must be a whole number from 0 on, not 2.5"),
        ({"min": True}, "`min` must be a whole number from 0 on, not True"),
        ({"by": 1, "min": 5, "max": 2}, "`min` 5 is above `max` 2"),
        ({"min": 101}, "`min` 101 is above `max` 100"),
    ],
)
def test_a_step_that_is_none_stays_as_it_is_and_is_refused_by_its_name(parameters: dict[str, Any], told: str) -> None:
    assert absolute_replicas(UP, parameters, 3) == parameters
    assert VALIDATORS[UP](an_agent("a"), parameters) == told
