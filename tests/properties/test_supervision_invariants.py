"""What holds whatever happens: the world's own laws over random histories, and `decide` on arbitrary facts."""

import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mabeam.api.agent import Agent, RestartStrategy
from mabeam.api.agent_status import (
    AgentState,
    AgentStatus,
    DesiredState,
    EffectiveAgent,
    Failure,
    FailureCause,
    PodRecord,
)
from mabeam.api.names import ANNOTATION_RELEASE
from mabeam.core.passes.agent import decide
from mabeam.core.pods.starting import CONFIG_REASONS, IMAGE_REASONS
from mabeam.core.pods.terminations import DISRUPTION_CAUSES, POD_REASON_CAUSES
from mabeam.core.snapshot import AgentSnapshot, ContainerFacts, OtherContainer, PodFacts
from support.builders import NO_BACKOFF, PLAIN_BACKOFF, agent_body, an_agent, at
from support.world import World

# --- random histories ---------------------------------------------------------------------------------------------------

Step = Callable[[World, int], None]


def _alive(world: World, number: int) -> str | None:
    names = [n for n in world.live() if world.pods[n]["status"]["phase"] == "Running"]
    return names[number % len(names)] if names else None


def _to_one(act: Callable[[World, str], None]) -> Step:
    def step(world: World, number: int) -> None:
        name = _alive(world, number)
        if name is not None:
            act(world, name)

    return step


STEPS: dict[str, Step] = {
    "crash": _to_one(lambda world, name: world.end(name, 1)),
    "complete": _to_one(lambda world, name: world.end(name, 0)),
    "run out of memory": _to_one(lambda world, name: world.end(name, 137, "OOMKilled")),
    "delete": _to_one(lambda world, name: world.delete(name)),
    "evict": _to_one(lambda world, name: world.evict(name)),
    "drain": _to_one(lambda world, name: world.drain(name)),
    "vanish": _to_one(lambda world, name: world.forget([name])),
    "unready": _to_one(lambda world, name: world.unready(name)),
    "look": lambda world, number: world.settle(),
    "look once": lambda world, number: world.pass_once() and None,
    "wait a little": lambda world, number: world.advance(number % 7),
    "wait long": lambda world, number: world.advance(400),
    "scale": lambda world, number: world.change(replicas=number % 4),
    "change": lambda world, number: world.change(image=f"worker:{number % 3}"),
    "stop": lambda world, number: world.change(desiredState="Stopped"),
    "run": lambda world, number: world.change(desiredState="Running"),
    "release": lambda world, number: world.annotate(ANNOTATION_RELEASE, str(number)),
    "nudge the kubelet": lambda world, number: world._kubelet() and None,
}
HISTORIES = st.lists(st.tuples(st.sampled_from(sorted(STEPS)), st.integers(0, 20)), max_size=25)
SHAPES = st.fixed_dictionaries(
    {
        "restart": st.sampled_from([strategy.value for strategy in RestartStrategy]),
        "replicas": st.integers(0, 3),
        "max_failures": st.integers(0, 3),
        "window": st.sampled_from([1, 10, 60]),
        "backoff": st.sampled_from([NO_BACKOFF, PLAIN_BACKOFF]),
    }
)


def live_through(world: World, history: list[tuple[str, int]]) -> World:
    for step, number in history:
        STEPS[step](world, number)
    return world


@given(shape=SHAPES, history=HISTORIES, prompt=st.booleans())
def test_whatever_happens_no_law_of_the_world_is_broken_and_the_agent_comes_to_rest(
    shape: dict[str, Any], history: list[tuple[str, int]], prompt: bool
) -> None:
    """The world raises on two live pods of an ordinal, a shrinking incarnation, an act before its intent and the rest."""
    world = live_through(World(agent_body(**shape), prompt=prompt), history)
    world.prompt = True
    world.advance(1000)
    wanted = world.agent["spec"]["replicas"] if world.agent["spec"]["desiredState"] == "Running" else 0
    resting = [r for r in world.status.pods if r.state in (AgentState.STOPPED, AgentState.FAILED)]
    if world.status.parked_at is not None or wanted == 0:
        assert world.live() == []
    elif shape["restart"] == "Permanent":
        assert len(world.live()) == wanted
    else:
        assert len(world.live()) == wanted - len(resting)
    kept = [name.rsplit("-", 2)[1] for name in world.ended()]
    assert len(kept) == len(set(kept))


