"""Tests of Yahoo with the curl transport: faults end as with the usual one, and requests look like a browser's."""

import asyncio
import gzip
import sys
from dataclasses import replace
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response

from ema_assets.config.settings import Settings
from ema_assets.model.errors import ConfigurationError
from ema_assets.providers import yahoo as yahoo_provider
from ema_assets.providers.fetching.base import ProviderClient
from ema_assets.providers.http import curl_transport
from ema_assets.providers.http.curl_transport import CurlTransport
from ema_assets.providers.http.source import HttpOptions
from ema_assets.providers.vendors.yahoo import YahooClient
from ema_assets.refresh.clients import open_provider
from ema_assets.sandbox.server import RunningSandbox
from ema_assets_tests.providers import test_faults
from ema_assets_tests.providers.conftest import MIDDAY, PAIRS, QUICK, STOCKS, ask, assert_exact, fetch, vendor
from ema_assets_tests.providers.speakers import SPEAKERS


def by_curl(base_url: str, **options: Any) -> ProviderClient:
    config = yahoo_provider.YahooConfig(base_url=base_url)
    limits = options.pop("limits", QUICK)
    http = HttpOptions(limits=limits, transport=CurlTransport(4, limits.max_body_bytes), **options)
    return YahooClient(yahoo_provider.PROVIDER, config, http, lambda: MIDDAY)


(YAHOO,) = (replace(speaker, opened=by_curl) for speaker in SPEAKERS if speaker.name == "yahoo")


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=case.name) for case in test_faults.CASES if case.other.get("yahoo", {}) is not None],
)
def test_a_fault_ends_as_with_the_usual_transport(case: test_faults.Case) -> None:
    test_faults.test_a_fault_ends_in_a_typed_outcome_and_costs_only_what_it_must(case, YAHOO)


def test_a_refused_connection_ends_the_fetch_after_one_symbol() -> None:
    test_faults.test_a_refused_connection_is_found_out_by_one_symbol_for_all(YAHOO)


def test_connections_are_reused() -> None:
    test_faults.test_connections_are_kept(YAHOO)


def test_bars_equal_those_of_the_market(sandbox: RunningSandbox) -> None:
    requests = ask([*STOCKS[:3], *PAIRS[:2]], MIDDAY.replace(hour=10))
    got = fetch(sandbox.base_url, requests, by_curl)
    assert_exact(sandbox, requests, got.bars, tolerance=1)
    assert (got.calls, len(got.completed)) == (5, 5)


def test_headers_are_those_of_the_imitated_browser() -> None:
    def answer(request: Request) -> Response:
        return Response(YAHOO.says(YAHOO.symbol(request), test_faults.GOOD))

    with vendor(answer) as (base_url, seen):
        fetch(base_url, ask([YAHOO.spells("AA")], test_faults.START, test_faults.END), by_curl)
    headers = seen[0].headers
    assert "Chrome/" in headers["user-agent"]
    assert "Chrome/140.0.0.0 Safari" not in headers["user-agent"], "not the one that goes with the other transport"
    assert "sec-ch-ua" in headers
    assert headers["accept"] == "application/json"
    assert "httpx" not in str(headers)


def test_a_compressed_body_is_decompressed_once() -> None:
    body = gzip.compress(YAHOO.says("AA", test_faults.GOOD).encode())
    with vendor(lambda _: Response(body, headers={"Content-Encoding": "gzip"})) as (base_url, _):
        got = fetch(base_url, ask([YAHOO.spells("AA")], test_faults.START, test_faults.END), by_curl)
    assert got.bars.height == 5


def test_calls_to_this_machine_bypass_the_proxy_of_the_environment(
    sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    got = fetch(sandbox.base_url, ask(PAIRS[:1], MIDDAY.replace(hour=17)), by_curl)
    assert (got.errors, got.bars.height) == ({}, 11)


def test_the_transport_is_chosen_by_its_variable() -> None:
    async def run(**env: str) -> str:
        client = open_provider(Settings.from_env(env), "yahoo")
        assert isinstance(client, YahooClient)
        kind = type(client._http._client._transport).__name__
        await client.aclose()
        return kind

    assert asyncio.run(run()) == "AsyncHTTPTransport"
    assert asyncio.run(run(EMA_YAHOO_TRANSPORT="curl_cffi")) == "CurlTransport"


def test_a_missing_package_is_an_error_that_shows_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "curl_cffi.requests", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'ema-assets\[curl_cffi\]'"):
        open_provider(Settings.from_env({"EMA_YAHOO_TRANSPORT": "curl_cffi"}), "yahoo")


class Failure(Exception):
    """An error of curl."""

    def __init__(self, code: int, words: str = "failed") -> None:
        super().__init__(words)
        self.code = code


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Failure(28, "Connection timed out after 5001 milliseconds"), httpx.ConnectTimeout),
        (Failure(28, "Operation timed out after 30001 milliseconds"), httpx.ReadTimeout),
        (Failure(61), httpx.DecodingError),
        (Failure(18), httpx.ReadError),
        (Failure(56), httpx.ReadError),
        (Failure(92), httpx.ReadError),
        (Failure(6), httpx.ConnectError),
        (Failure(7), httpx.ConnectError),
        (Failure(35), httpx.ConnectError),
        (Failure(60), httpx.ConnectError),
        (Failure(0), httpx.ConnectError),
    ],
    ids=lambda each: each.__name__ if isinstance(each, type) else str(each.code),
)
def test_an_error_of_curl_is_that_of_the_usual_transport(error: Failure, kind: type[Exception]) -> None:
    assert type(curl_transport._typed(error)) is kind


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [("localhost", True), ("127.0.0.2", True), ("::1", True), ("10.0.0.1", False), ("example.com", False)],
)
def test_this_machine_is_known_by_its_name_and_its_addresses(host: str, is_loopback: bool) -> None:
    assert curl_transport._is_loopback(host) is is_loopback


def test_a_body_is_full_one_byte_after_the_limit_and_keeps_no_more() -> None:
    body, told = curl_transport._Body(10), list[bool]()
    body.when_full = lambda: told.append(body.is_full)
    assert body.take(b"0123456789") == 10
    assert (body.is_full, told) == (False, [])
    assert body.take(b"abc") == 3
    assert (body.is_full, told, bytes(body.received)) == (True, [True], b"0123456789a")
