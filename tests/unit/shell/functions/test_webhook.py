"""Webhooks over real TLS: what is posted, who is believed, and what a slow or lying one costs."""

import asyncio
import base64
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from aiohttp import web

from mabeam.core.functions import FunctionCall, FunctionResult, Language
from mabeam.shell.functions.webhook import MAX_ANSWER_BYTES, Webhooks
from support.https import Authority, Handler, a_server, an_authority

INPUTS = {"variable": "temperature", "value": 0.4, "agents": [{"name": "a"}], "kind": "Impostor"}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return an_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as threads:
        yield threads


@pytest.fixture
def hooks(threads: ThreadPoolExecutor) -> Webhooks:
    return Webhooks(threads, allow_loopback=True)


def question(port: int, ca: str | None, host: str = "localhost", seconds: float = 10) -> FunctionCall:
    return FunctionCall(
        Language.WEBHOOK, f"https://{host}:{port}/decide", INPUTS, ca_bundle=ca, timeout_seconds=seconds
    )


def asked(
    hooks: Webhooks, authority: Authority, handler: Handler, ca: str | None = "", **more: object
) -> FunctionResult:
    async def ask() -> FunctionResult:
        async with a_server(authority, handler) as port:
            return await hooks.answer(question(port, authority.ca if ca == "" else ca, **more))  # type: ignore[arg-type]

    return asyncio.run(ask())


def says(text: str | bytes, status: int = 200, **headers: str) -> Handler:
    async def answer(_: web.Request) -> web.Response:
        body = text.encode() if isinstance(text, str) else text
        return web.Response(status=status, body=body, headers=headers)

    return answer


# --- one that answers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
@pytest.mark.parametrize("value", ["1", "0.5", '"large"', "null", "true", '{"a": [1, {"b": 2}]}'])
def test_any_json_value_is_an_answer(hooks: Webhooks, authority: Authority, value: str, host: str) -> None:
    answer = asked(hooks, authority, says(f'{{"value": {value}}}'), host=host)
    assert answer.error is None
    assert answer == FunctionResult(value={"null": None}.get(value, answer.value))


def test_the_inputs_are_posted_and_nothing_of_the_operators(
    hooks: Webhooks, authority: Authority, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".netrc").write_text("machine localhost login operator password secret\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    seen: list[tuple[str, str, dict[str, str], object]] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append((request.method, request.path, dict(request.headers), await request.json()))
        return web.json_response({"value": 1})

    assert asked(hooks, authority, answer) == FunctionResult(1)
    ((method, path, headers, body),) = seen
    assert (method, path) == ("POST", "/decide")
    assert body == {**INPUTS, "apiVersion": "mabeam.dev/v1alpha1", "kind": "CoordinationRequest"}
    assert headers["Content-Type"] == "application/json"
    assert not {"Authorization", "Cookie", "Proxy-Authorization"} & set(headers)


def test_the_bundle_may_be_base64_as_in_kubernetes_own_webhooks(hooks: Webhooks, authority: Authority) -> None:
    wrapped = base64.encodebytes(authority.ca.encode()).decode()
    assert asked(hooks, authority, says('{"value": 1}'), ca=wrapped) == FunctionResult(1)


def test_an_error_of_the_webhooks_own_is_told_in_one_line(hooks: Webhooks, authority: Authority) -> None:
    answer = asked(hooks, authority, says('{"error": "no\\n budget \\u001b[31mleft' + "!" * 1000 + '"}'))
    assert answer.error is not None
    assert answer.error.startswith("no budget ?[31mleft!!!")
    assert len(answer.error) == 256


# --- who is believed ----------------------------------------------------------------------------------------------------


def test_a_certificate_of_somebody_elses_is_not_believed(
    hooks: Webhooks, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = an_authority(tmp_path_factory.mktemp("other"))
    for ca in (other.ca, None):
        answer = asked(hooks, authority, says('{"value": 1}'), ca=ca)
        assert "CERTIFICATE_VERIFY_FAILED" in str(answer.error)


def test_a_certificate_for_another_host_is_not_believed(hooks: Webhooks, authority: Authority) -> None:
    # The same server by another name that is at home, too: 127.0.0.2 is not in its certificate.
    async def ask() -> FunctionResult:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", says('{"value": 1}'))
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.2", 0, ssl_context=authority.context).start()
            return await hooks.answer(question(int(runner.addresses[0][1]), authority.ca, host="127.0.0.2"))
        finally:
            await runner.cleanup()

    assert "not valid for" in str(asyncio.run(ask()).error)


@pytest.mark.parametrize(
    "bundle", ["", "not base64 at all!", base64.b64encode(b"\xff\xfe").decode(), "-----BEGIN nothing"]
)
def test_a_bundle_without_a_certificate_is_an_error(hooks: Webhooks, bundle: str) -> None:
    answer = asyncio.run(hooks.answer(question(1, bundle)))
    assert "caBundle" in str(answer.error)


# --- where nobody is asked ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/",
        "https://localhost/",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://127.1/",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0.0.0.0/",
        "https://169.254.169.254/latest/meta-data",
        "https://[fd00:ec2::254]/latest/meta-data",
        "https://[fe80::1]/",
        "https://[::ffff:169.254.169.254]/",
        "https://224.0.0.1/",
    ],
)
def test_the_nodes_own_addresses_are_never_asked(threads: ThreadPoolExecutor, url: str) -> None:
    answer = asyncio.run(Webhooks(threads).answer(FunctionCall(Language.WEBHOOK, url, timeout_seconds=5)))
    assert "which is never asked" in str(answer.error)


