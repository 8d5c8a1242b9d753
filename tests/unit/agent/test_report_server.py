"""What an agent says, and how it comes out: names, labels and values as docs/agent-contract.md has them."""

import contextlib
import http.client
import math
import os
import socket
import time
from collections.abc import Callable, Iterator

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from mabeam.agent import Agent
from mabeam.agent.connections import CONNECTION_SECONDS, MAX_CONNECTIONS, OpenConnections
from mabeam.agent.samples import FAMILIES, MAX_SERIES

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def agent(clock: Clock, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    with Agent(directory=tmp_path_factory.getbasetemp() / "absent", port=0, clock=clock) as running:
        yield running


def fetch(agent: Agent, path: str = "/metrics", method: str = "GET") -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", agent.port, timeout=20)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        response.body = response.read()  # type: ignore[attr-defined]
        return response
    finally:
        connection.close()


def report(agent: Agent) -> Samples:
    """The samples of a scrape, read back by the reference parser, which is strict about the format."""
    text = fetch(agent).body.decode()  # type: ignore[attr-defined]
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_an_agent_that_said_nothing_reports_three_zeros(agent: Agent) -> None:
    assert report(agent) == {
        ("mabeam_applied_generation", ()): 0,
        ("mabeam_progress_total", ()): 0,
        ("mabeam_directives_malformed_total", ()): 0,
    }


def test_everything_an_agent_can_say_is_read_back_by_the_openmetrics_parser(agent: Agent) -> None:
    agent.prefer("temperature", 0.4, weight=2)
    agent.prefer("model", {"small": 1, "large": 0.3})
    agent.bid("gpu", 3)
    agent.vote("temperature-3", "Yes")
    agent.perform(0.93)
    agent.perform(0.2, metric="loss")
    agent.progress()
    agent.progress(4)
    agent.waiting(30)
    agent.refuse(agent.directives, 'not "this"\nand not \\that', variable="temperature")
    told = report(agent)
    for name in ("applied_generation", "directives_malformed_total"):
        assert told.pop((f"mabeam_{name}", ())) == 0
    reason = ("reason", 'not "this"\nand not \\that')
    assert told == {
        ("mabeam_preference", (("variable", "temperature"),)): 0.4,
        ("mabeam_preference_weight", (("variable", "temperature"),)): 2,
        ("mabeam_preference", (("value", "small"), ("variable", "model"))): 1,
        ("mabeam_preference", (("value", "large"), ("variable", "model"))): 0.3,
        ("mabeam_bid", (("variable", "gpu"),)): 3,
        ("mabeam_vote", (("choice", "Yes"), ("proposal", "temperature-3"))): 1,
        ("mabeam_performance", ()): 0.93,
        ("mabeam_performance", (("metric", "loss"),)): 0.2,
        ("mabeam_progress_total", ()): 5,
        ("mabeam_waiting_until_seconds", ()): 1030,
        ("mabeam_refused", (("generation", "0"), reason, ("variable", "temperature"))): 1,
    }


def test_the_report_is_openmetrics_and_says_so(agent: Agent) -> None:
    response = fetch(agent)
    assert response.status == 200
    assert response.headers["Content-Type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    body: bytes = response.body  # type: ignore[attr-defined]
    assert body.endswith(b"\n# EOF\n")
    names = {line.split()[2] for line in body.decode().splitlines() if line.startswith("# TYPE")}
    assert names <= set(FAMILIES)


@pytest.mark.parametrize("path", ["/", "/metric", "/metrics/", "/../etc/passwd", "/metrics/../x", "/metrics%00"])
def test_no_other_path_is_served(agent: Agent, path: str) -> None:
    assert fetch(agent, path).status == 404


def test_a_query_is_ignored(agent: Agent) -> None:
    assert fetch(agent, "/metrics?name[]=x").status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD"])
def test_only_get_is_answered(agent: Agent, method: str) -> None:
    assert fetch(agent, method=method).status == 501


def test_a_client_that_talks_nonsense_or_goes_away_harms_nobody(agent: Agent) -> None:
    for said in (b"", b"\x00\xff\n", b"GET /metrics", b"GET " + b"a" * 100_000 + b" HTTP/1.0\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", agent.port), timeout=20) as client:
            client.sendall(said)
    assert fetch(agent).status == 200


def connect(agent: Agent) -> socket.socket:
    return socket.create_connection(("127.0.0.1", agent.port), timeout=20)


def test_clients_that_send_nothing_or_a_byte_now_and_then_keep_nobody_out(agent: Agent) -> None:
    slow = [connect(agent) for _ in range(2 * MAX_CONNECTIONS)]
    try:
        for client in slow:
            with contextlib.suppress(OSError):
                client.sendall(b"GET /met")
        for _ in range(3 * MAX_CONNECTIONS):
            assert fetch(agent).status == 200
    finally:
        for client in slow:
            client.close()


def test_of_too_many_clients_the_oldest_gives_way(agent: Agent) -> None:
    first = connect(agent)
    others = [connect(agent) for _ in range(MAX_CONNECTIONS)]
    try:
        assert first.recv(1) == b""
        others[-1].sendall(b"GET /readyz HTTP/1.0\r\n\r\n")
        assert others[-1].recv(8) == b"HTTP/1.0"
    finally:
        for client in (first, *others):
            client.close()


def test_a_client_that_goes_on_sending_is_cut_off_at_its_deadline(agent: Agent) -> None:
    with connect(agent) as client:
        began = time.monotonic()
        with contextlib.suppress(OSError):
            while time.monotonic() < began + 30:
                client.sendall(b"r")
                client.settimeout(0.05)
                with contextlib.suppress(TimeoutError):
                    if client.recv(1) == b"":
                        break
        assert time.monotonic() < began + 30


class Ticks:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_connection_ends_at_its_deadline_whatever_it_does() -> None:
    ticks = Ticks()
    connections = OpenConnections(ticks)
    assert connections.seconds_to_deadline() is None
    here, there = socket.socketpair()
    with here, there:
        connections.add(here)
        connections.answering(here)
        ticks.now = CONNECTION_SECONDS - 1
        connections.drop_expired()
        assert connections.seconds_to_deadline() == 1
        ticks.now += 1
        connections.drop_expired()
        assert (connections.seconds_to_deadline(), there.recv(1)) == (None, b"")


def test_a_connection_whose_request_was_read_stays_before_one_that_is_silent() -> None:
    connections = OpenConnections()
    pairs = [socket.socketpair() for _ in range(MAX_CONNECTIONS + 1)]
    try:
        for here, _ in pairs[:-1]:
            connections.add(here)
        connections.answering(pairs[0][0])
        connections.add(pairs[-1][0])
        pairs[1][1].settimeout(20)
        assert pairs[1][1].recv(1) == b""
        pairs[0][1].setblocking(False)
        with pytest.raises(BlockingIOError):
            pairs[0][1].recv(1)
    finally:
        for here, there in pairs:
            here.close()
            there.close()


def test_a_report_that_cannot_be_rendered_is_an_answer_and_a_line_of_the_log(
    agent: Agent, caplog: pytest.LogCaptureFixture
) -> None:
    agent._samples._samples["mabeam_performance"][(("metric", "\udce9"),)] = 1.0
    for _ in range(2):
        assert fetch(agent).status == 500
    assert [record.message for record in caplog.records] == ["the report cannot be rendered"]
    del agent._samples._samples["mabeam_performance"][(("metric", "\udce9"),)]
    assert fetch(agent).status == 200


def test_a_preference_replaces_the_one_before_it_whole(agent: Agent) -> None:
    agent.prefer("model", "small", weight=3)
    agent.prefer("model", "large")
    preferences = {key: value for key, value in report(agent).items() if "preference" in key[0]}
    assert preferences == {("mabeam_preference", (("value", "large"), ("variable", "model"))): 1}


def test_what_was_preferred_and_bid_can_be_withdrawn(agent: Agent) -> None:
    before = report(agent)
    agent.prefer("temperature", 0.4, weight=2)
    agent.bid("temperature", 1)
    agent.withdraw("temperature")
    assert report(agent) == before


def test_the_last_vote_counts(agent: Agent) -> None:
    agent.vote("p", "Yes")
    agent.vote("p", "No")
    votes = [labels for (name, labels) in report(agent) if name == "mabeam_vote"]
    assert votes == [(("choice", "No"), ("proposal", "p"))]


def waiting_until(agent: Agent) -> float | None:
    return report(agent).get(("mabeam_waiting_until_seconds", ()))


def test_a_wait_ends_with_its_block(agent: Agent) -> None:
    with agent.waiting(30):
        assert waiting_until(agent) == 1030
    assert waiting_until(agent) is None


def test_of_several_waits_the_longest_is_told(agent: Agent) -> None:
    with agent.waiting(30):
        with agent.waiting(90):
            assert waiting_until(agent) == 1090
        assert waiting_until(agent) == 1030


def test_a_wait_without_a_block_ends_by_the_clock(agent: Agent, clock: Clock) -> None:
    agent.waiting(30)
    clock.now += 29
    assert waiting_until(agent) == 1030
    clock.now += 1
    assert waiting_until(agent) is None


class Scalar:
    """A number of somebody's numerical library."""

    def __float__(self) -> float:
        return 0.25


def test_the_scalars_of_numerical_libraries_are_numbers(agent: Agent) -> None:
    agent.perform(Scalar())  # type: ignore[arg-type]
    assert report(agent)[("mabeam_performance", ())] == 0.25


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, "1", [1], True, 10**400])
@pytest.mark.parametrize(
    ("field", "say"),
    [
        ("bid", lambda agent, bad: agent.bid("v", bad)),
        ("weight", lambda agent, bad: agent.prefer("v", 1, weight=bad)),
        ("strength of a", lambda agent, bad: agent.prefer("v", {"a": bad})),
        ("performance", lambda agent, bad: agent.perform(bad)),
        ("steps", lambda agent, bad: agent.progress(bad)),
        ("seconds", lambda agent, bad: agent.waiting(bad)),
    ],
)
def test_a_number_that_is_none_is_refused_by_name(
    field: str, say: Callable[[Agent, object], None], bad: object
) -> None:
    with pytest.raises(ValueError, match=f"{field} must be a finite number, got"):
        say(Agent(port=0), bad)


