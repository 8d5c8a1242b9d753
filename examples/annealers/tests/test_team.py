"""The annealers as a team: who hands what to whom, who judges, who finishes, and what the manifests say."""

import contextlib
import http.client
import importlib
import json
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from annealers import memory, polisher, ring, wire
from annealers.board import MOST_AGENTS, Board, Unfit
from annealers.crasher import Crasher
from annealers.evaluator import Evaluator
from annealers.executor import Executor
from annealers.picture import svg
from annealers.polisher import Polisher
from annealers.tsp import BERLIN52
from mabeam.agent import Agent, Coordinator, Directives, Identity, Peer, Proposal, Refused
from mabeam.api.agent import Agent as AgentObject
from mabeam.api.variable import OrchestrationType, OrchestrationVariable
from mabeam.api.variable_blocks import CoordinationPattern

EXAMPLE = Path(__file__).parents[3] / "examples" / "annealers"
DEADLINE = 20.0
ANY_TOUR = list(range(52))


def eventually(condition: Callable[[], object]) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)


def told(agent: Agent) -> dict[str, dict[str, float]]:
    """What the agent reports: family, then its one label's value (or nothing), then the sample."""
    return {
        name: {next(iter(labels.values()), ""): value for labels, value in samples}
        for name, _, samples in agent._samples.families()
    }


def agent_named(name: str) -> Agent:
    return Agent(Identity(agent=name), port=0)


@contextlib.contextmanager
def running(worker: Any) -> Iterator[None]:
    """The worker's run in a thread, until the block ends."""
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        yield
    finally:
        worker.agent.stop()
        thread.join(DEADLINE)
        assert not thread.is_alive()


@pytest.fixture(autouse=True)
def free_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXECUTOR_LISTEN_PORT", "0")


@pytest.fixture
def evaluator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Evaluator]:
    """An evaluator that serves, and whose address is in the environment as Kubernetes would put it."""
    monkeypatch.setenv("EVALUATOR_LISTEN_PORT", "0")
    judge = Evaluator(agent_named("evaluator"))
    with running(judge):
        eventually(lambda: judge.port != 0)
        monkeypatch.setenv("ANNEALERS_EVALUATOR_SERVICE_HOST", "127.0.0.1")
        monkeypatch.setenv("ANNEALERS_EVALUATOR_SERVICE_PORT", str(judge.port))
        yield judge


def ask(evaluator: Evaluator, method: str, path: str, body: str | None = None) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", evaluator.port, timeout=DEADLINE)
    try:
        connection.request(method, path, body)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


# -- the board --------------------------------------------------------------------------------------------------------


def test_the_board_computes_lengths_itself_and_keeps_the_best() -> None:
    board = Board(BERLIN52)
    good = polisher.two_opt(BERLIN52, ANY_TOUR)
    assert board.submit("a", ANY_TOUR) == BERLIN52.length(ANY_TOUR)
    assert board.submit("b", good) == BERLIN52.length(good)
    board.submit("a", ANY_TOUR)
    standing = board.standing
    assert (standing.length, standing.agent, standing.judged) == (BERLIN52.length(good), "b", 3)
    assert standing.tour == tuple(good)
    assert standing.lengths == {"a": BERLIN52.length(ANY_TOUR), "b": BERLIN52.length(good)}


@pytest.mark.parametrize(("agent", "tour"), [("", ANY_TOUR), (None, ANY_TOUR), ("a" * 64, ANY_TOUR), ("a", [0] * 52)])
def test_the_board_takes_no_tour_that_is_none_and_none_from_nobody(agent: object, tour: object) -> None:
    board = Board(BERLIN52)
    with pytest.raises(Unfit):
        board.submit(agent, tour)
    assert board.standing.judged == 0


