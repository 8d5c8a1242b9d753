"""The ConfigMap `mabeam-service`: by the code's own tables, by the leader alone, again after any trouble."""

import asyncio
import json
from collections.abc import Callable
from typing import Any, cast

from mabeam import __version__
from mabeam.api.base import JsonDict
from mabeam.shell.http.service_entry import LABELS, ServiceEntry, capabilities, entry
from mabeam.shell.kube.client import Client
from mabeam.shell.kube.errors import ApiError, NotLeading


class Apiserver:
    """Holds one ConfigMap; its troubles are used up one by one."""

    def __init__(self, held: JsonDict | None = None, *troubles: Exception) -> None:
        self.held = held
        self.troubles = list(troubles)
        self.writes: list[str] = []

    def _stumble(self) -> None:
        if self.troubles:
            raise self.troubles.pop(0)

    async def version(self) -> str:
        self._stumble()
        return "v1.35.4"

    async def get(self, kind: str, namespace: str, name: str) -> JsonDict | None:
        assert (kind, namespace, name) == ("ConfigMap", "mabeam-system", "mabeam-service")
        return self.held

    async def create(self, kind: str, namespace: str, body: JsonDict) -> JsonDict:
        self._stumble()
        self.writes.append("create")
        self.held = {**body, "metadata": {**body["metadata"], "resourceVersion": "1"}}
        return self.held

    async def patch(self, kind: str, namespace: str, name: str, body: JsonDict) -> JsonDict:
        assert self.held is not None
        assert body["metadata"] == {"resourceVersion": self.held["metadata"]["resourceVersion"]}
        self.writes.append("patch")
        data = {**self.held.get("data", {}), **body["data"]}
        self.held["data"] = {key: value for key, value in data.items() if value is not None}
        return self.held


def kept(api: Apiserver, until: Callable[[], bool], leads: Callable[[], bool] = lambda: True) -> None:
    async def main() -> None:
        one = ServiceEntry(cast(Client, api), "mabeam-system", "http://e", "me", leads, 0.001, 0.001)
        task = asyncio.create_task(one.run())
        async with asyncio.timeout(10):
            while not until():  # noqa: ASYNC110  (it happens in another task)
                await asyncio.sleep(0.001)
        task.cancel()

    asyncio.run(main())


def config_map(data: dict[str, str], **labels: str) -> JsonDict:
    return {"metadata": {"resourceVersion": "7", "labels": labels or LABELS}, "data": data}


def test_the_entry_tells_what_the_service_is_can_do_and_needs() -> None:
    told: dict[str, Any] = entry("http://e", "me", "v1.35.4")
    assert (told["type"], told["version"], told["endpoint"], told["holder"]) == (
        "mabeam-operator",
        __version__,
        "http://e",
        "me",
    )
    assert json.loads(told["apiVersions"]) == ["mabeam.dev/v1alpha1"]
    assert json.loads(told["dependencies"])["kubernetes"] == "v1.35.4"
    assert json.loads(told["dependencies"])["kopf"].startswith("1.")
    assert "endpoint" not in entry("", "me", "v1")


def test_capabilities_are_what_the_tables_carry_out() -> None:
    can = capabilities()
    assert "Parameter" in can["orchestrationTypes"]
    assert can["negotiationStrategies"] == ["Auction", "WeightedConsensus"]
    assert can["consensusProtocols"] == ["SimpleMajority", "Unanimous", "WeightedVoting"]
    assert "PriorityBased" in can["conflictResolvers"]
    assert len(can["directiveActions"]) == 11


def test_it_is_made_once_and_then_left_alone() -> None:
    api = Apiserver()
    asks = iter(range(20))
    kept(api, lambda: next(asks) == 19)
    assert api.writes == ["create"]
    assert api.held is not None
    assert api.held["metadata"]["labels"] == LABELS
    assert "app.kubernetes.io/managed-by" not in LABELS  # or the operator would follow it among the directives


def test_what_an_older_leader_wrote_is_brought_up_to_date() -> None:
    api = Apiserver(config_map({"version": "0.0.1", "holder": "other", "old": "x"}))
    kept(api, lambda: api.writes == ["patch"])
    assert api.held is not None
    assert api.held["data"] == entry("http://e", "me", "v1.35.4")


def test_no_trouble_ends_it_and_the_next_try_writes() -> None:
    troubles = (
        TimeoutError(),
        ApiError(403, "Forbidden", "not yet"),
        NotLeading("lost"),
        ApiError(409, "Conflict", "x"),
    )
    api = Apiserver(None, *troubles)
    kept(api, lambda: api.writes == ["create"])
    assert api.troubles == []


def test_who_does_not_lead_writes_nothing() -> None:
    api = Apiserver()
    asks = iter(range(20))
    kept(api, lambda: next(asks) == 19, leads=lambda: False)
    assert api.writes == []


def test_a_config_map_of_somebody_elses_is_left_alone() -> None:
    api = Apiserver(config_map({"theirs": "x"}, team="red"))
    asks = iter(range(20))
    kept(api, lambda: next(asks) == 19)
    assert api.writes == []
