"""The ConfigMap `mabeam-service`: type, version, capabilities, dependencies and address of this service; the leader writes it.

Nothing depends on it: a failure is logged and tried again. Its capabilities are read from the tables that implement them.
"""

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version as version_of
from typing import Final

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
from mabeam.shell.kube.client import Client
from mabeam.shell.kube.errors import REQUEST_ERRORS, NotLeading, error_text
from mabeam.state.status_patch import merge_patch

log = logging.getLogger("mabeam.service")

SERVICE_TYPE: Final = "mabeam-operator"
RETRY_SECONDS: Final = 10.0
# It is compared again every so often: somebody may have deleted it, or the cluster may have been upgraded.
PERIOD_SECONDS: Final = 300.0
LABELS: Final = {LABEL_NAME: "mabeam", LABEL_COMPONENT: "operator", LABEL_PART_OF: "mabeam"}
DEPENDENCIES: Final = ("kopf", "aiohttp", "pydantic")


def capabilities() -> dict[str, list[str]]:
    """What the operator supports, by the tables that implement it: capability → its sorted values."""
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
    """The data of the ConfigMap, with lists and maps as JSON."""
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
    """Keeps the ConfigMap up to date while this process leads."""

    client: Client
    namespace: str
    endpoint: str
    holder: str
    leads: Callable[[], bool]
    retry_seconds: float = RETRY_SECONDS
    period_seconds: float = PERIOD_SECONDS
    _last_warning: str = field(default="", init=False)

    async def run(self) -> None:
        """Write the ConfigMap when this process becomes the leader, and again whenever it differs."""
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
        except REQUEST_ERRORS as problem:
            self._warn(f"ConfigMap {self.namespace}/{SERVICE_CONFIG_MAP} is not written: {error_text(problem)}")
            return False

    async def _write(self) -> bool:
        """Whether the ConfigMap is up to date, or another owner's; a write that a crash broke off is made again."""
        wanted = entry(self.endpoint, self.holder, await self.client.version())
        found = await self.client.get("ConfigMap", self.namespace, SERVICE_CONFIG_MAP)
        if found is None:
            meta = {"name": SERVICE_CONFIG_MAP, "namespace": self.namespace, "labels": LABELS}
            body: JsonDict = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": wanted}
            await self.client.create("ConfigMap", self.namespace, body)
            log.info("ConfigMap %s/%s describes this service", self.namespace, SERVICE_CONFIG_MAP)
            return True
        if (found["metadata"].get("labels") or {}).get(LABEL_PART_OF) != LABELS[LABEL_PART_OF]:
            self._warn(f"ConfigMap {self.namespace}/{SERVICE_CONFIG_MAP} has another owner and is left as it is")
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
