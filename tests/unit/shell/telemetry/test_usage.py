"""What pods and nodes use: read where a cluster tells, believed for a while, and never missed aloud where it does not."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from mabeam.shell.kube.client import Client
from mabeam.shell.kube.errors import ApiError
from mabeam.shell.kube.list_page import ListPage
from mabeam.shell.telemetry import usage
from mabeam.shell.telemetry.usage import (
    AGAIN_SECONDS,
    FRESH_PERIODS,
    PERIOD_SECONDS,
    Amounts,
    UsageReader,
    capacity_of,
    parse_amount,
)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("250m", 0.25), ("1.5", 1.5), ("2", 2), (2, 2), ("123456789n", 0.123456789), ("12u", 12e-6), ("64Mi", 64 * 2**20),
        ("1k", 1000), ("1Ki", 1024), ("3E", 3e18), ("1e3", 1000), ("12E2", 1200), ("0", 0),
        ("", None), ("-1", None), ("x", None), (None, None), ("1 Mi", None), ("1Zi", None), ("٣", None),
    ],
)  # fmt: skip
def test_a_quantity_is_a_number(text: object, number: float | None) -> None:
    assert parse_amount(text) == (pytest.approx(number) if number is not None else None)


def pod(name: str, *used: dict[str, str]) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "team"}, "containers": [{"usage": one} for one in used]}


class MetricsServer:
    """Answers both lists, or with a trouble."""

    def __init__(self, trouble: Exception | None = None) -> None:
        self.trouble = trouble
        self.asked: list[tuple[str, str | None]] = []

    async def list_pages(self, kind: str, namespace: str | None = None) -> AsyncIterator[ListPage]:
        self.asked.append((kind, namespace))
        if self.trouble is not None:
            raise self.trouble
        if kind == "PodMetrics":
            yield ListPage(
                [pod("a-0-1", {"cpu": "100m", "memory": "1Mi"}, {"cpu": "150m", "memory": "1Mi"}), pod("b-0-1")]
            )
        else:
            yield ListPage(
                [
                    {"metadata": {"name": "node1"}, "usage": {"cpu": "1", "memory": "1Gi"}},
                    {"metadata": {"name": "node2"}, "usage": {"cpu": "3", "memory": "1Gi"}},
                    {"metadata": {"name": "strange"}, "usage": {}},
                ]
            )


ALLOCATABLE = {name: {"cpu": "4", "memory": "4Gi"} for name in ("node1", "node2", "unmeasured")}


def reader(server: MetricsServer, scopes: tuple[str | None, ...] = (None,)) -> UsageReader:
    return UsageReader(cast(Client, server), scopes, lambda: ALLOCATABLE)


def test_what_containers_use_is_summed_and_the_nodes_share_is_the_mean() -> None:
    async def main() -> None:
        found = reader(MetricsServer(), ("red", "blue"))
        assert found.of_pods([("team", "a-0-1")]) is None
        assert found.capacity() is None
        assert await found._poll() == PERIOD_SECONDS
        used = found.of_pods([("team", "a-0-1"), ("team", "gone-0-1")])
        assert used is not None
        assert (used.cpu, used.memory, used.pods) == (0.25, 2 * 2**20, 1)
        assert found.of_pods([("team", "gone-0-1")]) is None
        nodes = found.capacity()
        assert nodes is not None
        assert (nodes.nodes, nodes.cpu, nodes.memory) == (2, 0.5, 0.25)

    asyncio.run(main())


def test_a_measurement_is_believed_for_some_periods() -> None:
    async def main() -> None:
        found = reader(MetricsServer())
        await found._poll()
        found._measured_at -= FRESH_PERIODS * PERIOD_SECONDS + 1
        assert found.of_pods([("team", "a-0-1")]) is None
        assert found.capacity() is None

    asyncio.run(main())


@pytest.mark.parametrize(
    ("trouble", "again"),
    [
        (ApiError(404, "NotFound", "no such API"), AGAIN_SECONDS),
        (ApiError(403, "Forbidden", "not yours"), AGAIN_SECONDS),
        (ApiError(503, "ServiceUnavailable", "starting"), PERIOD_SECONDS),
        (TimeoutError(), PERIOD_SECONDS),
    ],
)
def test_a_cluster_that_does_not_tell_is_asked_again_in_time_and_complained_of_once(
    trouble: Exception, again: float, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        found = reader(MetricsServer(trouble))
        assert [await found._poll(), await found._poll()] == [again, again]
        assert found.capacity() is None

    with caplog.at_level(logging.INFO):
        asyncio.run(main())
    missing = isinstance(trouble, ApiError) and trouble.status == 404
    assert len(caplog.records) == (0 if missing else 1)


def test_only_who_leads_asks_and_a_slow_answer_is_asked_for_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    class Enough(Exception):
        pass

    async def sleep(seconds: float) -> None:
        if seconds:
            slept.append(seconds)
        if len(slept) == 2:
            raise Enough

    async def main() -> MetricsServer:
        server = MetricsServer()
        found = reader(server)
        leads = iter((False, True))
        found.may_ask = lambda: next(leads)
        clock = iter((0.0, 0.0, 0.0, 100.0, 103.0)).__next__
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "time", clock)
        try:
            await found.run()
        except Enough:
            monkeypatch.undo()
        return server

    monkeypatch.setattr(usage.asyncio, "sleep", sleep)
    server = asyncio.run(main())
    assert [kind for kind, _ in server.asked] == ["PodMetrics", "NodeMetrics"]
    assert slept[0] == PERIOD_SECONDS
    assert slept[1] == pytest.approx(103.0 / usage.SHARE_OF_TIME)


def test_a_node_that_is_overcommitted_is_full_and_one_that_has_nothing_does_not_count() -> None:
    used = {"busy": Amounts(9, 9), "none": Amounts(1, 1), "idle": Amounts(0, 0)}
    found = capacity_of(used, {"busy": Amounts(4, 4), "none": Amounts(0, 0), "idle": Amounts(4, 4)})
    assert found is not None
    assert (found.nodes, found.cpu, found.memory) == (2, 0.5, 0.5)
    assert capacity_of(used, {}) is None
