"""A user who tries again: the way to the apiserver for a workload that goes on across an outage."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from faults.apiserver import Api
from support.async_api import JsonDict, Refused

PAUSE_SECONDS: Final = 0.2
TIMEOUT_SECONDS: Final = 300.0
# Answers of an apiserver that is starting, or whose etcd does not answer.
BUSY: Final = frozenset({429, 500, 503, 504})
# What a repetition is answered when the first try was carried out and only its answer was lost.
DONE_BEFORE: Final = frozenset({("POST", 409), ("DELETE", 404)})


@dataclass
class RetryingApi(Api):
    """The same namespace, for someone who asks until the apiserver answers; raises Refused for a no that is meant."""

    @classmethod
    def instead_of(cls, api: Api) -> "RetryingApi":
        """A client of the same apiserver that tries again."""
        return cls(api.server, api.session, api.namespace, api.user_agent)

    async def call(
        self,
        verb: str,
        path: str,
        body: Any = None,
        content_type: str = "application/json",
        parameters: Mapping[str, str] | None = None,
    ) -> JsonDict:
        """The apiserver's answer, however often it takes; empty when an earlier try had been carried out already."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        unsure = False
        while True:
            try:
                return await super().call(verb, path, body, content_type, parameters)
            except Refused as refused:
                if unsure and (verb, refused.status) in DONE_BEFORE:
                    return {}
                if refused.status not in BUSY or time.monotonic() >= deadline:
                    raise
            except (aiohttp.ClientError, TimeoutError, OSError):
                if time.monotonic() >= deadline:
                    raise
            unsure = True
            await asyncio.sleep(PAUSE_SECONDS)
