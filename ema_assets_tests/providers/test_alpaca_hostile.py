"""Tests of the Alpaca client with invalid answers that the sandbox does not send: typed outcomes after few calls."""

import json
import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from ema_assets.model.errors import (
    ConfigurationError,
    MalformedAnswer,
    ProviderError,
    ProviderUnavailable,
    RequestRefused,
    Unauthorized,
)
from ema_assets.model.symbols import Instrument
from ema_assets.providers.http.budget import HttpLimits
from ema_assets.providers.http.refusals import NotTheApi
from ema_assets_tests.providers.conftest import MIDDAY, QUICK, ask, fetch, vendor

AB = (Instrument("A"), Instrument("B"))
START = MIDDAY - timedelta(hours=2)


def bar(minute: int, **values: Any) -> dict[str, Any]:
    return {
        "t": f"2026-07-15T17:{minute:02}:00Z",
        "o": 1.0,
        "h": 2.0,
        "l": 0.5,
        "c": 1.5,
        "v": 10,
        "n": 1,
        "vw": 1.2,
    } | values


def page(bars: dict[str, Any] | None, token: str | None = None) -> Response:
    return JSONResponse({"bars": bars, "next_page_token": token})


def outcome(answer: Callable[[Request], Response], **options: Any) -> tuple[Any, list[Request]]:
    with vendor(answer) as (base_url, seen):
        return fetch(base_url, ask(AB, START), **options), seen


def raw(body: str | bytes, status: int = 200, content_type: str = "application/json") -> Callable[[Request], Response]:
    return lambda _: Response(body, status, media_type=content_type)


ONE_BAR = json.dumps({"bars": {"A": [bar(0)]}, "next_page_token": None})


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("", "truncated"),
        (ONE_BAR[:-20], "truncated"),
        ("[]", "object"),
        ("{}", "bars"),
        ('{"bars": []}', "bars"),
        ('{"bars": {"A": {}}}', "array"),
        ('{"bars": {"A": [1]}}', "object"),
        ('{"bars": {"A": [1], "B": [2]}}', "object"),
        (ONE_BAR.replace("1.5", '"1.5"'), "float"),
        (ONE_BAR.replace("1.5", "NaN"), "JSON"),
        (ONE_BAR.replace("1.5", "1e999"), "range"),
        (ONE_BAR.replace('"c": 1.5, ', ""), "missing required field `c`"),
        (ONE_BAR.replace("2026-07-15T17:00:00Z", "yesterday"), "RFC3339"),
        (ONE_BAR.replace("17:00:00Z", "17:00:00"), "timezone"),
        (ONE_BAR.replace("null", "7"), "next_page_token"),
        (ONE_BAR.replace("null", json.dumps("x" * 5_000)), "next_page_token"),
        ("[" * 200_000, ""),
        (b"\xff\xfe\x00", "JSON"),
    ],
)
def test_a_200_that_is_not_bars_is_malformed_and_not_retried(body: str | bytes, words: str) -> None:
    got, seen = outcome(raw(body))
    error = got.only_error()
    assert isinstance(error, MalformedAnswer)
    assert words in str(error)
    assert len(str(error)) < 400
    assert len(seen) == 1


def test_a_web_page_fails_all_symbols_and_is_not_retried() -> None:
    got, seen = outcome(raw("<html>login first</html>", content_type="text/html"))
    assert isinstance(got.only_error(), NotTheApi)
    assert (len(got.errors), len(seen)) == (2, 1)


def test_null_instead_of_all_bars_means_no_bars() -> None:
    got, _ = outcome(lambda _: page(None))
    assert (len(got.completed), got.bars.height) == (2, 0)


@pytest.mark.parametrize("rows", [[bar(0)], [bar(0), bar(5, c="1.5")]], ids=["sound", "with one that is unreadable"])
def test_null_instead_of_the_bars_of_a_symbol_means_no_bars_of_that_symbol(rows: list[Any]) -> None:
    got, seen = outcome(lambda _: page({"A": None, "B": rows}))
    assert (len(got.completed), len(seen)) == (2, 1)
    assert got.bars["symbol"].to_list() == ["B"] * len(rows)