def test_the_board_has_room_for_so_many_agents_and_no_more() -> None:
    board = Board(BERLIN52)
    for number in range(MOST_AGENTS):
        board.submit(f"agent-{number}", ANY_TOUR)
    with pytest.raises(Unfit, match="more than"):
        board.submit("one-more", ANY_TOUR)
    board.submit("agent-0", ANY_TOUR)


def test_the_picture_shows_every_city_and_the_tour_once_there_is_one() -> None:
    board = Board(BERLIN52)
    assert "no tour yet" in svg(BERLIN52, board.standing)
    board.submit("<script>", ANY_TOUR)
    picture = ET.fromstring(svg(BERLIN52, board.standing))
    space = "{http://www.w3.org/2000/svg}"
    assert len(picture.findall(f".//{space}circle")) == 52
    (polygon,) = picture.findall(f"{space}polygon")
    assert len(polygon.attrib["points"].split()) == 52
    assert "by <script>" in (picture.findtext(f"{space}text") or "")


# -- the way to the evaluator -----------------------------------------------------------------------------------------


def test_the_evaluator_is_found_by_url_or_by_the_service_in_the_environment() -> None:
    assert wire.evaluator_url({}) is None
    service = {"ANNEALERS_EVALUATOR_SERVICE_HOST": "10.0.0.9", "ANNEALERS_EVALUATOR_SERVICE_PORT": "80"}
    assert wire.evaluator_url(service) == "http://10.0.0.9:80"
    assert wire.evaluator_url({"ANNEALERS_EVALUATOR_SERVICE_HOST": "fd00::9"}) == "http://[fd00::9]:8080"
    assert wire.evaluator_url({**service, "EVALUATOR_URL": "http://here:1/"}) == "http://here:1"


def test_a_better_tour_is_told_soon_the_same_one_now_and_then_and_a_failure_is_not_repeated_at_once() -> None:
    schedule = wire.Schedule()
    assert schedule.due(9000, now=0)
    schedule.pushed(9000, now=0)
    assert not schedule.due(8000, now=0.9)
    assert schedule.due(8000, now=1)
    assert not schedule.due(9000, now=9.9)
    assert schedule.due(9000, now=10)
    schedule.failed(now=10)
    assert not schedule.due(7600, now=19.9)
    assert schedule.due(7600, now=20)


# -- the executor -----------------------------------------------------------------------------------------------------


def test_an_executor_anneals_at_the_temperature_it_is_told() -> None:
    executor = Executor(agent_named("executor-a"))
    assert executor.temperature == 100
    executor.on_directives(Directives(generation=1, parameters={"temperature": 20}))
    assert executor.temperature == 20
    executor.on_directives(Directives(generation=2))
    assert executor.temperature == 20


@pytest.mark.parametrize("temperature", [0, -1, "hot", None, True])
def test_an_executor_refuses_what_is_no_temperature(temperature: object) -> None:
    executor = Executor(agent_named("executor-a"))
    with pytest.raises(Refused):
        executor.on_directives(Directives(generation=1, parameters={"temperature": temperature}))
    assert executor.temperature == 100


def test_an_executor_says_how_well_it_does_and_which_temperature_it_wants() -> None:
    executor = Executor(agent_named("executor-a"))
    for _ in range(20):
        executor.anneal()
    said = told(executor.agent)
    assert said["mabeam_progress"][""] == 6_000
    assert said["mabeam_performance"][""] == 7542 / executor.annealer.best_length
    assert said["mabeam_performance"]["current"] == 7542 / executor.annealer.length
    # At 100 it accepts far too much.
    assert said["mabeam_performance"]["acceptance"] > 0.05
    assert said["mabeam_preference"]["temperature"] == 50


def test_executors_of_different_names_and_incarnations_start_elsewhere() -> None:
    starts = {
        tuple(Executor(Agent(Identity(agent=name, incarnation=number), port=0)).annealer.tour)
        for name in ("executor-a", "executor-b")
        for number in (1, 2)
    }
    assert len(starts) == 4