@given(shape=SHAPES, history=HISTORIES, death=st.integers(0, 30))
def test_a_death_of_the_operator_anywhere_changes_no_history_that_waits_for_it(
    shape: dict[str, Any], history: list[tuple[str, int]], death: int
) -> None:
    ends = []
    for crash_at in (None, death):
        world = World(agent_body(**shape), crash_at=crash_at)
        for step, number in history:
            STEPS[step](world, number)
            world.settle()
        world.advance(1000)
        ends.append((world.agent["status"], sorted(world.pods)))
    assert ends[0] == ends[1]


# --- arbitrary facts ------------------------------------------------------------------------------------------------------

TIMES = st.integers(-100_000, 100_000).map(at)
MAYBE_TIME = st.none() | TIMES
WORDS = sorted({*IMAGE_REASONS, *CONFIG_REASONS, "Completed", "Error", "OOMKilled", "ContainerCreating", ""})
POD_WORDS = sorted({*POD_REASON_CAUSES, "DeadlineExceeded", "Strange", ""})
NODES = st.sampled_from([None, "node1", "node2"])
CONTAINERS = st.builds(
    ContainerFacts,
    st.sampled_from(["unknown", "waiting", "running", "terminated"]),
    st.none() | st.sampled_from(WORDS),
    st.none() | st.text(max_size=2000),
    st.none() | st.integers(-1, 300),
    MAYBE_TIME,
    MAYBE_TIME,
)
OTHERS = st.builds(
    OtherContainer,
    st.sampled_from(["setup", "proxy"]),
    st.sampled_from(["init", "native", "regular"]),
    st.none() | st.just("image"),
    CONTAINERS,
    st.none() | CONTAINERS,
    st.booleans(),
)
INCARNATIONS = st.integers(0, 5)


@st.composite
def pod_facts(draw: st.DrawFn) -> PodFacts:
    ordinal, incarnation = draw(st.integers(0, 4)), draw(INCARNATIONS)
    return PodFacts(
        name=f"a-{ordinal}-{incarnation}",
        uid=f"pod-{ordinal}-{incarnation}",
        ordinal=ordinal,
        incarnation=incarnation,
        phase=draw(st.sampled_from(["Pending", "Running", "Succeeded", "Failed", "Unknown"])),
        reason=draw(st.none() | st.sampled_from(POD_WORDS)),
        message=draw(st.none() | st.text(max_size=2000)),
        node=draw(NODES),
        scheduled_at=draw(MAYBE_TIME),
        unschedulable=draw(st.none() | st.text(max_size=10)),
        deleting=draw(st.booleans()),
        deletion_requested_at=draw(MAYBE_TIME),
        ready=draw(st.booleans()),
        main=draw(CONTAINERS),
        others=draw(st.lists(OTHERS, max_size=2).map(tuple)),
        restarts_in_place=draw(st.booleans()),
        disruption=draw(st.none() | st.sampled_from([*DISRUPTION_CAUSES, ""])),
        disrupted_at=draw(MAYBE_TIME),
        spec_hash=draw(st.none() | st.sampled_from(["stale", "other"])),
    )


@st.composite
def statuses(draw: st.DrawFn) -> AgentStatus:
    ordinals = draw(st.lists(st.integers(0, 4), unique=True))
    records = [
        PodRecord(
            ordinal=ordinal,
            name=f"a-{ordinal}-1",
            incarnation=draw(INCARNATIONS | st.just(2**31 - 1)),
            state=draw(st.sampled_from(AgentState)),
            node=draw(NODES),
            start_time=draw(MAYBE_TIME),
            spec_hash=draw(st.none() | st.just("stale")),
            next_restart_time=draw(MAYBE_TIME),
            reason=draw(st.none() | st.sampled_from(["Stopped", "Completed", "Failed", "ErrImagePull"])),
        )
        for ordinal in ordinals
    ]
    failures = draw(
        st.lists(
            st.builds(
                Failure,
                time=TIMES,
                ordinal=st.integers(0, 4),
                cause=st.sampled_from(FailureCause),
                exit_code=st.none() | st.integers(0, 255),
                counted=st.booleans(),
                start_time=MAYBE_TIME,
                released=st.none() | st.booleans(),
            ),
            max_size=6,
        )
    )
    desired = draw(st.none() | st.sampled_from(DesiredState))
    return AgentStatus(
        observed_generation=draw(st.integers(-1, 3)),
        state=draw(st.none() | st.sampled_from(AgentState)),
        pods=tuple(records),
        failures=tuple(failures),
        parked_at=draw(MAYBE_TIME),
        released_by=draw(st.none() | st.just("x")),
        spec_hash=draw(st.none() | st.just("stale")),
        effective=EffectiveAgent(desired_state=desired) if desired else None,
    )