def test_unsorted_and_duplicated_bars_are_sorted_and_the_last_duplicate_counts() -> None:
    got, _ = outcome(lambda _: page({"B": [bar(5)], "A": [bar(10), bar(0), bar(5), bar(0, c=9.0)]}))
    assert got.bars.select("symbol", "ts", "close").rows() == [
        ("A", MIDDAY.replace(hour=17, minute=0), 9.0),
        ("A", MIDDAY.replace(hour=17, minute=5), 1.5),
        ("A", MIDDAY.replace(hour=17, minute=10), 1.5),
        ("B", MIDDAY.replace(hour=17, minute=5), 1.5),
    ]


def test_impossible_prices_are_passed_on_unchanged() -> None:
    got, _ = outcome(lambda _: page({"A": [bar(0, h=-1.0, l=7.0, v=-3)]}))
    assert got.bars.select("high", "low", "volume").row(0) == (-1.0, 7.0, -3.0)


def test_a_null_value_is_passed_on_and_does_not_affect_other_bars() -> None:
    got, _ = outcome(lambda _: page({"A": [bar(0), bar(5, c=None)], "B": [bar(0, v=None)]}))
    assert len(got.completed) == 2
    assert got.bars.select("symbol", "close", "volume").rows() == [("A", 1.5, 10), ("A", None, 10), ("B", 1.5, None)]


@pytest.mark.parametrize("value", ["1.5", [], {}, True, 10**400])
def test_an_unreadable_bar_becomes_a_bar_of_nulls_and_the_others_are_kept(value: Any) -> None:
    got, seen = outcome(lambda _: page({"A": [bar(0), bar(5, c=value), bar(10)], "B": [bar(0)]}))
    assert (len(got.completed), len(seen)) == (2, 1)
    assert got.bars.select("symbol", "open", "close").rows() == [
        ("A", 1.0, 1.5),
        ("A", None, None),
        ("A", 1.0, 1.5),
        ("B", 1.0, 1.5),
    ]


@pytest.mark.parametrize(
    "rows", [[bar(0, c="1.5")], [bar(0), bar(5, t="yesterday")], [bar(0), "not a bar"], [bar(0, c="1.5"), bar(5, o={})]]
)
def test_a_symbol_that_cannot_be_read_fails_alone_and_is_named(rows: list[Any]) -> None:
    pages = {None: page({"A": rows}, "2"), "2": page({"A": rows, "B": [bar(0)]})}
    got, seen = outcome(lambda request: pages[request.query_params.get("page_token")])
    assert [request.instrument.symbol for request in got.completed] == got.bars["symbol"].to_list() == ["B"]
    assert list(got.errors) == ["A|5m"]
    assert isinstance(got.only_error(), MalformedAnswer)
    assert "an answer that is not bars: a bar of 'A': " in str(got.only_error())
    assert len(seen) == 2


def test_an_answer_without_a_readable_bar_fails_all_symbols_at_once() -> None:
    got, seen = outcome(lambda _: page({"A": [bar(0, c="1.5")], "B": [bar(0, c="2.5")]}, "2"))
    assert (len(got.errors), got.bars.height, len(seen)) == (2, 0, 1)
    assert "Expected" in str(got.only_error())


def test_bars_outside_the_range_are_left_out() -> None:
    got, _ = outcome(
        lambda _: page({"A": [bar(0, t="2020-01-01T00:00:00Z"), bar(0), bar(0, t="2027-01-01T00:00:00Z")]})
    )
    assert got.bars.height == 1


def test_bars_of_a_symbol_that_was_not_requested_are_malformed() -> None:
    got, _ = outcome(lambda _: page({"A": [bar(0)], "EVIL": [bar(0)]}))
    assert isinstance(got.only_error(), MalformedAnswer)
    assert "'EVIL'" in str(got.only_error())


