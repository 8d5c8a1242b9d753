"""Every kopf decorator of the project: `on.event` handlers for the kinds of our own, which pass each event to the router.

`on.event` only: timers, daemons and delete handlers force a finalizer, the others write annotations and status
(docs/design/0006-shell.md). What the cluster has by the thousand is followed by `reflector.py`
(docs/design/0014-kopf-for-every-kind.md has the price of both).
"""

from collections.abc import Callable, Iterable
from typing import Any, Final, cast

import aiohttp
import kopf

from mabeam.api.names import GROUP, VERSION
from mabeam.shell.kube.connection import Connection
from mabeam.shell.kube.kopf_session import KopfSession, open_envelope
from mabeam.shell.kube.reflector import OnEvent

# kind → its plural
KOPF_KINDS: Final = {
    "Agent": "agents",
    "OrchestrationVariable": "orchestrationvariables",
    "Supervisor": "supervisors",
}


def register(
    registry: kopf.OperatorRegistry, connection: Connection, open_session: Callable[[], KopfSession], on_event: OnEvent
) -> None:
    """Fill `registry` with one login and one `on.event` handler for each kind."""

    async def login(**_: Any) -> kopf.AiohttpSession:
        return kopf.AiohttpSession(
            aiohttp_session=cast(aiohttp.ClientSession, open_session()), server=connection.server
        )

    kopf.on.login(registry=registry)(login)
    for kind, plural in KOPF_KINDS.items():
        kopf.on.event(GROUP, VERSION, plural, id=kind, registry=registry)(_handler(kind, on_event))


def _handler(kind: str, on_event: OnEvent) -> Callable[..., Any]:
    async def handle(event: Any, **_: Any) -> None:
        on_event(kind, event["type"], open_envelope(event["object"]))

    return handle


class _NoDiffBase(kopf.DiffBaseStorage):
    """Stores no last-handled state: `on.event` handlers ask for no difference, and the default copies each object to find it."""

    def build(self, *, body: kopf.Body, extra_fields: Iterable[Any] | None = None) -> kopf.BodyEssence:
        return kopf.BodyEssence()

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Nothing is stored."""


class _NoProgress(kopf.ProgressStorage):
    """Stores no progress of handlers: `on.event` handlers have none."""

    def fetch(self, *, key: Any, body: kopf.Body) -> None:
        """Nothing is stored."""

    def store(self, *, key: Any, record: Any, body: kopf.Body, patch: kopf.Patch) -> None:
        """Nothing is stored."""

    def purge(self, *, key: Any, body: kopf.Body, patch: kopf.Patch) -> None:
        """Nothing is stored."""

    def touch(self, *, body: kopf.Body, patch: kopf.Patch, value: str | None) -> None:
        """Nothing is stored."""

    def clear(self, *, essence: kopf.BodyEssence) -> kopf.BodyEssence:
        return essence


def configure(settings: kopf.OperatorSettings) -> None:
    """Turn off in kopf what would write, throttle, freeze or fill the log (the pitfalls in docs/design/0006-shell.md)."""
    settings.posting.enabled = False
    settings.peering.standalone = True
    settings.scanning.disabled = True
    settings.process.ultimate_exiting_timeout = None  # a SIGKILL of kopf's own in the middle of our wind-up
    settings.networking.request_timeout = 15
    settings.networking.connect_timeout = 5
    settings.networking.error_backoffs = (0.2, 0.5, 1, 2, 2, 5, 5, 5)
    settings.watching.server_timeout = 300
    settings.watching.inactivity_timeout = 75  # after ours: bookmarks come every minute
    settings.watching.reconnect_backoff = 0.2
    settings.execution.default_backoff = 1
    settings.queueing.worker_limit = None
    settings.queueing.idle_timeout = 600
    settings.queueing.error_delays = (0.001,)  # a failure of kopf's own is logged, and costs no later event of its kind
    settings.persistence.diffbase_storage = _NoDiffBase()
    settings.persistence.progress_storage = _NoProgress()
