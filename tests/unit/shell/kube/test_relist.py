"""Mark and sweep: what no watch told is found by a LIST, and what a watch told meanwhile is not taken back."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from mabeam.api.base import JsonDict
from mabeam.shell.kube.errors import ApiError, UnreadableAnswer
from mabeam.shell.kube.json_members import ObjectIdentity
from mabeam.shell.kube.list_page import ListPage
from mabeam.shell.kube.relist import SILENT_SWEEPS, Relister
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
        self.trouble: list[Exception] = []
        self.as_of = "1000"
        self.unreadable: dict[str, tuple[ObjectIdentity, ...]] = {}

    async def list_pages(self, kind: str, namespace: str | None = None) -> AsyncIterator[ListPage]:
        self.asked.append((kind, namespace))
        if self.trouble:
            raise self.trouble.pop()
        if kind == AGENT:
            self.before_answering()
        yield ListPage(self.items[kind], self.as_of, unreadable=self.unreadable.get(kind, ()))
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
    expected = [(kind, space) for kind in WATCHED_KINDS for space in ((None,) if kind == "Node" else ("red", "blue"))]
    assert house.api.asked == expected


def sweep_and_find_something(house: House, version: int) -> None:
    house.api.items[AGENT] = [an_agent("a", version)]
    assert len(house.run()) == 1


def test_a_watch_that_tells_nothing_while_the_cluster_changes_is_silent() -> None:
    house = House("a")
    house.relister.synced.set()
    for version in range(10, 10 + SILENT_SWEEPS):
        assert house.relister.silent_kinds() == []
        sweep_and_find_something(house, version)
    assert house.relister.silent_kinds() == [AGENT]
    house.run()
    assert house.relister.silent_kinds() == []


def test_a_watch_that_is_merely_behind_is_not_silent() -> None:
    house = House("a")
    house.relister.synced.set()
    for version in range(10, 20):
        house.relister.reported_kinds.add(AGENT)
        sweep_and_find_something(house, version)
        assert house.relister.silent_kinds() == []


def test_a_quiet_cluster_is_no_silent_watch() -> None:
    house = House("a")
    house.relister.synced.set()
    for _ in range(10):
        house.run()
    assert house.relister.silent_kinds() == []


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
