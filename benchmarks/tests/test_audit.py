"""What the benchmark reads out of the apiserver's audit log: who wrote what, how much at once, through rotations."""

import asyncio
import json
import os
from pathlib import Path

import pytest

from benchmarks.arena.audit import AuditLog, Request, busiest, most_at_once, parse, tally


def entry(verb: str = "create", resource: str = "pods", agent: str = "mabeam/0.1.0", **more: object) -> bytes:
    """A line of the log."""
    line = {
        "stage": "ResponseComplete",
        "verb": verb,
        "user": {"username": "someone"},
        "userAgent": agent,
        "objectRef": {"resource": resource},
        "responseStatus": {"code": 201},
        "requestReceivedTimestamp": "2026-01-01T00:00:00.250000Z",
        "stageTimestamp": "2026-01-01T00:00:00.500000Z",
        **more,
    }
    return json.dumps(line, separators=(",", ":")).encode() + b"\n"


def test_a_line_is_a_request_with_its_subresource_and_its_times() -> None:
    found = parse(entry("patch", objectRef={"resource": "agents", "subresource": "status"}))
    assert found is not None
    assert (found.verb, found.resource, found.code, found.writes) == ("patch", "agents/status", 201, True)
    assert found.answered - found.received == pytest.approx(0.25)


@pytest.mark.parametrize("more", [{"stage": "ResponseStarted"}, {"objectRef": None}])
def test_what_is_no_answer_about_an_object_is_no_request(more: dict[str, object]) -> None:
    assert parse(entry(**more)) is None


def request(verb: str, resource: str = "pods", received: float = 0.0, answered: float = 1.0) -> Request:
    return Request(verb, resource, 200, received, answered)


def test_only_writes_are_tallied_and_some_resources_are_left_out() -> None:
    seen = [
        request("get"),
        request("create"),
        request("create"),
        request("patch", "leases"),
        request("patch", "pods/status"),
    ]
    assert tally(seen, apart=("leases",)) == {"create pods": 2, "patch pods/status": 1}


def test_most_at_once_is_counted_without_streams_and_without_neighbours_that_only_touch() -> None:
    seen = [
        request("get", received=0, answered=2),
        request("patch", received=1, answered=3),
        request("create", received=3, answered=4),
        request("watch", received=0, answered=9),
    ]
    assert most_at_once(seen) == 2
    assert most_at_once([]) == 0


@pytest.mark.parametrize(("moments", "most"), [([], 0), ([5.0], 1), ([0.0, 1.0, 2.0], 1), ([0.0, 0.9, 1.8, 1.85], 3)])
def test_busiest_is_the_most_within_any_second(moments: list[float], most: int) -> None:
    assert busiest(moments) == most


def test_requests_are_those_between_two_marks_of_one_asker(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.log")
    log.path.write_bytes(entry("delete"))
    since = log.mark()
    with log.path.open("ab") as file:
        file.write(entry("create") + entry("create", agent="kubectl/1"))
    until = log.mark()
    with log.path.open("ab") as file:
        file.write(entry("patch") + b'{"half of a line')
    assert tally(log.requests("operator", since, until)) == {"create pods": 1}
    assert tally(log.requests("operator", since)) == {"create pods": 1, "patch pods": 1}


def test_requests_are_found_through_rotations(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.log")
    log.path.write_bytes(entry("delete"))
    since = log.mark()
    for age, verb in enumerate(("create", "patch")):
        with log.path.open("ab") as file:
            file.write(entry(verb))
        rotated = log.path.rename(tmp_path / f"audit-{age}.log")
        os.utime(rotated, (age, age))
        log.path.write_bytes(b"")
    log.path.write_bytes(entry("update"))
    assert tally(log.requests("operator", since)) == {"create pods": 1, "patch pods": 1, "update pods": 1}


def test_a_mark_that_was_rotated_away_is_an_error(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.log")
    log.path.write_bytes(entry())
    since = log.mark()
    (tmp_path / "new").write_bytes(b"")
    (tmp_path / "new").replace(log.path)
    with pytest.raises(RuntimeError, match="rotated away"):
        log.requests("operator", since)


def test_until_idle_waits_for_the_clients_rest_but_not_for_leases_or_others(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.log")
    log.path.write_bytes(b"")

    async def scene(line: bytes) -> bool:
        """Whether rest comes although such a line is written all the time."""

        async def write_on() -> None:
            while True:
                with log.path.open("ab") as file:
                    file.write(line)
                await asyncio.sleep(0.05)

        writer = asyncio.create_task(write_on())
        try:
            await log.until_idle("operator", seconds=0.5, deadline=1.5)
        except TimeoutError:
            return False
        finally:
            writer.cancel()
        return True

    assert asyncio.run(scene(entry("patch", "leases")))
    assert asyncio.run(scene(entry("create", agent="kubectl/1")))
    assert not asyncio.run(scene(entry("patch", "agents")))


def test_a_mark_made_while_a_line_was_being_written_begins_with_the_next_one(tmp_path: Path) -> None:
    log, line = AuditLog(tmp_path / "audit.log"), entry()
    log.path.write_bytes(line + line[:40])
    mark = log.mark()
    log.path.write_bytes(line + line + entry("patch"))
    assert [one.verb for one in log.requests("operator", mark)] == ["patch"]
