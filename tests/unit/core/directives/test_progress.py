"""How far each directive came: delivered, acknowledged, refused or expired."""

from dataclasses import replace

from mabeam.core.directives.delivery import Delivery
from mabeam.core.reports.report import DirectiveRefusal, Report
from mabeam.core.snapshot import ContainerFacts
from support.builders import a_pod, at
from support.coordination import (
    a_decided,
    a_map,
    an_item,
    applied,
    told_agent,
)
from support.deliveries import delivery, seen

REST = {"template": {"spec": {"containers": [{"name": "agent"}]}}}
POD = a_pod("a-0-1", generation=1)


def items(result: Delivery) -> dict[str, tuple[str, int]]:
    assert result.directives is not None
    return {item.variable: (str(item.state), item.generation) for item in result.directives.items}


UNACKNOWLEDGED = {"state": "Expired", "reason": "NotAcknowledged", "message": "not acknowledged in time"}


def outcome(result: Delivery) -> tuple[str, str | None, str | None]:
    """State, reason and message of the only directive."""
    assert result.directives is not None
    [item] = result.directives.items
    return str(item.state), item.reason, item.message


def state(result: Delivery) -> str:
    assert result.directives is not None
    [item] = result.directives.items
    return str(item.state)


def test_it_is_delivered_once_the_config_map_holds_it_and_every_ready_pod_was_told() -> None:
    assert state(seen(None)) == "Delivered"
    assert state(seen(None, pods=(a_pod("a-0-1", generation=0),))) == "Issued"
    assert state(seen(pods=())) == "Issued"
    assert state(seen(pods=(a_pod("a-0-1", ContainerFacts("waiting"), generation=1),))) == "Issued"
    assert state(seen(pods=(), at_rest=True)) == "Delivered"
    assert state(seen(None, config_map=a_map(generation=0, temperature=0.6))) == "Issued"


def test_it_is_acknowledged_when_all_ready_pods_applied_it() -> None:
    assert state(seen(applied(1))) == "Acknowledged"
    assert state(seen(applied(3), applied(1))) == "Acknowledged"
    assert state(seen(applied(1), applied(0))) == "Delivered"
    assert state(seen(applied(1), None)) == "Delivered"
    assert state(seen(Report())) == "Delivered"


def test_nobody_ready_acknowledges_nothing() -> None:
    assert state(seen(applied(1), pods=(a_pod("a-0-1", ready=False, generation=1),))) == "Delivered"


def test_a_pod_that_is_new_does_not_make_an_acknowledged_directive_flap() -> None:
    assert state(seen(None, item={"state": "Acknowledged"})) == "Acknowledged"
    assert state(seen(applied(0), item={"state": "Acknowledged"})) == "Acknowledged"


def test_a_refusal_is_kept_with_its_reason() -> None:
    result = seen(applied(1, DirectiveRefusal("temperature", 1, "too hot")))
    assert state(result) == "Refused"
    assert result.directives is not None
    assert outcome(result) == ("Refused", "RefusedByAgent", "too hot")


def test_one_replica_that_refuses_is_a_refusal() -> None:
    assert state(seen(applied(1), applied(0, DirectiveRefusal("temperature", 1, "no")))) == "Refused"


def test_a_refusal_of_an_older_generation_is_about_something_else() -> None:
    assert state(seen(applied(2, DirectiveRefusal("temperature", 1, "no")), item={"generation": 2})) == "Acknowledged"


def test_a_refusal_may_name_the_parameter_because_that_is_what_the_file_names() -> None:
    agent = told_agent("a", an_item(parameters={"temp": 0.6}))
    result = delivery(
        agent,
        a_decided(parameter="temp"),
        pods=(POD,),
        config_map=a_map(temp=0.6),
        reports={"a-0-1": applied(0, DirectiveRefusal("temp", 1, "no"))},
    )
    assert state(result) == "Refused"


def test_a_refused_generation_leaves_in_force_what_was_applied_before() -> None:
    """The whole of generation 2 is refused; what came in generation 1 was applied and still is."""
    agent = told_agent("a", an_item(state="Acknowledged"), an_item("top-p", value=0.9, generation=2))
    result = delivery(
        agent,
        a_decided(),
        a_decided("top-p", 0.9),
        pods=(replace(POD, generation=2),),
        config_map=a_map(generation=2, temperature=0.6, **{"top-p": 0.9}),
        reports={"a-0-1": applied(1, DirectiveRefusal("", 2, "broken handler"))},
    )
    assert items(result) == {"temperature": ("Acknowledged", 1), "top-p": ("Refused", 2)}


