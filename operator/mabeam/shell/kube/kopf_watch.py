"""Every kopf decorator of the project: doorbells, which tell the cache and ring for the keys; nothing else happens in them.

`on.event` only: timers, daemons and delete handlers force a finalizer, the others write annotations and status.
"""

from collections.abc import Callable
from typing import Any, Final

import kopf

from mabeam.api.names import GROUP, VERSION
from mabeam.shell.kube.connection import Connection

OnEvent = Callable[[str, str | None, dict[str, Any]], None]

# The few and quiet kinds. Of the others there are thousands: `watch.py` follows them at a tenth of the price.
_WATCHED: Final = (
    ("OrchestrationVariable", (GROUP, VERSION, "orchestrationvariables")),
    ("Supervisor", (GROUP, VERSION, "supervisors")),
    ("Node", ("v1", "nodes")),
)


def register(registry: kopf.OperatorRegistry, connection: Connection, on_event: OnEvent) -> None:
    """Fill `registry`: one login, a doorbell for each kind."""

    async def login(**_: Any) -> kopf.AiohttpSession:
        return kopf.AiohttpSession(aiohttp_session=connection.session(), server=connection.server)

    kopf.on.login(registry=registry)(login)
    for kind, resource in _WATCHED:
        kopf.on.event(*resource, id=kind, registry=registry)(_handler(kind, on_event))


def _handler(kind: str, on_event: OnEvent) -> Callable[..., Any]:
    async def ring(event: Any, **_: Any) -> None:
        on_event(kind, event["type"], event["object"])

    return ring


def configure(settings: kopf.OperatorSettings) -> None:
    """Turn off in kopf what would write, throttle, freeze or fill the log (the pitfalls in docs/design/0006-shell.md)."""
    settings.posting.enabled = False
    settings.peering.standalone = True
    settings.scanning.disabled = True
    settings.process.ultimate_exiting_timeout = 10
    settings.networking.request_timeout = 15
    settings.networking.connect_timeout = 5
    settings.networking.error_backoffs = (0.2, 0.5, 1, 2, 2, 5, 5, 5)
    settings.watching.server_timeout = 300
    settings.watching.inactivity_timeout = 70
    settings.watching.reconnect_backoff = 0.2
    settings.execution.default_backoff = 1
    settings.queueing.worker_limit = None
    settings.queueing.idle_timeout = 1