def test_a_symbol_that_appears_again_after_a_later_one_is_malformed() -> None:
    pages = {None: page({"A": [bar(0)], "B": [bar(0)]}, "2"), "2": page({"A": [bar(5)]}, None)}
    got, _ = outcome(lambda request: pages[request.query_params.get("page_token")])
    assert [request.instrument.symbol for request in got.completed] == ["A"]
    assert "again after a later symbol" in str(got.errors["B|5m"])


def test_a_repeated_page_token_is_malformed() -> None:
    got, seen = outcome(lambda _: page({"A": [bar(0)]}, "again"))
    assert "used before" in str(got.only_error())
    assert len(seen) == 2


@pytest.mark.parametrize("bars", [None, {"A": [bar(0)]}])
def test_endless_pages_without_new_bars_are_malformed(bars: dict[str, Any] | None) -> None:
    count = iter(range(1_000))
    got, seen = outcome(lambda _: page(bars, f"token {next(count)}"))
    assert isinstance(got.only_error(), MalformedAnswer)
    assert "without new bars" in str(got.only_error())
    assert len(seen) <= 12


def test_more_bars_than_the_range_can_hold_are_malformed() -> None:
    """The pages never end, and each of them has a new bar."""
    count = iter(range(100_000))

    def answer(_: Request) -> Response:
        n = next(count)
        return page({"A": [bar(0, t=f"2026-07-15T17:00:00.{n:06}Z")]}, f"token {n}")

    got, seen = outcome(answer)
    assert "more bars than the range can hold" in str(got.only_error())
    assert len(seen) < 60


def test_short_and_empty_pages_do_not_end_the_fetch() -> None:
    pages = {None: page({}, "1"), "1": page({"A": [bar(0)]}, "2"), "2": page({}, "3"), "3": page({"B": [bar(0)]}, None)}
    got, seen = outcome(lambda request: pages[request.query_params.get("page_token")])
    assert (got.bars.height, len(got.completed), len(seen)) == (2, 2, 4)


def test_an_answer_over_the_size_limit_is_an_error() -> None:
    limits = HttpLimits(max_body_bytes=100_000)
    got, seen = outcome(raw(" " * 5_000_000), limits=limits)
    assert "more than 100000 bytes" in str(got.only_error())
    assert len(seen) == 1


def test_a_body_that_cannot_be_decompressed_is_malformed() -> None:
    got, _ = outcome(lambda _: Response(b"not gzip", headers={"Content-Encoding": "gzip"}))
    assert isinstance(got.only_error(), MalformedAnswer)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_refused_and_the_keys_are_not_sent_elsewhere(status: int) -> None:
    with vendor(lambda _: page({})) as (elsewhere, seen_elsewhere):
        got, seen = outcome(lambda _: RedirectResponse(f"{elsewhere}/?key=the-secret", status))
        error = got.only_error()
        assert isinstance(error, NotTheApi)
        assert elsewhere.removeprefix("http://") in str(error)
        assert "the-secret" not in str(error)
        assert (len(seen), len(seen_elsewhere)) == (1, 0)


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (401, "<html>401 Authorization Required</html>", Unauthorized, "HTML page"),
        (403, '{"message": "forbidden."}', Unauthorized, "forbidden."),
        (
            403,
            '{"message": "subscription does not permit querying recent SIP data"}',
            Unauthorized,
            "set feed=iex",
        ),
        (400, '{"message": "invalid timeframe"}', RequestRefused, "invalid timeframe"),
        (400, '{"message": "invalid symbol: ZZZ"}', ProviderError, "ZZZ"),
        (404, "", RequestRefused, "no message"),
        (422, '{"code": 1, "message": "end is too late"}', RequestRefused, "end is too late"),
        (414, "x" * 10_000, RequestRefused, "xxx"),
        (204, "", MalformedAnswer, "204"),
    ],
)
def test_a_refusal_is_typed_and_not_retried(status: int, body: str, kind: type[ProviderError], words: str) -> None:
    got, seen = outcome(raw(body, status, "text/html" if body.startswith("<") else "application/json"))
    assert len(got.errors) == 2
    for error in got.errors.values():
        assert isinstance(error, kind)
        assert words in str(error)
        assert len(str(error)) < 400
    # The refusal does not name one of the two symbols, so the call is repeated for each of them.
    assert len(seen) == (3 if kind is RequestRefused else 1)