def test_a_refusal_of_another_variable_is_not_this_ones() -> None:
    assert state(seen(applied(1, DirectiveRefusal("top-p", 1, "no")))) == "Acknowledged"


def test_a_delivered_directive_stays_delivered_when_a_pod_joins() -> None:
    pods = (POD, a_pod("a-1-1", generation=0))
    assert state(seen(applied(1), None, pods=pods, item={"state": "Delivered"})) == "Delivered"


def test_an_agent_that_changes_its_mind_acknowledges_what_it_refused() -> None:
    assert (
        state(seen(applied(1), item={"state": "Refused", "reason": "RefusedByAgent", "message": "no"}))
        == "Acknowledged"
    )
    assert state(seen(applied(0), item={"state": "Refused", "reason": "RefusedByAgent", "message": "no"})) == "Refused"


def test_it_expires_when_nobody_answers_in_time_and_says_how_far_it_came() -> None:
    assert state(seen(None, now=29)) == "Delivered"
    late = seen(None, now=30, item={"state": "Delivered"})
    assert late.directives is not None
    assert outcome(late) == ("Expired", "NotAcknowledged", "not acknowledged in time")
    never = seen(None, now=30, pods=(a_pod("a-0-1", generation=0),))
    assert never.directives is not None
    assert outcome(never) == ("Expired", "NotDelivered", "not delivered in time")


def test_a_late_answer_is_an_answer() -> None:
    result = seen(applied(1), now=500, item=UNACKNOWLEDGED)
    assert state(result) == "Acknowledged"
    assert result.directives is not None
    assert (result.directives.items[0].reason, result.directives.items[0].message) == (None, None)


def test_an_expired_directive_stays_expired_in_silence() -> None:
    result = seen(None, now=500, item=UNACKNOWLEDGED, pods=(replace(POD, nudge="1"),))
    assert state(result) == "Expired"
    assert result.requeue_after is None
    assert result.effects == ()


def test_an_agent_that_rests_or_never_reports_is_not_waited_for() -> None:
    assert state(seen(pods=(), now=500, at_rest=True)) == "Delivered"
    assert state(seen(None, now=500, agent={"reports": {"source": "None"}})) == "Delivered"
    assert state(seen(None, now=500, agent=REST)) == "Delivered"


def test_the_time_to_answer_begins_when_somebody_runs() -> None:
    asleep = seen(pods=(), now=5, at_rest=True)
    assert asleep.directives is not None
    assert asleep.directives.items[0].issued_at is None
    awake = seen(None, now=9000, item={"state": "Delivered", "issuedAt": None})
    assert state(awake) == "Delivered"
    assert awake.directives is not None
    assert awake.directives.items[0].issued_at == at(9000)


def test_the_applied_generation_is_the_least_of_the_ready_pods_and_never_moves_back() -> None:
    def generation(*reports: Report | None, before: int = 0) -> int:
        agent = told_agent("a", an_item(generation=5))
        known = agent.status.directives
        assert known is not None
        status = agent.status.model_copy(update={"directives": known.model_copy(update={"applied_generation": before})})
        pods = tuple(a_pod(f"a-{i}-1", generation=5) for i in range(len(reports)))
        result = delivery(
            agent.model_copy(update={"status": status}),
            a_decided(),
            pods=pods,
            config_map=a_map(generation=5, temperature=0.6),
            reports={pod.name: report for pod, report in zip(pods, reports, strict=True) if report is not None},
        )
        assert result.directives is not None
        return result.directives.applied_generation

    assert generation(applied(3), applied(5)) == 3
    assert generation(applied(3), None, before=2) == 2
    assert generation(applied(0), applied(3), before=0) == 0
    assert generation(before=4) == 4
    assert generation(applied(0), before=4) == 4
    assert generation(applied(999)) == 5


def test_a_directive_for_a_silent_agent_whose_container_never_runs_expires_and_is_delivered_once_it_does() -> None:
    silent = {"reports": {"source": "None"}}
    waiting = (a_pod("a-0-1", ContainerFacts("waiting"), generation=1),)
    assert state(seen(pods=waiting, now=5, agent=silent)) == "Issued"
    late = seen(pods=waiting, now=500, agent=silent)
    assert late.directives is not None
    assert (late.directives.items[0].state, late.directives.items[0].reason) == ("Expired", "NotDelivered")
    expired = {"state": "Expired", "reason": "NotDelivered"}
    assert state(seen(None, now=500, agent=silent, item=expired)) == "Delivered"
