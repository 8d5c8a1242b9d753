"""What the operator serves over HTTP: the probes, and a port that is taken."""

import asyncio
import socket

import aiohttp
import pytest
from aiohttp import web

from mabeam.settings import BadSetting
from mabeam.shell.http.server import serve


async def ask(port: int, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as answer:
        return answer.status, await answer.text()


def port_of(runner: web.AppRunner) -> int:
    # Told to choose, IPv4 and IPv6 choose each for themselves.
    return next(int(address[1]) for address in runner.addresses if len(address) == 2)


def test_the_probes_say_ok_or_what_is_wrong() -> None:
    wrong: list[str] = []

    async def main() -> None:
        runner = await serve(0, lambda: wrong, lambda: ["not listed yet"], lambda: b"mabeam_leader 1.0\n")
        try:
            port = port_of(runner)
            assert await ask(port, "/healthz") == (200, "ok")
            assert await ask(port, "/readyz") == (503, "not listed yet")
            wrong.extend(["the watch of Pod is silent", "a key has waited"])
            assert await ask(port, "/healthz") == (503, "the watch of Pod is silent; a key has waited")
            assert await ask(port, "/metrics") == (200, "mabeam_leader 1.0\n")
            assert (await ask(port, "/else"))[0] == 404
        finally:
            await runner.cleanup()

    asyncio.run(main())


def test_a_port_that_is_taken_is_told_by_the_settings_name() -> None:
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(BadSetting, match=f"MABEAM_HTTP_PORT: port {port} cannot be listened on"):
            asyncio.run(serve(port, list, list, bytes))