def test_an_executor_hands_its_best_tour_to_the_evaluator(evaluator: Evaluator) -> None:
    executor = Executor(agent_named("executor-a"))
    with running(executor):
        eventually(lambda: "executor-a" in evaluator.board.standing.lengths)
    assert evaluator.board.standing.length is not None
    assert told(evaluator.agent)["mabeam_performance"][""] == 7542 / evaluator.board.standing.length
    assert told(evaluator.agent)["mabeam_progress"][""] >= 1


def test_an_executor_without_an_evaluator_anneals_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVALUATOR_URL", "http://127.0.0.1:1")
    executor = Executor(agent_named("executor-a"))
    executor.deliver(now=0)
    executor.anneal()
    assert told(executor.agent)["mabeam_progress"][""] == 300


def test_an_executor_that_is_not_active_waits(tmp_path: Path) -> None:
    (tmp_path / "directives.json").write_text('{"generation": 1, "active": false}')
    with Agent(Identity(agent="executor-a"), tmp_path, port=0) as agent, running(Executor(agent)):
        eventually(lambda: "mabeam_waiting_until_seconds" in told(agent))
        assert told(agent)["mabeam_progress"][""] == 0


# -- the vote ---------------------------------------------------------------------------------------------------------


def asked(proposed: object, variable: str = "temperature", number: int = 3) -> Directives:
    proposal = Proposal(f"{variable}-{number}", variable, proposed)
    return Directives(generation=number, parameters={"temperature": 50}, proposals=(proposal,))


@pytest.mark.parametrize(
    ("proposed", "choice"),
    [(24, "Yes"), (12, "Yes"), (11, "No"), (50, "No"), (100, "No"), (0, "No"), (-3, "No"), ("hot", "No"), (None, "No"),
     (True, "No"), (float("inf"), "No")],
)  # fmt: skip
def test_an_executor_votes_for_what_is_closer_to_its_wish(proposed: object, choice: str) -> None:
    executor = Executor(agent_named("executor-a"))
    executor.wanted = 24
    executor.on_directives(asked(proposed))
    (((labels, _),),) = [found for name, _, found in executor.agent._samples.families() if name == "mabeam_vote"]
    assert labels == {"proposal": "temperature-3", "choice": choice}


def test_an_executor_without_a_wish_votes_once_it_has_one(tmp_path: Path) -> None:
    (tmp_path / "directives.json").write_text(
        json.dumps({"generation": 1, "proposals": [{"id": "temperature-3", "variable": "temperature", "proposed": 50}]})
    )
    with Agent(Identity(agent="executor-a"), tmp_path, port=0) as agent:
        executor = Executor(agent)
        executor.on_directives(agent.directives)
        assert "mabeam_vote" not in told(agent)
        while executor.wanted is None:
            executor.anneal()
        assert "mabeam_vote" in told(agent)


def test_an_executor_judges_the_temperature_alone_and_each_proposal_once() -> None:
    executor = Executor(agent_named("executor-a"))
    executor.wanted = 24
    executor.on_directives(asked("ring", variable="model"))
    assert "mabeam_vote" not in told(executor.agent)
    executor.on_directives(asked(24))
    executor.wanted = 50
    executor.vote(asked(24).proposals)
    assert told(executor.agent)["mabeam_vote"] == {"temperature-3": 1}
    assert executor._voted == {"temperature-3": "Yes"}


# -- the ring ---------------------------------------------------------------------------------------------------------


