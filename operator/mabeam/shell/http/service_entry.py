"""The ConfigMap `mabeam-service`: what this service is, can do and needs, and where it is reached; written by the leader.

Nobody waits for it: a failure is logged and tried again. What is written is read from the code's own tables, so that it
cannot promise what there is not.
"""

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version as version_of
from typing import Final

import aiohttp

from mabeam import __version__
from mabeam.api.agent import SupervisionStrategy
from mabeam.api.base import JsonDict
from mabeam.api.directive import DirectiveAction
from mabeam.api.names import API_VERSION, LABEL_COMPONENT, LABEL_NAME, LABEL_PART_OF, SERVICE_CONFIG_MAP
from mabeam.api.rest_openapi import PATHS
from mabeam.api.variable_status import NegotiationStrategy
from mabeam.core.algorithms.consensus import PROTOCOLS
from mabeam.core.coordination.strategies.table import STRATEGIES
from mabeam.core.directives.conflicts import RESOLVERS
from mabeam.shell.kube.client import Client, merge_patch
from mabeam.shell.kube.errors import ApiError, NotLeading

log = logging.getLogger("mabeam.service")

SERVICE_TYPE: Final = "mabeam-operator"
RETRY_SECONDS: Final = 10.0
# It is looked at again now and then: somebody may have deleted it, or the cluster may have been upgraded.
PERIOD_SECONDS: Final = 300.0
LABELS: Final = {LABEL_NAME: "mabeam", LABEL_COMPONENT: "operator", LABEL_PART_OF: "mabeam"}
DEPENDENCIES: Final = ("kopf", "aiohttp", "pydantic")


def capabilities() -> dict[str, list[str]]:
    """What the operator can do, by the tables that do it."""
    return {
        "orchestrationTypes": sorted(map(str, STRATEGIES)),
        "negotiationStrategies": sorted(map(str, NegotiationStrategy)),
        "consensusProtocols": sorted(map(str, PROTOCOLS)),
        "conflictResolvers": sorted(map(str, RESOLVERS)),
        "directiveActions": sorted(map(str, DirectiveAction)),
        "supervisionStrategies": sorted(map(str, SupervisionStrategy)),
        "paths": list(PATHS),
    }


def entry(endpoint: str, holder: str, kubernetes: str) -> dict[str, str]:
    """The ConfigMap's data; lists and maps as JSON."""
    dependencies = {name: version_of(name) for name in DEPENDENCIES}
    data = {
        "type": SERVICE_TYPE,
        "version": __version__,
        "apiVersions": json.dumps([API_VERSION]),
        "capabilities": json.dumps(capabilities()),
        "dependencies": json.dumps({"kubernetes": kubernetes, **dependencies}),
        "holder": holder,
    }
    return {**data, "endpoint": endpoint} if endpoint else data


@dataclass
class ServiceEntry:
    """Keeps the ConfigMap as it should be, as long as this process leads."""

    client: Client
    namespace: str
    endpoint: str
    holder: str
    leads: Callable[[], bool]
    retry_seconds: float = RETRY_SECONDS
    period_seconds: float = PERIOD_SECONDS
    _last_warning: str = field(default="", init=False)

    async def run(self) -> None:
        """Write it when this process comes to lead, and again whenever it is not as it should be."""
        while True:
            if not self.leads():
                await asyncio.sleep(min(1.0, self.retry_seconds))
                continue
            kept = await self._try()
            await asyncio.sleep(self.period_seconds if kept else self.retry_seconds)

    async def _try(self) -> bool:
        try:
            return await self._write()
        except NotLeading:
            return False
        except (ApiError, aiohttp.ClientError, TimeoutError, OSError) as problem:
            self._warn(f"ConfigMap {self.namespace}/{SERVICE_CONFIG_MAP} is not written: {problem}")
            return False

    async def _write(self) -> bool:
        """Whether it is as it should be; what a crash left half done is simply done again."""
        wanted = entry(self.endpoint, self.holder, await self.client.version())
        found = await self.client.get("ConfigMap", self.namespace, SERVICE_CONFIG_MAP)
        if found is None:
            meta = {"name": SERVICE_CONFIG_MAP, "namespace": self.namespace, "labels": LABELS}
            body: JsonDict = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": wanted}
            await self.client.create("ConfigMap", self.namespace, body)
            log.info("ConfigMap %s/%s tells of this service", self.namespace, SERVICE_CONFIG_MAP)
            return True
        if (found["metadata"].get("labels") or {}).get(LABEL_PART_OF) != LABELS[LABEL_PART_OF]:
            self._warn(f"ConfigMap {self.namespace}/{SERVICE_CONFIG_MAP} belongs to someone else and is left alone")
            return True
        patch = merge_patch(found.get("data") or {}, dict(wanted))
        if patch:
            guard = {"resourceVersion": found["metadata"]["resourceVersion"]}
            await self.client.patch("ConfigMap", self.namespace, SERVICE_CONFIG_MAP, {"metadata": guard, "data": patch})
        return True

    def _warn(self, text: str) -> None:
        if text != self._last_warning:
            log.warning(text)
        self._last_warning = text
