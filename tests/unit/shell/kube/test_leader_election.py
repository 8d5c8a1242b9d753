"""Leader election on a clock of one's own: nobody writes who might not lead, nobody takes over before the time is seen to pass.

Time is virtual here: the event loop jumps to its next timer, so that a minute takes no time and no wall clock is in it.
"""

import asyncio
import copy
import itertools
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

import pytest

from mabeam.api.base import JsonDict
from mabeam.shell.kube import leader_election as lease_module
from mabeam.shell.kube.errors import ApiError
from mabeam.shell.kube.leader_election import LeaderElector

SECONDS = 15.0


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is that of its next timer."""

    now = 1000.0

    def time(self) -> float:
        return self.now

    def _run_once(self) -> None:
        timers = [timer.when() for timer in self._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]
        if timers and not self._ready:  # type: ignore[attr-defined]
            self.now = max(self.now, min(timers))
        super()._run_once()  # type: ignore[misc]


def virtually(scenario: Callable[["Apiserver"], Awaitable[None]]) -> None:
    async def main() -> None:
        await scenario(Apiserver())

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main())


class Apiserver:
    """One Lease, its version, and the will to fail."""

    def __init__(self) -> None:
        self.lease: JsonDict | None = None
        self.version = 0
        self.writes: list[tuple[float, str]] = []
        self.trouble: Exception | None = None
        self.slow = 0.0

    async def _answer(self) -> None:
        await asyncio.sleep(self.slow)
        if self.trouble is not None:
            raise self.trouble

    async def get(self, kind: str, namespace: str, name: str) -> JsonDict | None:
        await self._answer()
        return copy.deepcopy(self.lease)

    async def create(self, kind: str, namespace: str, body: JsonDict) -> JsonDict:
        await self._answer()
        if self.lease is not None:
            raise ApiError(409, "AlreadyExists", "there is one")
        return self._write({"metadata": {}, "spec": body["spec"]})

    async def patch(self, kind: str, namespace: str, name: str, body: JsonDict) -> JsonDict:
        await self._answer()
        assert self.lease is not None
        if body["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
            raise ApiError(409, "Conflict", "the object has been modified")
        return self._write({"metadata": {}, "spec": self.lease["spec"] | body["spec"]})

    def _write(self, body: JsonDict) -> JsonDict:
        self.version += 1
        body["metadata"]["resourceVersion"] = str(self.version)
        self.lease = copy.deepcopy(body)
        self.writes.append((asyncio.get_running_loop().time(), body["spec"]["holderIdentity"]))
        return body

    @property
    def holder(self) -> str:
        assert self.lease is not None
        return str(self.lease["spec"]["holderIdentity"])


def a_leader(api: Any, identity: str) -> LeaderElector:
    return LeaderElector(api, "mabeam-system", "mabeam", identity, SECONDS)


def clock() -> float:
    return asyncio.get_running_loop().time()


async def elected_after(leader: LeaderElector, patience: float = 120) -> float | None:
    """The seconds until the leader is elected; None when it is not in time."""
    started = clock()
    task = asyncio.create_task(leader.run())
    try:
        async with asyncio.timeout(patience):
            await leader.elected.wait()
    except TimeoutError:
        task.cancel()
        return None
    return clock() - started


def test_the_first_process_leads_at_once() -> None:
    async def scenario(api: Apiserver) -> None:
        leader = a_leader(api, "one")
        assert not leader.may_write()
        assert await elected_after(leader) == 0
        assert leader.may_write()
        assert api.holder == "one"

    virtually(scenario)


def test_a_holder_that_renews_is_never_replaced() -> None:
    async def scenario(api: Apiserver) -> None:
        await elected_after(a_leader(api, "one"))
        assert await elected_after(a_leader(api, "two"), patience=300) is None
        assert {holder for _, holder in api.writes} == {"one"}

    virtually(scenario)


def test_a_holder_renews_three_times_in_the_duration() -> None:
    async def scenario(api: Apiserver) -> None:
        await elected_after(a_leader(api, "one"))
        await asyncio.sleep(60.5)
        times = [when for when, _ in api.writes]
        assert {round(later - earlier, 3) for earlier, later in itertools.pairwise(times)} == {5.0}

    virtually(scenario)


async def dead_holder(api: Apiserver, **spec: Any) -> None:
    """A Lease whose holder was killed a moment ago."""
    stamp = "2026-01-01T00:00:00.000000Z"
    body = {"holderIdentity": "one", "leaseDurationSeconds": 15, "renewTime": stamp, "leaseTransitions": 4}
    await api.create("Lease", "", {"spec": body | spec})


def test_a_dead_holder_is_replaced_after_its_whole_duration_was_seen_to_pass_and_not_before() -> None:
    async def scenario(api: Apiserver) -> None:
        await dead_holder(api)
        waited = await elected_after(a_leader(api, "two"))
        assert waited is not None
        assert SECONDS < waited <= SECONDS + 1
        assert api.lease is not None
        assert api.lease["spec"]["leaseTransitions"] == 5

    virtually(scenario)


@pytest.mark.parametrize("stamp", ["1970-01-01T00:00:00Z", "2999-01-01T00:00:00Z", None, "nonsense"])
def test_what_the_lease_says_of_its_renewal_is_not_believed(stamp: str | None) -> None:
    async def scenario(api: Apiserver) -> None:
        await dead_holder(api, renewTime=stamp)
        waited = await elected_after(a_leader(api, "two"))
        assert waited is not None
        assert SECONDS < waited <= SECONDS + 1

    virtually(scenario)


def test_every_change_of_the_lease_starts_the_wait_anew() -> None:
    async def scenario(api: Apiserver) -> None:
        await dead_holder(api)
        candidate = asyncio.create_task(elected_after(a_leader(api, "two")))
        await asyncio.sleep(10)
        assert api.lease is not None
        version = api.lease["metadata"]["resourceVersion"]
        await api.patch("Lease", "", "", {"metadata": {"resourceVersion": version}, "spec": {"renewTime": "x"}})
        waited = await candidate
        assert waited is not None
        assert waited > 10 + SECONDS

    virtually(scenario)


def test_the_duration_that_counts_is_the_holders_own() -> None:
    async def scenario(api: Apiserver) -> None:
        await dead_holder(api, leaseDurationSeconds=60)
        waited = await elected_after(a_leader(api, "two"))
        assert waited is not None
        assert 60 < waited <= 61

    virtually(scenario)


def test_of_two_candidates_one_is_elected() -> None:
    async def scenario(api: Apiserver) -> None:
        await dead_holder(api)
        both = [a_leader(api, "two"), a_leader(api, "three")]
        tasks = [asyncio.create_task(leader.run()) for leader in both]
        await asyncio.sleep(SECONDS * 3)
        assert sum(leader.elected.is_set() for leader in both) == 1
        for task in tasks:
            task.cancel()

    virtually(scenario)


@pytest.mark.parametrize(
    "trouble", [ApiError(500, "InternalError", "etcd"), TimeoutError(), ApiError(409, "Conflict", "")]
)
def test_a_holder_that_cannot_renew_stops_writing_well_before_another_may_start(trouble: Exception) -> None:
    async def scenario(api: Apiserver) -> None:
        leader = a_leader(api, "one")
        holding = asyncio.create_task(leader.run())
        await leader.elected.wait()
        renewed = clock()
        api.trouble = trouble
        await asyncio.sleep(SECONDS * 2 / 3 - 0.01)
        assert leader.may_write()
        await asyncio.sleep(0.02)
        assert not leader.may_write()
        await holding  # the process ends: what it knows may be stale
        assert clock() - renewed < SECONDS
        assert not leader.may_write()

    virtually(scenario)


def test_a_trouble_without_words_is_told_by_its_name(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(api: Apiserver) -> None:
        api.trouble = TimeoutError()
        await elected_after(a_leader(api, "one"), patience=0.5)

    virtually(scenario)
    assert "the lease could not be renewed: TimeoutError" in caplog.text


def test_a_short_outage_changes_nothing() -> None:
    async def scenario(api: Apiserver) -> None:
        leader = a_leader(api, "one")
        holding = asyncio.create_task(leader.run())
        await leader.elected.wait()
        api.trouble = ApiError(503, "ServiceUnavailable", "a moment")
        await asyncio.sleep(8)
        api.trouble = None
        await asyncio.sleep(60)
        assert not holding.done()
        assert leader.may_write()
        holding.cancel()

    virtually(scenario)


def test_the_age_of_a_renewal_counts_from_its_request_not_from_its_answer() -> None:
    async def scenario(api: Apiserver) -> None:
        api.slow = 4  # twice: one read, one write
        leader = a_leader(api, "one")
        holding = asyncio.create_task(leader.run())
        await leader.elected.wait()
        api.trouble = TimeoutError()
        await asyncio.sleep(1.9)
        assert leader.may_write()
        await asyncio.sleep(0.2)
        assert not leader.may_write()
        holding.cancel()

    virtually(scenario)


def test_a_holder_whose_lease_was_taken_never_takes_it_back() -> None:
    async def scenario(api: Apiserver) -> None:
        leader = a_leader(api, "one")
        holding = asyncio.create_task(leader.run())
        await leader.elected.wait()
        assert api.lease is not None
        version = api.lease["metadata"]["resourceVersion"]
        await api.patch("Lease", "", "", {"metadata": {"resourceVersion": version}, "spec": {"holderIdentity": "two"}})
        await holding
        assert [holder for _, holder in api.writes] == ["one", "two"]
        assert not leader.may_write()

    virtually(scenario)


def test_a_released_lease_is_taken_at_once() -> None:
    async def scenario(api: Apiserver) -> None:
        first = a_leader(api, "one")
        holding = asyncio.create_task(first.run())
        await first.elected.wait()
        second = asyncio.create_task(elected_after(a_leader(api, "two")))
        await asyncio.sleep(3)
        holding.cancel()
        await first.release()
        released = clock()
        assert api.holder == ""
        await second
        assert clock() - released <= 1

    virtually(scenario)


def test_a_holder_that_sees_another_name_writes_nothing_from_then_on() -> None:
    async def scenario(api: Apiserver) -> None:
        leader = a_leader(api, "one")
        holding = asyncio.create_task(leader.run())
        await leader.elected.wait()
        assert api.lease is not None
        api.lease["spec"]["holderIdentity"] = "two"
        taken = clock()
        await holding
        assert clock() - taken <= SECONDS / 3  # the next look, not the end of its own renewal's freshness
        assert not leader.may_write()

    virtually(scenario)


def test_a_lease_that_is_deleted_stays_its_holders() -> None:
    async def scenario(api: Apiserver) -> None:
        first, second = a_leader(api, "one"), a_leader(api, "two")
        tasks = [asyncio.create_task(first.run())]
        await first.elected.wait()
        tasks.append(asyncio.create_task(second.run()))
        await asyncio.sleep(2)
        api.lease = None
        await asyncio.sleep(SECONDS)
        assert {holder for _, holder in api.writes} == {"one"}
        assert not second.elected.is_set()
        for task in tasks:
            task.cancel()

    virtually(scenario)


def test_a_deleted_lease_of_a_dead_holder_is_taken_when_its_time_is_over() -> None:
    async def scenario(api: Apiserver) -> None:
        await dead_holder(api)
        candidate = asyncio.create_task(elected_after(a_leader(api, "two")))
        await asyncio.sleep(2)
        api.lease = None
        waited = await candidate
        assert waited is not None
        assert SECONDS < waited <= SECONDS + 1

    virtually(scenario)


def test_a_renewal_that_arrives_during_the_release_does_not_keep_the_lease() -> None:
    class Late(Apiserver):
        async def patch(self, kind: str, namespace: str, name: str, body: JsonDict) -> JsonDict:
            if body["spec"]["holderIdentity"] == "" and not late:
                late.append("renewed")
                self._write(copy.deepcopy(self.lease) or {})
            return await super().patch(kind, namespace, name, body)

    late: list[str] = []

    async def scenario(_: Apiserver) -> None:
        api = Late()
        leader = a_leader(api, "one")
        holding = asyncio.create_task(leader.run())
        await leader.elected.wait()
        holding.cancel()
        await leader.release()
        assert api.holder == ""
        assert late

    virtually(scenario)


def test_a_process_that_does_not_lead_releases_nothing() -> None:
    async def scenario(api: Apiserver) -> None:
        await dead_holder(api)
        await a_leader(api, "two").release()
        assert api.holder == "one"

    virtually(scenario)


def test_a_wall_clock_that_is_stepped_moves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stepped(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Stepped":  # type: ignore[override]
            return cls.fromtimestamp(0, tz or UTC) + timedelta(hours=steps.pop() if steps else -1)

    steps = [1.0, -2.0, 50.0, 0.0] * 20

    def story() -> list[tuple[float, str]]:
        told: list[tuple[float, str]] = []

        async def scenario(api: Apiserver) -> None:
            first = a_leader(api, "one")
            holding = asyncio.create_task(first.run())
            await first.elected.wait()
            second = asyncio.create_task(elected_after(a_leader(api, "two")))
            await asyncio.sleep(30)
            holding.cancel()
            await second
            await asyncio.sleep(12)
            told.extend(api.writes)

        virtually(scenario)
        return told

    before = story()
    monkeypatch.setattr(lease_module, "datetime", Stepped)
    assert story() == before
    assert len(steps) < 80


def test_a_candidate_counts_from_when_it_was_answered_not_from_when_it_asked() -> None:
    async def scenario(api: Apiserver) -> None:
        api._write({"metadata": {}, "spec": {"holderIdentity": "a", "leaseDurationSeconds": SECONDS}})
        api.slow = 10.0
        taken = await elected_after(a_leader(api, "b"))
        assert taken is not None
        assert taken >= 10.0 + SECONDS

    virtually(scenario)


@pytest.mark.parametrize("hanging", ["get", "patch"])
def test_one_renewal_whose_answer_never_comes_does_not_end_the_leader(hanging: str) -> None:
    async def scenario(api: Apiserver) -> None:
        plain, calls = getattr(api, hanging), itertools.count(1)

        async def hang_once(*words: Any) -> Any:
            if next(calls) == 3:
                await asyncio.sleep(15)  # the timeout of a request
                raise TimeoutError
            return await plain(*words)

        setattr(api, hanging, hang_once)
        leader = a_leader(api, "one")
        task = asyncio.create_task(leader.run())
        await leader.elected.wait()
        for _ in range(400):
            await asyncio.sleep(0.1)
            assert leader.may_write()
        assert not task.done()
        task.cancel()

    virtually(scenario)


def test_a_leader_whose_renewals_all_hang_stops_in_time() -> None:
    async def scenario(api: Apiserver) -> None:
        leader = a_leader(api, "one")
        task = asyncio.create_task(leader.run())
        await leader.elected.wait()
        began = clock()
        api.slow = 15.0
        await task
        assert clock() - began <= SECONDS + 1
        assert not leader.may_write()

    virtually(scenario)