def test_loopback_in_a_test_is_no_way_to_the_link_local_ones(hooks: Webhooks) -> None:
    answer = asyncio.run(hooks.answer(FunctionCall(Language.WEBHOOK, "https://169.254.169.254/", timeout_seconds=5)))
    assert "which is never asked" in str(answer.error)


@pytest.mark.parametrize(
    ("url", "says_"),
    [
        ("http://example.test/", "must begin with https://"),
        ("file:///etc/passwd", "must begin with https://"),
        ("https://", "https://"),
        ("https://user:secret@example.test/", "must not carry a user or a password"),
        ("https://user@example.test/", "must not carry a user or a password"),
        ("https://[not-an-address/", ""),
        ("https://host.invalid/", "host.invalid"),
    ],
)
def test_an_address_that_is_none_is_told(hooks: Webhooks, url: str, says_: str) -> None:
    answer = asyncio.run(hooks.answer(FunctionCall(Language.WEBHOOK, url, timeout_seconds=5)))
    assert answer.error is not None
    assert says_ in answer.error or answer.timed_out
    assert "secret" not in answer.error


# --- one that lies ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "says_"),
    [
        ("", "not JSON"),
        ("<html>", "not JSON"),
        (b"\xff\xff", "not UTF-8"),
        ("[1]", "a JSON list, not an object"),
        ("1", "a JSON number, not an object"),
        ("null", "a JSON null, not an object"),
        ("{}", "this one has nothing"),
        ('{"valeu": 1}', "this one has valeu"),
        ('{"value": 1, "error": "both"}', "this one has error, value"),
        ('{"error": 1}', "`error` is a JSON number, not a string"),
        ('{"value": NaN}', "NaN is no JSON number"),
        ('{"value": -Infinity}', "-Infinity is no JSON number"),
        ('{"value": 1e999}', "too large a number"),
        ('{"value": ' + "9" * 5000 + "}", "not JSON"),
        ('{"value": ' + "[" * 33 + "]" * 33 + "}", "nested deeper than 32"),
        ('{"value": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested deeper than 32"),
        ('{"value": "' + "x" * MAX_ANSWER_BYTES + '"}', "more than 262144 bytes"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_what_is_no_answer_is_told_for_what_it_is(
    hooks: Webhooks, authority: Authority, body: str | bytes, says_: str
) -> None:
    answer = asked(hooks, authority, says(body))
    assert answer.value is None
    assert says_ in str(answer.error)
    assert len(str(answer.error)) <= 256


@pytest.mark.parametrize("status", [201, 204, 400, 401, 404, 500, 503])
def test_only_200_is_an_answer(hooks: Webhooks, authority: Authority, status: int) -> None:
    assert f"HTTP {status}, not 200" in str(asked(hooks, authority, says('{"value": 1}', status)).error)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(hooks: Webhooks, authority: Authority, status: int) -> None:
    count = 0

    async def answer(request: web.Request) -> web.Response:
        nonlocal count
        count += 1
        return web.Response(status=status, headers={"Location": f"https://{request.host}/elsewhere"})

    assert "no redirect is followed" in str(asked(hooks, authority, answer).error)
    assert count == 1


def test_a_compressed_bomb_is_not_unpacked(hooks: Webhooks, authority: Authority) -> None:
    answer = asked(hooks, authority, says(b"\x1f\x8b" + os.urandom(64), **{"Content-Encoding": "gzip"}))
    assert "cannot be used" in str(answer.error)


def test_one_that_never_stops_talking_is_cut_off(hooks: Webhooks, authority: Authority) -> None:
    sent = 0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        while sent < 1_000_000_000 and request.transport is not None and not request.transport.is_closing():
            await response.write(b"x" * 65_536)
            sent += 65_536
            await asyncio.sleep(0)  # a write to a closed connection never waits
        return response

    assert "more than 262144 bytes" in str(asked(hooks, authority, answer).error)
    assert sent < 50_000_000


# --- one that is slow ---------------------------------------------------------------------------------------------------


def test_one_that_does_not_answer_in_time_is_told_to_be_slow(hooks: Webhooks, authority: Authority) -> None:
    async def answer(_: web.Request) -> web.Response:
        await asyncio.sleep(60)
        return web.json_response({"value": 1})

    assert asked(hooks, authority, answer, seconds=0.5) == FunctionResult(
        error="no answer within 0.5 s", timed_out=True
    )


def test_one_that_trickles_has_no_more_time_than_the_others(hooks: Webhooks, authority: Authority) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(600):
            await response.write(b" ")
            await asyncio.sleep(0.1)
        return response

    assert asked(hooks, authority, answer, seconds=1).timed_out


def test_one_that_takes_the_connection_and_says_nothing_is_slow(hooks: Webhooks, authority: Authority) -> None:
    async def ask() -> FunctionResult:
        taken: list[asyncio.StreamWriter] = []
        server = await asyncio.start_server(lambda _, writer: taken.append(writer), "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            answer = await hooks.answer(question(port, authority.ca, seconds=0.5))
            for writer in taken:
                writer.close()
        return answer

    assert asyncio.run(ask()).timed_out


def test_one_that_hangs_up_is_an_error(hooks: Webhooks, authority: Authority) -> None:
    async def answer(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    answer_ = asked(hooks, authority, answer)
    assert answer_.error
    assert not answer_.timed_out
