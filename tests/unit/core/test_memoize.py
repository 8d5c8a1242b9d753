"""What is reckoned once of a frozen model is reckoned of that very object, and forgotten with it."""

import gc

from mabeam.api.agent import AgentSpec
from mabeam.core.memoize import memoize_by_identity


def a_spec(replicas: int = 1) -> AgentSpec:
    return AgentSpec(module="team.work:Worker", replicas=replicas)


def test_an_object_is_reckoned_once() -> None:
    asked: list[int] = []
    replicas = memoize_by_identity(lambda spec: asked.append(spec.replicas) or spec.replicas)  # type: ignore[func-returns-value]
    spec = a_spec(3)
    assert [replicas(spec), replicas(spec)] == [3, 3]
    assert asked == [3]


def test_an_object_that_takes_the_place_of_another_in_memory_is_reckoned_anew() -> None:
    replicas = memoize_by_identity(lambda spec: spec.replicas)
    for count in range(200):  # each is gone before the next one is made, so that ids come again
        assert replicas(a_spec(count % 100)) == count % 100
        gc.collect(0)


def test_a_copy_with_other_values_is_what_pydantic_makes_of_it() -> None:
    spec = a_spec(3)
    copied = spec.model_copy(update={"replicas": 4})
    assert copied == a_spec(4)
    assert copied.to_wire(stored=True) == {"module": "team.work:Worker", "replicas": 4}
    assert spec.replicas == 3
    assert spec.model_copy(update={"image": "x"}).model_fields_set == {"module", "replicas", "image"}
    assert spec.model_copy(deep=True) == spec
