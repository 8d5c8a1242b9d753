"""The operator's HTTP server: /healthz, /readyz, /metrics, and the routes that it is given (`rest.py`)."""

from collections.abc import Callable, Iterable

from aiohttp import web

from mabeam.settings import BadSetting

Check = Callable[[], list[str]]


async def serve(
    port: int, alive: Check, ready: Check, metrics: Callable[[], bytes], routes: Iterable[web.RouteDef] = ()
) -> web.AppRunner:
    """The running server; each check returns a list of what is wrong, empty when all is well. Raises BadSetting."""

    def probe(check: Check) -> Callable[[web.Request], "web.Response"]:
        def answer(_: web.Request) -> web.Response:
            wrong = check()
            return web.Response(status=503 if wrong else 200, text="; ".join(wrong) or "ok")

        return answer

    def handler(answer: Callable[[web.Request], web.Response]):  # type: ignore[no-untyped-def]
        async def handle(request: web.Request) -> web.Response:
            return answer(request)

        return handle

    app = web.Application()
    app.router.add_get("/healthz", handler(probe(alive)))
    app.router.add_get("/readyz", handler(probe(ready)))
    app.router.add_get(
        "/metrics",
        handler(
            lambda _: web.Response(body=metrics(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})
        ),
    )
    app.router.add_routes(routes)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, None, port, reuse_address=True).start()
    except OSError as problem:
        await runner.cleanup()
        raise BadSetting(f"MABEAM_HTTP_PORT: port {port} cannot be listened on: {problem.strerror}") from None
    return runner