def test_a_vendor_that_rejects_every_symbol_gets_one_call_per_symbol() -> None:
    def answer(request: Request) -> Response:
        first = request.query_params["symbols"].split(",")[0]
        return JSONResponse({"message": f"invalid symbol: {first}"}, 400)

    got, seen = outcome(answer)
    assert (len(got.errors), len(seen)) == (2, 2)


def test_keys_that_a_vendor_repeats_are_not_in_the_error() -> None:
    def answer(request: Request) -> Response:
        told = f"bad key {request.headers['APCA-API-KEY-ID']} with {request.headers['APCA-API-SECRET-KEY']}"
        return JSONResponse({"message": told}, 403)

    got, _ = outcome(answer)
    assert "bad key *** with ***" in str(got.only_error())


@pytest.mark.parametrize("secret", ["topsecret\nvalue", "topsecret\u2019"])
def test_a_key_that_is_invalid_in_a_header_is_refused_without_being_shown(secret: str) -> None:
    with pytest.raises(ConfigurationError, match="APCA-API-SECRET-KEY") as caught:
        fetch("http://127.0.0.1:8930", [], secret_key=secret)
    assert "topsecret" not in str(caught.value)


def test_errors_have_no_control_characters_from_an_answer() -> None:
    got, _ = outcome(raw('{"message": "bad\\u0000thing \\u001b[31mred"}', 422))
    assert {str(error)[-13:] for error in got.errors.values()} == {"bad\N{REPLACEMENT CHARACTER}thing red"}
    got, _ = outcome(lambda _: page({"A\0\x1b[31m": [bar(0)]}))
    assert str(got.only_error()).isprintable()


def test_a_503_with_a_long_retry_after_is_not_retried_and_the_error_has_the_pause() -> None:
    got, seen = outcome(lambda _: Response(status_code=503, headers={"Retry-After": "600"}))
    error = got.only_error()
    assert isinstance(error, ProviderUnavailable)
    assert error.retry_after_seconds == 600
    assert len(seen) == 1, "sooner would be in vain"


def test_one_failing_call_does_not_stop_the_others_but_two_in_a_row_do() -> None:
    """The first 500 may be caused by the call itself. After the second one the vendor counts as down."""

    def answer(request: Request) -> Response:
        return Response(status_code=500) if "B" in request.query_params["symbols"] else page({})

    alone = HttpLimits(max_concurrency=1, attempts=2, backoff_seconds=0.01)
    many = [Instrument(letter) for letter in "ABCDE"]
    with vendor(answer) as (base_url, seen):
        got = fetch(base_url, ask(many, START), symbols_per_call=1, limits=alone)
    assert list(got.errors) == ["B|5m"]
    assert len(seen) == 4 + 2

    with vendor(raw("", 500)) as (base_url, seen):
        got = fetch(base_url, ask(many, START), symbols_per_call=1, limits=alone)
    assert len(got.errors) == 5
    assert all(isinstance(error, ProviderUnavailable) for error in got.errors.values())
    assert len(seen) == 2 * 2


@pytest.mark.parametrize("poison", [("C",), ("P", "A"), ("G", "H", "N")])
def test_symbols_at_which_the_server_of_a_vendor_fails_do_not_affect_the_others_of_their_call(
    poison: tuple[str, ...],
) -> None:
    def answer(request: Request) -> Response:
        symbols = request.query_params["symbols"].split(",")
        if set(poison) & set(symbols):
            return JSONResponse({"message": "internal server error"}, 500)
        return page({symbol: [bar(0)] for symbol in symbols})

    # Two of the symbols must not be those that are requested alone, which are chosen at random.
    random.seed(1)
    with vendor(answer) as (base_url, _):
        letters = [Instrument(letter) for letter in "ABCDEFGHIJKLMNOP"]
        got = fetch(base_url, ask(letters, START), limits=HttpLimits(max_concurrency=1, attempts=1))
    assert sorted(got.errors) == sorted(f"{symbol}|5m" for symbol in poison)
    assert got.bars.height == 16 - len(poison)
    assert {str(error) for error in got.errors.values()} == {"alpaca answered 500: internal server error"}