@pytest.mark.parametrize("bad", [math.nan, math.inf, None, True])
def test_a_preference_is_a_finite_number_or_a_choice(bad: float) -> None:
    with pytest.raises(ValueError, match="value must be a finite number"):
        Agent(port=0).prefer("v", bad)


def test_negative_weights_bids_and_steps_are_refused() -> None:
    agent = Agent(port=0)
    for say in (lambda: agent.bid("v", -1), lambda: agent.prefer("v", 1, weight=-1), lambda: agent.progress(-1)):
        with pytest.raises(ValueError, match="must not be negative"):
            say()
    agent.prefer("v", -1)
    agent.perform(-1)


@pytest.mark.parametrize("name", ["", "x" * 257])
def test_names_have_a_length(name: str) -> None:
    with pytest.raises(ValueError, match="variable must be a text of 1 to 256 characters"):
        Agent(port=0).prefer(name, 1)


@pytest.mark.parametrize(
    ("field", "say"),
    [
        ("variable", lambda agent, name: agent.prefer(name, 1)),
        ("value", lambda agent, name: agent.prefer("v", name)),
        ("variable", lambda agent, name: agent.bid(name, 1)),
        ("proposal", lambda agent, name: agent.vote(name, "Yes")),
        ("choice", lambda agent, name: agent.vote("p", name)),
        ("metric", lambda agent, name: agent.perform(1, metric=name)),
    ],
)
def test_a_name_that_utf8_cannot_encode_is_refused_by_its_field(
    agent: Agent, field: str, say: Callable[[Agent, str], None]
) -> None:
    before = report(agent)
    with pytest.raises(ValueError, match=f"{field} must be a text that UTF-8 can encode"):
        say(agent, os.fsdecode(b"caf\xe9"))
    assert report(agent) == before


