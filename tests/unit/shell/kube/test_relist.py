"""Mark and sweep: what no watch told is found by a LIST, and what a watch told meanwhile is not taken back."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from mabeam.api.base import JsonDict
from mabeam.shell.kube.errors import ApiError, UnreadableAnswer
from mabeam.shell.kube.json_members import ObjectIdentity
from mabeam.shell.kube.list_page import ListPage
from mabeam.shell.kube.relist import FORGET_AFTER_LISTS, SILENT_SWEEPS, Relister
from mabeam.shell.kube.server_time import ServerClock
from mabeam.state.cache import AGENT, WATCHED_KINDS, Cache, Change
from support.builders import agent_body


def an_agent(name: str, version: int, uid: str | None = None) -> JsonDict:
    body = agent_body(name)
    body["metadata"] |= {"resourceVersion": str(version), "uid": uid or f"uid-of-{name}"}
    return body


class Apiserver:
    """Lists what it holds; `meanwhile` happens while it is asked."""

    def __init__(self) -> None:
        self.items: dict[str, list[JsonDict]] = {kind: [] for kind in WATCHED_KINDS}
        self.asked: list[tuple[str, str | None]] = []
        self.before_answering: Callable[[], object] = lambda: None
        self.meanwhile: Callable[[], object] = lambda: None
        self.clock = ServerClock()
        self.trouble: list[Exception] = []
        self.denied: dict[str | None, Exception] = {}  # by namespace
        self.as_of = "1000"
        self.unreadable: dict[str, tuple[ObjectIdentity, ...]] = {}

    async def list_pages(self, kind: str, namespace: str | None = None) -> AsyncIterator[ListPage]:
        self.asked.append((kind, namespace))
        if self.trouble:
            raise self.trouble.pop()
        if namespace in self.denied:
            raise self.denied[namespace]
        if kind == AGENT:
            self.before_answering()
        items = [item for item in self.items[kind] if namespace in (None, item["metadata"]["namespace"])]
        yield ListPage(items, self.as_of, unreadable=self.unreadable.get(kind, ()))
        if kind == AGENT:
            self.meanwhile()


class House:
    def __init__(self, *names: str, namespaces: tuple[str, ...] = ()) -> None:
        self.api, self.cache, self.heard = Apiserver(), Cache(), list[Change]()
        self.relister = Relister(self.api, self.cache, self.heard.append, namespaces)  # type: ignore[arg-type]
        for version, name in enumerate(names, start=1):
            self.cache.upsert(AGENT, an_agent(name, version))
            self.api.items[AGENT].append(an_agent(name, version))

    def run(self) -> list[tuple[str, str, bool]]:
        """What a sweep told: the kind, the name, and whether the object is gone."""
        self.heard.clear()
        asyncio.run(self.relister.relist_all())
        return [(change.kind, change.namespaced_name[1], change.after is None) for change in self.heard]


def test_a_sweep_over_what_is_known_tells_nothing() -> None:
    assert House("a", "b").run() == []


def test_a_deletion_that_no_watch_told_is_found() -> None:
    house = House("a", "b")
    del house.api.items[AGENT][0]
    assert house.run() == [(AGENT, "a", True)]
    assert ("team", "a") not in house.cache.agents
    assert house.run() == []


def test_a_change_that_no_watch_told_is_found() -> None:
    house = House("a")
    house.api.items[AGENT] = [an_agent("a", 9), an_agent("new", 10)]
    assert house.run() == [(AGENT, "a", False), (AGENT, "new", False)]
    assert house.run() == []


def test_an_object_whose_name_has_a_new_bearer_is_learned_as_the_new_one() -> None:
    house = House("a")
    house.api.items[AGENT] = [an_agent("a", 9, uid="second")]
    assert house.run() == [(AGENT, "a", False)]
    assert house.cache.agents["team", "a"].agent.metadata.uid == "second"


def test_what_a_watch_told_while_the_list_was_under_way_is_not_taken_back() -> None:
    house = House("a", "b")
    house.api.items[AGENT] = [an_agent("b", 2)]
    # `a` was changed and `c` was made after the apiserver had answered: both live.
    house.api.meanwhile = lambda: [house.cache.upsert(AGENT, an_agent(name, 50)) for name in ("a", "c")]
    assert house.run() == []
    assert {name for _, name in house.cache.agents} == {"a", "b", "c"}


def test_what_a_watch_told_to_be_gone_while_the_list_was_under_way_does_not_come_back() -> None:
    house = House("a", "b")
    # The answer holds both, and `b` is deleted before its page has been read.
    house.api.before_answering = lambda: house.cache.remove(AGENT, ("team", "b"), "uid-of-b")
    assert house.run() == []
    assert {name for _, name in house.cache.agents} == {"a"}
    house.api.before_answering = lambda: None
    house.api.items[AGENT] = [an_agent("a", 1), an_agent("b", 60, uid="second")]
    assert house.run() == [(AGENT, "b", False)]


def test_an_old_list_does_not_bring_an_old_word_back() -> None:
    house = House("a")
    house.cache.upsert(AGENT, an_agent("a", 90))
    assert house.run() == []
    assert house.cache.versions[AGENT]["team", "a"].resource_version == 90


def test_a_list_that_is_older_than_what_is_known_forgets_nothing() -> None:
    house = House("a", "b")
    house.cache.upsert(AGENT, an_agent("b", 90))
    house.api.items[AGENT], house.api.as_of = [], "50"
    assert house.run() == [(AGENT, "a", True)]
    assert set(house.cache.agents) == {("team", "b")}


def test_a_relist_says_from_where_a_watch_can_go_on_and_leaves_other_namespaces_alone() -> None:
    house = House("a")
    house.api.items[AGENT] = []
    assert asyncio.run(house.relister.relist_scope(AGENT, "elsewhere")) == "1000"
    assert ("team", "a") in house.cache.agents
    assert asyncio.run(house.relister.relist_scope(AGENT, "team")) == "1000"
    assert house.cache.agents == {}


def test_what_cannot_be_read_any_more_stays_as_it_was_last_read() -> None:
    house = House("a", "b")
    house.api.items[AGENT] = [an_agent("b", 2)]
    house.api.unreadable[AGENT] = (
        ObjectIdentity("team", "a", "uid-of-a", "9"),
        ObjectIdentity("team", "new", "u", "10"),
    )
    assert house.run() == []
    assert {name for _, name in house.cache.agents} == {"a", "b"}


def test_what_cannot_be_read_does_not_keep_an_object_of_the_same_name_that_is_gone() -> None:
    house = House("a")
    house.api.items[AGENT], house.api.unreadable[AGENT] = [], (ObjectIdentity("team", "a", "second", "9"),)
    assert house.run() == [(AGENT, "a", True)]


def test_every_watched_kind_is_swept_and_nodes_are_not_of_a_namespace() -> None:
    house = House(namespaces=("red", "blue"))
    house.run()
    expected = {(kind, space) for kind in WATCHED_KINDS for space in ((None,) if kind == "Node" else ("red", "blue"))}
    assert set(house.api.asked) == expected
    assert len(house.api.asked) == len(expected)


def sweep_and_find_something(house: House, version: int) -> None:
    house.api.items[AGENT] = [an_agent("a", version)]
    assert len(house.run()) == 1


def test_a_watch_that_tells_nothing_while_the_cluster_changes_is_silent() -> None:
    house = House("a")
    house.relister.synced.set()
    for version in range(10, 10 + SILENT_SWEEPS):
        assert house.relister.silent_watches() == []
        sweep_and_find_something(house, version)
    assert house.relister.silent_watches() == [(AGENT, None)]
    house.run()
    assert house.relister.silent_watches() == []


def test_a_watch_that_is_merely_behind_is_not_silent() -> None:
    house = House("a")
    house.relister.synced.set()
    for version in range(10, 20):
        house.relister.note_report(AGENT, "team")
        sweep_and_find_something(house, version)
        assert house.relister.silent_watches() == []


def test_a_quiet_cluster_is_no_silent_watch() -> None:
    house = House("a")
    house.relister.synced.set()
    for _ in range(10):
        house.run()
    assert house.relister.silent_watches() == []


@pytest.mark.parametrize(
    "trouble", [ApiError(503, "", "busy"), TimeoutError(), ConnectionRefusedError("no"), UnreadableAnswer("no list")]
)
def test_a_list_that_fails_is_tried_again_and_synced_means_that_one_succeeded(
    trouble: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = House()
    house.api.trouble = [trouble]
    naps: list[float] = []

    async def nap(seconds: float) -> None:
        naps.append(seconds)
        assert house.relister.synced.is_set() == (len(naps) > 1)
        if len(naps) > 1:
            raise asyncio.CancelledError

    async def main() -> None:
        monkeypatch.setattr("mabeam.shell.kube.relist.asyncio.sleep", nap)
        with pytest.raises(asyncio.CancelledError):
            await house.relister.run(30)

    asyncio.run(main())
    assert naps == [2, 30]


# --- namespaces as scopes ---------------------------------------------------------------------------------------------------

DENIED = ApiError(403, "Forbidden", 'agents is forbidden: User "mabeam" cannot list resource in the namespace "gone"')


def in_namespace(namespace: str, version: int) -> JsonDict:
    body = an_agent("a", version, uid=f"uid-in-{namespace}")
    body["metadata"]["namespace"] = namespace
    return body


def a_house_of_two() -> House:
    """Two namespaces are watched, each with an Agent, and everything has been listed."""
    house = House(namespaces=("team", "gone"))
    house.api.items[AGENT] = [in_namespace("team", 1), in_namespace("gone", 2)]
    house.run()
    house.relister.synced.set()
    return house


@pytest.mark.parametrize("status", [403, 404])
@pytest.mark.parametrize("namespaces", [("team", "gone"), ("gone", "team")])
def test_a_namespace_that_is_denied_keeps_no_other_from_being_listed(
    status: int, namespaces: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    house = House(namespaces=namespaces)
    house.api.items[AGENT] = [in_namespace("team", 1)]
    house.api.denied["gone"] = ApiError(status, "", "no")
    asyncio.run(house.relister.list_until_success())
    house.run()
    assert ("team", "a") in house.cache.agents
    assert set(house.relister.lost) == {"gone"}
    assert caplog.text.count("namespace gone is not served until it can be listed again") == 1


def test_a_namespace_that_comes_back_is_served_again_and_not_lost_any_more(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    house = a_house_of_two()
    house.api.denied["gone"] = DENIED
    house.run()
    del house.api.denied["gone"]
    house.api.items[AGENT].append(in_namespace("gone", 60))
    house.run()
    assert house.relister.lost == {}
    assert "namespace gone is served again" in caplog.text


def test_what_was_known_of_a_lost_namespace_outlives_a_short_denial_and_is_then_forgotten() -> None:
    house = a_house_of_two()
    house.api.denied["gone"] = DENIED
    for _ in range(FORGET_AFTER_LISTS - 1):
        assert house.run() == []
    assert house.run() == [(AGENT, "a", True)]
    assert set(house.cache.agents) == {("team", "a")}
    assert house.run() == []


def test_when_every_namespace_is_denied_the_operators_own_rights_are_missing() -> None:
    house = House(namespaces=("team", "gone"))
    house.api.denied = {"team": DENIED, "gone": DENIED}
    with pytest.raises(ApiError, match="forbidden"):
        house.run()
    assert house.relister.lost == {}


@pytest.mark.parametrize("scope", [None, "gone"])
def test_a_failure_that_is_no_denial_of_a_namespace_is_raised_after_the_others_are_done(scope: str | None) -> None:
    house = a_house_of_two()
    house.api.items[AGENT].append(in_namespace("team", 70) | {"spec": {"module": "x:Y"}})
    house.api.denied[scope] = DENIED if scope is None else ApiError(503, "", "busy")
    with pytest.raises(ApiError):
        house.run()
    assert [change.namespaced_name for change in house.heard] == [("team", "a")]


def test_a_watch_that_is_silent_in_one_namespace_is_found_beside_one_that_reports_in_another() -> None:
    house = a_house_of_two()
    for version in range(100, 100 + SILENT_SWEEPS):
        house.relister.note_report(AGENT, "team")
        house.api.items[AGENT] = [in_namespace("team", 1), in_namespace("gone", version)]
        house.run()
    assert house.relister.silent_watches() == [(AGENT, "gone")]