def see(executor: Executor, page: str) -> dict[str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", executor.port, timeout=DEADLINE)
    try:
        connection.request("GET", page)
        found = json.loads(connection.getresponse().read())
        return dict(found)
    finally:
        connection.close()


def test_an_executor_says_itself_what_it_was_told() -> None:
    executor = Executor(agent_named("executor-a"))
    with running(executor):
        eventually(lambda: executor.port != 0)
        assert (see(executor, "/directives")["coordinator"], see(executor, "/directives")["peers"]) == (None, [])
        executor.on_directives(
            Directives(
                generation=7,
                role="Coordinator",
                parameters={"temperature": 24},
                peers=(Peer("executor-b"), Peer("executor-c")),
                resources={"memory": "144Mi"},
                coordinator=Coordinator("executor-a", 2),
                term=2,
            )
        )
        seen = see(executor, "/directives")
        assert seen.pop("memoryLimitBytes") == memory.limit()
        assert seen == {
            "generation": 7, "temperature": 24, "role": "Coordinator", "coordinator": "executor-a", "term": 2,
            "peers": ["executor-b", "executor-c"], "toursHeard": 0, "memory": "144Mi",
        }  # fmt: skip
        assert told(executor.agent)["mabeam_performance"]["coordinator"] == 1
        assert "error" in see(executor, "/elsewhere")


def test_who_coordinates_is_logged_when_it_changes(caplog: pytest.LogCaptureFixture) -> None:
    executor = Executor(agent_named("executor-a"))
    with caplog.at_level("INFO", "annealers.executor"):
        for generation, name, term in ((1, "executor-a", 1), (2, "executor-a", 1), (3, "executor-b", 2)):
            role = "Coordinator" if name == "executor-a" else "Executor"
            executor.on_directives(Directives(generation=generation, role=role, coordinator=Coordinator(name, term)))
    said = [message for message in caplog.messages if "coordinates" in message]
    assert said == ["this agent coordinates, term 1", "executor-b coordinates, term 2"]
    assert told(executor.agent)["mabeam_performance"]["coordinator"] == 0


def test_a_shorter_tour_of_a_neighbour_is_walked_on_from_and_a_longer_one_is_not() -> None:
    better, worse = Executor(agent_named("executor-a")), Executor(agent_named("executor-b"))
    better.annealer.adopt(polisher.two_opt(BERLIN52, ANY_TOUR))
    lengths = better.annealer.best_length, worse.annealer.best_length
    with ring.shown(0, {"/best": better.best}) as at_better, ring.shown(0, {"/best": worse.best}) as at_worse:
        for executor, port in ((worse, at_better), (better, at_worse)):
            executor._visits = ring.Visits(port)
            executor.agent._directives = Directives(generation=1, peers=(Peer("other", addresses=("127.0.0.1",)),))
            before = executor.annealer.best_length
            executor.visit(now=0)
            assert executor.annealer.best_length == min(before, *lengths)
    assert worse.annealer.tour == list(better.annealer.best)


def test_neighbours_are_asked_in_turn_and_not_too_often(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(wire, "fetch_best", lambda url: asked.append(url) or ANY_TOUR)
    peers = (
        Peer("b", addresses=("10.0.0.2",)),
        Peer("c", addresses=("fd00::3",)),
        Peer("not-ready"),
        Peer("begins-itself", addresses=("10.0.0.5",), direction="In"),
    )
    visits = ring.Visits(8081)
    found = [visits.ask(peers, now) for now in (0, 0.5, 1, 2)]
    assert [one and one[0] for one in found] == ["c", None, "b", "c"]
    assert asked == ["http://[fd00::3]:8081", "http://10.0.0.2:8081", "http://[fd00::3]:8081"]
    assert (visits.ask((), 9), visits.heard) == (None, 3)


def test_a_neighbour_that_does_not_answer_or_shows_no_tour_does_no_harm() -> None:
    visits = ring.Visits(1)
    assert visits.ask((Peer("b", addresses=("127.0.0.1",)),), now=0) is None
    executor = Executor(agent_named("executor-a"))
    before = executor.annealer.best
    for nonsense in (None, "a tour", [0, 0, 1]):
        with ring.shown(0, {"/best": lambda tour=nonsense: {"tour": tour}}) as port:  # type: ignore[misc]
            executor._visits = ring.Visits(port)
            executor.agent._directives = Directives(generation=1, peers=(Peer("other", addresses=("127.0.0.1",)),))
            executor.visit(now=0)
    assert executor.annealer.best == before


def test_an_executor_whose_port_is_taken_anneals_all_the_same() -> None:
    with ring.shown(0, {}) as port, ring.shown(port, {}) as second:
        assert second == 0


# -- memory -----------------------------------------------------------------------------------------------------------


def test_the_memory_limit_is_what_the_kernel_says(tmp_path: Path) -> None:
    two, one = tmp_path / "memory.max", tmp_path / "memory.limit_in_bytes"
    assert memory.limit((two, one)) is None
    one.write_text("150994944\n")
    assert memory.limit((two, one)) == 144 * 1024**2
    two.write_text("67108864\n")
    assert memory.limit((two, one)) == 64 * 1024**2
    two.write_text("max\n")
    one.write_text("9223372036854771712\n")
    assert memory.limit((two, one)) is None


# -- the evaluator ----------------------------------------------------------------------------------------------------


def test_the_evaluator_serves_its_best_tour_and_a_picture_of_it(evaluator: Evaluator) -> None:
    assert json.loads(ask(evaluator, "GET", "/best")[1])["tour"] is None
    body = json.dumps({"agent": "a", "tour": ANY_TOUR, "length": 1})
    length = BERLIN52.length(ANY_TOUR)
    assert ask(evaluator, "POST", "/tour", body) == (200, f'{{"length": {length}, "best": {length}}}\n')
    best = json.loads(ask(evaluator, "GET", "/best")[1])
    assert (best["tour"], best["length"], best["agent"], best["optimum"]) == (ANY_TOUR, length, "a", 7542)
    assert ask(evaluator, "GET", "/tour.svg")[1].startswith("<svg ")
    assert "tour.svg" in ask(evaluator, "GET", "/")[1]


BAD_REQUESTS = [
    ("GET", "/etc/passwd", None, 404),
    ("POST", "/best", "{}", 404),
    ("POST", "/tour", "", 422),
    ("POST", "/tour", "[]", 422),
    ("POST", "/tour", "[" * 10_000, 422),
    ("POST", "/tour", '{"agent": "a", "tour": [0, 1]}', 422),
    ("POST", "/tour", "x" * 20_000, 413),
]


def test_the_evaluator_says_what_is_wrong_with_a_request(evaluator: Evaluator) -> None:
    for method, path, body, status in BAD_REQUESTS:
        answered, text = ask(evaluator, method, path, body)
        assert (answered, path) == (status, path)
        assert json.loads(text)["error"]


# -- the polisher and the crasher -------------------------------------------------------------------------------------


def test_the_polisher_takes_the_best_tour_once_hands_a_better_one_back_and_is_done(evaluator: Evaluator) -> None:
    evaluator.judge("executor-a", ANY_TOUR)
    Polisher(agent_named("polisher")).run()
    standing = evaluator.board.standing
    assert standing.agent == "polisher"
    assert standing.tour == tuple(polisher.two_opt(BERLIN52, ANY_TOUR))


def test_the_polisher_waits_for_a_tour(evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polisher, "PAUSE_SECONDS", 0.01)
    worker = Polisher(agent_named("polisher"))
    with running(worker):
        eventually(lambda: "mabeam_waiting_until_seconds" in told(worker.agent))
        evaluator.judge("executor-a", ANY_TOUR)
        eventually(lambda: evaluator.board.standing.agent == "polisher")


@pytest.mark.parametrize(
    ("url", "why"), [(None, "no evaluator was told"), ("http://127.0.0.1:1", "Connection refused")]
)
def test_the_polisher_fails_when_its_patience_ends(monkeypatch: pytest.MonkeyPatch, url: str | None, why: str) -> None:
    monkeypatch.setattr(polisher, "PATIENCE_SECONDS", 0.0)
    if url is not None:
        monkeypatch.setenv("EVALUATOR_URL", url)
    with pytest.raises(TimeoutError, match=why):
        Polisher(agent_named("polisher")).run()


def test_the_polisher_ends_without_an_error_when_it_is_stopped() -> None:
    worker = Polisher(agent_named("polisher"))
    worker.agent.stop()
    worker.run()


def test_the_crasher_crashes_unless_it_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("annealers.crasher.SECONDS_TO_LIVE", 0.01)
    worker = Crasher(agent_named("crasher"))
    with pytest.raises(RuntimeError, match="on purpose"):
        worker.run()
    worker.agent.stop()
    worker.run()


# -- the manifests ----------------------------------------------------------------------------------------------------


def objects(file: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((EXAMPLE / file).read_text()))


def test_the_manifests_are_valid_and_every_module_can_be_run() -> None:
    agents = [
        AgentObject.model_validate(o) for o in objects("team.yaml") + objects("crasher.yaml") if o["kind"] == "Agent"
    ]
    assert [agent.metadata.name for agent in agents] == [
        "evaluator", "executor-a", "executor-b", "executor-c", "polisher", "crasher",
    ]  # fmt: skip
    for agent in agents:
        module, _, name = (agent.spec.module or "").partition(":")
        assert callable(getattr(importlib.import_module(module), name).run)


def test_the_service_comes_first_and_its_name_is_the_one_the_executors_look_for() -> None:
    service = objects("team.yaml")[0]
    assert service["kind"] == "Service"
    assert service["metadata"]["name"].upper().replace("-", "_") + "_SERVICE" == wire.SERVICE
    assert service["spec"]["selector"] == {"mabeam.dev/agent": "evaluator"}


def test_the_temperature_is_negotiated_by_the_executors() -> None:
    team = objects("team.yaml")
    (document,) = [o for o in team if o["kind"] == "OrchestrationVariable"]
    variable = OrchestrationVariable.model_validate(document)
    wanted = document["spec"]["agents"]["selector"]["matchLabels"].items()
    chosen = [o["metadata"]["name"] for o in team if wanted <= o["metadata"].get("labels", {}).items()]
    assert chosen == ["executor-a", "executor-b", "executor-c"]
    assert variable.metadata.name == "temperature"
    assert variable.spec.value == 100


def variable_of(file: str) -> OrchestrationVariable:
    (document,) = objects(file)
    return OrchestrationVariable.model_validate(document)


def test_the_ring_is_of_all_who_anneal() -> None:
    spec = variable_of("ring.yaml").spec
    assert spec.type is OrchestrationType.COORDINATION_PATTERN
    assert spec.topology is not None
    assert spec.agents.selector is not None
    assert (spec.topology.pattern, spec.agents.selector.match_labels) == (CoordinationPattern.RING, {"anneals": "yes"})


def test_the_vote_is_about_the_same_temperature_and_changes_nothing_else_of_it() -> None:
    (plain,) = [o for o in objects("team.yaml") if o["kind"] == "OrchestrationVariable"]
    (voted,) = objects("vote.yaml")
    assert voted["spec"].pop("consensus")["protocol"] == "SimpleMajority"
    assert voted == plain


def test_the_memory_is_shared_among_those_whose_limit_is_their_request() -> None:
    variable = variable_of("memory.yaml")
    shared = [o for o in objects("team.yaml") if o["metadata"]["name"] in variable.spec.agents.names]
    assert len(shared) == 3
    for document in shared:
        resources = document["spec"]["resources"]
        assert resources["requests"]["memory"] == resources["limits"]["memory"]
        assert [bounds["resource"] for bounds in resources["bounds"]] == ["memory"]


def test_every_executor_shows_itself_where_the_others_look() -> None:
    for document in objects("team.yaml"):
        if document["kind"] == "Agent" and document["spec"]["role"] == "Executor":
            ports = [one["port"] for one in document["spec"]["communication"]["interfaces"]]
            assert ports == [ring.PORT]
