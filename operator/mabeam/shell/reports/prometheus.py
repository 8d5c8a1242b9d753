"""The reports of an agent's pods as the operator's Prometheus has them: one instant query for all pods of the agent.

The address is a setting of the operator and never part of an API object: an author of Agents must not make the operator connect
anywhere. Whether an author may write queries is a setting too, because the numbers of the answer end up in a status.
"""

import logging
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import aiohttp
import orjson

from mabeam import __version__
from mabeam.core.reports.prometheus import DEFAULT_QUERY, build_query, parse_query_answer, problem_report
from mabeam.core.reports.report import Report
from mabeam.shell.kube.client import read_bounded
from mabeam.shell.kube.errors import REQUEST_ERRORS, ApiError, error_text

log = logging.getLogger("mabeam.prometheus")

MAX_BYTES: Final = 1_048_576
QUERY_SECONDS: Final = 5.0
TIMEOUT: Final = aiohttp.ClientTimeout(total=QUERY_SECONDS)
CONCURRENCY: Final = 4
# Scrapes are seconds apart: more frequent queries would return nothing new.
MIN_QUERY_SECONDS: Final = 1.0
NOT_SET: Final = "reports.source is Prometheus, but the operator has no MABEAM_PROMETHEUS_URL"
NOT_ALLOWED: Final = "reports.query is not allowed: the operator's MABEAM_PROMETHEUS_QUERIES is not `any`"
TOO_LARGE: Final = "the answer of Prometheus is larger than 1 MiB"
_HEADERS: Final = {
    "User-Agent": f"mabeam/{__version__}",
    "Accept": "application/json",
    "Accept-Encoding": "identity",
}


@dataclass
class Prometheus:
    """A client of the operator's Prometheus."""

    url: str = ""  # empty: the operator has none
    token_file: str = ""  # the file of a bearer token
    any_query: bool = False  # whether authors of Agents may write queries
    _unreachable: bool = field(default=False, init=False)

    def session(self) -> aiohttp.ClientSession:
        """A session for `query`."""
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=CONCURRENCY), headers=_HEADERS, auto_decompress=False
        )

    async def query(
        self, session: aiohttp.ClientSession, namespace: str, agent: str, pods: Collection[str], query: str | None
    ) -> dict[str, Report]:
        """Pod name → its report, or a report of what is wrong with the query. Raises one of REQUEST_ERRORS without an answer."""
        wrong = self._wrong_with(query)
        if wrong is not None:
            return dict.fromkeys(pods, problem_report(wrong))
        form = {
            "query": build_query(query or DEFAULT_QUERY, namespace, agent, pods),
            "timeout": f"{TIMEOUT.total:.0f}s",
        }
        try:
            status, raw = await self._post(session, form)
        except REQUEST_ERRORS as problem:
            if not self._unreachable:
                log.warning("no answer from %s: %s", self.url, error_text(problem))
            self._unreachable = True
            raise
        self._unreachable = False
        if len(raw) > MAX_BYTES:
            return dict.fromkeys(pods, problem_report(TOO_LARGE))
        try:
            answer = orjson.loads(raw)
        except orjson.JSONDecodeError:
            answer = {"status": "error", "error": f"HTTP {status}"}
        return parse_query_answer(answer, namespace, pods)

    def _wrong_with(self, query: str | None) -> str | None:
        if not self.url:
            return NOT_SET
        return NOT_ALLOWED if query is not None and not self.any_query else None

    async def _post(self, session: aiohttp.ClientSession, form: dict[str, str]) -> tuple[int, bytes]:
        """The HTTP status and at most MAX_BYTES + 1 bytes of the answer; raises ApiError for a 5xx, no fault of the query."""
        url, headers = f"{self.url}/api/v1/query", self._authorization()
        async with session.post(url, data=form, headers=headers, timeout=TIMEOUT, allow_redirects=False) as response:
            if response.status >= 500:
                raise ApiError(response.status, "Prometheus", response.reason or "")
            return response.status, await read_bounded(response.content, MAX_BYTES + 1)

    def _authorization(self) -> dict[str, str]:
        """The Authorization header, with the token that the file holds now: a service account's token rotates."""
        if not self.token_file:
            return {}
        token = "".join(Path(self.token_file).read_text(encoding="ascii", errors="replace").split())
        return {"Authorization": f"Bearer {token}"}
