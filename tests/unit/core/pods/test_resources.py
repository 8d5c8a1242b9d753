"""What a container asks for, and what an allocation makes of it without changing its pod's QoS class."""

from typing import Any

import pytest

from mabeam.core.pods.resources import allotted_resources, declared_resources, has_resources, main_container
from support.builders import an_agent


def asking(requests: Any = None, limits: Any = None, **words: Any) -> Any:
    """An agent whose container declares this."""
    given = {key: found for key, found in (("requests", requests), ("limits", limits)) if found is not None}
    return an_agent(resources={**given, **words}).spec


def templated(*containers: Any) -> Any:
    """An agent made from a pod template with these containers."""
    return an_agent(template={"spec": {"containers": list(containers)}}).spec


def test_a_limit_without_a_request_is_a_request_of_as_much() -> None:
    found = declared_resources(asking(limits={"cpu": "1", "tokens": "5"}))
    assert found.to_wire() == {"requests": {"cpu": "1"}, "limits": {"cpu": "1", "tokens": "5"}}


def test_the_templates_main_container_counts_and_no_other() -> None:
    side = {"name": "proxy", "resources": {"requests": {"cpu": "9"}}}
    main = {"name": "agent", "resources": {"requests": {"cpu": "1"}}}
    assert declared_resources(templated(side, main)).requests == {"cpu": "1"}
    assert main_container([side]) == side


@pytest.mark.parametrize("nonsense", ["lots", "1/0", None, [], {"a": 1}, True])
def test_what_is_no_quantity_in_a_template_was_not_asked_for(nonsense: Any) -> None:
    found = declared_resources(
        templated({"name": "agent", "resources": {"requests": {"cpu": nonsense, "memory": 1024}}})
    )
    assert found.requests == {"memory": "1024"}


@pytest.mark.parametrize(
    "nonsense", [None, 5, "x", [1], [{"name": "agent", "resources": 7}], [{"resources": {"requests": 3}}]]
)
def test_a_template_of_any_shape_asks_for_nothing(nonsense: Any) -> None:
    spec = an_agent().spec.model_copy(update={"template": templated({"name": "agent"}).template})
    template = spec.template.model_copy(update={"spec": {"containers": nonsense}})
    assert declared_resources(spec.model_copy(update={"template": template})).to_wire() == {}


def test_limits_move_with_the_requests_in_proportion() -> None:
    amounts, wrong = allotted_resources(
        asking({"cpu": "100m", "memory": "64Mi"}, {"cpu": "300m"}), {"cpu": "200m", "memory": "128Mi"}
    )
    assert wrong is None
    assert amounts.to_wire() == {"requests": {"cpu": "200m", "memory": "128Mi"}, "limits": {"cpu": "600m"}}


def test_a_limit_never_leaves_the_agents_own_bound_nor_falls_below_the_share() -> None:
    bounded = asking({"cpu": "100m"}, {"cpu": "300m"}, bounds=[{"resource": "cpu", "max": "400m"}])
    assert allotted_resources(bounded, {"cpu": "200m"})[0].limits == {"cpu": "400m"}
    assert allotted_resources(bounded, {"cpu": "500m"})[0].limits == {"cpu": "500m"}


@pytest.mark.parametrize("share", ["100M", "96Mi", "1G"])
def test_what_is_guaranteed_stays_guaranteed_to_the_letter(share: str) -> None:
    amounts, _ = allotted_resources(asking({"memory": "64Mi"}, {"memory": "64Mi"}), {"memory": share})
    assert amounts.requests == amounts.limits == {"memory": share}


@pytest.mark.parametrize(
    ("shares", "says"),
    [
        ({"memory": "1Gi"}, "its pods request no memory, and a request now would change their QoS class"),
        ({"cpu": "lots"}, "'lots' is not a quantity"),
        ({"cpu": "1/0"}, "'1/0' is not a quantity"),
        ({"cpu": "-1"}, "its pods cannot run with -1 cpu"),
        ({"cpu": "0"}, "its pods cannot run with 0 cpu"),
    ],
)
def test_what_cannot_be_had_leaves_what_is_declared_and_says_why(shares: dict[str, str], says: str) -> None:
    amounts, wrong = allotted_resources(asking({"cpu": "100m"}), shares)
    assert (amounts.to_wire(), wrong) == ({"requests": {"cpu": "100m"}}, says)


def test_other_resources_are_the_process_own_business() -> None:
    assert allotted_resources(asking({"cpu": "1"}), {"tokens": "any"})[0].to_wire() == {"requests": {"cpu": "1"}}


def test_the_same_amounts_are_the_same_however_they_are_written() -> None:
    assert has_resources({"requests": {"cpu": "0.1", "x": "1"}}, {"requests": {"cpu": "100m"}})
    assert has_resources({"limits": {"cpu": "1"}}, {"limits": {"cpu": "1"}, "requests": {"cpu": "1000m"}})
    assert not has_resources({"requests": {"cpu": "1"}}, {"requests": {"cpu": "2"}})
    assert has_resources({"requests": {"cpu": "lots"}}, None)
    assert not has_resources({"requests": {"cpu": "1"}}, {"requests": {"cpu": "1", "memory": "1Gi"}})
    assert not has_resources(None, {"requests": {"cpu": "1"}})


def test_amounts_that_nobody_asked_for_are_no_difference() -> None:
    by_limit_range = {"requests": {"cpu": "500m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}}
    assert has_resources(by_limit_range, {"requests": {"cpu": "0.5"}})