def test_a_reason_that_utf8_cannot_encode_is_reported_with_escapes(agent: Agent) -> None:
    agent.refuse(agent.directives, os.fsdecode(b"no file caf\xe9"), variable="\ud800")
    (labels,) = [labels for (name, labels) in report(agent) if name == "mabeam_refused"]
    assert dict(labels) == {"generation": "0", "reason": "no file caf\\udce9", "variable": "\\ud800"}


def test_a_long_reason_is_shortened_rather_than_lost(agent: Agent) -> None:
    agent.refuse(agent.directives, "x" * 1000)
    (labels,) = [labels for (name, labels) in report(agent) if name == "mabeam_refused"]
    assert dict(labels)["reason"] == "x" * 256


def test_a_report_never_holds_more_series_than_are_read(agent: Agent) -> None:
    # Three are there from the start.
    for number in range(MAX_SERIES - 3):
        agent.perform(1, metric=str(number))
    full = report(agent)
    assert len(full) == MAX_SERIES
    with pytest.raises(ValueError, match=f"at most {MAX_SERIES} series"):
        agent.perform(1, metric="one more")
    agent.perform(2, metric="0")
    with pytest.raises(ValueError, match="at most"):
        agent.prefer("new", {"a": 1, "b": 1})
    assert report(agent) == full | {("mabeam_performance", (("metric", "0"),)): 2}


def test_a_port_is_free_again_after_the_agent_closed_it() -> None:
    with Agent(port=0) as first:
        port = first.port
        with pytest.raises(OSError, match="in use"), Agent(port=port):
            pass
    with Agent(port=port) as second:
        assert fetch(second).status == 200