@st.composite
def snapshots(draw: st.DrawFn) -> AgentSnapshot:
    shape = draw(SHAPES)
    agent: Agent = an_agent(
        **shape,
        desired=draw(st.sampled_from(["Running", "Stopped"])),
        annotations=draw(st.sampled_from([{}, {ANNOTATION_RELEASE: "x"}, {ANNOTATION_RELEASE: "y"}])),
        generation=draw(st.integers(1, 3)),
    ).model_copy(update={"status": draw(statuses())})
    pods = draw(st.lists(pod_facts(), max_size=8, unique_by=lambda pod: pod.name))
    nodes = draw(st.sampled_from([None, frozenset({"node1"}), frozenset({"node1", "node2"})]))
    return AgentSnapshot(agent=agent, pods=tuple(pods), nodes=nodes)


@given(snapshot=snapshots(), seconds=st.integers(-1000, 1000), seed=st.integers(0, 1000))
def test_every_snapshot_has_one_decision_whatever_the_order_of_its_pods(
    snapshot: AgentSnapshot, seconds: int, seed: int
) -> None:
    decision = decide(snapshot, at(seconds))
    assert decide(snapshot, at(seconds)) == decision
    shuffled = list(snapshot.pods)
    random.Random(seed).shuffle(shuffled)
    turned = AgentSnapshot(agent=snapshot.agent, pods=tuple(shuffled), nodes=snapshot.nodes)
    assert decide(turned, at(seconds)) == decision


@given(snapshot=snapshots(), seconds=st.integers(-1000, 1000))
def test_every_decision_is_a_status_the_apiserver_would_store_and_acts_on_stored_intents_only(
    snapshot: AgentSnapshot, seconds: int
) -> None:
    now = at(seconds) + timedelta(milliseconds=1)
    decision = decide(snapshot, now)
    wire = decision.status.to_wire()
    assert AgentStatus.model_validate(wire).to_wire() == wire
    stored = {record.ordinal: record.incarnation for record in snapshot.agent.status.pods}
    kept = {record.ordinal: record for record in decision.status.pods}
    pods = {pod.name: pod for pod in snapshot.pods}
    for effect in decision.effects:
        if effect.verb == "create":
            ordinal = int(effect.name.rsplit("-", 2)[1])
            assert effect.name not in pods
            assert stored[ordinal] == kept[ordinal].incarnation
            assert kept[ordinal].state in (AgentState.STARTING, AgentState.RUNNING)
        else:
            assert (effect.verb, effect.uid) == ("delete", pods[effect.name].uid)
    assert all(f.time <= now for f in decision.status.failures[len(snapshot.agent.status.failures) :])
    assert decision.requeue_after is None or decision.requeue_after >= 0


@given(snapshot=snapshots(), seconds=st.integers(-1000, 1000))
def test_an_effect_never_leaves_two_live_pods_of_one_ordinal(snapshot: AgentSnapshot, seconds: int) -> None:
    gone = {pod.name for pod in snapshot.pods if snapshot.nodes is not None and pod.node not in (None, *snapshot.nodes)}
    ended = {
        pod.name
        for pod in snapshot.pods
        if pod.phase in ("Succeeded", "Failed")
        or (
            not pod.restarts_in_place
            and all(container.state == "terminated" for container in (pod.main, *(other.now for other in pod.others)))
        )
    }
    for effect in decide(snapshot, at(seconds)).effects:
        if effect.verb == "create":
            ordinal = int(effect.name.rsplit("-", 2)[1])
            rivals = {pod.name for pod in snapshot.pods if pod.ordinal == ordinal} - ended - gone
            assert rivals == set()
