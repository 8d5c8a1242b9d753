"""One namespace of an apiserver, past the proxy: what users, controllers and the invariants' observer do."""

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from support.async_api import JSON, MERGE_PATCH, Connection, JsonDict, Refused
from support.resources import path_of


@dataclass
class Api:
    """One namespace, as a user with every right sees it."""

    server: str
    session: aiohttp.ClientSession
    namespace: str
    user_agent: str = "faults"

    @property
    def _connection(self) -> Connection:
        return Connection(self.server, self.session, self.user_agent)

    def path(self, plural: str, name: str = "", sub: str = "") -> str:
        """Where a collection, an object or a subresource of the namespace is."""
        return path_of(self.namespace, plural, name, sub)

    async def call(
        self,
        verb: str,
        path: str,
        body: Any = None,
        content_type: str = JSON,
        parameters: Mapping[str, str] | None = None,
    ) -> JsonDict:
        """The apiserver's answer; raises Refused."""
        data = None if body is None else json.dumps(body).encode()
        return await self._connection.request(verb, path, data, content_type, parameters)

    async def get(self, plural: str, name: str) -> JsonDict:
        """The object; raises Refused (404) when there is none."""
        return await self.call("GET", self.path(plural, name))

    async def find(self, plural: str, name: str) -> JsonDict | None:
        """The object, None when there is none."""
        try:
            return await self.get(plural, name)
        except Refused as refused:
            if refused.status == 404:
                return None
            raise

    async def list(self, plural: str, selector: str = "") -> tuple[list[JsonDict], str]:
        """The objects of a kind, and the collection's resourceVersion."""
        found = await self.call("GET", self.path(plural), parameters={"labelSelector": selector} if selector else None)
        return list(found["items"]), found["metadata"]["resourceVersion"]

    async def create(self, plural: str, body: JsonDict) -> JsonDict:
        """The object as created."""
        return await self.call("POST", self.path(plural), body)

    async def patch(self, plural: str, name: str, body: JsonDict, sub: str = "") -> JsonDict:
        """The object after a JSON merge patch, of a subresource if one is named."""
        return await self.call("PATCH", self.path(plural, name, sub), body, MERGE_PATCH)

    async def delete(self, plural: str, name: str, **options: Any) -> JsonDict:
        """What the apiserver says to a deletion."""
        return await self.call("DELETE", self.path(plural, name), options or None)

    async def watch(self, plural: str, version: str, seconds: int = 300) -> AsyncIterator[JsonDict]:
        """The events after a resourceVersion, until the apiserver ends the stream; raises Refused on an ERROR event."""
        parameters = {"resourceVersion": version, "timeoutSeconds": str(seconds)}
        async for line in self._connection.watch(self.path(plural), parameters):
            event: JsonDict = json.loads(line)
            if event["type"] == "ERROR":
                raise Refused(int(event["object"].get("code", 500)), f"watch {plural}")
            yield event
