"""The core restarts, rests and gives up at exactly the events at which supervisor.erl does."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.builders import agent_body, at
from support.supervisor_erl import Outcome, Reason, RestartType, Supervisor
from support.world import World, up

RESTART_TYPES: dict[str, RestartType] = {
    "Permanent": "permanent",
    "Transient": "transient",
    "Temporary": "temporary",
}
# What an exit of the main container is to OTP; 42 is listed in `normalExitCodes`, as `{shutdown, Term}` is normal.
REASONS: dict[tuple[int, str | None], Reason] = {
    (0, None): "normal",
    (42, None): "shutdown",
    (1, None): "crash",
    (137, "OOMKilled"): "crash",
}


@dataclass(frozen=True)
class Exit:
    """A child ran for `after` seconds since the event before and ended; it was noticed `seen` seconds later."""

    child: int
    after: int
    how: tuple[int, str | None]
    seen: int = 0


def exits(children: int, longest: int) -> st.SearchStrategy[list[Exit]]:
    one = st.builds(
        Exit,
        st.integers(0, children - 1),
        st.integers(0, longest),
        st.sampled_from(sorted(REASONS, key=str)),
        st.sampled_from([0, 0, 1, 7]),
    )
    return st.lists(one, min_size=1, max_size=12)


def outcome(world: World, child: int, incarnation: int) -> Outcome:
    """What the operator made of the end of that child's incarnation, in supervisor.erl's words."""
    if world.status.parked_at is not None:
        assert world.live() == []
        return "shutdown"
    record = world.record(child)
    if record.incarnation == incarnation + 1:
        assert f"a-{child}-{incarnation + 1}" in world.live()
        return "restarted"
    assert record.incarnation == incarnation
    assert f"a-{child}-{incarnation}" not in world.live()
    return "deleted" if world.agent["spec"]["restartStrategy"] == "Temporary" else "not_restarted"


@given(
    restart=st.sampled_from(sorted(RESTART_TYPES)),
    children=st.integers(1, 3),
    intensity=st.integers(0, 4),
    period=st.integers(1, 20),
    data=st.data(),
)
def test_the_operator_does_what_supervisor_erl_does_event_by_event(
    restart: str, children: int, intensity: int, period: int, data: st.DataObject
) -> None:
    """Children are replicas: both share one budget. One child ends at a time; the operator may be late to notice."""
    erl = Supervisor(RESTART_TYPES[restart], intensity, period)
    body = agent_body(restart=restart, replicas=children, max_failures=intensity, window=period, normalExitCodes=[42])
    world = up(body)
    restarted = 0
    for exit_ in data.draw(exits(children, period + 2)):
        world.tick(exit_.after)
        incarnation = world.record(exit_.child).incarnation
        name = f"a-{exit_.child}-{incarnation}"
        if name not in world.live():
            continue  # this child rests: there is nothing left that could end
        world.end(name, *exit_.how)
        happened = int((world.now - at(0)).total_seconds())
        world.tick(exit_.seen)
        world.settle()
        expected = erl.do_restart(REASONS[exit_.how], happened)
        assert outcome(world, exit_.child, incarnation) == expected
        if expected == "shutdown":
            assert world.status.restarts == restarted
            break
        restarted += expected == "restarted"
        assert world.status.restarts == restarted


@given(
    intensity=st.integers(0, 5),
    period=st.integers(1, 20),
    times=st.lists(st.integers(0, 30), min_size=1, max_size=6, unique=True),
)
def test_ends_that_are_seen_all_at_once_are_judged_as_if_one_after_the_other(
    intensity: int, period: int, times: list[int]
) -> None:
    erl = Supervisor("permanent", intensity, period)
    world = up(agent_body(replicas=len(times), max_failures=intensity, window=period))
    for child, time in sorted(enumerate(times), key=lambda pair: pair[1]):
        world.now = at(time)
        world.end(f"a-{child}-1", 1)
    world.settle()
    given_up = "shutdown" in [erl.do_restart("crash", time) for time in sorted(times)]
    assert (world.status.parked_at is not None) == given_up


@pytest.mark.parametrize(
    ("restart_type", "reason", "expected"),
    [
        ("permanent", "normal", "restarted"),
        ("permanent", "shutdown", "restarted"),
        ("permanent", "crash", "restarted"),
        ("transient", "normal", "not_restarted"),
        ("transient", "shutdown", "not_restarted"),
        ("transient", "crash", "restarted"),
        ("temporary", "normal", "deleted"),
        ("temporary", "shutdown", "deleted"),
        ("temporary", "crash", "deleted"),
    ],
)
def test_the_model_itself_is_the_documented_table(restart_type: RestartType, reason: Reason, expected: Outcome) -> None:
    assert Supervisor(restart_type, 1, 5).do_restart(reason, 0) == expected


def test_the_model_itself_has_the_documented_edge() -> None:
    """MaxR = 1, MaxT = 5: a restart exactly five seconds old still counts, one of six does not."""
    inclusive, outside = Supervisor("permanent", 1, 5), Supervisor("permanent", 1, 5)
    assert [inclusive.do_restart("crash", now) for now in (0, 5)] == ["restarted", "shutdown"]
    assert [outside.do_restart("crash", now) for now in (0, 6)] == ["restarted", "restarted"]


def test_the_model_itself_gives_up_at_the_first_restart_when_none_is_allowed() -> None:
    assert Supervisor("permanent", 0, 5).do_restart("normal", 0) == "shutdown"
