"""Directives that the operator refuses, because nobody could carry them out."""

from typing import Any

import pytest

from mabeam.api.directive import DirectiveAction, DirectiveReason
from mabeam.core.directives.effective import EffectiveSet, SetAside, effective_set
from mabeam.core.directives.validity import VALIDATORS
from support.builders import an_agent
from support.coordination import ordering


def told(*variables: Any, before: Any = (), **agent: Any) -> EffectiveSet:
    return effective_set(an_agent("a", **agent), variables, before)


def scaled_by_an_autoscaler(**words: Any) -> Any:
    agent = an_agent("a", **words)
    return agent.model_copy(update={"metadata": agent.metadata.model_copy(update={"autoscaler": "hpa"})})


@pytest.mark.parametrize("action", ["ScaleUp", "ScaleDown"])
def test_scaling_is_refused_while_an_autoscaler_owns_the_number(action: str) -> None:
    found = effective_set(scaled_by_an_autoscaler(), [ordering("v", (action, {"replicas": 3}))], ())
    why = "cannot be done: an autoscaler owns spec.replicas (hpa); if it is gone, set spec.replicas to another number"
    assert (found.replicas, found.set_aside) == (None, {0: SetAside(DirectiveReason.CANNOT_BE_DONE, why)})


@pytest.mark.parametrize(
    ("action", "parameters"),
    [
        *(("ScaleUp", {"replicas": junk}) for junk in (None, True, -1, 101, 2.5, "3", [], {})),
        *(("ChangeRole", {"role": junk}) for junk in (None, 5, "", "x" * 64, [])),
        *(("Activate", {"active": junk}) for junk in (1, "yes", [])),
        *(("UpdateCommunication", {"peers": junk}) for junk in (5, "ab", [1], [{}], [{"name": None}], {"a": 1})),
        *(("AllocateResources", {"cpu": junk}) for junk in (5, [], "lots", "1/0", "-1", "1e")),
        ("AllocateResources", {"memory": "1Gi"}),
    ],
)
def test_what_cannot_be_carried_out_is_refused_in_words_and_changes_nothing(action: str, parameters: Any) -> None:
    found = told(ordering("v", (action, parameters)))
    [refused] = found.set_aside.values()
    assert refused.reason is DirectiveReason.CANNOT_BE_DONE
    assert len("cannot be done: ") < len(refused.message) < 200
    untouched = (
        found.desired_state,
        found.replicas,
        found.active,
        found.role,
        found.communication,
        dict(found.resources),
    )
    assert untouched == (None, None, True, None, None, {})


def test_the_refusing_table_is_about_actions() -> None:
    assert set(VALIDATORS) <= set(DirectiveAction)