def test_a_vendor_that_is_down_is_asked_about_two_symbols_alone_and_no_others() -> None:
    letters = [Instrument(letter) for letter in "ABCDEFGHIJ"]
    with vendor(raw("", 500)) as (base_url, seen):
        got = fetch(
            base_url, ask(letters, START), limits=HttpLimits(max_concurrency=1, attempts=2, backoff_seconds=0.01)
        )
    assert len(got.errors) == 10
    assert [len(request.query_params["symbols"].split(",")) for request in seen] == [10, 10, 1, 1, 1, 1]


def test_a_server_error_behind_a_page_with_bars_costs_only_the_symbols_at_which_the_server_fails() -> None:
    """A is complete before the error. The bars of B are not, and come only once, from the call that repeats it."""

    def answer(request: Request) -> Response:
        match request.query_params["symbols"].split(","), "page_token" in request.query_params:
            case ["A", "B", "C"], False:
                return page({"A": [bar(0)], "B": [bar(0)]}, "next")
            case ["B"], is_behind:
                return page({"B": [bar(5)]}) if is_behind else page({"B": [bar(0)]}, "next")
        return JSONResponse({}, 500)

    with vendor(answer) as (base_url, seen):
        limits = HttpLimits(max_concurrency=1, attempts=4, backoff_seconds=0.001)
        got = fetch(base_url, ask([Instrument(letter) for letter in "ABC"], START), limits=limits)
    assert list(got.errors) == ["C|5m"]
    assert sorted(got.bars["symbol"]) == ["A", "B", "B"]
    asked = [request.query_params["symbols"] for request in seen]
    assert asked == [*["A,B,C"] * 5, "B", "B", "C", "C"], "parts are tried twice, and not four times"


def test_the_bars_of_a_symbol_are_kept_when_the_server_fails_behind_them_for_good() -> None:
    """Otherwise a history whose second page fails each time would never begin."""

    def answer(request: Request) -> Response:
        is_behind = "page_token" in request.query_params
        return JSONResponse({}, 500) if is_behind else page({"A": [bar(0), bar(5)]}, "next")

    with vendor(answer) as (base_url, _):
        limits = HttpLimits(max_concurrency=1, attempts=2, backoff_seconds=0.001)
        got = fetch(base_url, ask([Instrument("A")], START), limits=limits)
    assert (list(got.errors), got.bars.height) == (["A|5m"], 2)


def test_requests_have_the_parameters_and_spelling_of_the_vendor() -> None:
    with vendor(lambda _: page({})) as (base_url, seen):
        fetch(base_url, ask([Instrument("BTC-USD", "24/7")], START), limits=QUICK)
        fetch(base_url, ask(AB, START), feed="sip")
    assert dict(seen[0].query_params) == {
        "symbols": "BTC/USD", "timeframe": "5Min", "start": "2026-07-15T16:03:00Z",
        "end": "2026-07-15T18:02:59.999999Z", "limit": "10000", "sort": "asc",
    }  # fmt: skip
    params = seen[1].query_params
    assert (params["symbols"], params["feed"], params["adjustment"]) == ("A,B", "sip", "split,spin-off")


@pytest.mark.parametrize(
    "base_url",
    ["", "data.alpaca.markets", "ftp://x", "https://user:pw@host", "https://h/?k=1", "https://h:port", "https://[h"],
)
def test_an_invalid_base_url_is_a_configuration_error_without_its_password(base_url: str) -> None:
    with pytest.raises(ConfigurationError, match="base_url") as caught:
        fetch(base_url, [])
    assert "pw" not in str(caught.value)
